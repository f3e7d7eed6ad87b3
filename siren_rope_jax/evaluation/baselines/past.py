"""The past of every event: time since the previous one, number of events, visits of the item.

All functions take the N events of a log in global order: user by user, oldest first.
"""

import numpy as np
from jaxtyping import Int

from siren_rope_jax.base.times import NO_TIME
from siren_rope_jax.data.log import Events


def seconds_since_last(everything: Events) -> Int[np.ndarray, " N"]:
    """Seconds since the same user's previous event with a time; -1 if there is none."""
    gap = np.full(len(everything.event), -1, np.int64)
    known = np.flatnonzero(everything.rows["time"] != NO_TIME)
    time, user = everything.rows["time"][known], everything.user[known]
    same = user[1:] == user[:-1]
    gap[known[1:][same]] = np.diff(time)[same]
    return gap


def earlier_events(users: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """The number of earlier events of the same user."""
    return np.arange(len(users)) - np.searchsorted(users, users)


def earlier_visits(
    users: Int[np.ndarray, " N"], items: Int[np.ndarray, " N"]
) -> Int[np.ndarray, " N"]:
    """The number of earlier events of the same user with the same item."""
    order, first = _by_pair(users, items)
    visits = np.empty(len(users), np.int64)
    at = np.arange(len(users))
    visits[order] = at - np.maximum.accumulate(np.where(first, at, 0))
    return visits


def first_visit(
    users: Int[np.ndarray, " N"], items: Int[np.ndarray, " N"]
) -> Int[np.ndarray, " N"]:
    """The position of the same user's first event with the same item, which may be the event."""
    order, first = _by_pair(users, items)
    start = np.empty(len(users), np.int64)
    start[order] = order[first][np.cumsum(first) - 1]
    return start


def _by_pair(users: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions sorted by user, item and time, and which of them start a new user or item."""
    order = np.lexsort((items, users))  # stable, hence in order of position
    user, item = users[order], items[order]
    first = np.ones(len(order), bool)
    first[1:] = (user[1:] != user[:-1]) | (item[1:] != item[:-1])
    return order, first
