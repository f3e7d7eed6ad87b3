"""What the training loop needs to know of a model: the two objectives, ranking and retrieval.

Both have the same face: batches of a log, a loss to descend, and metrics of a split, one of which
(`criterion`) chooses the best checkpoint.
"""

import dataclasses
from functools import cached_property
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from siren_rope_jax.data.assemble import next_item_batch, ranking_batch
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.data.pipeline import Batches
from siren_rope_jax.data.windows import Split
from siren_rope_jax.metrics.ranks import metrics_of_ranks
from siren_rope_jax.models.batch import Inputs
from siren_rope_jax.models.ranker import Ranker
from siren_rope_jax.models.ranking_loss import ranking_loss
from siren_rope_jax.models.repeat import per_slot
from siren_rope_jax.models.retrieval_losses import retrieval_loss
from siren_rope_jax.models.retriever import Retriever
from siren_rope_jax.rotation.time import TimeScale
from siren_rope_jax.training.experiment import (
    ExperimentConfig,
    RankingExperiment,
    RetrievalExperiment,
)
from siren_rope_jax.training.mesh import replicated
from siren_rope_jax.training.ranking_scoring import Scored, Scorer
from siren_rope_jax.training.retrieval_scoring import Ranked, RankScorer


class Objective(Protocol):
    """A model on a log, and what it is to do.

    Attributes:
      criterion: the metric of `validate` that chooses the best checkpoint, and
      higher_is_better: which way.
      model: the module; its parameters are those of `init_params`.
      batches: of the log, for this process.
    """

    criterion: str
    higher_is_better: bool
    model: Any
    batches: Batches

    def init_params(self, seed: int) -> Any:
        """Parameters drawn from `seed`, placed on the mesh."""

    def loss(self, params: Any, batch: Any, key: Array) -> Array:
        """The training loss of a batch; `key` draws dropout and negatives."""

    def score(self, params: Any, split: Split) -> Scored | Ranked:
        """What the model says of every target event of a split."""

    def validate(self, params: Any) -> dict[str, float]:
        """Metrics of the validation split."""


def make_objective(config: ExperimentConfig, log: PreparedLog, mesh: Mesh) -> Objective:
    """The objective of an experiment's kind.

    Raises:
      UserError: the config does not fit the log.
    """
    if isinstance(config, RetrievalExperiment):
        return RetrievalObjective(config, log, mesh)
    assert isinstance(config, RankingExperiment)
    return RankingObjective(config, log, mesh)


def count_parameters(params: Any) -> int:
    """The number of trained scalars."""
    return sum(x.size for x in jax.tree.leaves(params))


def model_inputs(log: PreparedLog, length: int) -> Inputs:
    """What a model must know of a log cut into rows of `length`; T~ spans the training events."""
    schema = log.schema
    return Inputs(
        categories={c.name: c.rows for c in schema.categorical},
        tasks=schema.tasks,
        context_length=length,
        scale=TimeScale.fit(schema.train_start, schema.train_end),
    )


def _init(model: Any, padding: Any, seed: int, mesh: Mesh) -> Any:
    init = jax.jit(lambda key: model.init(key, padding)["params"], out_shardings=replicated(mesh))
    return init(jax.random.key(seed))


def _batches(config: ExperimentConfig, log: PreparedLog, mesh: Mesh, next_item: bool) -> Batches:
    processes = jax.process_count()
    devices = mesh.size // processes
    return Batches(log, config.data, next_item, jax.process_index(), processes, devices)


