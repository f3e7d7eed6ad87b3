"""Metrics of binary predictions: normalised entropy, AUC, GAUC, calibration error.

Everything runs on the host in float64 and is exact: no binning but that of the calibration
error, which is part of its definition, and no sampling. N is the number of events.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
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
    rate = np.asarray(rate, np.float64)
    inside = np.where((rate > 0) & (rate < 1), rate, 0.5)
    value = -inside * np.log(inside) - (1 - inside) * np.log1p(-inside)
    return np.where((rate > 0) & (rate < 1), value, 0.0)


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


def auc(labels: Int[np.ndarray, " N"], scores: Float[np.ndarray, " N"]) -> float:
    """Area under the ROC curve, ties counted as one half; nan where only one class occurs.

    Mann and Whitney's statistic: the share of pairs whose positive has the higher score.
    """
    positive = np.asarray(labels) == 1
    positives = int(positive.sum())
    pairs = positives * (len(positive) - positives)
    if pairs == 0:
        return float("nan")
    rank_sum = rankdata(scores)[positive].sum()
    return float((rank_sum - positives * (positives + 1) / 2) / pairs)


class UserAuc(NamedTuple):
    """AUC of each user that has both classes, in ascending order of the users; V of them."""

    user: Int[np.ndarray, " V"]
    auc: Float[np.ndarray, " V"]
    events: Int[np.ndarray, " V"]


def user_aucs(
    labels: Int[np.ndarray, " N"], scores: Float[np.ndarray, " N"], users: Int[np.ndarray, " N"]
) -> UserAuc:
    """The AUC within each user, of all users at once: one sort and midranks for ties."""
    order = np.lexsort((scores, users))
    label, score, user = (np.asarray(x)[order] for x in (labels, scores, users))
    if label.size == 0:
        return UserAuc(user, np.zeros(0), np.zeros(0, np.int64))
    changes = user[1:] != user[:-1]
    starts = np.flatnonzero(np.r_[True, changes])
    events = np.diff(np.r_[starts, len(user)])
    # Runs of equal score within a user share the mean of their ranks 1..n.
    run_starts = np.flatnonzero(np.r_[True, changes | (score[1:] != score[:-1])])
    run_lengths = np.diff(np.r_[run_starts, len(user)])
    rank = np.repeat(run_starts + (run_lengths + 1) / 2, run_lengths) - np.repeat(starts, events)
    positives = np.add.reduceat(label.astype(np.int64), starts)
    rank_sum = np.add.reduceat(rank * label, starts)
    both = (positives > 0) & (positives < events)
    positive = positives[both].astype(np.float64)
    pairs = positive * (events[both] - positive)
    wins = rank_sum[both] - positive * (positive + 1) / 2
    return UserAuc(user[starts][both], wins / pairs, events[both])


def gauc(
    labels: Int[np.ndarray, " N"], scores: Float[np.ndarray, " N"], users: Int[np.ndarray, " N"]
) -> float:
    """AUC per user, averaged over users with both classes, weighted by their number of events.

    nan where no user has both classes.
    """
    per_user = user_aucs(labels, scores, users)
    if per_user.events.size == 0:
        return float("nan")
    return float(np.average(per_user.auc, weights=per_user.events))


class Calibration(NamedTuple):
    """Equal-count bins of the scores in ascending order; empty bins are left out."""

    events: Int[np.ndarray, " K"]
    score: Float[np.ndarray, " K"]
    rate: Float[np.ndarray, " K"]


def calibration(
    labels: Int[np.ndarray, " N"], scores: Float[np.ndarray, " N"], bins: int = CALIBRATION_BINS
) -> Calibration:
    """Mean score and positive rate in bins of equal count.

    An event's bin follows from the midrank of its score, so equal scores stay together and the
    result does not depend on the order of the events.
    """
    scores = np.asarray(scores, np.float64)
    midrank = rankdata(scores, method="average") - 0.5
    which = np.minimum((midrank * bins / max(len(scores), 1)).astype(np.int64), bins - 1)
    count = np.bincount(which, minlength=bins)
    score = np.bincount(which, scores, bins)
    rate = np.bincount(which, np.asarray(labels, np.float64), bins)
    full = count > 0
    return Calibration(count[full], score[full] / count[full], rate[full] / count[full])


def calibration_error(
    labels: Int[np.ndarray, " N"], scores: Float[np.ndarray, " N"], bins: int = CALIBRATION_BINS
) -> float:
    """Expected calibration error: mean |mean score - positive rate| over bins, by their counts.

    The bins hold equal numbers of events (20 by default). nan where there is no event.
    """
    if len(scores) == 0:
        return float("nan")
    events, score, rate = calibration(labels, scores, bins)
    return float(np.sum(events * np.abs(score - rate)) / events.sum())


def labelled(labels: Int[np.ndarray, " N"]) -> Bool[np.ndarray, " N"]:
    """Which events carry the label; -1 stands for an absent one."""
    return np.asarray(labels) >= 0


def task_metrics(
    labels: Int[np.ndarray, " N"], scores: Float[np.ndarray, " N"], users: Int[np.ndarray, " N"]
) -> dict[str, float | int | None]:
    """All metrics of one task over the events that carry its label.

    Args:
      labels: 0 or 1, -1 where absent (those events are left out).
      scores: predicted probabilities.
      users: any integer that tells users apart.

    Returns:
      "ne", "auc", "gauc", "ece" (None where undefined: one class only), "count", "positives".

    Raises:
      ValueError: a score of a labelled event is not a probability.
    """
    present = labelled(labels)
    labels, scores, users = labels[present], scores[present], users[present]
    if not np.all((scores >= 0) & (scores <= 1)):  # False for nan too
        raise ValueError(f"{int(np.sum(~((scores >= 0) & (scores <= 1))))} scores are outside 0..1")
    values = {
        "ne": normalized_entropy(labels, scores),
        "auc": auc(labels, scores),
        "gauc": gauc(labels, scores, users),
        "ece": calibration_error(labels, scores),
    }
    finite = {name: None if np.isnan(value) else value for name, value in values.items()}
    return {**finite, "count": len(labels), "positives": int(np.sum(labels))}
