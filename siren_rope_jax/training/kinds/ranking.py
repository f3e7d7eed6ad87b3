"""Ranking a feed: the engagement labels of every event, from earlier events."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.data.assemble import RANKING_LAYOUT, Layout
from siren_rope_jax.data.log import Events, PreparedLog
from siren_rope_jax.data.schema import Schema
from siren_rope_jax.metrics.binary import CALIBRATION_BINS, auc, normalized_entropy, task_metrics
from siren_rope_jax.metrics.bootstrap import AUC_RESAMPLES, ProbabilityColumns
from siren_rope_jax.models.batch import DataSpec, RankingBatch
from siren_rope_jax.models.losses import ranking_loss
from siren_rope_jax.models.partition import WHOLE, Partition
from siren_rope_jax.models.ranker import Ranker, RankerConfig
from siren_rope_jax.training.experiment import ExperimentConfig
from siren_rope_jax.training.kinds.kind import Kind, Metric, Metrics, validation_key
from siren_rope_jax.training.mesh import fetch_one_behind, place_batch, replicated


@dataclass(frozen=True, kw_only=True)
class RankingExperiment(ExperimentConfig):
    """Predicts the engagement labels of every event."""

    model: RankerConfig
    kind: Literal["ranking"] = "ranking"


class Scored(NamedTuple):
    """Target events with their probabilities and labels (NaN where absent), on the host."""

    event: Int[np.ndarray, " N"]
    score: Float[np.ndarray, "N T"]
    label: Float[np.ndarray, "N T"]


class Ranking(Kind[RankingExperiment]):
    """Engagement labels of every event; the criterion is the mean NE of the tasks."""

    name = "ranking"
    config_class = RankingExperiment
    measured = "tasks"
    by_task = True
    metrics: ClassVar = {
        "ne": Metric("NE", uninformed=1.0),
        "auc": Metric("AUC", higher_is_better=True, uninformed=0.5),
        "gauc": Metric("GAUC", higher_is_better=True),
        "ece": Metric("ECE"),
    }
    shown = tuple(metrics)
    compared = ("ne", "auc")
    primary = "ne"
    chief = ("ne",)
    slices: ClassVar = {"item": ("ne", "auc"), "hour": (), "gap": (), "day": ()}
    baselines = "rates"
    glossary = (
        "NE: mean log loss over the entropy of the evaluated labels' base rate (lower is better); "
        "in a group of events, of the group's own base rate. GAUC: AUC per user, weighted by "
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
        """Mean cross-entropy of all labels."""
        logits: Any = model.apply(variables, batch, deterministic=False, rngs={"dropout": key})
        loss = ranking_loss(logits, batch.labels, batch.label_mask)
        return loss, batch.label_mask.sum(dtype=jnp.float32)

    @property
    def criterion(self) -> tuple[str, bool]:
        return "ne", False

    def scorer(
        self, model: Ranker, log: PreparedLog, mesh: Mesh
    ) -> Callable[[Any, Iterable[RankingBatch]], Scored]:
        """Probabilities of every task."""

        def scored(params: Any, batch: RankingBatch) -> Any:
            logits: Any = model.apply({"params": params}, batch)
            label = jnp.where(batch.label_mask, batch.labels, jnp.nan)
            return batch.event, jax.nn.sigmoid(logits), label

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
        for task, label, score in zip(schema.tasks, scores.label.T, scores.score.T, strict=True):
            known = ~np.isnan(label)
            ne[validation_key(task, "ne")] = normalized_entropy(label[known], score[known])
        return {"ne": sum(ne.values()) / len(ne)} | ne

    @classmethod
    def columns(cls, schema: Schema, events: Events, scores: Scored) -> dict[str, np.ndarray]:
        """For each task its label (null where absent) and "<task>_score", a probability."""
        table: dict[str, np.ndarray] = {}
        for t, task in enumerate(schema.tasks):
            table[task] = np.ma.masked_less(events.rows[f"task/{task}"], 0)
            table[f"{task}_score"] = scores.score[:, t].astype(np.float32)
        return table

    @classmethod
    def measure(cls, schema: Schema, events: Events, scores: Scored) -> Metrics:
        """By task; a task without a score for some labelled event (a baseline's) is left out."""
        measured = {}
        for t, task in enumerate(schema.tasks):
            labels, score = events.rows[f"task/{task}"], scores.score[:, t]
            if not np.isnan(score[labels >= 0]).any():
                measured[task] = task_metrics(labels, score, events.user)
        return measured

    @classmethod
    def measure_slice(cls, schema: Schema, events: Events, scores: Scored) -> Metrics:
        """By task: NE (by the group's own base rate), AUC, and what calibration needs."""
        return {
            task: _slice_metrics(events.rows[f"task/{task}"], scores.score[:, t])
            for t, task in enumerate(schema.tasks)
        }

    @classmethod
    def resampled(cls, part: str) -> ProbabilityColumns:
        return ProbabilityColumns(part, f"{part}_score")

    @classmethod
    def rule(cls, result: Mapping[str, Any]) -> str:
        counts = (
            f"{task} {values['count']:,} ({values['positives']:,} positive)"
            for task, values in result["tasks"].items()
        )
        return f"{result['split']} events with a label: {', '.join(counts)}"


def _slice_metrics(labels: np.ndarray, scores: np.ndarray) -> dict[str, float | int | None]:
    present = labels >= 0
    labels, scores = labels[present], scores[present].astype(np.float64)
    if len(labels) == 0:
        return {"ne": None, "auc": None, "count": 0, "rate": None, "mean_score": None}
    values = {
        "ne": normalized_entropy(labels, scores),
        "auc": auc(labels, scores),
        "rate": labels.mean(),
        "mean_score": scores.mean(),
    }
    rounded = {k: None if np.isnan(v) else round(float(v), 6) for k, v in values.items()}
    return {**rounded, "count": len(labels)}
