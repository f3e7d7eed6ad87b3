"""Metrics of ordinal and real-valued labels, and their bootstrap over users.

The normalised error stands beside the normalised entropy of binary labels and has its name, "ne":
the mean loss over that of the best constant prediction, made from the evaluated labels themselves.
The loss is the log loss of an ordinal label, and the squared error of a real-valued one, whose
normalised error is 1 - R^2. 1 is what a constant reaches; lower is better.

Everything runs on the host in float64. Letters: N events, K values of an ordinal label, S training
seeds.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import entr
from scipy.stats import rankdata

from siren_rope_jax.metrics.binary import EPSILON
from siren_rope_jax.metrics.bootstrap import RESAMPLES, Resampled, Values, resample_means

Found = dict[str, float | int | None]
"""Metric -> number; None where it is undefined."""


def value_numbers(
    labels: Float[np.ndarray, " N"], values: Sequence[float]
) -> Int[np.ndarray, " N"]:
    """The number of each label among the ascending values of an ordinal task, from 0."""
    return np.searchsorted(np.asarray(values), labels)


def ordinal_losses(
    labels: Float[np.ndarray, " N"],
    values: Sequence[float],
    probabilities: Float[np.ndarray, "N K"],
) -> Float[np.ndarray, " N"]:
    """The log loss of every event in nats, of probabilities that are 1e-7 at least."""
    number = value_numbers(labels, values)[:, None]
    own = np.take_along_axis(np.asarray(probabilities, np.float64), number, axis=1)[:, 0]
    return -np.log(np.clip(own, EPSILON, 1))


def shares(labels: Float[np.ndarray, " N"], values: Sequence[float]) -> Float[np.ndarray, "N K"]:
    """1 for the value that a label has, 0 for the others: their mean is how often each occurs."""
    return np.eye(len(values))[value_numbers(labels, values)]


def variance(labels: Float[np.ndarray, " N"]) -> float:
    """That of these labels; exactly 0 where all are equal, or there are none."""
    if not len(labels):
        return 0.0
    return float((labels - labels[0]).astype(np.float64).var())


def mean(labels: Float[np.ndarray, " N"]) -> float | None:
    """That of these labels; None if there are none."""
    return float(labels.mean()) if len(labels) else None


def spearman(a: Float[np.ndarray, " N"], b: Float[np.ndarray, " N"]) -> float:
    """The correlation of ranks, ties sharing their mean rank; nan where one side is constant."""
    ranks = np.stack([rankdata(a), rankdata(b)]) if len(a) else np.zeros((2, 0))
    if not len(a) or (ranks == ranks[:, :1]).all(axis=1).any():
        return float("nan")
    return float(np.corrcoef(ranks)[0, 1])


def ordinal_metrics(
    labels: Float[np.ndarray, " N"],
    values: Sequence[float],
    probabilities: Float[np.ndarray, "N K"],
) -> Found:
    """Returns "ne", "mae" (of the expected value), "spearman" (with it) and "count".

    Raises:
      ValueError: a row of probabilities is none.
    """
    probabilities = np.asarray(probabilities, np.float64)
    wrong = (probabilities < 0).any(axis=1) | ~(np.abs(probabilities.sum(axis=1) - 1) < 1e-3)
    if wrong.any():
        raise ValueError(f"{int(wrong.sum())} rows are no probabilities")
    if not len(labels):
        return {"ne": None, "mae": None, "spearman": None, "count": 0}
    expected = probabilities @ np.asarray(values)
    losses = ordinal_losses(labels, values, probabilities)
    found = {
        "ne": ratio(losses.mean(), entr(shares(labels, values).mean(axis=0)).sum()),
        "mae": float(np.abs(labels - expected).mean()),
        "spearman": spearman(labels, expected),
    }
    return _with_count(found, len(labels))


def regression_metrics(
    labels: Float[np.ndarray, " N"], predictions: Float[np.ndarray, " N"]
) -> Found:
    """Returns "ne", "rmse" (in the label's unit), "spearman" and "count".

    Raises:
      ValueError: a prediction is not finite.
    """
    labels, predictions = labels.astype(np.float64), predictions.astype(np.float64)
    if bad := int(np.sum(~np.isfinite(predictions))):
        raise ValueError(f"{bad} predictions are not finite")
    if not len(labels):
        return {"ne": None, "rmse": None, "spearman": None, "count": 0}
    error = float(((labels - predictions) ** 2).mean())
    found = {
        "ne": ratio(error, variance(labels)),
        "rmse": error**0.5,
        "spearman": spearman(labels, predictions),
    }
    return _with_count(found, len(labels))


def ratio(loss: float, uninformed: float) -> float:
    """A mean loss over that of the best constant; nan where that is 0."""
    return float(loss / uninformed) if uninformed > 0 else float("nan")


def _with_count(found: Mapping[str, float], count: int) -> Found:
    finite = {name: None if np.isnan(value) else value for name, value in found.items()}
    return {**finite, "count": count}


@dataclass(frozen=True)
class OrdinalColumns:
    """Labels (null where absent), and a column with the probability of each of their values."""

    label: str
    values: tuple[float, ...]
    probabilities: tuple[str, ...]

    def __iter__(self) -> Iterator[str]:
        return iter((self.label, *self.probabilities))

    def truth(self, values: Values) -> np.ndarray:
        """The labels."""
        return values[self.label]

    def resample(
        self, units: Int[np.ndarray, " N"], values: Values, resamples: int = RESAMPLES
    ) -> dict[str, Resampled]:
        """Resamples "ne" over the events that have the label."""
        present = ~np.isnan(values[self.label][0])
        labels = values[self.label][0][present]
        seeds = np.stack([values[name] for name in self.probabilities], axis=-1)[:, present]
        losses = np.stack([ordinal_losses(labels, self.values, seed) for seed in seeds])
        moments = shares(labels, self.values).T
        return _resampled(losses, moments, _entropy, units[present], resamples)


@dataclass(frozen=True)
class ValueColumns:
    """Real-valued labels (null where absent) and their predictions."""

    label: str
    prediction: str

    def __iter__(self) -> Iterator[str]:
        return iter((self.label, self.prediction))

    def truth(self, values: Values) -> np.ndarray:
        """The labels."""
        return values[self.label]

    def resample(
        self, units: Int[np.ndarray, " N"], values: Values, resamples: int = RESAMPLES
    ) -> dict[str, Resampled]:
        """Resamples "ne" over the events that have the label."""
        present = ~np.isnan(values[self.label][0])
        labels = values[self.label][0][present]
        scale = variance(labels) ** 0.5 or 1.0
        # So that a difference of means keeps its digits:
        standard = (labels - (mean(labels) or 0)) / scale
        moments = np.stack([standard, standard**2])
        losses = ((values[self.prediction][:, present] - labels) / scale) ** 2
        return _resampled(losses, moments, _variance, units[present], resamples)


def _entropy(shares: np.ndarray) -> np.ndarray:
    return entr(shares).sum(axis=0)


def _variance(moments: np.ndarray) -> np.ndarray:
    return moments[1] - moments[0] ** 2


def _resampled(
    losses: Float[np.ndarray, "S N"],
    moments: Float[np.ndarray, "M N"],
    uninformed: Callable[[np.ndarray], np.ndarray],
    units: Int[np.ndarray, " N"],
    resamples: int,
) -> dict[str, Resampled]:
    """The mean losses over those of the best constants, which the means of `moments` give."""
    columns = {f"moment {m}": np.broadcast_to(x, losses.shape) for m, x in enumerate(moments)}
    loss, *of = resample_means({"loss": losses, **columns}, units, resamples).values()
    by_seed = _over(loss.by_seed, uninformed(np.stack([m.by_seed for m in of])))
    samples = _over(loss.samples, uninformed(np.stack([m.samples for m in of])))
    return {"ne": Resampled(by_seed, samples)}


def _over(loss: np.ndarray, uninformed: np.ndarray) -> np.ndarray:
    """NaN where all labels that were drawn are equal."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(uninformed > 1e-12, loss / uninformed, np.nan)
