"""Groups of the evaluated events: by hour, gap, day, length of history, and by their items.

Every function returns group -> positions among the evaluated events; empty groups are left out.
Groups by time hold the events with a known time alone.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from siren_rope_jax.base.times import DAY, HOUR, NO_TIME
from siren_rope_jax.data.log import Events
from siren_rope_jax.data.schema import Categorical
from siren_rope_jax.evaluation.baselines import past

# (name, upper limit in seconds) of the time since the user's last event.
GAPS = (
    ("<1 min", 60),
    ("<10 min", 10 * 60),
    ("<1 h", HOUR),
    ("<6 h", 6 * HOUR),
    ("<1 d", DAY),
    ("<1 wk", 7 * DAY),
    ("longer", None),
)
FIRST_EVENT = "first event"
MAX_PERIODS = 92

# Names and lowest values of the groups by a count.
HISTORIES = {"0": 0, "1-4": 1, "5-9": 5, "10-19": 10, "20-49": 20, "50-99": 50, "100+": 100}
POPULARITIES = {"0": 0, "1-4": 1, "5-19": 5, "20-99": 20, "100+": 100}

Groups = dict[str, Int[np.ndarray, " M"]]


def by_hour(events: Events) -> Groups:
    """By hour of day, local where the log has UTC offsets: "0" to "23"."""
    known, local = _local_times(events)
    return {str(hour): known[rows] for hour, rows in _groups(local // HOUR % 24)}


def by_day(events: Events) -> Groups:
    """By day, or by periods of several days, named by their first, if there are more than 92."""
    known, local = _local_times(events)
    day = local // DAY
    width = -(-int(np.ptp(day) + 1) // MAX_PERIODS) if len(day) else 1
    first = int(day.min(initial=np.iinfo(np.int64).max))
    return {
        str(np.datetime64(first + p * width, "D")): known[rows]
        for p, rows in _groups((day - first) // width)
    }


def by_gap(events: Events, everything: Events) -> Groups:
    """By time since the same user's last event: the names of `GAPS`, and "first event".

    Args:
      events: the evaluated events.
      everything: all events of the log, in global order.
    """
    known = np.flatnonzero(events.rows["time"] != NO_TIME)
    gap = past.seconds_since_last(everything)[events.event[known]]
    limits = [limit for _, limit in GAPS if limit is not None]
    bucket = np.where(gap < 0, len(GAPS), np.searchsorted(limits, gap, side="right"))
    names = [name for name, _ in GAPS] + [FIRST_EVENT]
    return {names[b]: known[rows] for b, rows in _groups(bucket)}


def by_history(events: Events, everything: Events) -> Groups:
    """By the number of earlier events of the same user, in any split: the names of `HISTORIES`."""
    return _by_count(past.earlier_events(everything.user)[events.event], HISTORIES)


def by_popularity(item: Categorical, events: Events, train_counts: np.ndarray) -> Groups:
    """By how often the item occurs in training: the names of `POPULARITIES`.

    Args:
      item: the feature that identifies the item.
      events: the evaluated events.
      train_counts: of the items, by id - 1.
    """
    counts = np.concatenate([[0], train_counts])
    return _by_count(counts[events.rows[f"categorical/{item.name}"]], POPULARITIES)


def by_revisit(item: Categorical, events: Events, everything: Events) -> Groups:
    """By whether the user had the item before, in any split: "new" and "again"."""
    items = everything.rows[f"categorical/{item.name}"]
    again = past.earlier_visits(everything.user, items)[events.event] > 0
    return _present({"new": np.flatnonzero(~again), "again": np.flatnonzero(again)})


def by_item(item: Categorical, events: Events) -> Groups:
    """By whether the model knows the item.

    "known": it has an embedding of its own; "unknown": too rare in training, or absent from it.
    """
    ids = events.rows[f"categorical/{item.name}"]
    known = (ids > 0) & (ids <= item.known)
    return _present({"known": np.flatnonzero(known), "unknown": np.flatnonzero(~known)})


def _local_times(events: Events) -> tuple[np.ndarray, np.ndarray]:
    """The positions of the events with a time, and their local seconds."""
    known = np.flatnonzero(events.rows["time"] != NO_TIME)
    return known, events.rows["time"][known] + events.rows["utc_offset"][known]


def _by_count(counts: np.ndarray, lows: dict[str, int]) -> Groups:
    names, edges = list(lows), list(lows.values())
    bucket = np.searchsorted(edges, counts, side="right") - 1
    return {names[b]: rows for b, rows in _groups(bucket)}


def _present(groups: Groups) -> Groups:
    return {name: rows for name, rows in groups.items() if len(rows)}


def _groups(keys: np.ndarray) -> Sequence[tuple[int, np.ndarray]]:
    """The distinct keys in ascending order, each with the positions where it stands."""
    order = np.argsort(keys, kind="stable")
    distinct, starts = np.unique(keys[order], return_index=True)
    parts = np.split(order, starts)[1:]
    return [(int(key), part) for key, part in zip(distinct, parts, strict=True)]
