"""How attention is computed from rotated queries and keys, values, and a `Relation`.

The dense forms, which hold all logits, are the reference for every other one. `softmax` and
`pointwise` choose a form by its name.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from siren_rope_jax.models import blocked_attention
from siren_rope_jax.models.relation import Relation
from siren_rope_jax.rotation.layers import silu

KernelKind = Literal["auto", "dense", "blocked"]
"""`dense`: all logits at once. `blocked`: block by block, in memory that grows with the length.
`auto`: dense where that is faster, for short rows."""

BLOCK = 128
"""Events of a block."""


def softmax(kind: KernelKind) -> Callable[..., Array]:
    """`softmax_attention`, computed in that way."""
    return partial(_choose, kind, softmax_attention, blocked_attention.softmax_attention)


def pointwise(kind: KernelKind) -> Callable[..., Array]:
    """`pointwise_attention`, computed in that way."""
    return partial(_choose, kind, pointwise_attention, blocked_attention.pointwise_attention)


def _choose(
    kind: KernelKind,
    dense: Callable[..., Array],
    blocked: Callable[..., Array],
    q: Array,
    k: Array,
    v: Array,
    relation: Relation,
    last: Any,
) -> Array:
    in_blocks = kind == "blocked" or (kind == "auto" and q.shape[1] > BLOCK)
    if in_blocks and relation.aligned:
        return blocked(q, k, v, relation, last, block=BLOCK)
    return dense(q, k, v, relation, last)


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
    weight_BxHxQxL = jnp.where(_mask(relation), silu(logits_BxHxQxL) / length, 0.0)
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
