"""Two simple baselines for rankers: the positive rate of the user and that of the item.

Both are shrunk towards the task's rate in training, (positives + strength * rate) / (count +
strength). The strength is fitted on training events, without letting an event predict itself.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from siren_rope_jax.data.log import Events, PreparedLog
from siren_rope_jax.data.schema import TRAIN
from siren_rope_jax.metrics.binary import log_losses

MEANINGS = {
    "user_rate": "the user's share of positives so far, shrunk towards the rate in training",
    "item_rate": "the item's share of positives in training, likewise",
}
"""What each baseline predicts."""

_STRENGTHS = tuple(2.0**k for k in range(-1, 13))


def simple_baselines(
    log: PreparedLog, events: Events, tasks: tuple[str, ...]
) -> dict[str, Float[np.ndarray, "N T"]]:
    """Probabilities of the baselines "user_rate" and "item_rate" for all events of a log.

    Like the models, user_rate knows the labels of the user's earlier events in any split. item_rate
    knows only the training split, so it is too good on training events.

    Args:
      log: the prepared log.
      events: all its events, in global order.
      tasks: names of the tasks along the last axis of the result.
    """
    train = events.rows["split"] == TRAIN
    item = events.rows[f"categorical/{log.schema.categorical[0].name}"]
    labels = [events.rows[f"task/{task}"] for task in tasks]
    return {
        "user_rate": np.stack([user_rate(y, events.user, train) for y in labels], axis=-1),
        "item_rate": np.stack([item_rate(y, item, train) for y in labels], axis=-1),
    }


def user_rate(
    labels: Int[np.ndarray, " N"], users: Int[np.ndarray, " N"], train: Bool[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """The user's positive rate over strictly earlier events, shrunk to the training rate.

    Args:
      labels: 0, 1, or -1 if absent; user by user, oldest first.
      users: index of the user, ascending.
      train: the events that fit the base rate and the strength of shrinkage.
    """
    count, positive = (_before(x.astype(np.int64), users) for x in (labels >= 0, labels == 1))
    return _shrunk(labels, positive, count, positive, count, train)


def item_rate(
    labels: Int[np.ndarray, " N"], items: Int[np.ndarray, " N"], train: Bool[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """The item's positive rate in training, shrunk to the rate of all items."""
    size = int(items.max(initial=0)) + 1
    known = train & (labels >= 0)
    count = np.bincount(items[known], minlength=size)[items]
    positive = np.bincount(items[known], labels[known], size)[items].astype(np.int64)
    # To fit the strength, each training event is left out of its own item's counts.
    others = count - known, positive - (known & (labels == 1))
    return _shrunk(labels, others[1], others[0], positive, count, train)


def _before(values: Int[np.ndarray, " N"], users: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """The sum of the values over the same user's earlier rows."""
    total = np.cumsum(values) - values
    starts = np.flatnonzero(np.r_[True, users[1:] != users[:-1]][: len(users)])
    return total - np.repeat(total[starts], np.diff(np.r_[starts, len(users)]))


def _shrunk(
    labels: np.ndarray,
    fit_positive: np.ndarray,
    fit_count: np.ndarray,
    positive: np.ndarray,
    count: np.ndarray,
    train: np.ndarray,
) -> np.ndarray:
    fit = train & (labels >= 0)
    rate = float(np.mean(labels[fit])) if fit.any() else 0.5

    def loss(strength: float) -> float:
        p = (fit_positive[fit] + strength * rate) / (fit_count[fit] + strength)
        return float(np.sum(log_losses(labels[fit], p)))

    strength = min(_STRENGTHS, key=loss)
    return (positive + strength * rate) / (count + strength)
