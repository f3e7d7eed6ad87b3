"""Attention in memory that grows with the length, not with its square, on every backend.

Queries attend block by block to the blocks of keys that they can see; the gradient computes the
logits of a pair of blocks again. It is the same mathematics as in `kernels.py`: a sum over blocks
of keys, which for a softmax is known up to its normaliser.

Letters beside those of `rotate.py`: Q queries of a block, S keys of a block.
"""

import math
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from siren_rope_jax.base.arrays import AnyArray
from siren_rope_jax.models.relation import Relation, queries_and_weights
from siren_rope_jax.rotation.layers import silu

_LOWEST = float(np.finfo(np.float32).min)


class _Form(NamedTuple):
    """What a compiled program depends on.

    Attributes:
      kind: how logits become weights, and whether these are of `tags` instead of values.
      strict: as in `Relation`.
      divisor: of the inner products.
      length: of the model (`pointwise`).
      block: events of a block.
    """

    kind: Literal["softmax", "pointwise", "tags"]
    strict: bool
    divisor: float
    length: int
    block: int


def softmax_attention(
    q_BxLxHxK: Float[Array, "B L H K"],
    k_BxLxHxK: Float[Array, "B L H K"],
    v_BxLxHxK: Float[Array, "B L H K"],
    relation: Relation,
    empty: Float[Array, "H K"] | None,
    *,
    block: int,
) -> Float[Array, "B L H K"]:
    """As `kernels.softmax_attention`, where queries and keys are the same places of a row."""
    form = _Form("softmax", relation.strict, math.sqrt(k_BxLxHxK.shape[-1]), 1, block)
    out, log_sum_BxHxL = _attention(form, q_BxLxHxK, k_BxLxHxK, v_BxLxHxK, relation)
    if empty is None:
        return out
    sees = jax.lax.stop_gradient(log_sum_BxHxL[:, 0, :, None, None]) > _LOWEST
    return jnp.where(sees, out, empty)


def pointwise_attention(
    q_BxLxHxK: Float[Array, "B L H K"],
    k_BxLxHxK: Float[Array, "B L H K"],
    v_BxLxHxK: Float[Array, "B L H K"],
    relation: Relation,
    length: int,
    *,
    block: int,
) -> Float[Array, "B L H K"]:
    """As `kernels.pointwise_attention`, where queries and keys are the same places of a row."""
    form = _Form("pointwise", relation.strict, 1.0, length, block)
    return _attention(form, q_BxLxHxK, k_BxLxHxK, v_BxLxHxK, relation)[0]


def weight_of_tags(
    q_BxLxHxK: Float[Array, "B L H K"],
    k_BxLxHxK: Float[Array, "B L H K"],
    tags: tuple[Int[AnyArray, "B L"], Int[AnyArray, "B L"]],
    relation: Relation,
    *,
    block: int,
) -> Float[Array, "B L H 2"]:
    """As `kernels.weight_of_tags`, but for each head."""
    form = _Form("tags", relation.strict, math.sqrt(k_BxLxHxK.shape[-1]), 1, block)
    return _attention(form, q_BxLxHxK, k_BxLxHxK, tags, relation)[0]


