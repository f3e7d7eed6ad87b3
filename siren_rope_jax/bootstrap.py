"""Paired bootstrap over users: how sure is the difference between two models?

Users are drawn with replacement and bring all their events along, since the events of one user
are not independent. Both models see the same draws (the draws follow from the seed and the number
of users alone), so what varies between users but not between models cancels.

Letters: N events, U users, S training seeds, R resamples.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from siren_rope_jax.errors import UserError
from siren_rope_jax.metrics import auc, entropy, gauc, log_losses, normalized_entropy, user_aucs


class Resampled(NamedTuple):
    """A metric on the data itself, and on every resample; a mean over training seeds."""

    value: float
    samples: Float[np.ndarray, " R"]


class Interval(NamedTuple):
    """A difference between two models and its 95 % percentile interval."""

    difference: float
    low: float
    high: float


def user_draws(users: int, resamples: int, seed: int) -> Iterator[Int[np.ndarray, " U"]]:
    """How often each user is drawn, per resample: multinomial weights that sum to `users`."""
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(rng.integers(users, size=users), minlength=users)


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
    resamples: int = 1000,
    auc_resamples: int = 200,
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
      "ne", "auc", "gauc" -> value and samples; nan where a resample leaves a metric undefined.
    """
    distinct, user = np.unique(users, return_inverse=True)
    count = len(distinct)

    def per_user(values: np.ndarray) -> np.ndarray:
        return np.bincount(user, values, count)

    # The entropy below the fraction is the same for all seeds, so mean losses may be taken first.
    loss = per_user(np.mean([log_losses(labels, s) for s in scores], axis=0))
    sums = np.stack([loss, per_user(labels), per_user(np.ones(len(labels)))], axis=-1)
    aucs = np.zeros((count, len(scores), 2))
    for s, score in enumerate(scores):
        own = user_aucs(labels, score, user)
        aucs[own.user, s, 0] = own.auc * own.events
        aucs[own.user, s, 1] = own.events
    ordered = [_SortedScores.of(labels, score, user) for score in scores]

    ne, area, grouped = np.zeros(resamples), np.zeros(auc_resamples), np.zeros(resamples)
    with np.errstate(divide="ignore", invalid="ignore"):
        for r, draws in enumerate(user_draws(count, max(resamples, auc_resamples), seed)):
            if r < resamples:
                total, positive, events = draws @ sums
                ne[r] = total / events / entropy(positive / events)
                weighted = np.tensordot(draws, aucs, 1)
                grouped[r] = np.mean(weighted[:, 0] / weighted[:, 1])
            if r < auc_resamples:
                area[r] = np.mean([one.auc(draws) for one in ordered])
    ne[~np.isfinite(ne)] = np.nan
    values = {
        "ne": [normalized_entropy(labels, s) for s in scores],
        "auc": [auc(labels, s) for s in scores],
        "gauc": [gauc(labels, s, user) for s in scores],
    }
    samples = {"ne": ne, "auc": area, "gauc": grouped}
    return {m: Resampled(float(np.mean(values[m])), samples[m]) for m in samples}


def difference(a: Resampled, b: Resampled) -> Interval:
    """Of a - b, with its 95 % percentile interval, from resamples drawn with the same seed."""
    samples = a.samples - b.samples
    samples = samples[~np.isnan(samples)]
    if samples.size == 0:
        return Interval(a.value - b.value, float("nan"), float("nan"))
    low, high = np.percentile(samples, [2.5, 97.5])
    return Interval(a.value - b.value, float(low), float(high))


def check_same_events(
    first: pd.DataFrame, second: pd.DataFrame, first_name: str, second_name: str, task: str
) -> None:
    """Raises UserError unless two predictions are over the same events with the same labels."""
    hint = "evaluate both models on the same split of the same prepared log"
    if len(first) != len(second) or not first["event"].equals(second["event"]):
        raise UserError(
            f"{first_name} and {second_name} hold different events "
            f"({len(first)} and {len(second)}); {hint}"
        )
    if not first[["user", task]].equals(second[["user", task]]):
        raise UserError(
            f"{first_name} and {second_name} differ in users or in task {task!r}; {hint}"
        )


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
    first: pd.DataFrame | None = None
    scores = []
    columns = ["event", "user", task, f"{task}_score"]
    for path in [*paths, *([reference] if reference else [])]:
        try:
            frame = pd.read_parquet(path, columns=columns).sort_values("event", ignore_index=True)
        except (KeyError, ValueError, OSError) as error:
            raise UserError(f"{path}: no predictions of task {task!r} ({error})") from error
        if first is None:
            first = frame
        check_same_events(first, frame, str(paths[0]), str(path), task)
        scores.append(frame[f"{task}_score"].to_numpy(np.float64))
    if first is None:
        raise UserError(f"no predictions of task {task!r}: the list of files is empty")
    present = first[task].notna().to_numpy()
    labels = first.loc[present, task].to_numpy(np.int64)
    users = pd.factorize(first.loc[present, "user"], sort=True)[0]
    return TaskScores(labels, users, np.stack([s[present] for s in scores[: len(paths)]]))