class RankingObjective:
    """Engagement labels of every event; the criterion is the mean NE of the tasks."""

    criterion = "ne"
    higher_is_better = False

    def __init__(self, config: RankingExperiment, log: PreparedLog, mesh: Mesh) -> None:
        self.batches = _batches(config, log, mesh, next_item=False)
        self.model = Ranker(config.model, model_inputs(log, config.data.length))
        self._mesh = mesh
        self._scorer = Scorer(self.model, mesh)

    def init_params(self, seed: int) -> Any:
        """As in `Objective`."""
        shape = (1, self.batches.config.length)
        return _init(
            self.model, ranking_batch(self.batches.log.schema, [], shape), seed, self._mesh
        )

    def loss(self, params: Any, batch: Any, key: Array) -> Array:
        """Mean cross-entropy of all labels, in nats."""
        logits: Any = self.model.apply(
            {"params": params}, batch, deterministic=False, rngs={"dropout": key}
        )
        return ranking_loss(logits, batch.labels, batch.label_mask)

    def score(self, params: Any, split: Split) -> Scored:
        """Probabilities of every task."""
        return self._scorer(params, self.batches.evaluation(split))

    def validate(self, params: Any) -> dict[str, float]:
        """The mean NE of the tasks as "ne", and each as "ne/<task>"."""
        ne = self.score(params, "validation").ne(self.batches.log.schema.tasks)
        return {"ne": sum(ne.values()) / len(ne)} | {f"ne/{t}": value for t, value in ne.items()}


class RetrievalObjective:
    """The item of every next event; the criterion is in the config."""

    def __init__(self, config: RetrievalExperiment, log: PreparedLog, mesh: Mesh) -> None:
        self.batches = _batches(config, log, mesh, next_item=True)
        self.model = Retriever(config.model, model_inputs(log, config.data.length))
        self.criterion: str = config.criterion
        self.higher_is_better = config.criterion != "nll"
        # What is a device's own in the config is that of all here, as the batch is.
        whole = config.loss.block_elements * mesh.size
        self._loss = dataclasses.replace(config.loss, block_elements=whole)
        self._mesh = mesh
        self._scorer = RankScorer(self.model, log, config.filter_seen, mesh)

    def init_params(self, seed: int) -> Any:
        """As in `Objective`."""
        padding = next_item_batch(self.batches.log.schema, [], (1, self.batches.config.length))
        return _init(self.model, padding, seed, self._mesh)

    def loss(self, params: Any, batch: Any, key: Array) -> Array:
        """The configured loss over the batch's targets that have an embedding, in nats."""
        dropout_key, negatives_key = jax.random.split(key)
        result: Any = self.model.apply(
            {"params": params}, batch, deterministic=False, rngs={"dropout": dropout_key}
        )
        asked = (batch.event >= 0) & (batch.target > 0)
        slots = (result.query, batch.target, asked, per_slot(result.repeat), batch.history)
        query, target, asked, repeat, history = jax.tree.map(
            lambda x: x.reshape(-1, *x.shape[2:]), slots
        )
        counts = self._target_counts if self._loss.needs_item_counts else None
        return retrieval_loss(
            self._loss,
            query,
            result.table,
            target,
            asked,
            item_counts=counts,
            key=negatives_key,
            repeat=repeat,
            history_N=history,
        )

    @cached_property
    def _target_counts(self) -> Float[np.ndarray, " V"]:
        """How often training asks for each known item; 0 for the unknown row.

        On the host: `loss` may be what asks first, and an array made while it is traced would be
        a tracer, dead for the next trace.
        """
        log, task = self.batches.log, self.batches.config.target_task
        events, item = log.events("train"), log.schema.categorical[0]
        asked = ~np.isin(events.event, log.offsets)  # nothing precedes a user's first event
        if task:
            asked &= events.rows[f"task/{task}"] == 1
        ids = item.known_ids(events.rows[f"categorical/{item.name}"][asked])
        counts = np.bincount(ids, minlength=item.rows).astype(np.float32)
        counts[0] = 0
        return counts

    def score(self, params: Any, split: Split) -> Ranked:
        """The rank of every target, and its NLL where the loss learns probabilities (else NaN)."""
        ranked = self._scorer(params, self.batches.evaluation(split))
        if self._loss.learns_probabilities:
            return ranked
        return ranked._replace(nll=np.full_like(ranked.nll, np.nan))

    def validate(self, params: Any) -> dict[str, float]:
        """The chief metrics of the ranks: "mrr", "hr@10", "ndcg@10", and "nll" if there is one."""
        ranked = self.score(params, "validation")
        values = metrics_of_ranks(ranked.rank, ranked.nll)
        nll = ("nll",) if self._loss.learns_probabilities else ()
        chosen = {name: values[name] for name in (*nll, "mrr", "hr@10", "ndcg@10")}
        return {name: np.nan if value is None else value for name, value in chosen.items()}
