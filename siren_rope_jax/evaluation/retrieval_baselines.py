"""Two simple recommenders that stand beside every retriever: popular items and known ones.

Both rank all items a model can rank, exactly and by its rules: ties count against the target, and
where items that a user had before are filtered, a target among them has no rank.

Letters: E events of a log, N evaluated ones, V items that can be ranked.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from siren_rope_jax.evaluation import past

_PAIRS = 1 << 22  # pairs of an event and an earlier one that are compared at a time


class Ranks(NamedTuple):
    """Ranks and losses as of a model: 0 and NaN where the target cannot be ranked."""

    rank: Int[np.ndarray, " N"]
    nll: Float[np.ndarray, " N"]


def simple_rankings(
    users: Int[np.ndarray, " E"],
    items: Int[np.ndarray, " E"],
    train_counts: Int[np.ndarray, " V"],
    evaluated: Int[np.ndarray, " N"],
    filter_seen: bool,
) -> dict[str, Ranks]:
    """Ranks of the targets of evaluated events by the baselines "popular" and "revisit".

    popular: by how often an item occurs in training; its NLL is that of these frequencies. revisit:
    by how often the user had the item before the event, in whatever split, then by popularity; it
    gives no probabilities, so its NLL is NaN.

    Args:
      users: of all events of a log, in global order.
      items: of all events; ids 1..V can be ranked.
      train_counts: of the items that can be ranked, by id - 1.
      evaluated: global indices of the evaluated events.
      filter_seen: whether items that the user had before are left out.
    """
    counts = np.concatenate([[0], train_counts])
    rankable = (items > 0) & (items < len(counts))
    target = items[evaluated]
    known = rankable[evaluated]
    visits = past.earlier_visits(users, items)
    if filter_seen:
        known &= visits[evaluated] == 0
    popularity = counts[np.where(rankable, items, 0)]
    own = popularity[evaluated]
    at_least = len(train_counts) - np.searchsorted(np.sort(train_counts), own)
    had_as_popular, had_rather = np.zeros_like(own), np.zeros_like(own)
    following = past.next_visit(users, items)
    for part, row, earlier in _pairs(evaluated, past.earlier_events(users)[evaluated]):
        event = evaluated[part][row]
        # Of several earlier visits of one item the last counts; before it were visits[earlier].
        other = rankable[earlier] & (following[earlier] >= event) & (items[earlier] != items[event])
        as_popular = popularity[earlier] >= popularity[event]
        times, needed = visits[earlier] + 1, visits[event]
        rather = (times > needed) | ((times == needed) & as_popular)
        had_as_popular[part] = _count(row, other & as_popular, part)
        had_rather[part] = _count(row, other & rather, part)
    others = at_least - 1  # as popular as the target
    not_had = np.where(visits[evaluated] == 0, others - had_as_popular, 0)
    popular = 1 + others - (had_as_popular if filter_seen else 0)
    revisit = 1 + not_had + (0 if filter_seen else had_rather)
    with np.errstate(divide="ignore"):
        nll = np.log(train_counts.sum()) - np.log(own)
    unknown = np.full(len(target), np.nan)
    return {
        "popular": Ranks(np.where(known, popular, 0), np.where(known, nll, np.nan)),
        "revisit": Ranks(np.where(known, revisit, 0), unknown),
    }


def _pairs(
    evaluated: Int[np.ndarray, " N"], before: Int[np.ndarray, " N"]
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Every evaluated event with each earlier one of its user, in parts of limited size.

    Args:
      evaluated: global indices.
      before: how many earlier events the same user has.

    Yields:
      a range of evaluated events; for each of their pairs the place of the evaluated event in the
      range, and the global index of the earlier one.
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
