"""Training losses."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from siren_rope_jax.time_features import AnyArray


def masked_mean(values: Float[Array, "*S"], mask: Bool[AnyArray, "*S"]) -> Float[Array, ""]:
    """Mean over the entries where the mask is set; 0 if there are none."""
    return jnp.where(mask, values, 0.0).sum() / jnp.maximum(mask.sum(), 1)


def ranking_loss(
    logits: Float[Array, "B L T"], labels: Float[AnyArray, "B L T"], mask: Bool[AnyArray, "B L T"]
) -> Float[Array, ""]:
    """Mean binary cross-entropy in nats over all labels that count."""
    return masked_mean(optax.sigmoid_binary_cross_entropy(logits, labels), mask)