def _attention(
    form: _Form, q: Array, k: Array, v: Any, relation: Relation
) -> tuple[Float[Array, "B L H K"], Float[Array, "B H L"]]:
    """Pads to whole blocks; padding is of no segment. Of tags, v are the queries' and the keys'."""
    length = q.shape[1]
    padding = -length % form.block

    def padded(x: Any, axis: int) -> Array:
        x = jnp.asarray(x)
        widths = [(0, padding if n == axis % x.ndim else 0) for n in range(x.ndim)]
        return jnp.pad(x, widths)

    if padding:
        q, k, v = jax.tree.map(lambda x: padded(x, 1), (q, k, v))
        events = relation.queries, relation.keys
        queries, keys = jax.tree.map(lambda x: padded(x, -1), events)
        relation = replace(relation, queries=queries, keys=keys)
    out, log_sum = _blocked(form, q, k, v, relation.bias, replace(relation, bias=None))
    return out[:, :length], log_sum[..., :length]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _blocked(
    form: _Form, q: Array, k: Array, v: Any, bias: Any, relation: Relation
) -> tuple[Array, Array]:
    """The output, and for a softmax the log of its normaliser."""
    seen = _first_seen(form, relation)

    def of_queries(i: Array) -> tuple[Array, Array]:
        q_block = _take(q, i, form.block)

        def add(j: Array, carry: tuple[Array, ...]) -> tuple[Array, ...]:
            k_block, v_block = _take(k, j, form.block), _values(form, v, i, j)
            logits_BxHxQxS, mask = _logits(form, q_block, k_block, bias, relation, i, j)
            if form.kind == "pointwise":
                (total,) = carry
                return (total + _pool(form, _silu_weights(form, logits_BxHxQxS, mask), v_block),)
            total, sums, peak = carry
            highest = jnp.max(logits_BxHxQxS, axis=-1, initial=_LOWEST, where=mask)
            new = jnp.maximum(peak, highest)
            weight = jnp.where(mask, jnp.exp(logits_BxHxQxS - new[..., None]), 0.0)
            shrink = jnp.exp(peak - new)
            total = total * jnp.moveaxis(shrink, 1, 2)[..., None] + _pool(form, weight, v_block)
            return total, sums * shrink + weight.sum(axis=-1), new

        dtype, width = (jnp.float32, 2) if form.kind == "tags" else (v.dtype, v.shape[-1])
        total = jnp.zeros((*q_block.shape[:-1], width), jnp.float32)
        rows = jnp.zeros(_rows(q_block), jnp.float32)
        if form.kind == "pointwise":
            (total,) = jax.lax.fori_loop(seen[i], i + 1, add, (total,))
            return total.astype(dtype), rows
        total, sums, peak = jax.lax.fori_loop(seen[i], i + 1, add, (total, rows, rows + _LOWEST))
        out = total / jnp.moveaxis(jnp.where(sums > 0, sums, 1.0), 1, 2)[..., None]
        return out.astype(dtype), jnp.where(sums > 0, peak + jnp.log(sums), _LOWEST)

    out, log_sum = jax.lax.map(of_queries, jnp.arange(q.shape[1] // form.block))
    return _joined(out, 1), _joined(log_sum, 2)


def _forward(
    form: _Form, q: Array, k: Array, v: Any, bias: Any, relation: Relation
) -> tuple[Any, Any]:
    out, log_sum = _blocked(form, q, k, v, bias, relation)
    return (out, log_sum), (q, k, v, bias, relation, out, log_sum)


def _backward(form: _Form, saved: Any, cotangents: tuple[Array, Array]) -> tuple[Any, ...]:
    q, k, v, bias, relation, out, log_sum = saved
    d_out = cotangents[0]  # the log of the normaliser is used without a gradient
    learned = None if form.kind == "tags" else v
    seen = _first_seen(form, relation)
    products = d_out.astype(jnp.float32) * out.astype(jnp.float32)
    shift = -jnp.moveaxis(products.sum(axis=-1), 1, 2)  # [B, H, L]

    def of_queries(carry: Any, i: Array) -> tuple[Any, Array]:
        q_block, d_block = _take(q, i, form.block), _take(d_out, i, form.block)
        rows = tuple(_take(x, i, form.block, axis=2) for x in (log_sum, shift))

        def add(j: Array, carry: Any) -> Any:
            d_q, d_k, d_v, d_bias = carry
            k_block, v_block = _take(k, j, form.block), _values(form, v, i, j)

            def part(q_: Array, k_: Array, v_: Array, bias_: Any) -> tuple[Array, Array]:
                logits, mask = _logits(form, q_, k_, bias_, relation, i, j)
                if form.kind == "pointwise":
                    weight, total = _silu_weights(form, logits, mask), jnp.zeros_like(rows[0])
                else:
                    weight = jnp.exp(jnp.where(mask, logits - rows[0][..., None], _LOWEST))
                    total = weight.sum(axis=-1)
                return _pool(form, weight, v_), total

            pullback = jax.vjp(part, q_block, k_block, v_block, bias)[1]
            by_q, by_k, by_v, by_bias = pullback((d_block.astype(jnp.float32), rows[1]))
            d_k = _added(d_k, by_k, j, form.block)
            if form.kind != "tags":
                d_v = _added(d_v, by_v, j, form.block)
            return d_q + by_q, d_k, d_v, jax.tree.map(jnp.add, d_bias, by_bias)

        first = (jnp.zeros(q_block.shape, jnp.float32), *carry)
        d_q, *carry = jax.lax.fori_loop(seen[i], i + 1, add, first)
        return tuple(carry), d_q.astype(q.dtype)

    zeros = [None if x is None else jnp.zeros(x.shape, jnp.float32) for x in (k, learned)]
    carry = (*zeros, jax.tree.map(jnp.zeros_like, bias))
    (d_k, d_v, d_bias), d_q = jax.lax.scan(of_queries, carry, jnp.arange(q.shape[1] // form.block))
    d_v = None if learned is None else d_v.astype(learned.dtype)
    return _joined(d_q, 1), d_k.astype(k.dtype), d_v, d_bias, None


_blocked.defvjp(_forward, _backward)


def _first_seen(form: _Form, relation: Relation) -> Int[Array, " blocks"]:
    """The first block of keys that any query of a block sees; the last one is its own.

    The events of a segment are neighbours, so a query sees nothing before its segment begins.
    """
    segment = jnp.atleast_2d(relation.keys.segment)
    changes = jnp.diff(segment, axis=-1, prepend=-1) != 0
    place = jnp.arange(segment.shape[-1])
    begin = jax.lax.cummax(jnp.where(changes, place, 0), axis=1)
    return begin[:, :: form.block].min(axis=0) // form.block


def _logits(
    form: _Form, q: Array, k: Array, bias: Any, relation: Relation, i: Array, j: Array
) -> tuple[Float[Array, "B H Q S"], Array]:
    """The logits of a pair of blocks and which of them count."""
    queries, keys = (
        jax.tree.map(lambda x, n=n: _take(jnp.asarray(x), n, form.block, axis=-1), events)
        for events, n in ((relation.queries, i), (relation.keys, j))
    )
    q, weights = queries_and_weights(q, k)
    logits = jnp.einsum("bqhk,bshk->bhqs", q, k, preferred_element_type=jnp.float32)
    logits = logits / form.divisor
    if bias is not None:
        logits = logits + bias(queries, keys, weights)
    return logits, relation.mask(queries, keys)


def _values(form: _Form, v: Any, i: Array, j: Array) -> Array:
    """What a pair of blocks sums by its weights: values [B, S, H, D], or tags [B, Q, S, 2].

    Of tags: whether a key has the query's, and whether it has one.
    """
    if form.kind != "tags":
        return _take(v, j, form.block)
    wanted, tag = _take(v[0], i, form.block)[..., None], _take(v[1], j, form.block)[:, None]
    return jnp.stack(jnp.broadcast_arrays(wanted == tag, tag > 0), axis=-1).astype(jnp.float32)


def _silu_weights(form: _Form, logits: Array, mask: Array) -> Array:
    return jnp.where(mask, silu(logits) / form.length, 0.0)


def _pool(form: _Form, weight_BxHxQxS: Array, values: Array) -> Float[Array, "B Q H K"]:
    weight = weight_BxHxQxS.astype(values.dtype)
    product = "bhqs,bqsk->bqhk" if form.kind == "tags" else "bhqs,bshk->bqhk"
    return jnp.einsum(product, weight, values, preferred_element_type=jnp.float32)


def _rows(q_block: Array) -> tuple[int, int, int]:
    batch, block, heads, _ = q_block.shape
    return batch, heads, block


def _take(x: Array, number: Array, block: int, axis: int = 1) -> Array:
    return jax.lax.dynamic_slice_in_dim(x, number * block, block, axis)


def _added(total: Array, part: Array, number: Array, block: int) -> Array:
    present = _take(total, number, block)
    changed = present + part.astype(total.dtype)
    return jax.lax.dynamic_update_slice_in_dim(total, changed, number * block, 1)


def _joined(blocks: Array, axis: int) -> Array:
    """[n, ..., block, ...] -> [..., n * block, ...]: blocks side by side along an axis."""
    moved = jnp.moveaxis(blocks, 0, axis)
    shape = list(blocks.shape[1:])
    shape[axis] *= blocks.shape[0]
    return moved.reshape(shape)
