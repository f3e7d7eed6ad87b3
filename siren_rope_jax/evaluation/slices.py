"""Groups of the evaluated events: by hour, day, gap, length of the history, and item.

Every function returns group -> positions among the evaluated events; empty groups are left out.
Groups by time leave out events without a time.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from siren_rope_jax.base.times import DAY, HOUR, NO_TIME, hour_of_day
from siren_rope_jax.data.log import Events
from siren_rope_jax.data.schema import Categorical
from siren_rope_jax.evaluation.baselines import past
from siren_rope_jax.evaluation.evaluated import Evaluated

# (name, upper limit in seconds) of the time since the user's previous event.
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

# Group -> its lowest count.
HISTORIES = {"0": 0, "1-4": 1, "5-9": 5, "10-19": 10, "20-49": 20, "50-99": 50, "100+": 100}
POPULARITIES = {"0": 0, "1-4": 1, "5-19": 5, "20-99": 20, "100+": 100}

Groups = dict[str, Int[np.ndarray, " M"]]


def by_hour(events: Events) -> Groups:
    """By hour of day, local if the log has UTC offsets: "0" to "23"."""
    known, local = _local_times(events)
    return {str(hour): known[rows] for hour, rows in _groups(hour_of_day(local))}


def by_day(events: Events) -> Groups:
    """By day or, if there are more than 92, by periods of several days, named by their first."""
    known, local = _local_times(events)
    day = local // DAY
    width = -(-int(np.ptp(day) + 1) // MAX_PERIODS) if len(day) else 1
    first = int(day.min(initial=np.iinfo(np.int64).max))
    return {
        str(np.datetime64(first + p * width, "D")): known[rows]
        for p, rows in _groups((day - first) // width)
    }


def by_gap(events: Events, everything: Events) -> Groups:
    """By time since the same user's previous event: the names of `GAPS`, and "first event".

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
      train_counts: number of training events of every item, by id - 1.
    """
    counts = np.concatenate([[0], train_counts])
    return _by_count(counts[events.rows[f"categorical/{item.name}"]], POPULARITIES)


def by_revisit(item: Categorical, events: Events, everything: Events) -> Groups:
    """By whether the user had the item before, in any split: "again" or "new"."""
    items = everything.rows[f"categorical/{item.name}"]
    again = past.earlier_visits(everything.user, items)[events.event] > 0
    return _present({"new": np.flatnonzero(~again), "again": np.flatnonzero(again)})


def by_item(item: Categorical, events: Events) -> Groups:
    """By whether the model knows the item.

    "known": it has its own embedding; "unknown": too rare in training, or absent from it.
    """
    ids = events.rows[f"categorical/{item.name}"]
    known = (ids > 0) & (ids <= item.known)
    return _present({"known": np.flatnonzero(known), "unknown": np.flatnonzero(~known)})


def _local_times(events: Events) -> tuple[np.ndarray, np.ndarray]:
    """The positions of the events that have a time, and these times in local seconds."""
    known = np.flatnonzero(events.rows["time"] != NO_TIME)
    return known, events.rows["time"][known] + events.rows["utc_offset"][known]


def _by_count(counts: np.ndarray, lows: dict[str, int]) -> Groups:
    names, edges = list(lows), list(lows.values())
    bucket = np.searchsorted(edges, counts, side="right") - 1
    return {names[b]: rows for b, rows in _groups(bucket)}


def _present(groups: Groups) -> Groups:
    return {name: rows for name, rows in groups.items() if len(rows)}


def _groups(keys: np.ndarray) -> Sequence[tuple[int, np.ndarray]]:
    """The distinct keys in ascending order, each with its positions."""
    order = np.argsort(keys, kind="stable")
    distinct, starts = np.unique(keys[order], return_index=True)
    parts = np.split(order, starts)[1:]
    return [(int(key), part) for key, part in zip(distinct, parts, strict=True)]


class Slicing(NamedTuple):
    """A way to group events, and how it is shown.

    Attributes:
      of: makes the groups.
      what: what tells them apart.
      groups: the names of those that are shown, in order; none: they depend on the log.
      by_clock: they follow a time, which is local if the log has UTC offsets.
      is_scale: they have an order, so that a line may join them.
    """

    of: Callable[[Evaluated], Groups]
    what: str
    groups: tuple[str, ...] = ()
    by_clock: bool = False
    is_scale: bool = True

    def title(self, has_utc_offset: bool) -> str:
        """What tells the groups apart, and whose clock they follow."""
        if not self.by_clock:
            return self.what
        return f"local {self.what}" if has_utc_offset else f"{self.what} (UTC)"


SLICES: Mapping[str, Slicing] = {
    "item": Slicing(
        lambda e: by_item(e.item, e.events),
        "whether the item is known (unknown: too rare in training to have an embedding, or absent)",
        ("known", "unknown"),
        is_scale=False,
    ),
    "hour": Slicing(
        lambda e: by_hour(e.events), "hour of day", tuple(map(str, range(24))), by_clock=True
    ),
    "gap": Slicing(
        lambda e: by_gap(e.events, e.everything),
        "time since the user's last event",
        (*(name for name, _ in GAPS), FIRST_EVENT),
    ),
    "day": Slicing(lambda e: by_day(e.events), "day", by_clock=True),
    "history": Slicing(
        lambda e: by_history(e.events, e.everything),
        "number of earlier events of the user",
        tuple(HISTORIES),
    ),
    "popularity": Slicing(
        lambda e: by_popularity(e.item, e.events, e.train_counts),
        "number of training events of the item",
        tuple(POPULARITIES)[1:],  # without any, an item cannot be found
    ),
    "revisit": Slicing(
        lambda e: by_revisit(e.item, e.events, e.everything),
        "whether the user had the item before",
        ("new", "again"),
        is_scale=False,
    ),
}
"""By the names that kinds of experiments use."""
