"""Simple baselines for retrievers: items that are popular, recent, or known to the user.

They rank all items that a model can rank, exactly and by the same rules: ties count against the
target, and if items that a user had before are filtered, such a target has no rank.

Letters: E events of a log, N evaluated ones, V items that can be ranked.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from siren_rope_jax.base.times import DAY, HOUR, NO_TIME
from siren_rope_jax.data.log import Events
from siren_rope_jax.evaluation.baselines import past
from siren_rope_jax.evaluation.baselines.recent import ahead_of_recent

MEANINGS = {
    "popular": "items by number of training events",
    "recent": "items by number of events of all users in the 24 hours before the request (even "
    "after the end of training), then as *popular*",
    "revisit": "items by number of the user's earlier events with the item, then as *popular*",
    "revisit_hour": "items by number of such events within an hour of the request's time of day, "
    "then as *revisit*",
}
"""How each baseline ranks, in the order of every table."""

_NO_CLOCK = -1
_PAIRS = 1 << 21  # pairs of an event and an earlier one that are compared at once


class Ranks(NamedTuple):
    """Ranks and losses, like a model's: 0 and NaN if the target cannot be ranked."""

    rank: Int[np.ndarray, " N"]
    nll: Float[np.ndarray, " N"]


def baseline_names(filter_seen: bool) -> tuple[str, ...]:
    """The distinct baselines: if known items are filtered, both "revisit" ones equal "popular"."""
    return ("popular", "recent") if filter_seen else tuple(MEANINGS)


def time_of_day(events: Events) -> Int[np.ndarray, " E"]:
    """Seconds since midnight, local if the log has UTC offsets; -1 for an event without a time."""
    time = events.rows["time"]
    return np.where(time == NO_TIME, _NO_CLOCK, (time + events.rows["utc_offset"]) % DAY)


def simple_rankings(
    users: Int[np.ndarray, " E"],
    items: Int[np.ndarray, " E"],
    times: Int[np.ndarray, " E"],
    clock: Int[np.ndarray, " E"],
    train_counts: Int[np.ndarray, " V"],
    evaluated: Int[np.ndarray, " N"],
    filter_seen: bool,
) -> dict[str, Ranks]:
    """Ranks of the targets of evaluated events by the baselines of `baseline_names`.

    popular: by number of training events; its NLL follows from these frequencies. recent: as
    `ahead_of_recent`. revisit: by number of the user's earlier events with the item, in any split,
    then by popularity. revisit_hour: by number of those within an hour of the event's time of day,
    then as revisit. Only popular predicts probabilities; the NLL of the others is NaN.

    Args:
      users: of all events of a log, in global order.
      items: of all events; ids 1..V can be ranked.
      times: of all events, Unix seconds or `NO_TIME`.
      clock: of all events, as `time_of_day`.
      train_counts: number of training events of the items that can be ranked, by id - 1.
      evaluated: global indices of the evaluated events.
      filter_seen: whether items that the user had before are left out.
    """
    counts = np.concatenate([[0], train_counts])
    rankable = (items > 0) & (items < len(counts))
    popularity = counts[np.where(rankable, items, 0)]
    own = popularity[evaluated]
    is_new = past.earlier_visits(users, items)[evaluated] == 0
    known = rankable[evaluated] & (is_new | (not filter_seen))
    had = _had_before(users, items, clock, rankable, popularity, evaluated)
    # The number of other items that are no less popular, and of those new to the user.
    as_popular = len(train_counts) - np.searchsorted(np.sort(train_counts), own) - 1
    new = as_popular - had["popular"]
    # Items new to the user rank below all others, so they are rivals of new targets only.
    rivals = {name: count + np.where(is_new, new, 0) for name, count in had.items()}
    rivals["popular"] = new if filter_seen else as_popular
    rivals["recent"] = ahead_of_recent(
        users, items, times, rankable, train_counts, evaluated, filter_seen
    )
    with np.errstate(divide="ignore"):
        nll = np.where(known, np.log(train_counts.sum()) - np.log(own), np.nan)
    unknown = np.full(len(own), np.nan)
    return {
        name: Ranks(np.where(known, 1 + rivals[name], 0), nll if name == "popular" else unknown)
        for name in baseline_names(filter_seen)
    }


def _had_before(
    users: Int[np.ndarray, " E"],
    items: Int[np.ndarray, " E"],
    clock: Int[np.ndarray, " E"],
    rankable: Bool[np.ndarray, " E"],
    popularity: Int[np.ndarray, " E"],
    evaluated: Int[np.ndarray, " N"],
) -> dict[str, Int[np.ndarray, " N"]]:
    """For each baseline, how many other earlier items of the user rank no lower than the target.

    The arguments are those of `simple_rankings`, and of all events, whether their items can be
    ranked and how often these occur in training.
    """
    names = "popular", "revisit", "revisit_hour"
    had = {name: np.zeros(len(evaluated), np.int64) for name in names}
    first = past.first_visit(users, items)
    for part, row, earlier in _pairs(evaluated, past.earlier_events(users)[evaluated]):
        event = evaluated[part][row]
        is_target = items[earlier] == items[event]
        is_near = _within_an_hour(clock[earlier], clock[event])
        # The pair with the first visit of an item represents the item and holds its counts.
        at = np.arange(len(row)) - (earlier - first[earlier])
        visits = np.bincount(at, minlength=len(row))
        near = np.bincount(at[is_near], minlength=len(row))
        own_visits = _count(row, is_target, part)[row]
        own_near = _count(row, is_target & is_near, part)[row]
        as_popular = popularity[earlier] >= popularity[event]
        as_often = _no_lower(visits, own_visits, as_popular)
        as_often_near = _no_lower(near, own_near, as_often)
        other = (earlier == first[earlier]) & rankable[earlier] & ~is_target
        for name, which in zip(names, (as_popular, as_often, as_often_near), strict=True):
            had[name][part] = _count(row, other & which, part)
    return had


def _within_an_hour(
    clock: Int[np.ndarray, " P"], other: Int[np.ndarray, " P"]
) -> Bool[np.ndarray, " P"]:
    """Whether two times of day are within an hour around the clock; never if one is unknown."""
    apart = np.abs(clock - other)
    known = (clock != _NO_CLOCK) & (other != _NO_CLOCK)
    return known & (np.minimum(apart, DAY - apart) <= HOUR)


def _no_lower(
    values: Int[np.ndarray, " P"], target: Int[np.ndarray, " P"], if_equal: Bool[np.ndarray, " P"]
) -> Bool[np.ndarray, " P"]:
    return (values > target) | ((values == target) & if_equal)


def _pairs(
    evaluated: Int[np.ndarray, " N"], before: Int[np.ndarray, " N"]
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Every evaluated event with each earlier one of its user, in parts of limited size.

    Args:
      evaluated: global indices.
      before: their numbers of earlier events of the same user.

    Yields:
      a range of evaluated events and, for each of their pairs, the position of the evaluated event
      in the range and the global index of the earlier event.
    """
    total = np.cumsum(before)
    start = 0
    while start < len(evaluated):
        done = total[start - 1] if start else 0
        stop = max(int(np.searchsorted(total, done + _PAIRS, side="right")), start + 1)
        lengths = before[start:stop]
        row = np.repeat(np.arange(stop - start), lengths)
        first = evaluated[start:stop] - lengths
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        yield slice(start, stop), row, first[row] + within
        start = stop


def _count(
    row: Int[np.ndarray, " P"], which: Bool[np.ndarray, " P"], part: slice
) -> Int[np.ndarray, " M"]:
    return np.bincount(row[which], minlength=part.stop - part.start)
