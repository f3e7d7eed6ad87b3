"""Two simple baselines for rankers: the positive rate of the user and that of the item.

Both are shrunk towards the task's rate in training, (positives + strength * rate) / (count +
strength). The strength is fitted on training events, without letting an event predict itself.
"""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from siren_rope_jax.metrics.binary import log_losses

MEANINGS = {
    "user_rate": "the user's share of positives so far, shrunk towards the rate in training",
    "item_rate": "the item's share of positives in training, likewise",
}
"""What each baseline predicts."""

_STRENGTHS = tuple(2.0**k for k in range(-1, 13))


def user_rate(
    labels: Int[np.ndarray, " N"], users: Int[np.ndarray, " N"], train: Bool[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """The user's positive rate over strictly earlier events of any split.

    Labels are 0, 1, or -1 if absent, of all events of a log, user by user, oldest first.
    """
    both = pd.DataFrame({"positive": labels == 1, "count": labels >= 0}).astype(np.int64)
    before = both.groupby(users).cumsum() - both
    positive, count = before["positive"].to_numpy(), before["count"].to_numpy()
    return _shrunk(labels, positive, count, positive, count, train)


def item_rate(
    labels: Int[np.ndarray, " N"], items: Int[np.ndarray, " N"], train: Bool[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """The item's positive rate in training, which is too good on training events themselves."""
    known = train & (labels >= 0)
    count, positive = (np.bincount(items, weights)[items] for weights in (known, known * labels))
    # To fit the strength, each training event is left out of its own item's counts.
    return _shrunk(labels, positive - known * labels, count - known, positive, count, train)


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
