"""Ranking a feed: the labels of every event, from earlier events."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.data.assemble import RANKING_LAYOUT, Layout, tasks_of
from siren_rope_jax.data.log import Events, PreparedLog
from siren_rope_jax.data.schema import Schema
from siren_rope_jax.metrics.binary import CALIBRATION_BINS
from siren_rope_jax.metrics.bootstrap import AUC_RESAMPLES, Columns
from siren_rope_jax.models.batch import DataSpec, RankingBatch
from siren_rope_jax.models.losses import ranking_loss
from siren_rope_jax.models.partition import WHOLE, Partition
from siren_rope_jax.models.ranker import Ranker, RankerConfig
from siren_rope_jax.models.tasks import (
    Task,
    each,
    normalized,
    prediction_columns,
    score_names,
    scores_of,
)
from siren_rope_jax.training.experiment import ExperimentConfig
from siren_rope_jax.training.kinds.kind import Kind, Metric, Metrics, validation_key
from siren_rope_jax.training.mesh import fetch_one_behind, place_batch, replicated


@dataclass(frozen=True, kw_only=True)
class RankingExperiment(ExperimentConfig):
    """Predicts the labels of every event."""

    model: RankerConfig
    kind: Literal["ranking"] = "ranking"


class Scored(NamedTuple):
    """Target events with the scores of all tasks and the labels (NaN where absent), on the host."""

    event: Int[np.ndarray, " N"]
    score: Float[np.ndarray, "N C"]
    label: Float[np.ndarray, "N T"]


class Ranking(Kind[RankingExperiment]):
    """Labels of every event; the criterion is the mean NE of the tasks, whatever their types."""

    name = "ranking"
    config_class = RankingExperiment
    measured = "tasks"
    by_task = True
    metrics: ClassVar = {
        "ne": Metric("NE", uninformed=1.0),
        "auc": Metric("AUC", higher_is_better=True, uninformed=0.5),
        "gauc": Metric("GAUC", higher_is_better=True),
        "ece": Metric("ECE"),
        "mae": Metric("MAE"),
        "rmse": Metric("RMSE"),
        "spearman": Metric("Spearman", higher_is_better=True),
    }
    shown = tuple(metrics)
    compared = ("ne", "auc")
    primary = "ne"
    chief = ("ne",)
    slices: ClassVar = {"item": ("ne", "auc"), "hour": (), "gap": (), "day": ()}
    baselines = "rates"
    glossary = (
        "NE: mean log loss over the entropy of the evaluated labels' base rate (lower is better); "
        "in a group of events, of the group's own base rate. Of an ordinal task it is the log loss "
        "over the entropy of its labels, of a real-valued one the squared error over their "
        "variance; 1 is what a constant reaches. MAE, RMSE: mean absolute and root mean squared "
        "error, in the label's unit, of the expected value. Spearman: the correlation of ranks of "
        "labels and expected values. GAUC: AUC per user, weighted by "
        f"events. ECE: expected calibration error, {CALIBRATION_BINS} bins of equal count. "
        f"Intervals of AUC are of {AUC_RESAMPLES} resamples."
    )

    def check(self, data: DataSpec) -> None:
        if not data.tasks:
            raise UserError("config.data.path", "the log has no tasks; prepare it with some")
        if self.config.data.target_task:
            raise UserError("config.data.target_task", "is for next-item retrieval; leave it empty")

    @property
    def layout(self) -> Layout:
        return RANKING_LAYOUT

    def model(self, data: DataSpec, partition: Partition = WHOLE) -> Ranker:
        return Ranker(self.config.model, data, partition)

    def padding(self, data: DataSpec, rows: int) -> RankingBatch:
        return RankingBatch.padding(data, rows)

    def loss(
        self, model: Ranker, variables: Any, batch: Any, key: Array, statistics: Any
    ) -> tuple[Array, Array]:
        """The mean of the losses of all labels."""
        output: Any = model.apply(variables, batch, deterministic=False, rngs={"dropout": key})
        loss = ranking_loss(model.data.tasks, output, batch.labels, batch.label_mask)
        return loss, batch.label_mask.sum(dtype=jnp.float32)

    @property
    def criterion(self) -> tuple[str, bool]:
        return "ne", False

    def scorer(
        self, model: Ranker, log: PreparedLog, mesh: Mesh
    ) -> Callable[[Any, Iterable[RankingBatch]], Scored]:
        """The scores of every task."""

        def scored(params: Any, batch: RankingBatch) -> Any:
            output: Any = model.apply({"params": params}, batch)
            label = jnp.where(batch.label_mask, batch.labels, jnp.nan)
            return batch.event, scores_of(model.data.tasks, output), label

        # Replicated, so that every process sees the events of all.
        apply = jax.jit(scored, out_shardings=replicated(mesh))

        def score(params: Any, batches: Iterable[RankingBatch]) -> Scored:
            dispatched = (apply(params, place_batch(batch, mesh)) for batch in batches)
            parts = [
                [column[event >= 0] for column in (event.astype(np.int64), score, label)]
                for event, score, label in fetch_one_behind(dispatched)
            ]
            return Scored(*(np.concatenate(column) for column in zip(*parts, strict=True)))

        return score

    def validation(self, schema: Schema, scores: Scored) -> dict[str, float]:
        """The mean NE of the tasks as "ne", and each as "ne/<task>"."""
        ne = {}
        tasks = tasks_of(schema)
        for label, (task, score) in zip(
            scores.label.T, each(tasks, scores.score, "columns"), strict=True
        ):
            known = ~np.isnan(label)
            ne[validation_key(task.name, "ne")] = normalized(task, label[known], score[known])
        return {"ne": sum(ne.values()) / len(ne)} | ne

    @classmethod
    def columns(cls, schema: Schema, events: Events, scores: Scored) -> dict[str, np.ndarray]:
        """For each task its label (null where absent), "<task>_score", which is the prediction.

        An ordinal task has the probability of each of its values beside, such as "stars=4".
        """
        table: dict[str, np.ndarray] = {}
        for task, score in each(tasks_of(schema), scores.score, "columns"):
            absent = np.isnan(schema.label(events.rows, task.name))
            raw = events.rows[schema.label_columns[task.name]]
            table[task.name] = np.ma.masked_array(raw, absent)
            table[f"{task.name}_score"] = task.expected(score).astype(np.float32)
            named = zip(score_names(task), score.T, strict=False)
            table |= {name: column.astype(np.float32) for name, column in named}
        return table

    @classmethod
    def measure(cls, schema: Schema, events: Events, scores: Scored) -> Metrics:
        """By task; a task without a score for some labelled event (a baseline's) is left out."""
        measured = {}
        for task, label, score, user in _labelled(schema, events, scores):
            if not np.isnan(score).any():
                measured[task.name] = task.measure(label, score, user)
        return measured

    @classmethod
    def measure_slice(cls, schema: Schema, events: Events, scores: Scored) -> Metrics:
        """By task: NE (by the group's own labels); of a binary one, AUC and calibration, too."""
        return {
            task.name: _measure_group(task, label, score)
            for task, label, score, _ in _labelled(schema, events, scores)
        }

    @classmethod
    def resampled(cls, part: str, measured: Metrics) -> Columns:
        return prediction_columns(part, measured)

    @classmethod
    def rule(cls, result: Mapping[str, Any]) -> str:
        counts = (
            f"{task} {values['count']:,} ({_average(values)})"
            for task, values in result["tasks"].items()
        )
        return f"{result['split']} events with a label: {', '.join(counts)}"


def _average(measured: Metrics) -> str:
    """What the labels of a task are like."""
    if "positives" in measured:
        return f"{measured['positives']:,} positive"
    return f"mean {measured['mean_label']:.4g}"


def _labelled(
    schema: Schema, events: Events, scores: Scored
) -> Iterator[tuple[Task, np.ndarray, np.ndarray, np.ndarray]]:
    """Every task with the labels, the scores and the users of the events that have its label."""
    for task, score in each(tasks_of(schema), scores.score, "columns"):
        label = schema.label(events.rows, task.name)
        known = ~np.isnan(label)
        yield task, label[known], score[known], events.user[known]


def _measure_group(task: Task, label: np.ndarray, score: np.ndarray) -> Metrics:
    """None where a metric is undefined, as all but the count are without a label."""
    with np.errstate(invalid="ignore"):
        values = {"ne": normalized(task, label, score), **task.measure_group(label, score)}
    rounded = {k: None if np.isnan(v) else round(float(v), 6) for k, v in values.items()}
    return {**rounded, "count": len(label)}
