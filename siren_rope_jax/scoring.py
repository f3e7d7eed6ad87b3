"""A model on a data set: building it, drawing its parameters, and scoring batches with it."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from siren_rope_jax.batch import Batch
from siren_rope_jax.data.pipeline import make_batch
from siren_rope_jax.data.schema import Schema
from siren_rope_jax.metrics import normalized_entropy
from siren_rope_jax.recommender import Inputs, Ranker, RankerConfig
from siren_rope_jax.sharding import place_batch, replicated
from siren_rope_jax.time_features import TimeScale


def make_model(config: RankerConfig, schema: Schema, length: int) -> Ranker:
    """The model for a data set and rows of `length` events; T~ spans the training events."""
    inputs = Inputs(
        categories={c.name: c.rows for c in schema.categorical},
        tasks=schema.tasks,
        context_length=length,
        scale=TimeScale.fit(schema.train_start, schema.train_end),
    )
    return Ranker(config, inputs)


def init_params(model: Ranker, schema: Schema, seed: int, mesh: Mesh) -> Any:
    """Parameters drawn from `seed`, placed on the mesh."""
    zeros = np.zeros((1, model.inputs.context_length), np.int32)
    padding = make_batch(schema, zeros.astype(schema.event_dtype), zeros, zeros, zeros - 1)
    init = jax.jit(lambda key: model.init(key, padding)["params"], out_shardings=replicated(mesh))
    return init(jax.random.key(seed))


def count_parameters(params: Any) -> int:
    """The number of trained scalars."""
    return sum(x.size for x in jax.tree.leaves(params))


class Scored(NamedTuple):
    """Target events with their probabilities and labels (NaN where absent), on the host."""

    event: Int[np.ndarray, " N"]
    score: Float[np.ndarray, "N T"]
    label: Float[np.ndarray, "N T"]

    def ne(self, tasks: tuple[str, ...]) -> dict[str, float]:
        """NE per task over the events that carry its label."""
        known = ~np.isnan(self.label)
        return {
            task: normalized_entropy(self.label[known[:, t], t], self.score[known[:, t], t])
            for t, task in enumerate(tasks)
        }


class Scorer:
    """Probabilities of a model over batches; compiled once, used for every evaluation."""

    def __init__(self, model: Ranker, mesh: Mesh) -> None:
        self._mesh = mesh

        def scored(params: Any, batch: Batch) -> Scored:
            logits: Any = model.apply({"params": params}, batch)
            label = jnp.where(batch.label_mask, batch.labels, jnp.nan)
            return Scored(jnp.asarray(batch.event), jax.nn.sigmoid(logits), label)  # type: ignore[arg-type]

        # Replicated, so that every process sees the events of all.
        self._apply = jax.jit(scored, out_shardings=replicated(mesh))

    def __call__(self, params: Any, batches: Iterable[Batch]) -> Scored:
        """Scores the target events of the batches, which must be at least one."""
        parts: list[Scored] = []
        pending: Scored | None = None
        for batch in batches:
            scored = self._apply(params, place_batch(batch, self._mesh))
            if pending is not None:
                parts.append(_targets(pending))
            pending = scored  # read one batch late, so that the device never waits
        if pending is not None:
            parts.append(_targets(pending))
        return Scored(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _targets(scored: Scored) -> Scored:
    event, score, label = jax.device_get(scored)
    target = event >= 0
    return Scored(event[target].astype(np.int64), score[target], label[target])
