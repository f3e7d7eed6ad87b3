"""Time in the embedding: what the token of an event knows of its time, the rotation's rival."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from siren_rope_jax.rotation.sources import Network
from siren_rope_jax.rotation.time import Time, TimeFeature, TimeScale, time_features


class InputTime(nn.Module):
    """The time features of an event, and a network of them, for a linear map that follows.

    Attributes:
      features: the groups of features that are passed on as they are.
      network: f_phi (E4), here into the embedding instead of the rotation; None: there is none.
      width: outputs of the network.
      scale: defines T~.
    """

    features: tuple[TimeFeature, ...]
    network: Network | None
    width: int
    scale: TimeScale

    @nn.compact
    def __call__(self, *times: Time) -> list[Float[Array, "... F"]]:
        """What is known of one or several times of the same events; the network sees them at once.

        Returns:
          float32 arrays, perhaps none.
        """
        parts = [time_features(t, self.features, self.scale) for t in times if self.features]
        if self.network is not None:
            inputs = [time_features(t, self.network.features, self.scale) for t in times]
            parts.append(self.network.network(jnp.concatenate(inputs, axis=-1), self.width))
        return parts
