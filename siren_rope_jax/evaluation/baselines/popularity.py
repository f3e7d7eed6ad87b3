"""Simple baselines for retrievers: items that are popular, recent, or known to the user.

They rank all items that a model can rank, exactly and by the same rules: ties count against the
target, and if items that a user had before are filtered, such a target has no rank.

Letters: E events of a log, N evaluated ones, V items that can be ranked.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from siren_rope_jax.base.times import DAY, HOUR, MIN_TIME, NO_TIME
from siren_rope_jax.data.log import Events
from siren_rope_jax.evaluation.baselines import past
from siren_rope_jax.training.rank_scorer import Ranked

MEANINGS = {
    "popular": "items by number of training events",
    "recent": "items by number of events of all users in the 24 hours before the request (even "
    "after the end of training), then as popular",
    "revisit": "items by number of the user's earlier events with the item, then as popular",
    "revisit_hour": "items by number of such events within an hour of the request's time of day, "
    "then as revisit",
}
"""How each baseline ranks, in the order of every table."""

_NO_CLOCK = -1
_PAIRS = 1 << 21  # pairs of an event and an earlier one that are compared at once
_STRETCH = 256  # consecutive targets that share one look-up of the recent items


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
) -> dict[str, Ranked]:
    """Ranks of the targets of evaluated events by the baselines of `baseline_names`.

    `MEANINGS` says how each ranks. Only "popular" predicts probabilities: those of the frequencies
    in training. The NLL of the others is NaN.

    Users, items, times (Unix seconds or `NO_TIME`) and the clock (`time_of_day`) are those of all
    events in global order. Ids 1..V can be ranked; `train_counts` has their numbers of training
    events, by id - 1. `evaluated` are global indices.
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
    rivals["recent"] = _ahead_of_recent(
        users, items, times, rankable, train_counts, evaluated, filter_seen
    )
    with np.errstate(divide="ignore"):
        nll = np.where(known, np.log(train_counts.sum()) - np.log(own), np.nan)
    ranks = {name: np.where(known, 1 + rivals[name], 0) for name in baseline_names(filter_seen)}
    unknown = np.full(len(own), np.nan)
    return {
        name: Ranked(evaluated, rank, nll if name == "popular" else unknown)
        for name, rank in ranks.items()
    }


def _had_before(
    users: np.ndarray,
    items: np.ndarray,
    clock: np.ndarray,
    rankable: np.ndarray,
    popularity: np.ndarray,
    evaluated: np.ndarray,
) -> dict[str, Int[np.ndarray, " N"]]:
    """For each baseline, how many other earlier items of the user rank no lower than the target."""
    names = "popular", "revisit", "revisit_hour"
    had = {name: np.zeros(len(evaluated), np.int64) for name in names}
    first = past.first_visit(users, items)
    for part, row, earlier in _pairs(evaluated, past.earlier_events(users)[evaluated]):
        event = evaluated[part][row]
        is_target = items[earlier] == items[event]
        apart = np.abs(clock[earlier] - clock[event])
        is_near = (clock[earlier] != _NO_CLOCK) & (clock[event] != _NO_CLOCK)
        is_near &= np.minimum(apart, DAY - apart) <= HOUR  # around midnight, too
        # The pair with the first visit of an item represents the item and holds its counts.
        at = np.arange(len(row)) - (earlier - first[earlier])
        visits = np.bincount(at, minlength=len(row))
        near = np.bincount(at[is_near], minlength=len(row))
        own_visits = _count(row, is_target, part)[row]
        own_near = _count(row, is_target & is_near, part)[row]
        as_popular = popularity[earlier] >= popularity[event]
        as_often = (visits > own_visits) | ((visits == own_visits) & as_popular)
        as_often_near = (near > own_near) | ((near == own_near) & as_often)
        other = (earlier == first[earlier]) & rankable[earlier] & ~is_target
        for name, which in zip(names, (as_popular, as_often, as_often_near), strict=True):
            had[name][part] = _count(row, other & which, part)
    return had


def _pairs(
    evaluated: Int[np.ndarray, " N"], before: Int[np.ndarray, " N"]
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Every evaluated event with each earlier one of its user, in parts of limited size.

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


def _count(row: np.ndarray, which: np.ndarray, part: slice) -> Int[np.ndarray, " M"]:
    """How many pairs of each event of the part are chosen."""
    return np.bincount(row[which], minlength=part.stop - part.start)


def _ahead_of_recent(
    users: np.ndarray,
    items: np.ndarray,
    times: np.ndarray,
    rankable: np.ndarray,
    train_counts: np.ndarray,
    evaluated: np.ndarray,
    filter_seen: bool,
) -> Int[np.ndarray, " N"]:
    """How many other items rank no lower than each target that can be ranked, as "recent" does.

    The 24 hours end before the target's time; a target without a time is ranked by popularity.
    """
    # A single number orders the items by events of the day, then by popularity; many are equal.
    _, popularity = np.unique(train_counts, return_inverse=True)
    place = popularity.astype(np.int64)
    by_popularity = np.sort(place)
    one_event = len(train_counts) + 1
    counted = np.flatnonzero(rankable & (times != NO_TIME))
    counted = counted[np.argsort(times[counted], kind="stable")]
    moments, item = times[counted], items[counted] - 1
    starts = np.searchsorted(users, users[evaluated])
    order = np.flatnonzero(rankable[evaluated])
    order = order[np.argsort(times[evaluated[order]], kind="stable")]
    asked = np.maximum(times[evaluated], MIN_TIME)  # no event is before MIN_TIME
    first, stop = np.searchsorted(moments, asked - DAY), np.searchsorted(moments, asked)
    ahead = np.zeros(len(evaluated), np.int64)
    come = gone = 0  # counted[gone:come] are the events of the day
    for start in range(0, len(order), _STRETCH):
        stretch = order[start : start + _STRETCH]
        # All other items, most of a large catalogue, are ordered by popularity alone.
        moved = np.unique(item[first[stretch[0]] : stop[stretch[-1]]])
        for n in stretch:
            np.add.at(place, item[come : stop[n]], one_event)
            np.subtract.at(place, item[gone : first[n]], one_event)
            come, gone = stop[n], first[n]
            event = evaluated[n]
            own = place[items[event] - 1]
            no_lower = len(place) - np.searchsorted(by_popularity, own)
            no_lower += np.count_nonzero(place[moved] >= own)
            no_lower -= np.count_nonzero(popularity[moved] >= own)
            ahead[n] = no_lower - 1
            if filter_seen:
                before = slice(starts[n], event)
                seen = np.unique(items[before][rankable[before]]) - 1
                ahead[n] -= np.count_nonzero(place[seen] >= own)
    return ahead
