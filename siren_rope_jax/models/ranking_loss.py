"""Training losses."""

import optax
from jaxtyping import Array, Bool, Float

from siren_rope_jax.base.arrays import AnyArray, masked_mean


def ranking_loss(
    logits: Float[Array, "B L T"], labels: Float[AnyArray, "B L T"], mask: Bool[AnyArray, "B L T"]
) -> Float[Array, ""]:
    """Mean binary cross-entropy in nats over all labels that count."""
    return masked_mean(optax.sigmoid_binary_cross_entropy(logits, labels), mask)
