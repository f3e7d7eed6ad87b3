"""What a ranking model predicts of an event: tasks of three types, each with its loss and metrics.

A task takes one or more columns of the model's output. They give its scores, which are
probabilities or values, and the scores give one prediction: what is expected of the label. Labels
and predictions are in the label's own unit. A new type of task is one class here, and `Task` and
`prediction_columns` name it.

Letters: O columns of a task's output, C of its scores, N events, T tasks, K values of a label.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int
from scipy.special import entr, logit

from siren_rope_jax.base.arrays import AnyArray
from siren_rope_jax.metrics import binary, numeric
from siren_rope_jax.metrics.bootstrap import Columns, ProbabilityColumns

Labels = Float[np.ndarray, " N"]
Scores = Float[np.ndarray, "N C"]
Metrics = dict[str, Any]

_LEAST_GAP = 1e-6
"""Between thresholds: a smaller one would vanish beside a logit, and its logarithm be infinite."""


@dataclass(frozen=True)
class Binary:
    """Whether something happened: the probability of a label that is 0 or 1."""

    name: str
    outputs: ClassVar[int] = 1
    columns: ClassVar[int] = 1

    def loss(self, output: Float[Array, "*S 1"], label: Float[AnyArray, "*S"]) -> Array:
        """The cross-entropy of every label, in nats."""
        return optax.sigmoid_binary_cross_entropy(output[..., 0], label)

    def scores(self, output: Float[Array, "*S 1"]) -> Float[Array, "*S 1"]:
        """The probability of 1."""
        return jax.nn.sigmoid(output)

    def expected(self, scores: Any) -> Any:
        """The prediction from scores: the probability of 1."""
        return scores[..., 0]

    def targets(self, label: Labels) -> Scores:
        """What scores estimate: the best constant scores are the mean of these."""
        return label[:, None]

    def losses(self, label: Labels, scores: Scores) -> Labels:
        """What is lost by the scores of every event; in nats."""
        return binary.log_losses(label, scores[:, 0])

    def uninformed(self, label: Labels) -> float:
        """The mean loss of the best constant scores."""
        return float(binary.entropy(label.mean()))

    def measure(self, label: Labels, scores: Scores, users: Int[np.ndarray, " N"]) -> Metrics:
        """All metrics, and what else result.json says of the labels."""
        return binary.task_metrics(label.astype(np.int64), scores[:, 0], users)

    def measure_group(self, label: Labels, scores: Scores) -> Metrics:
        """What a group of events has beside "ne" and "count"; nan where it is undefined."""
        if not len(label):
            return dict.fromkeys(("auc", "rate", "mean_score"), np.nan)
        score = scores[:, 0].astype(np.float64)
        auc = binary.auc(label.astype(np.int64), score)
        return {"auc": auc, "rate": label.mean(), "mean_score": score.mean()}


@dataclass(frozen=True)
class Ordinal:
    """Which of a few ordered values a label has: a probability for each of them.

    The proportional odds model (McCullagh 1980): a logit for every value but the lowest, that of
    the label being as high, which is a score less a threshold. All share the score, and the
    thresholds ascend, so no probability is negative. Of two values it is the binary model. A score
    of 0 gives every value its share in train when the training begins.

    Attributes:
      name: of the task.
      values: of the label, ascending.
      shares: of the values in train; empty: equal ones.
    """

    name: str
    values: tuple[float, ...]
    shares: tuple[float, ...] = ()

    @property
    def outputs(self) -> int:
        """A logit for every value but the lowest."""
        return len(self.values) - 1

    @property
    def columns(self) -> int:
        """A probability for every value."""
        return len(self.values)

    def first_logits(self) -> Float[np.ndarray, " O"]:
        """Of being as high as every value but the lowest, for the shares in train."""
        shares = np.asarray(self.shares or (1,) * len(self.values), np.float64)
        as_high = np.cumsum(shares[::-1])[-2::-1] / shares.sum()
        return np.asarray(logit(as_high))

    def first_gaps(self, key: Any = None) -> Float[Array, " O-1"]:
        """The parameters from which the thresholds are as far apart as the first logits."""
        del key
        gaps = -np.diff(self.first_logits())
        return jnp.asarray(gaps + np.log(-np.expm1(-gaps)), jnp.float32)  # softplus undone

    def output(self, score: Float[Array, "*S"], gaps: Float[Array, " O-1"]) -> Array:
        """The logits, descending: the first threshold is fixed, the next ones are gaps above it."""
        above = jnp.concatenate([jnp.zeros(1), jnp.cumsum(jax.nn.softplus(gaps))])
        return score[..., None] + np.float32(self.first_logits()[0]) - above

    def log_probabilities(self, output: Float[Array, "*S O"]) -> Float[Array, "*S O+1"]:
        """Of every value: sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a))."""
        certain = jnp.zeros_like(output[..., :1])
        gap = jnp.maximum(output[..., :-1] - output[..., 1:], _LEAST_GAP)
        as_high = jnp.concatenate([certain, jax.nn.log_sigmoid(output)], axis=-1)
        no_higher = jnp.concatenate([jax.nn.log_sigmoid(-output), certain], axis=-1)
        between = jnp.concatenate([certain, jnp.log(-jnp.expm1(-gap)), certain], axis=-1)
        return as_high + no_higher + between

    def loss(self, output: Float[Array, "*S O"], label: Float[AnyArray, "*S"]) -> Array:
        """The negative log-likelihood of every label, in nats."""
        higher = jnp.asarray(label)[..., None] >= jnp.asarray(self.values[1:], jnp.float32)
        own = jax.nn.one_hot(higher.sum(axis=-1), self.columns)
        return -(own * self.log_probabilities(output)).sum(axis=-1)

    def scores(self, output: Float[Array, "*S O"]) -> Float[Array, "*S O+1"]:
        """The probability of every value."""
        return jnp.exp(self.log_probabilities(output))

    def expected(self, scores: Any) -> Any:
        """The prediction from scores: the mean of the values by their probabilities."""
        return (scores * np.asarray(self.values, np.float32)).sum(axis=-1)

    def targets(self, label: Labels) -> Scores:
        """As in `Binary`."""
        return numeric.shares(label, self.values)

    def losses(self, label: Labels, scores: Scores) -> Labels:
        """As in `Binary`."""
        return numeric.ordinal_losses(label, self.values, scores)

    def uninformed(self, label: Labels) -> float:
        """As in `Binary`."""
        return float(entr(self.targets(label).mean(axis=0)).sum())

    def measure(self, label: Labels, scores: Scores, users: Int[np.ndarray, " N"]) -> Metrics:
        """As in `Binary`."""
        values = {"values": list(self.values), "mean_label": numeric.mean(label)}
        return numeric.ordinal_metrics(label, self.values, scores) | values

    def measure_group(self, label: Labels, scores: Scores) -> Metrics:
        """As in `Binary`."""
        return {}


@dataclass(frozen=True)
class Regression:
    """A real number, learned by squared error, standardised by the moments of train."""

    name: str
    mean: float
    std: float
    outputs: ClassVar[int] = 1
    columns: ClassVar[int] = 1

    def loss(self, output: Float[Array, "*S 1"], label: Float[AnyArray, "*S"]) -> Array:
        """Half the squared error of every label: up to a constant, its NLL under unit variance."""
        return optax.l2_loss(output[..., 0], (label - self.mean) / self.std)

    def scores(self, output: Float[Array, "*S 1"]) -> Float[Array, "*S 1"]:
        """The value."""
        return self.mean + self.std * output

    def expected(self, scores: Any) -> Any:
        """The prediction from scores: the value."""
        return scores[..., 0]

    def targets(self, label: Labels) -> Scores:
        """As in `Binary`."""
        return label[:, None]

    def losses(self, label: Labels, scores: Scores) -> Labels:
        """As in `Binary`; the squared error."""
        return (label.astype(np.float64) - scores[:, 0]) ** 2

    def uninformed(self, label: Labels) -> float:
        """As in `Binary`."""
        return numeric.variance(label)

    def measure(self, label: Labels, scores: Scores, users: Int[np.ndarray, " N"]) -> Metrics:
        """As in `Binary`."""
        measured = numeric.regression_metrics(label, scores[:, 0])
        return measured | {"mean_label": numeric.mean(label)}

    def measure_group(self, label: Labels, scores: Scores) -> Metrics:
        """As in `Binary`."""
        return {}


Task = Binary | Ordinal | Regression


def each(tasks: Sequence[Task], array: Any, of: str) -> Iterator[tuple[Task, Any]]:
    """Every task with its columns of an array, which is of all `outputs` or all `columns`."""
    begin = 0
    for task in tasks:
        end = begin + getattr(task, of)
        yield task, array[..., begin:end]
        begin = end


def outputs_of(
    tasks: Sequence[Task], scores: Float[Array, "*S T"], gaps: Mapping[str, Array]
) -> Float[Array, "*S O"]:
    """The output of all tasks from a score of each, and the gaps of ordinal ones, if any."""
    if not any(isinstance(task, Ordinal) for task in tasks):
        return scores
    parts = [
        task.output(score, gaps.get(task.name, jnp.zeros(0)))
        if isinstance(task, Ordinal)
        else score[..., None]
        for task, score in zip(tasks, jnp.moveaxis(scores, -1, 0), strict=True)
    ]
    return jnp.concatenate(parts, axis=-1)


def losses_of(
    tasks: Sequence[Task], output: Float[Array, "*S O"], labels: Float[AnyArray, "*S T"]
) -> Float[Array, "*S T"]:
    """The training loss of every label."""
    pairs = enumerate(each(tasks, output, "outputs"))
    return jnp.stack([task.loss(own, labels[..., t]) for t, (task, own) in pairs], axis=-1)


def scores_of(tasks: Sequence[Task], output: Float[Array, "*S O"]) -> Float[Array, "*S C"]:
    """The scores of all tasks."""
    parts = [task.scores(own) for task, own in each(tasks, output, "outputs")]
    return jnp.concatenate(parts, axis=-1)


def predictions_of(tasks: Sequence[Task], output: Float[Array, "*S O"]) -> Float[Array, "*S T"]:
    """The prediction of every task."""
    pairs = each(tasks, scores_of(tasks, output), "columns")
    return jnp.stack([task.expected(own) for task, own in pairs], axis=-1)


def normalized(task: Task, label: Labels, scores: Scores) -> float:
    """The mean loss over that of the best constant scores, "ne"; nan where that is 0."""
    if not len(label):
        return float("nan")
    return numeric.ratio(float(task.losses(label, scores).mean()), task.uninformed(label))


def score_names(task: Task) -> list[str]:
    """The columns of predictions.parquet with the scores of a task beside its prediction."""
    if not isinstance(task, Ordinal):
        return []  # the prediction is the score
    return [probability_name(task.name, value) for value in task.values]


def probability_name(task: str, value: float) -> str:
    """The column of predictions.parquet with the probability of a value: "stars=4"."""
    return f"{task}={np.format_float_positional(np.float32(value), trim='-')}"


def prediction_columns(name: str, measured: Metrics) -> Columns:
    """The columns of predictions.parquet of a task, whose type `measured` tells."""
    if values := measured.get("values"):
        names = tuple(probability_name(name, value) for value in values)
        return numeric.OrdinalColumns(name, tuple(values), names)
    of_type = ProbabilityColumns if "positives" in measured else numeric.ValueColumns
    return of_type(name, f"{name}_score")
