"""Training losses."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float


def masked_mean(values: Float[Array, "*S"], mask: Bool[Array, "*S"]) -> Float[Array, ""]:
    """Mean over the entries where the mask is set; 0 if there are none."""
    return jnp.where(mask, values, 0.0).sum() / jnp.maximum(mask.sum(), 1)


def ranking_loss(
    logits: Float[Array, "B L T"], labels: Float[Array, "B L T"], mask: Bool[Array, "B L T"]
) -> Float[Array, ""]:
    """Mean binary cross-entropy in nats over all labels that count, tasks weighted by their labels."""
    return masked_mean(optax.sigmoid_binary_cross_entropy(logits, labels), mask)
