"""Of rankers: NE, AUC and GAUC on bootstrap resamples, from the runs' own predictions.

Letters: N events, U users, S training seeds, Q runs of equal scores.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from siren_rope_jax.metrics.binary import (
    auc,
    entropy,
    gauc,
    log_losses,
    normalized_entropy,
    user_aucs,
)
from siren_rope_jax.studies.bootstrap import (
    RESAMPLES,
    Resampled,
    check_same_events,
    read_predictions,
    user_draws,
)

AUC_RESAMPLES = 200
"""Fewer than of the other metrics, because AUC needs a pass over all events for each."""


class _SortedScores(NamedTuple):
    """One model's scores sorted once, so that every resample costs only cumulative sums."""

    user: Int[np.ndarray, " N"]
    positive: Int[np.ndarray, " N"]
    run_starts: Int[np.ndarray, " Q"]

    @classmethod
    def of(cls, labels: np.ndarray, scores: np.ndarray, users: np.ndarray) -> "_SortedScores":
        order = np.argsort(scores, kind="stable")
        score = scores[order]
        runs = np.flatnonzero(np.r_[True, score[1:] != score[:-1]])
        return cls(users[order], labels[order].astype(np.int64), runs)

    def auc(self, draws: Int[np.ndarray, " U"]) -> float:
        """Weighted AUC, ties exact: positives beat all negatives below, and half of their own."""
        weight = draws[self.user]
        positive = np.add.reduceat(weight * self.positive, self.run_starts)
        negative = np.add.reduceat(weight, self.run_starts) - positive
        below = np.cumsum(negative) - negative
        pairs = float(positive.sum()) * float(negative.sum())
        wins = np.sum(positive * (below + negative / 2.0))
        return float(wins / pairs) if pairs else float("nan")


def resample(
    labels: Int[np.ndarray, " N"],
    users: Int[np.ndarray, " N"],
    scores: Float[np.ndarray, "S N"],
    *,
    resamples: int = RESAMPLES,
    auc_resamples: int = AUC_RESAMPLES,
    seed: int = 0,
) -> dict[str, Resampled]:
    """NE, AUC and GAUC of one model, a mean over its training seeds, on bootstrap resamples.

    Args:
      labels: 0 or 1 for every event.
      users: any integer that tells users apart.
      scores: probabilities by training seed and event.
      resamples: number of resamples for NE and GAUC, which need only sums per user.
      auc_resamples: number of resamples for AUC, which needs a pass over all events.
      seed: of the draws; two models resampled with one seed are paired.

    Returns:
      "ne", "auc", "gauc" -> values and samples; nan where a resample leaves a metric undefined.
    """
    distinct, user = np.unique(users, return_inverse=True)
    count = len(distinct)

    def per_user(values: np.ndarray) -> np.ndarray:
        return np.bincount(user, values, count)

    # The entropy below the fraction is the same for all seeds, so mean losses may be taken first.
    loss = per_user(np.mean([log_losses(labels, s) for s in scores], axis=0))
    sums = np.stack([loss, per_user(labels), per_user(np.ones(len(labels)))])
    aucs = np.zeros((2, len(scores), count))
    for s, score in enumerate(scores):
        own = user_aucs(labels, score, user)
        aucs[0, s, own.user] = own.auc * own.events
        aucs[1, s, own.user] = own.events
    ordered = [_SortedScores.of(labels, score, user) for score in scores]

    ne, area, grouped = np.zeros(resamples), np.zeros(auc_resamples), np.zeros(resamples)
    with np.errstate(divide="ignore", invalid="ignore"):
        for r, draws in enumerate(user_draws(count, max(resamples, auc_resamples), seed)):
            if r < resamples:
                weights = draws.astype(np.float64)
                total, positive, events = sums @ weights
                ne[r] = total / events / entropy(positive / events)
                weighted, weight = aucs @ weights
                grouped[r] = np.mean(weighted / weight)
            if r < auc_resamples:
                area[r] = np.mean([one.auc(draws) for one in ordered])
    ne[~np.isfinite(ne)] = np.nan
    values = {
        "ne": [normalized_entropy(labels, s) for s in scores],
        "auc": [auc(labels, s) for s in scores],
        "gauc": [gauc(labels, s, user) for s in scores],
    }
    samples = {"ne": ne, "auc": area, "gauc": grouped}
    return {m: Resampled(np.asarray(values[m]), samples[m]) for m in samples}


class TaskScores(NamedTuple):
    """The labelled events of one task, in order of the event, and several runs' scores."""

    labels: Int[np.ndarray, " N"]
    users: Int[np.ndarray, " N"]
    scores: Float[np.ndarray, "S N"]


def read_scores(paths: Sequence[Path], task: str, reference: Path | None = None) -> TaskScores:
    """Reads one task from several runs' predictions.parquet.

    Args:
      paths: the predictions of one model, one file per seed.
      task: the task's name.
      reference: another model's predictions that these are to be compared with.

    Raises:
      UserError: a file lacks the task, or the files are not over the same events.
    """
    files = [*paths, *([reference] if reference else [])]
    frames = read_predictions(files, [task, f"{task}_score"], f"task {task!r}")
    check_same_events(frames, files, task, f"task {task!r}")
    first = frames[0]
    present = first[task].notna().to_numpy()
    labels = first.loc[present, task].to_numpy(np.int64)
    users = pd.factorize(first.loc[present, "user"], sort=True)[0]
    scores = [f[f"{task}_score"].to_numpy(np.float64)[present] for f in frames[: len(paths)]]
    return TaskScores(labels, users, np.stack(scores))
