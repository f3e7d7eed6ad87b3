"""Paired bootstrap over users: how certain is the difference between two models?

Users are drawn with replacement and bring all their events along, because the events of one user
are not independent. The draws depend on the number of users alone, so all models see the same
ones, and variation between users that affects both models alike cancels in their difference.

Letters: N events, U users, S training seeds, R resamples, Q runs of equal scores.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float, Int

from siren_rope_jax.metrics.binary import (
    auc,
    entropy,
    gauc,
    log_losses,
    normalized_entropy,
    user_aucs,
)
from siren_rope_jax.metrics.ranks import COMPARED, per_event

RESAMPLES = 1000
AUC_RESAMPLES = 200
"""At most; fewer than for the other metrics, because each needs a pass over all events."""


class Resampled(NamedTuple):
    """A metric of one model on the data itself and on every resample.

    Attributes:
      by_seed: its values on the data, by training seed.
      samples: its means over the training seeds, by resample.
    """

    by_seed: Float[np.ndarray, " S"]
    samples: Float[np.ndarray, " R"]

    @property
    def value(self) -> float:
        """The mean over the training seeds, on the data."""
        return float(np.mean(self.by_seed))


class Interval(NamedTuple):
    """A difference between two models and its 95 % percentile interval."""

    difference: float
    low: float
    high: float


def difference(a: Resampled, b: Resampled) -> Interval:
    """The difference a - b with its 95 % percentile interval; NaN where it is undefined."""
    samples = a.samples - b.samples
    samples = samples[~np.isnan(samples)]
    if samples.size == 0:
        return Interval(a.value - b.value, float("nan"), float("nan"))
    low, high = np.percentile(samples, [2.5, 97.5])
    return Interval(a.value - b.value, float(low), float(high))


def seed_deviation(a: Resampled, b: Resampled) -> float:
    """Standard deviation of a - b over their common training seeds; NaN for a single one."""
    differences = a.by_seed - b.by_seed
    return float(differences.std(ddof=1)) if len(differences) > 1 else float("nan")


def user_draws(users: int, resamples: int) -> Iterator[Int[np.ndarray, " U"]]:
    """How often each user is drawn, per resample: multinomial weights that sum to `users`."""
    rng = np.random.default_rng(0)
    for _ in range(resamples):
        yield np.bincount(rng.integers(users, size=users), minlength=users)


def resample_means(
    values: Mapping[str, Float[np.ndarray, "S N"]],
    users: Int[np.ndarray, " N"],
    resamples: int = RESAMPLES,
) -> dict[str, Resampled]:
    """Resamples metrics that are means over events.

    Args:
      values: name -> what every event contributes; NaN, in all training seeds alike, where the
        event does not count.
      users: integers that identify the users.
      resamples: their number.

    Returns:
      name -> values and samples; NaN where no event of the drawn users counts.
    """
    distinct, user = np.unique(users, return_inverse=True)
    means = [np.mean(v, axis=0, dtype=np.float64) for v in values.values()]
    counts = [~np.isnan(m) for m in means]
    sums = [np.where(c, v, 0.0).sum(axis=1) for c, v in zip(counts, values.values(), strict=True)]
    columns = [np.where(c, m, 0.0) for c, m in zip(counts, means, strict=True)] + counts
    per_user = np.stack([np.bincount(user, column, len(distinct)) for column in columns])
    draws = user_draws(len(distinct), resamples)
    # With the users last, a product of floats is a hundred times faster.
    totals = np.stack([per_user @ d.astype(np.float64) for d in draws])
    with np.errstate(invalid="ignore"):
        samples = totals[:, : len(values)] / totals[:, len(values) :]
        by_seed = [total / c.sum() for total, c in zip(sums, counts, strict=True)]
    return {name: Resampled(by_seed[i], samples[:, i]) for i, name in enumerate(values)}


def resample_ranks(
    users: Int[np.ndarray, " N"],
    rank: Int[np.ndarray, "S N"],
    nll: Float[np.ndarray, "S N"],
    resamples: int = RESAMPLES,
) -> dict[str, Resampled]:
    """Resamples the metrics `COMPARED` of ranked targets.

    Args:
      users: integers that identify the users.
      rank: of the target, by training seed and event, as in `per_event`.
      nll: likewise.
      resamples: their number.
    """
    values = [per_event(*seed) for seed in zip(rank, nll, strict=True)]
    columns = {metric: np.stack([v[metric] for v in values]) for metric in COMPARED}
    return resample_means(columns, users, resamples)


class _SortedScores(NamedTuple):
    """One model's scores, sorted once so that every resample needs only cumulative sums."""

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
        """AUC of the drawn users' events: a positive beats a negative of equal score by half."""
        weight = draws[self.user]
        positive = np.add.reduceat(weight * self.positive, self.run_starts)
        negative = np.add.reduceat(weight, self.run_starts) - positive
        below = np.cumsum(negative) - negative
        pairs = float(positive.sum()) * float(negative.sum())
        wins = np.sum(positive * (below + negative / 2.0))
        return float(wins / pairs) if pairs else float("nan")


