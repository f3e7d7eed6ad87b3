"""Groups of the evaluated events, such as by hour or gap; of tokens, by context and column."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int

from siren_rope_jax.base.times import DAY, HOUR, NO_TIME, hour_of_day
from siren_rope_jax.evaluation.baselines import past
from siren_rope_jax.evaluation.evaluated import Evaluated

GAPS = {"<1 min": 60, "<10 min": 600, "<1 h": HOUR, "<6 h": 6 * HOUR, "<1 d": DAY, "<1 wk": 7 * DAY}
"""Group -> upper limit, in seconds, of the time since the user's previous event."""
GAP_NAMES = ("first event", *GAPS, "longer")
HISTORIES = {"0": 0, "1-4": 1, "5-9": 5, "10-19": 10, "20-49": 20, "50-99": 50, "100+": 100}
POPULARITIES = {"0": 0, "1-4": 1, "5-19": 5, "20-99": 20, "100+": 100}
"""Group -> its lowest count."""
CONTEXTS = {"1-7": 1, "8-15": 8, "16-31": 16, "32-63": 32, "64-127": 64, "128-255": 128,
            "256-511": 256, "512+": 512}  # fmt: skip
COLUMNS = {"0": 0, "1-3": 1, "4-7": 4, "8-15": 8, "16-31": 16, "32-63": 32, "64+": 64}
HOURS = tuple(map(str, range(24)))
MAX_PERIODS = 92


def by_hour(e: Evaluated) -> pd.Categorical:
    """By hour of day, local if the log has UTC offsets: "0" to "23"."""
    return pd.Categorical(hour_of_day(_local_times(e)).astype("string"), HOURS)


def by_day(e: Evaluated) -> pd.Categorical:
    """By day or, if there are more than 92, by periods of several days, named by their first."""
    day = _local_times(e) // DAY
    if day.isna().all():
        return pd.Categorical([None] * len(day))
    first = day.min()
    width = -(-(day.max() - first + 1) // MAX_PERIODS)
    start = first + (day - first) // width * width
    return pd.Categorical(pd.to_datetime(start, unit="D").dt.strftime("%Y-%m-%d"))


def by_gap(e: Evaluated) -> pd.Categorical:
    """By time since the same user's previous event with a time, the first if there is none."""
    known = e.events.rows["time"] != NO_TIME
    gap = np.where(known, past.seconds_since_last(e.everything)[e.events.event], np.nan)
    return pd.cut(gap, [-np.inf, 0, *GAPS.values(), np.inf], right=False, labels=GAP_NAMES)


def by_history(e: Evaluated) -> pd.Categorical:
    """By the number of earlier events of the same user, in any split: the names of `HISTORIES`."""
    return _by_count(past.earlier_events(e.everything.user)[e.events.event], HISTORIES)


def by_popularity(e: Evaluated) -> pd.Categorical:
    """By how often the item occurs in training: the names of `POPULARITIES`."""
    counts = np.concatenate([[0], e.train_counts])
    return _by_count(counts[e.items(e.events)], POPULARITIES)


def by_revisit(e: Evaluated) -> pd.Categorical:
    """By whether the user had the item before, in any split: "again" or "new"."""
    visits = past.earlier_visits(e.everything.user, e.items(e.everything))[e.events.event]
    return pd.Categorical(np.where(visits > 0, "again", "new"), ("new", "again"))


def by_item(e: Evaluated) -> pd.Categorical:
    """By whether the model knows the item.

    "known": it has its own embedding; "unknown": too rare in training, or absent from it.
    """
    known = e.item.known_ids(e.items(e.events)) > 0
    return pd.Categorical(np.where(known, "known", "unknown"), ("known", "unknown"))


def by_context(e: Evaluated) -> pd.Categorical:
    """By how many tokens before it the model saw, if that is known: the names of `CONTEXTS`."""
    if (context := getattr(e.scored, "context", None)) is None:
        return pd.Categorical([None] * len(e.events.rows))
    return _by_count(context, CONTEXTS)


def by_column(e: Evaluated) -> pd.Categorical:
    """By the column at which a token begins, if the log says it: the names of `COLUMNS`."""
    rows = e.events.rows
    if "count/column" not in (rows.dtype.names or ()):
        return pd.Categorical([None] * len(rows))
    return _by_count(rows["count/column"], COLUMNS)


def _local_times(e: Evaluated) -> pd.Series:
    """Local Unix seconds of every event; missing where it has no time."""
    rows = e.events.rows
    return pd.Series(rows["time"] + rows["utc_offset"], dtype="Int64").mask(rows["time"] == NO_TIME)


def _by_count(counts: Int[np.ndarray, " N"], lows: Mapping[str, int]) -> pd.Categorical:
    return pd.cut(counts, [*lows.values(), np.inf], right=False, labels=list(lows))


class Slicing(NamedTuple):
    """A way to group events, and how it is shown.

    Attributes:
      group: the name of every event's group; missing for an event in none, such as one without a
        time where groups follow the time.
      what: what tells them apart.
      groups: the names of those that are shown, in order; none: they depend on the log.
      by_clock: they follow a time, which is local if the log has UTC offsets.
      is_scale: they have an order, so that a line may join them.
    """

    group: Callable[[Evaluated], pd.Categorical]
    what: str
    groups: tuple[str, ...] = ()
    by_clock: bool = False
    is_scale: bool = True

    def of(self, evaluated: Evaluated) -> dict[str, Int[np.ndarray, " M"]]:
        """Group -> positions among the evaluated events; empty groups are left out."""
        names = pd.Series(self.group(evaluated))
        return {
            str(name): rows for name, rows in names.groupby(names, observed=True).indices.items()
        }

    def title(self, has_utc_offset: bool) -> str:
        """What tells the groups apart, and whose clock they follow."""
        if not self.by_clock:
            return self.what
        return f"local {self.what}" if has_utc_offset else f"{self.what} (UTC)"


SLICES: Mapping[str, Slicing] = {
    "item": Slicing(
        by_item,
        "whether the item is known (unknown: too rare in training to have an embedding, or absent)",
        ("known", "unknown"),
        is_scale=False,
    ),
    "hour": Slicing(by_hour, "hour of day", HOURS, by_clock=True),
    "gap": Slicing(by_gap, "time since the user's last event", (*GAP_NAMES[1:], GAP_NAMES[0])),
    "day": Slicing(by_day, "day", by_clock=True),
    "history": Slicing(by_history, "number of earlier events of the user", tuple(HISTORIES)),
    "popularity": Slicing(
        by_popularity,
        "number of training events of the item",
        tuple(POPULARITIES)[1:],  # without any, an item cannot be found
    ),
    "context": Slicing(by_context, "number of tokens seen before", tuple(CONTEXTS)),
    "column": Slicing(by_column, "column of the token, in bytes", tuple(COLUMNS)),
    "revisit": Slicing(
        by_revisit, "whether the user had the item before", ("new", "again"), is_scale=False
    ),
}
"""By the names that kinds of experiments use."""
