"""How attention is computed from rotated queries and keys, values, and a `Relation`.

These are the dense forms, which hold all logits: the reference for every other implementation.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from siren_rope_jax.models.relation import Relation


def softmax_attention(
    q_BxQxHxK: Float[Array, "B Q H D"],
    k_BxLxHxK: Float[Array, "B L H D"],
    v_BxLxHxK: Float[Array, "B L H D"],
    relation: Relation,
    empty: Float[Array, "H D"] | None,
) -> Float[Array, "B Q H D"]:
    """Softmax of q.k / sqrt(D) + bias over the visible keys.

    A query that sees no key gets `empty`, and no gradient flows to q, k or v from it; without
    `empty`, what it gets is arbitrary but finite.
    """
    bias, mask = _bias(relation), _mask(relation)
    out = jax.nn.dot_product_attention(q_BxQxHxK, k_BxLxHxK, v_BxLxHxK, bias, mask)
    if empty is None:
        return out
    return jnp.where(mask.any(axis=-1)[..., 0, :, None, None], out, empty)


def pointwise_attention(
    q_BxQxHxK: Float[Array, "B Q H D"],
    k_BxLxHxK: Float[Array, "B L H D"],
    v_BxLxHxK: Float[Array, "B L H D"],
    relation: Relation,
    length: int,
) -> Float[Array, "B Q H D"]:
    """SiLU(q.k + bias) / length as weights of the visible keys; zero where there is none."""
    logits_BxHxQxL = _logits(q_BxQxHxK, k_BxLxHxK, 1.0, relation)
    weight_BxHxQxL = jnp.where(_mask(relation), nn.silu(logits_BxHxQxL) / length, 0.0)
    return jnp.einsum("bhij,bjhk->bihk", weight_BxHxQxL.astype(v_BxLxHxK.dtype), v_BxLxHxK)


def softmax_weights(
    q_BxQxHxK: Float[Array, "B Q H D"], k_BxLxHxK: Float[Array, "B L H D"], relation: Relation
) -> Float[Array, "B H Q L"]:
    """The weights of `softmax_attention`, float32; zero where a query sees no key."""
    logits_BxHxQxL = _logits(q_BxQxHxK, k_BxLxHxK, math.sqrt(q_BxQxHxK.shape[-1]), relation)
    return jax.nn.softmax(logits_BxHxQxL, axis=-1, where=_mask(relation))


def _logits(q: Array, k: Array, divisor: float, relation: Relation) -> Float[Array, "B H Q L"]:
    logits = jnp.einsum("bihk,bjhk->bhij", q, k, preferred_element_type=jnp.float32) / divisor
    bias = _bias(relation)
    return logits if bias is None else logits + bias


def _mask(relation: Relation) -> Bool[Array, "B 1 Q L"]:
    return relation.mask(relation.queries, relation.keys)


def _bias(relation: Relation) -> Float[Array, "B #H Q L"] | None:
    return relation.bias_block(relation.queries, relation.keys)
