"""What the kinds of experiments with the next-item model have in common."""

import abc
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from siren_rope_jax.data.assemble import Layout, next_item_layout
from siren_rope_jax.models.batch import DataSpec, NextItemBatch
from siren_rope_jax.models.losses import LossConfig, retrieval_loss
from siren_rope_jax.models.partition import WHOLE, Partition
from siren_rope_jax.models.retriever import Retriever
from siren_rope_jax.training.experiment import ExperimentConfig
from siren_rope_jax.training.kinds.kind import Kind

Config = TypeVar("Config", bound=ExperimentConfig)


class NextItem(Kind[Config]):
    """The item, or the token, of every next event."""

    @property
    @abc.abstractmethod
    def loss_config(self) -> LossConfig:
        """The loss of the training."""

    @property
    def layout(self) -> Layout:
        return next_item_layout(self.config.data.target_task)

    def model(self, data: DataSpec, partition: Partition = WHOLE) -> Retriever:
        config: Any = self.config
        return Retriever(config.model, data, partition)

    def padding(self, data: DataSpec, rows: int) -> NextItemBatch:
        return NextItemBatch.padding(data, rows)

    def loss(
        self, model: Retriever, variables: Any, batch: Any, key: Array, statistics: Any
    ) -> tuple[Array, Array]:
        """The configured loss over the batch's targets that have an embedding."""
        dropout_key, negatives_key = jax.random.split(key)
        result: Any = model.apply(
            variables, batch, deterministic=False, rngs={"dropout": dropout_key}
        )
        asked = (batch.event >= 0) & (batch.target > 0)
        repeat = None if result.repeat is None else result.repeat.of_targets(batch.target)
        slots = (result.query, batch.target, asked, repeat, batch.history)
        query, target, asked, repeat, history = jax.tree.map(
            lambda x: x.reshape(-1, *x.shape[2:]), slots
        )
        mean = retrieval_loss(
            self.loss_config,
            query,
            result.table,
            target,
            asked,
            key=negatives_key,
            repeat=repeat,
            history_N=history,
            items=model.data.trained_items,
            partition=model.partition,
            **statistics,
        )
        return mean, asked.sum(dtype=jnp.float32)
