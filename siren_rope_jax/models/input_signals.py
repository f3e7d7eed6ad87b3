"""Signals in the embedding: what a token knows of its time and the like, the rotation's rival."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from siren_rope_jax.rotation.maps import TimeNetwork
from siren_rope_jax.rotation.signals import Signals
from siren_rope_jax.rotation.time import TimeFeature, TimeScale, time_features

COUNT_WIDTH = 16
"""Of the embedding of a count."""


class InputSignals(nn.Module):
    """Time features of an event, a network of them and embedded counts, for a linear map to come.

    Attributes:
      features: the groups of time features that are passed on as they are.
      network: f_phi (E4), here into the embedding instead of the rotation; None: there is none.
      counts: the other integer signals that are embedded, and how many values each has.
      width: outputs of the network.
      scale: defines T~.
    """

    features: tuple[TimeFeature, ...]
    network: TimeNetwork | None
    counts: Mapping[str, int]
    width: int
    scale: TimeScale

    @nn.compact
    def __call__(self, *signals: Signals) -> list[Float[Array, "... F"]]:
        """What is known of one or two signals of the same events; the network sees both at once.

        Returns:
          float32 arrays, perhaps none.
        """
        times = [each.time for each in signals]
        parts = [time_features(t, self.features, self.scale) for t in times if self.features]
        if self.network is not None:
            inputs = [time_features(t, self.network.features, self.scale) for t in times]
            parts.append(self.network.network(jnp.concatenate(inputs, axis=-1), self.width))
        for name, values in self.counts.items():
            for each, whose in zip(signals, ("event", "request"), strict=False):
                table = nn.Embed(values, COUNT_WIDTH, name=f"{name}_of_{whose}")
                parts.append(table(jnp.asarray(each.categories[name])))
        return parts
