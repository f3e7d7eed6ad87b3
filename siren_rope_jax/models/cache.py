"""Keys and values of past events, kept so that nothing computes them again.

A rotated key depends on its own event alone, so it stays right for every later request, whatever
the time of that request. A model fills a cache if it is called with the collection `CACHE` mutable.
Called with `Cached.for_events`, it adds events to the cache. Called with `Cached.for_requests`, it
answers requests: queries that see the cache and themselves, but neither each other nor anything
later.

Letters: N histories, C places of a cache, Q queries of each history.
"""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from siren_rope_jax.base.arrays import AnyArray

CACHE = "cache"
"""The collection of what is kept."""


@flax.struct.dataclass
class Cached:
    """How a model that is called with a cache uses it.

    Attributes:
      places: where the events of the call are put before they are seen; a place beyond the cache
        leaves an event out. None: the events are requests, which leave no trace.
    """

    places: Int[AnyArray, "N Q"] | None

    @classmethod
    def for_events(cls, places: Int[AnyArray, "N Q"]) -> "Cached":
        """Puts the events of the call into the cache, at these places."""
        return cls(places)

    @classmethod
    def for_requests(cls) -> "Cached":
        """Takes the events of the call for requests."""
        return cls(None)

    @property
    def requests(self) -> bool:
        """Whether the events of the call are requests."""
        return self.places is None


def remembered(module: nn.Module, cached: Cached | None, name: str, new: Any) -> Any:
    """What the queries of a call see of earlier events and of those of the call.

    Args:
      module: keeps it.
      cached: how the model is called; None: without earlier events.
      name: of what is kept.
      new: a tree of arrays [N, Q, ...] of the events of the call.

    Returns:
      `new` if there are no earlier events; else [N, C, ...], in which requests are not included.
    """
    seen = new
    if cached is not None:
        seen = module.get_variable(CACHE, name)
        if cached.places is not None:
            seen = jax.tree.map(lambda whole, x: _put(whole, cached.places, x), seen, new)
    filled = module.is_mutable_collection(CACHE) and not module.is_initializing()
    if filled and (cached is None or not cached.requests):
        module.put_variable(CACHE, name, seen)
    return seen


def _put(whole: Any, places: Any, part: Any) -> Array:
    row = jnp.arange(whole.shape[0])[:, None]
    whole = jnp.asarray(whole)
    return whole.at[row, places].set(jnp.asarray(part, whole.dtype), mode="drop")
