"""Attention of requests: each query sees cached keys and perhaps its own, but no other query's.

The same results as those of `kernels.py` for a history that ends with the one event of the query;
here many queries share the cached part of their keys and values.

Letters: N histories, C cached events, Q queries of each, H heads, K head width.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from siren_rope_jax.models.relation import Relation, queries_and_weights
from siren_rope_jax.rotation.layers import silu

Pair = tuple[Array, Array]
"""Rotated keys, and values."""


def softmax_attention(
    q_NxQxHxK: Float[Array, "N Q H K"],
    cached: Pair,
    own: Pair,
    relation: Relation,
    empty: Float[Array, "H K"] | None,
) -> Float[Array, "N Q H K"]:
    """`kernels.softmax_attention` over the cached keys and the query's own."""
    weight_NxHxQxC, own_NxHxQ, seen_NxHxQ = softmax_weights(q_NxQxHxK, cached[0], own[0], relation)
    out = _mixed(weight_NxHxQxC, own_NxHxQ, cached[1], own[1])
    if empty is None:
        return out
    return jnp.where(jnp.swapaxes(seen_NxHxQ, 1, 2)[..., None], out, empty)


def softmax_weights(
    q_NxQxHxK: Float[Array, "N Q H K"],
    cached_NxCxHxK: Float[Array, "N C H K"],
    own_NxQxHxK: Float[Array, "N Q H K"],
    relation: Relation,
) -> tuple[Float[Array, "N H Q C"], Float[Array, "N H Q"], Bool[Array, "N 1 Q"]]:
    """Of the cached keys and of the query's own, float32; and whether a query sees any key."""
    scale = 1 / math.sqrt(own_NxQxHxK.shape[-1])
    logits, own_logit = _logits(q_NxQxHxK, cached_NxCxHxK, own_NxQxHxK, scale, relation)
    mask, own_mask = _masks(relation)
    whole = jnp.concatenate([logits, own_logit[..., None]], axis=-1)
    seen = jnp.concatenate([mask, own_mask[..., None]], axis=-1)
    weight = jax.nn.softmax(whole, axis=-1, where=seen)
    return weight[..., :-1], weight[..., -1], seen.any(axis=-1)


def pointwise_attention(
    q_NxQxHxK: Float[Array, "N Q H K"], cached: Pair, own: Pair, relation: Relation, length: int
) -> Float[Array, "N Q H K"]:
    """`kernels.pointwise_attention` over the cached keys and the query's own."""
    pairs = zip(_logits(q_NxQxHxK, cached[0], own[0], 1.0, relation), _masks(relation), strict=True)
    weight, own_weight = (jnp.where(mask, silu(x) / length, 0.0) for x, mask in pairs)
    return _mixed(weight, own_weight, cached[1], own[1])


def _mixed(
    weight_NxHxQxC: Array, own_NxHxQ: Array, v_NxCxHxK: Array, v_NxQxHxK: Array
) -> Float[Array, "N Q H K"]:
    dtype = v_NxCxHxK.dtype
    cached = jnp.einsum("nhqc,nchk->nqhk", weight_NxHxQxC.astype(dtype), v_NxCxHxK)
    return cached + jnp.einsum("nhq,nqhk->nqhk", own_NxHxQ.astype(dtype), v_NxQxHxK)


def _logits(
    q_NxQxHxK: Array, k_NxCxHxK: Array, k_NxQxHxK: Array, scale: float, relation: Relation
) -> tuple[Float[Array, "N H Q C"], Float[Array, "N H Q"]]:
    q_NxQxHxK, weights_NxQxHxW = queries_and_weights(q_NxQxHxK, k_NxQxHxK)
    on_cached, on_own = (
        jnp.einsum(letters, q_NxQxHxK, k, preferred_element_type=jnp.float32) * scale
        for letters, k in (("nqhk,nchk->nhqc", k_NxCxHxK), ("nqhk,nqhk->nhq", k_NxQxHxK))
    )
    if relation.bias is None:
        return on_cached, on_own
    query, key = (jax.tree.map(lambda x: x[..., None], e) for e in (relation.queries, relation.own))
    own_bias_NxQxH = relation.bias(query, key, weights_NxQxHxW[..., None, :, :])[..., 0, 0]
    bias = relation.bias(relation.queries, relation.keys, weights_NxQxHxW)
    return on_cached + bias, on_own + jnp.swapaxes(own_bias_NxQxH, 1, 2)


def _masks(relation: Relation) -> tuple[Bool[Array, "N 1 Q C"], Bool[Array, "N 1 Q"]]:
    of_cached = relation.mask(relation.queries, relation.keys)
    own = jnp.asarray(relation.queries.segment > 0)[:, None] & (not relation.strict)
    return of_cached, own
