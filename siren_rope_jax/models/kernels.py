"""How attention is computed from rotated queries and keys, values, and a `Relation`.

The dense forms, which hold all logits, are the reference for every other one. `softmax` and
`pointwise` choose a form by its name.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from siren_rope_jax.base.arrays import AnyArray
from siren_rope_jax.models import blocked_attention, request_attention, splash_attention
from siren_rope_jax.models.partition import Partition
from siren_rope_jax.models.relation import Relation, queries_and_weights
from siren_rope_jax.rotation.layers import silu

KernelKind = Literal["auto", "dense", "blocked", "splash"]
"""`dense`: all logits at once. `blocked`: block by block, in memory that grows with the length.
`splash`: the same by a kernel for TPUs, for a softmax without a bias (others are `blocked`).
`auto`: dense for short rows, where that is faster; else splash on TPUs and blocked elsewhere."""

BLOCK = 128
"""Events of a block."""

QKV = tuple[Array, Array, Array]
"""Rotated queries and keys, and values: [B, L, H, D] each."""


def softmax(
    kind: KernelKind,
    partition: Partition,
    qkv: QKV,
    relation: Relation,
    empty: Array | None,
    own: request_attention.Pair,
) -> Float[Array, "B Q H K"]:
    """`softmax_attention`, computed in that way; of requests, which also see their `own` keys."""
    if relation.requests:
        return request_attention.softmax_attention(qkv[0], qkv[1:], own, relation, empty)
    kind = _chosen(kind, partition, qkv[0].shape[1], relation)
    if kind == "splash" and relation.bias is None:
        return splash_attention.softmax_attention(*qkv, relation, empty, partition=partition)
    if kind == "dense":
        return softmax_attention(*qkv, relation, empty)
    return blocked_attention.softmax_attention(*qkv, relation, empty, block=BLOCK)


def pointwise(
    kind: KernelKind,
    partition: Partition,
    qkv: QKV,
    relation: Relation,
    length: int,
    own: request_attention.Pair,
) -> Float[Array, "B Q H K"]:
    """`pointwise_attention`, computed in that way; of requests, which also see their `own` keys."""
    if relation.requests:
        return request_attention.pointwise_attention(qkv[0], qkv[1:], own, relation, length)
    kind = _chosen(kind, partition, qkv[0].shape[1], relation)
    if kind == "dense":
        return pointwise_attention(*qkv, relation, length)
    return blocked_attention.pointwise_attention(*qkv, relation, length, block=BLOCK)


def weight_of_tags(
    kind: KernelKind,
    partition: Partition,
    qk: tuple[Array, Array],
    tags: tuple[Int[AnyArray, "B Q"], Int[AnyArray, "B L"]],
    relation: Relation,
) -> Float[Array, "B Q 2"]:
    """How much of its softmax a query gives to the keys with its tag, and to all with a tag at all.

    Args:
      kind: how it is computed.
      partition: where arrays live.
      qk: rotated queries and keys.
      tags: of queries and keys; 0: a key has none.
      relation: of queries and keys.

    Returns:
      both weights, a mean over the heads; float32.
    """
    kind = _chosen(kind, partition, qk[0].shape[1], relation)
    if kind == "dense":
        weight_BxQxL = softmax_weights(*qk, relation).mean(axis=1)
        wanted_BxQ, tag_BxL = tags
        counts = tag_BxL[:, None] == wanted_BxQ[..., None], tag_BxL[:, None] > 0
        return jnp.stack([jnp.where(x, weight_BxQxL, 0.0).sum(axis=-1) for x in counts], axis=-1)
    return blocked_attention.weight_of_tags(*qk, tags, relation, block=BLOCK).mean(axis=2)


def _chosen(kind: KernelKind, partition: Partition, queries: int, relation: Relation) -> KernelKind:
    if not relation.aligned:
        return "dense"  # queries that are not the places of the keys, such as a few last ones
    if kind != "auto":
        return kind
    if queries <= BLOCK:
        return "dense"
    return "splash" if partition.platform == "tpu" else "blocked"


def softmax_attention(
    q_BxQxHxK: Float[Array, "B Q H K"],
    k_BxLxHxK: Float[Array, "B L H K"],
    v_BxLxHxK: Float[Array, "B L H K"],
    relation: Relation,
    empty: Float[Array, "H K"] | None,
) -> Float[Array, "B Q H K"]:
    """Softmax of q.k / sqrt(K) + bias over the visible keys.

    A query that sees no key gets `empty`, and no gradient flows to q, k or v from it; without
    `empty`, what it gets is arbitrary but finite.
    """
    q_BxQxHxK, weights = queries_and_weights(q_BxQxHxK, k_BxLxHxK)
    bias, mask = _bias(relation, weights), _mask(relation)
    out = jax.nn.dot_product_attention(q_BxQxHxK, k_BxLxHxK, v_BxLxHxK, bias, mask)
    if empty is None:
        return out
    return jnp.where(mask.any(axis=-1)[..., 0, :, None, None], out, empty)


def pointwise_attention(
    q_BxQxHxK: Float[Array, "B Q H K"],
    k_BxLxHxK: Float[Array, "B L H K"],
    v_BxLxHxK: Float[Array, "B L H K"],
    relation: Relation,
    length: int,
) -> Float[Array, "B Q H K"]:
    """SiLU(q.k + bias) / length as weights of the visible keys; zero where there is none."""
    logits_BxHxQxL = _logits(q_BxQxHxK, k_BxLxHxK, 1.0, relation)
    weight_BxHxQxL = jnp.where(_mask(relation), silu(logits_BxHxQxL) / length, 0.0)
    return jnp.einsum("bhij,bjhk->bihk", weight_BxHxQxL.astype(v_BxLxHxK.dtype), v_BxLxHxK)


def softmax_weights(
    q_BxQxHxK: Float[Array, "B Q H K"], k_BxLxHxK: Float[Array, "B L H K"], relation: Relation
) -> Float[Array, "B H Q L"]:
    """The weights of `softmax_attention`, float32; zero where a query sees no key."""
    logits_BxHxQxL = _logits(q_BxQxHxK, k_BxLxHxK, math.sqrt(k_BxLxHxK.shape[-1]), relation)
    return jax.nn.softmax(logits_BxHxQxL, axis=-1, where=_mask(relation))


def _logits(q: Array, k: Array, divisor: float, relation: Relation) -> Float[Array, "B H Q L"]:
    q, weights = queries_and_weights(q, k)
    logits = jnp.einsum("bihk,bjhk->bhij", q, k, preferred_element_type=jnp.float32) / divisor
    bias = _bias(relation, weights)
    return logits if bias is None else logits + bias


def _mask(relation: Relation) -> Bool[Array, "B 1 Q L"]:
    return relation.mask(relation.queries, relation.keys)


def _bias(relation: Relation, weights: Array) -> Float[Array, "B #H Q L"] | None:
    return relation.bias_block(relation.queries, relation.keys, weights)
