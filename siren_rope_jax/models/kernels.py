"""How attention is computed from rotated queries and keys, values, and a `Relation`.

These are the dense forms, which hold all logits: the reference for every other implementation.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from siren_rope_jax.models.relation import Relation


def softmax_attention(
    q_BxLxHxK: Float[Array, "B L H K"],
    k_BxLxHxK: Float[Array, "B L H K"],
    v_BxLxHxK: Float[Array, "B L H K"],
    relation: Relation,
) -> Float[Array, "B L H K"]:
    """Softmax of q.k / sqrt(K) + bias over the visible keys; undefined where there is none."""
    return jax.nn.dot_product_attention(
        q_BxLxHxK, k_BxLxHxK, v_BxLxHxK, relation.bias_of(), relation.visibility.mask()
    )


def pointwise_attention(
    q_BxLxHxK: Float[Array, "B L H K"],
    k_BxLxHxK: Float[Array, "B L H K"],
    v_BxLxHxK: Float[Array, "B L H K"],
    relation: Relation,
) -> Float[Array, "B L H K"]:
    """SiLU(q.k + bias) / L as weights of the visible keys; zero where there is none."""
    logits_BxHxLxL = _logits(q_BxLxHxK, k_BxLxHxK, 1.0, relation)
    weight_BxHxLxL = nn.silu(logits_BxHxLxL) / q_BxLxHxK.shape[1]
    weight_BxHxLxL = jnp.where(relation.visibility.mask(), weight_BxHxLxL, 0.0)
    return jnp.einsum("bhij,bjhk->bihk", weight_BxHxLxL.astype(v_BxLxHxK.dtype), v_BxLxHxK)


def softmax_weights(
    q_BxLxHxK: Float[Array, "B L H K"], k_BxLxHxK: Float[Array, "B L H K"], relation: Relation
) -> Float[Array, "B H L L"]:
    """The weights of `softmax_attention`, float32; zero where a query sees no key."""
    logits_BxHxLxL = _logits(q_BxLxHxK, k_BxLxHxK, math.sqrt(q_BxLxHxK.shape[-1]), relation)
    return jax.nn.softmax(logits_BxHxLxL, axis=-1, where=relation.visibility.mask())


def _logits(q: Array, k: Array, divisor: float, relation: Relation) -> Float[Array, "B H L L"]:
    logits = jnp.einsum("bihk,bjhk->bhij", q, k, preferred_element_type=jnp.float32) / divisor
    bias = relation.bias_of()
    return logits if bias is None else logits + bias
