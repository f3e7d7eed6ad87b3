"""Bootstrap over users: what a metric would have been of other users.

Users are drawn with replacement and bring all their events along, because the events of one user
are not independent. The draws depend on the number of users alone, so all models see the same
ones, and variation between users that affects both models alike cancels in their difference. Where
there is more chance in which items, hours or days there were, these are the units that are drawn.

Letters: N events, U units, S training seeds, R resamples.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from siren_rope_jax.metrics.binary import auc, entropy, log_losses
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


def unit_draws(units: int, resamples: int) -> Iterator[Int[np.ndarray, " U"]]:
    """How often each unit is drawn, per resample: multinomial weights that sum to `units`."""
    rng = np.random.default_rng(0)
    for _ in range(resamples):
        yield np.bincount(rng.integers(max(units, 1), size=units), minlength=units)


def resample_means(
    values: Mapping[str, Float[np.ndarray, "S N"]],
    units: Int[np.ndarray, " N"],
    resamples: int = RESAMPLES,
) -> dict[str, Resampled]:
    """Resamples metrics that are means over events; NaN where no event of the drawn units counts.

    `values` are what every event contributes to each metric; NaN, in all training seeds alike,
    where the event does not count. Any integers identify the units.
    """
    distinct, unit = np.unique(units, return_inverse=True)
    means = [np.mean(v, axis=0, dtype=np.float64) for v in values.values()]
    counts = [~np.isnan(m) for m in means]
    sums = [np.where(c, v, 0.0).sum(axis=1) for c, v in zip(counts, values.values(), strict=True)]
    columns = [np.where(c, m, 0.0) for c, m in zip(counts, means, strict=True)] + counts
    per_unit = np.stack([np.bincount(unit, column, len(distinct)) for column in columns])
    draws = unit_draws(len(distinct), resamples)
    # With the units last, a product of floats is a hundred times faster.
    totals = np.stack([per_unit @ d.astype(np.float64) for d in draws])
    with np.errstate(divide="ignore", invalid="ignore"):
        samples = totals[:, : len(values)] / totals[:, len(values) :]
        by_seed = [total / c.sum() for total, c in zip(sums, counts, strict=True)]
    return {name: Resampled(by_seed[i], samples[:, i]) for i, name in enumerate(values)}


def resample_scores(
    labels: Int[np.ndarray, " N"],
    units: Int[np.ndarray, " N"],
    scores: Float[np.ndarray, "S N"],
    resamples: int = RESAMPLES,
) -> dict[str, Resampled]:
    """Resamples "ne" and "auc" of probabilities; NaN where they are undefined.

    Labels are 0 or 1. AUC has at most `AUC_RESAMPLES` resamples.
    """
    distinct, unit = np.unique(units, return_inverse=True)
    contributions = {
        "loss": np.stack([log_losses(labels, score) for score in scores]),
        "rate": np.broadcast_to(labels, scores.shape),
    }
    means = resample_means(contributions, unit, resamples)
    loss, rate = means["loss"], means["rate"]
    with np.errstate(divide="ignore", invalid="ignore"):
        ne = [loss.by_seed / entropy(rate.by_seed), loss.samples / entropy(rate.samples)]
    sorted_aucs = [_auc_of_draws(labels, score, unit) for score in scores]
    draws = unit_draws(len(distinct), min(resamples, AUC_RESAMPLES))
    return {
        "ne": Resampled(*(np.where(np.isfinite(values), values, np.nan) for values in ne)),
        "auc": Resampled(
            np.array([auc(labels, score) for score in scores]),
            np.array([np.mean([auc_of(drawn) for auc_of in sorted_aucs]) for drawn in draws]),
        ),
    }


def _auc_of_draws(
    labels: np.ndarray, scores: np.ndarray, units: np.ndarray
) -> Callable[[np.ndarray], float]:
    """The AUC of drawn units' events, as a function of the draws; it sorts the scores only once."""
    order = np.argsort(scores, kind="stable")
    score, unit, label = scores[order], units[order], labels[order].astype(np.int64)
    starts = np.flatnonzero(np.diff(score, prepend=-np.inf))  # of runs of equal scores

    def auc_of(draws: np.ndarray) -> float:
        weight = draws[unit]
        positive = np.add.reduceat(weight * label, starts)
        negative = np.add.reduceat(weight, starts) - positive
        below = np.cumsum(negative) - negative
        pairs = float(positive.sum()) * float(negative.sum())
        wins = np.sum(positive * (below + negative / 2.0))
        return float(wins / pairs) if pairs else float("nan")

    return auc_of


Values = Mapping[str, Float[np.ndarray, "..."]]
"""Columns of predictions.parquet, [N] of one run or [S, N]; NaN for null."""


@runtime_checkable
class Columns(Protocol):
    """Names of columns of predictions.parquet, and how metrics are resampled from them."""

    def __iter__(self) -> Iterator[str]: ...

    def truth(self, values: Values) -> np.ndarray:
        """What the predictions of all models have in common, from the columns [N] of one."""

    def resample(self, units: Int[np.ndarray, " N"], values: Values) -> Mapping[str, Resampled]:
        """Resamples the metrics of a model, from its columns [S, N]."""


class ProbabilityColumns(NamedTuple):
    """Labels (0, 1 or null) and their predicted probabilities, which give NE and AUC."""

    label: str
    probability: str

    def truth(self, values: Values) -> np.ndarray:
        """The labels."""
        return values[self.label]

    def resample(self, units: Int[np.ndarray, " N"], values: Values) -> dict[str, Resampled]:
        """As `resample_scores`, over the events that have the label."""
        labels = values[self.label][0]
        present = ~np.isnan(labels)
        scores = values[self.probability][:, present]
        return resample_scores(labels[present].astype(np.int64), units[present], scores)


class RankColumns(NamedTuple):
    """Ranks and NLLs of targets, null where there is none, which give the metrics `COMPARED`."""

    rank: str
    nll: str

    def truth(self, values: Values) -> np.ndarray:
        """Which targets have a rank."""
        return ~np.isnan(values[self.rank])

    def resample(
        self, units: Int[np.ndarray, " N"], values: Values, resamples: int = RESAMPLES
    ) -> dict[str, Resampled]:
        """As `resample_means`, of what every event contributes to each metric."""
        ranks = np.nan_to_num(values[self.rank]).astype(np.int64)
        seeds = [per_event(*seed) for seed in zip(ranks, values[self.nll], strict=True)]
        columns = {metric: np.stack([seed[metric] for seed in seeds]) for metric in COMPARED}
        return resample_means(columns, units, resamples)
