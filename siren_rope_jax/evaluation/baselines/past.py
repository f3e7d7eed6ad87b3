"""The past of every event: time since the previous one, number of events, visits of the item.

All functions take the N events of a log in global order: user by user, oldest first.
"""

import numpy as np
import pandas as pd
from jaxtyping import Int

from siren_rope_jax.base.times import NO_TIME
from siren_rope_jax.data.log import Events


def seconds_since_last(everything: Events) -> Int[np.ndarray, " N"]:
    """Seconds since the same user's previous event with a time; -1 if there is none."""
    time = pd.Series(everything.rows["time"])
    known = time[time != NO_TIME]
    gap = known.groupby(everything.user[known.index]).diff()
    return gap.reindex(time.index).fillna(-1).to_numpy(np.int64)


def earlier_events(users: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """The number of earlier events of the same user."""
    return np.arange(len(users)) - np.searchsorted(users, users)


def earlier_visits(
    users: Int[np.ndarray, " N"], items: Int[np.ndarray, " N"]
) -> Int[np.ndarray, " N"]:
    """The number of earlier events of the same user with the same item."""
    return pd.Series(items).groupby([users, items]).cumcount().to_numpy()


def first_visit(
    users: Int[np.ndarray, " N"], items: Int[np.ndarray, " N"]
) -> Int[np.ndarray, " N"]:
    """The position of the same user's first event with the same item, which may be the event."""
    return pd.Series(np.arange(len(items))).groupby([users, items]).transform("first").to_numpy()
