"""Next-item retrieval: which of all items follows, at the time of the request?"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from siren_rope_jax.base.config import from_config_dict
from siren_rope_jax.base.errors import UserError, check, suggestion
from siren_rope_jax.data.item_features import item_features
from siren_rope_jax.data.log import Events, PreparedLog
from siren_rope_jax.data.schema import Schema
from siren_rope_jax.metrics.bootstrap import RankColumns
from siren_rope_jax.metrics.ranks import COMPARED, RANK_METRICS, metrics_of_ranks
from siren_rope_jax.models.batch import DataSpec, NextItemBatch
from siren_rope_jax.models.losses import LossConfig, draw_negatives
from siren_rope_jax.models.retriever import Retriever, RetrieverConfig
from siren_rope_jax.models.tasks import Binary
from siren_rope_jax.training.experiment import ExperimentConfig
from siren_rope_jax.training.kinds.kind import Metric, Metrics
from siren_rope_jax.training.kinds.next_item import NextItem
from siren_rope_jax.training.rank_scorer import Ranked, RankScorer


@dataclass(frozen=True, kw_only=True)
class RetrievalExperiment(ExperimentConfig):
    """Predicts the item of every next event.

    Attributes:
      loss: of the training.
      filter_seen: whether items that the user has had before are no candidates in the evaluation.
      criterion: the validation's metric that chooses the best checkpoint; not the NLL where the
        loss estimates no probabilities (BCE, gBCE, negatives without log-Q).
    """

    model: RetrieverConfig
    loss: LossConfig = field(default_factory=LossConfig)
    filter_seen: bool = False
    criterion: Literal["nll", "mrr", "hr@10", "ndcg@10"] = "nll"
    kind: Literal["retrieval"] = "retrieval"

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self.loss.is_nll or not self.model.repeat,
            "loss.kind",
            "full_softmax without label_smoothing, or sampled_softmax with log_q, where "
            "model.repeat is set: the two shares of an item's probability are learned together",
        )
        check(
            self.loss.learns_probabilities or self.criterion != "nll",
            "criterion",
            f"ndcg@10, hr@10 or mrr with this loss ({self.loss.kind}), which learns no "
            "probabilities: its NLL is meaningless",
        )
        in_batch = self.loss.sampler == "in_batch"
        right = "1 where negatives are the other targets of the batch (loss.sampler = in_batch)"
        check(self.training.slices == 1 or not in_batch, "training.slices", right)
        filtered = self.filter_seen and self.model.repeat
        check(not filtered, "model.repeat", "False where filter_seen leaves out what it names")


class Retrieval(NextItem[RetrievalExperiment]):
    """The item of every next event; the criterion is in the config."""

    name = "retrieval"
    config_class = RetrievalExperiment
    measured = "ranking"
    metrics: ClassVar = {
        name: Metric(name.upper(), higher_is_better=True) for name in RANK_METRICS
    } | {"nll": Metric("NLL", "nats")}
    shown = ("nll", "hr@1", "hr@10", "ndcg@10", "mrr")
    compared = COMPARED
    primary = "ndcg@10"
    chief = ("nll", "ndcg@10")
    slices: ClassVar = {
        "hour": ("ndcg@10",),
        "gap": ("ndcg@10",),
        "history": ("ndcg@10",),
        "popularity": ("ndcg@10", "nll"),
        "revisit": ("ndcg@10", "nll"),
    }
    baselines = "popularity"
    glossary = (
        "NLL: mean negative log-likelihood, in nats, of the item that came, among all items of the "
        "catalogue (also those that a filter leaves out of the ranking), over the events whose "
        "item has a rank (lower is better). HR@k: the share of events whose item is among the "
        "first k. NDCG@k: the mean of 1/log2(1 + rank) of those, 0 for the others. MRR: the mean "
        "of 1/rank. Query's time: whether the query knows the time of the request, which is that "
        "of the event to come, or only that of the last event."
    )
    decisive = ("filter_seen", "data.target_task")
    column = ("query_time", "query's time")

    def check(self, data: DataSpec) -> None:
        if data.items < 2:
            none = "the log knows no item; prepare it again with a lower min_count"
            raise UserError("config.data.path", none)
        if self.config.model.item_features and data.item_features is None:
            raise UserError("config.model.item_features", "need a log, which says what items have")
        task = self.config.data.target_task
        binary = [own.name for own in data.tasks if isinstance(own, Binary)]
        if task and task not in binary:
            names = suggestion(task, binary) or "; the log has none"
            raise UserError("config.data.target_task", f"there is no binary task {task!r}{names}")

    def view(self, log: PreparedLog) -> PreparedLog:
        """With `item_features`, that of a model which knows all items."""
        item = log.schema.categorical[0].name
        return log.with_all_values([item]) if self.config.model.item_features else log

    def spec(self, log: PreparedLog) -> DataSpec:
        names, view = self.config.model.item_features, self.view(log)
        spec = super().spec(view)
        if not names:
            return spec
        features = item_features(view, names, log.schema.categorical[0].known)
        return dataclasses.replace(spec, item_features=features)

    def statistics(self, log: PreparedLog, events: Events | None = None) -> dict[str, np.ndarray]:
        """How often training asks for each known item, if the loss needs it; 0 for the unknown."""
        if not self.config.loss.needs_item_counts:
            return {}
        events, item = events or log.events("train"), log.schema.categorical[0]
        asked = ~np.isin(events.event, log.offsets)  # nothing precedes a user's first event
        if task := self.config.data.target_task:
            asked &= events.rows[f"task/{task}"] == 1
        ids = item.known_ids(events.rows[f"categorical/{item.name}"][asked])
        counts = np.bincount(ids, minlength=item.rows).astype(np.float32)
        counts[0] = 0
        return {"item_counts": counts}

    def statistics_specs(self, data: DataSpec) -> dict[str, np.ndarray]:
        if not self.config.loss.needs_item_counts:
            return {}
        return {"item_counts": np.zeros(data.items, np.float32)}

    @property
    def loss_config(self) -> LossConfig:
        return self.config.loss

    def asked_rows(self, model: Any, batch: Any, key: Array) -> dict[tuple[str, ...], list[Array]]:
        asked = super().asked_rows(model, batch, key)
        items, loss = asked["items",], self.config.loss
        items.append(batch.target)
        if loss.needs_key:
            key = jax.random.split(key)[1]  # as `loss` does
            items.append(draw_negatives(loss, key, batch.target.size, model.data.trained_items))
        return asked

    def check_row_wise(self, table: tuple[str, ...], key: str) -> None:
        if self.config.loss.kind == "full_softmax" and table[0] == "items":
            about = f"config.optimizer.{key}"
            raise UserError(about, "the full softmax needs all rows; choose another loss")

    @property
    def criterion(self) -> tuple[str, bool]:
        return self.config.criterion, self.config.criterion != "nll"

    def scorer(
        self, model: Retriever, log: PreparedLog, mesh: Mesh
    ) -> Callable[[Any, Iterable[NextItemBatch]], Ranked]:
        """The rank of every target, and its NLL where the loss learns probabilities (else NaN)."""
        rank = RankScorer(model, log, self.config.filter_seen, mesh)
        if self.config.loss.learns_probabilities:
            return rank

        def without_nll(params: Any, batches: Iterable[NextItemBatch]) -> Ranked:
            ranked = rank(params, batches)
            return ranked._replace(nll=np.full_like(ranked.nll, np.nan))

        return without_nll

    def validation(self, schema: Schema, scores: Ranked) -> dict[str, float]:
        """The metrics `COMPARED`, without the NLL where the loss learns no probabilities."""
        values = metrics_of_ranks(scores.rank, scores.nll)
        names = [m for m in COMPARED if m != "nll" or self.config.loss.learns_probabilities]
        return {m: np.nan if (value := values[m]) is None else value for m in names}

    @classmethod
    def columns(cls, schema: Schema, events: Events, scores: Ranked) -> dict[str, np.ndarray]:
        """The target's rank and NLL, null where there is none."""
        return {
            "rank": np.ma.masked_equal(scores.rank.astype(np.int32), 0),
            "nll": np.ma.masked_where(np.isnan(scores.nll), scores.nll.astype(np.float32)),
        }

    @classmethod
    def measure(cls, schema: Schema, events: Events, scores: Ranked) -> Metrics:
        return metrics_of_ranks(scores.rank, scores.nll)

    @classmethod
    def measure_slice(cls, schema: Schema, events: Events, scores: Ranked) -> Metrics:
        values = metrics_of_ranks(scores.rank, scores.nll)
        rounded = {m: None if (v := values[m]) is None else round(v, 6) for m in COMPARED}
        return {"count": values["count"], **rounded}

    @classmethod
    def facts(cls, schema: Schema, config: Mapping[str, Any]) -> dict[str, Any]:
        """Which items are candidates, how many there are, and whose time a query has, if any."""
        model = config["model"]
        # Another library's model has no encoding of ours and says itself.
        blind = "encoding" in model and not from_config_dict(RetrieverConfig, model).uses_time
        return {
            "filter_seen": config["filter_seen"],
            "query_time": None if blind else model["query_time"],
            "catalogue": schema.categorical[0].known,
        }

    @classmethod
    def resampled(cls, part: str, measured: Metrics) -> RankColumns:
        return RankColumns("rank", "nll")

    @classmethod
    def rule(cls, result: Mapping[str, Any]) -> str:
        """What was ranked against what, and what counts as a miss."""
        metrics = result["ranking"]
        repeats = "may come again"
        misses = "an item outside the catalogue (seen too rarely in training, or never)"
        if result["filter_seen"]:
            repeats, misses = "are left out", f"{misses} or one had before"
        events = f"{metrics['unranked']:,} of {metrics['count']:,} {result['split']} events"
        return (
            f"full ranking over the catalogue of {result['catalogue']:,} items, ties against the "
            f"model; items a user had before {repeats}; {events} have {misses} and count as "
            f"misses; blind guessing has an NLL of {math.log(result['catalogue']):.2f}"
        )

    @classmethod
    def targets(cls, config: Mapping[str, Any]) -> str:
        text = "A user's first event is not a target"
        if task := config["data"]["target_task"]:
            text += f", and neither is an event that is not positive for {task} "
            text += "(`data.target_task`)"
        return f"{text}."
