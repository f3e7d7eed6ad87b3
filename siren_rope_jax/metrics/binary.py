"""Metrics of binary predictions: normalised entropy, AUC, GAUC, calibration error.

Everything runs on the host in float64 and is exact: no binning but that of the calibration
error, which is part of its definition, and no sampling. N is the number of events.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped
from scipy.special import entr
from scipy.stats import rankdata

# A float32 sigmoid can return exactly 0 or 1: a wrong one costs -ln(1e-7) = 16 nats, not infinity.
EPSILON = 1e-7
CALIBRATION_BINS = 20


def log_losses(
    labels: Int[np.ndarray, " N"], probabilities: Float[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """The log loss of every event in nats, of probabilities clipped to [1e-7, 1 - 1e-7]."""
    clipped = np.clip(np.asarray(probabilities, np.float64), EPSILON, 1 - EPSILON)
    return -np.log(np.where(np.asarray(labels) == 1, clipped, 1 - clipped))


def entropy(rate: np.ndarray | float) -> Float[np.ndarray, "..."]:
    """Entropy in nats of a coin that shows heads at this rate; 0 for the rates 0 and 1."""
    return entr(rate) + entr(1 - np.asarray(rate))


def normalized_entropy(
    labels: Shaped[np.ndarray, " N"], probabilities: Float[np.ndarray, " N"]
) -> float:
    """Mean log loss over the entropy of these labels' own base rate (He et al. 2014); lower wins.

    Labels are 0 and 1, of any type. 1 is what a constant prediction of the base rate reaches; nan
    where only one class occurs.
    """
    labels = np.asarray(labels)
    scale = float(entropy(labels.mean())) if labels.size else 0.0
    return float(log_losses(labels, probabilities).mean()) / scale if scale > 0 else float("nan")


def user_aucs(
    labels: Int[np.ndarray, " N"], scores: Float[np.ndarray, " N"], users: Int[np.ndarray, " N"]
) -> tuple[Int[np.ndarray, " V"], Float[np.ndarray, " V"], Int[np.ndarray, " V"]]:
    """The AUC within each user, ties counted as one half: Mann and Whitney's statistic.

    Returns:
      the users that have both classes in ascending order, their AUCs and numbers of events.
    """
    user, which = np.unique(users, return_inverse=True)
    rank = pd.Series(scores).groupby(which).rank().to_numpy()  # equal scores share their mean rank
    events, positives = np.bincount(which), np.bincount(which, labels)
    wins = np.bincount(which, rank * labels) - positives * (positives + 1) / 2
    pairs = positives * (events - positives)
    both = pairs > 0
    return user[both], wins[both] / pairs[both], events[both]


def gauc(
    labels: Int[np.ndarray, " N"], scores: Float[np.ndarray, " N"], users: Int[np.ndarray, " N"]
) -> float:
    """AUC per user, averaged over users with both classes, weighted by their number of events.

    nan where no user has both classes.
    """
    _, aucs, events = user_aucs(labels, scores, users)
    return float(np.average(aucs, weights=events)) if len(aucs) else float("nan")


def auc(labels: Int[np.ndarray, " N"], scores: Float[np.ndarray, " N"]) -> float:
    """Area under the ROC curve, ties counted as one half; nan where only one class occurs.

    The share of pairs of a positive and a negative event in which the positive scores higher.
    """
    return gauc(labels, scores, np.zeros(len(labels), np.int64))


class Calibration(NamedTuple):
    """Equal-count bins of the scores in ascending order; empty bins are left out."""

    events: Int[np.ndarray, " K"]
    score: Float[np.ndarray, " K"]
    rate: Float[np.ndarray, " K"]


def calibration(labels: Int[np.ndarray, " N"], scores: Float[np.ndarray, " N"]) -> Calibration:
    """Mean score and positive rate in 20 bins of equal count.

    An event's bin follows from the midrank of its score, so equal scores stay together and the
    result does not depend on the order of the events.
    """
    share_below = (rankdata(scores) - 0.5) / max(len(scores), 1)
    which = (share_below * CALIBRATION_BINS).astype(np.int64)
    count = np.bincount(which)
    full = count > 0
    score, rate = (np.bincount(which, np.asarray(x, np.float64)) for x in (scores, labels))
    return Calibration(count[full], score[full] / count[full], rate[full] / count[full])


def calibration_error(labels: Int[np.ndarray, " N"], scores: Float[np.ndarray, " N"]) -> float:
    """Expected calibration error: mean |mean score - positive rate| over bins, by their counts.

    The bins are those of `calibration`. nan where there is no event.
    """
    events, score, rate = calibration(labels, scores)
    return float(np.average(np.abs(score - rate), weights=events)) if len(events) else float("nan")


def task_metrics(
    labels: Int[np.ndarray, " N"], scores: Float[np.ndarray, " N"], users: Int[np.ndarray, " N"]
) -> dict[str, float | int | None]:
    """All metrics of one task over the events that carry its label, 0 or 1; -1 where it is absent.

    Returns:
      "ne", "auc", "gauc", "ece" (None where undefined: one class only), "count", "positives".

    Raises:
      ValueError: a score of a labelled event is not a probability.
    """
    present = labels >= 0
    labels, scores, users = labels[present], scores[present], users[present]
    if outside := int(np.sum(~((scores >= 0) & (scores <= 1)))):  # nan is outside, too
        raise ValueError(f"{outside} scores are outside 0..1")
    values = {
        "ne": normalized_entropy(labels, scores),
        "auc": auc(labels, scores),
        "gauc": gauc(labels, scores, users),
        "ece": calibration_error(labels, scores),
    }
    finite = {name: None if np.isnan(value) else value for name, value in values.items()}
    return {**finite, "count": len(labels), "positives": int(np.sum(labels))}
