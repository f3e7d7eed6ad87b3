"""Two simple baselines for rankers: the mean label of the user and that of the item.

Of a binary task it is the positive rate, of an ordinal one the rate of each value. Both are
shrunk towards the mean in training, (sum + strength * mean) / (count + strength). The strength is
fitted on training events, without letting an event predict itself.
"""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from siren_rope_jax.models.tasks import Task

MEANINGS = {
    "user_rate": "the mean of the user's labels so far, such as the share of positives, shrunk "
    "towards that in training",
    "item_rate": "the mean of the item's labels in training, likewise",
}
"""What each baseline predicts."""

_STRENGTHS = tuple(2.0**k for k in range(-1, 13))


def user_rate(
    task: Task,
    labels: Float[np.ndarray, " N"],
    users: Int[np.ndarray, " N"],
    train: Bool[np.ndarray, " N"],
) -> Float[np.ndarray, "N C"]:
    """The user's mean over strictly earlier events of any split, as scores of the task.

    Labels, NaN where absent, are of all events of a log, user by user, oldest first.
    """
    targets, present = _targets(task, labels)
    frame = pd.DataFrame(np.column_stack([targets, present]))
    before = (frame.groupby(users).cumsum() - frame).to_numpy()
    total, count = before[:, :-1], before[:, -1]
    return _shrunk(task, labels, total, count, total, count, train)


def item_rate(
    task: Task,
    labels: Float[np.ndarray, " N"],
    items: Int[np.ndarray, " N"],
    train: Bool[np.ndarray, " N"],
) -> Float[np.ndarray, "N C"]:
    """The item's mean in training, which is too good on training events themselves."""
    targets, present = _targets(task, labels)
    known = train & present
    own = targets * known[:, None]
    count = np.bincount(items, known)[items]
    total = np.stack([np.bincount(items, column)[items] for column in own.T], axis=-1)
    # To fit the strength, each training event is left out of its own item's counts.
    return _shrunk(task, labels, total - own, count - known, total, count, train)


def _targets(task: Task, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What scores estimate, 0 where the label is absent; and where it is there."""
    present = ~np.isnan(labels)
    targets = np.zeros((len(labels), task.columns))
    targets[present] = task.targets(labels[present].astype(np.float64))
    return targets, present


def _shrunk(
    task: Task,
    labels: np.ndarray,
    fit_total: np.ndarray,
    fit_count: np.ndarray,
    total: np.ndarray,
    count: np.ndarray,
    train: np.ndarray,
) -> np.ndarray:
    fit = train & ~np.isnan(labels)
    own = labels[fit].astype(np.float64)
    mean = task.targets(own).mean(axis=0)

    def shrunk(total: np.ndarray, count: np.ndarray, strength: float) -> np.ndarray:
        return (total + strength * mean) / (count + strength)[:, None]

    def loss(strength: float) -> float:
        return float(np.sum(task.losses(own, shrunk(fit_total[fit], fit_count[fit], strength))))

    return shrunk(total, count, min(_STRENGTHS, key=loss))