def resample_scores(
    labels: Int[np.ndarray, " N"],
    users: Int[np.ndarray, " N"],
    scores: Float[np.ndarray, "S N"],
    resamples: int = RESAMPLES,
) -> dict[str, Resampled]:
    """Resamples NE, AUC and GAUC of predicted probabilities.

    Args:
      labels: 0 or 1 for every event.
      users: integers that identify the users.
      scores: probabilities by training seed and event.
      resamples: their number, for AUC `AUC_RESAMPLES` at most.

    Returns:
      "ne", "auc", "gauc" -> values and samples; NaN where a resample leaves a metric undefined.
    """
    distinct, user = np.unique(users, return_inverse=True)
    count = len(distinct)

    def per_user(values: np.ndarray) -> np.ndarray:
        return np.bincount(user, values, count)

    # All seeds share the entropy in NE's denominator, so their losses may be averaged first.
    loss = per_user(np.mean([log_losses(labels, s) for s in scores], axis=0))
    sums = np.stack([loss, per_user(labels), per_user(np.ones(len(labels)))])
    aucs = np.zeros((2, len(scores), count))
    for s, score in enumerate(scores):
        own = user_aucs(labels, score, user)
        aucs[0, s, own.user] = own.auc * own.events
        aucs[1, s, own.user] = own.events
    ordered = [_SortedScores.of(labels, score, user) for score in scores]

    ne, grouped, area = np.zeros(resamples), np.zeros(resamples), []
    with np.errstate(divide="ignore", invalid="ignore"):
        for r, draws in enumerate(user_draws(count, resamples)):
            weights = draws.astype(np.float64)
            total, positive, events = sums @ weights
            ne[r] = total / events / entropy(positive / events)
            weighted, weight = aucs @ weights
            grouped[r] = np.mean(weighted / weight)
            if r < AUC_RESAMPLES:
                area.append(np.mean([one.auc(draws) for one in ordered]))
    ne[~np.isfinite(ne)] = np.nan
    values = {
        "ne": [normalized_entropy(labels, s) for s in scores],
        "auc": [auc(labels, s) for s in scores],
        "gauc": [gauc(labels, s, user) for s in scores],
    }
    samples = {"ne": ne, "auc": np.array(area), "gauc": grouped}
    return {m: Resampled(np.asarray(values[m]), samples[m]) for m in samples}


Values = Mapping[str, Float[np.ndarray, "..."]]
"""Columns of predictions.parquet, [N] of one run or [S, N]; NaN for null."""


class Columns(Protocol):
    """Names of columns of predictions.parquet, and how metrics are resampled from them."""

    def __iter__(self) -> Iterator[str]: ...

    def truth(self, values: Values) -> np.ndarray:
        """What the predictions of all models have in common, from the columns [N] of one."""

    def resample(self, users: Int[np.ndarray, " N"], values: Values) -> Mapping[str, Resampled]:
        """Resamples the metrics of a model, from its columns [S, N]."""


class ProbabilityColumns(NamedTuple):
    """Labels (0, 1 or null) and their predicted probabilities, which give NE, AUC and GAUC."""

    label: str
    probability: str

    def truth(self, values: Values) -> np.ndarray:
        """The labels."""
        return values[self.label]

    def resample(self, users: Int[np.ndarray, " N"], values: Values) -> dict[str, Resampled]:
        """As `resample_scores`, over the events that have the label."""
        labels = values[self.label][0]
        present = ~np.isnan(labels)
        scores = values[self.probability][:, present]
        return resample_scores(labels[present].astype(np.int64), users[present], scores)


class RankColumns(NamedTuple):
    """Ranks and NLLs of targets, null where there is none, which give the metrics `COMPARED`."""

    rank: str
    nll: str

    def truth(self, values: Values) -> np.ndarray:
        """Which targets have a rank."""
        return ~np.isnan(values[self.rank])

    def resample(self, users: Int[np.ndarray, " N"], values: Values) -> dict[str, Resampled]:
        """As `resample_ranks`."""
        rank = np.nan_to_num(values[self.rank]).astype(np.int64)
        return resample_ranks(users, rank, values[self.nll])
