"""Scoring a split with a ranker: probabilities of every task for every event."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from siren_rope_jax.metrics.binary import normalized_entropy
from siren_rope_jax.models.batch import Batch
from siren_rope_jax.models.ranker import Ranker
from siren_rope_jax.training.mesh import on_host_one_late, place_batch, replicated


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
        dispatched = (self._apply(params, place_batch(batch, self._mesh)) for batch in batches)
        parts = [_targets(scored) for scored in on_host_one_late(dispatched)]
        return Scored(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _targets(scored: Scored) -> Scored:
    event, score, label = scored
    target = event >= 0
    return Scored(event[target].astype(np.int64), score[target], label[target])
