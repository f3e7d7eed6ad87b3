"""What all modules of the models share about arrays."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

AnyArray = Array | np.ndarray
"""On the device, or still on the host."""


def masked_mean(values: Float[Array, "*S"], mask: Bool[AnyArray, "*S"]) -> Float[Array, ""]:
    """Mean over the entries where the mask is set; 0 if there are none."""
    return jnp.where(mask, values, 0.0).sum() / jnp.maximum(mask.sum(), 1)
