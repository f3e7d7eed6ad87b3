"""At real requests, how much weight does a retriever's last attention give to each past event?

The last attention of a model with `repeat` says which events of the history name their items again.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from siren_rope_jax.base.arrays import AnyArray
from siren_rope_jax.base.errors import UserError
from siren_rope_jax.models.batch import NextItemBatch
from siren_rope_jax.rotation.time import Time
from siren_rope_jax.training.mesh import fetch_one_behind, place_batch
from siren_rope_jax.training.trained import TrainedRun


class Attended(NamedTuple):
    """The requests of one batch and the last attention on the events before them.

    Attributes:
      request_time, time: [B, L] of the requests and of the events.
      asked: [B, L] whether there is a request.
      past: whether event j has a time and lies in the history of request i, slot i included.
      model: what request i gives to event j.
      users: 1 where event j has the item that came at request i; else 0.
    """

    request_time: Time
    time: Time
    asked: Bool[AnyArray, "B L"]
    past: Bool[Array, "B L L"]
    model: Float[Array, "B L L"]
    users: Float[Array, "B L L"]


FEWEST = 1.0  # requests' worth of events; fewer have too noisy a lift


def lift(spread: Float[np.ndarray, "..."], even: Float[np.ndarray, "..."]) -> np.ndarray:
    """What requests give to past events over what they give if all are alike; NaN where too few."""
    return np.where(even < FEWEST, np.nan, spread / np.maximum(even, FEWEST))


def sums_over_requests(run: TrainedRun, of_batch: Callable[[Attended], Array]) -> np.ndarray:
    """Sums an array over the batches of the validation split.

    Raises:
      UserError: the model has no last attention that names items.
    """
    if not getattr(run.config.model, "repeat", False):
        raise UserError(
            "run", f"{run.config.variant}: only a retriever with model.repeat names items again"
        )

    @jax.jit
    def sums(params: Any, batch: NextItemBatch) -> Array:
        result: Any = run.model.apply({"params": params}, batch)
        segment, places = batch.segment, jnp.arange(batch.segment.shape[1])
        past_BxLxL = (segment[:, :, None] == segment[:, None, :]) & batch.time.known[:, None, :]
        past_BxLxL &= places[:, None] >= places
        same_BxLxL = batch.target[:, :, None] == batch.categorical[:, None, :, 0]
        same_BxLxL &= batch.target[:, :, None] > 0
        return of_batch(
            Attended(
                batch.request_time,
                batch.time,
                (batch.event >= 0) & batch.request_time.known,
                past_BxLxL,
                result.repeat.weights(),
                same_BxLxL.astype(jnp.float32),
            )
        )

    batches = run.setup.batches.evaluation("validation")
    dispatched = (sums(run.params, place_batch(batch, run.setup.mesh)) for batch in batches)
    total = np.zeros(())  # float64: many small numbers
    for part in fetch_one_behind(dispatched):
        total = total + part
    return total
