"""Scores of many items without holding them all: in blocks, recomputed for the gradient.

Letters: N positions, D width, C candidates shared by all positions, R of them in a block, K tags
of a candidate, M candidates of each position.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

_LOWEST = float(np.finfo(np.float32).min)


def rowwise(a_NxD: Array, b_NxD: Array) -> Float[Array, " N"]:
    return jnp.einsum("nd,nd->n", a_NxD, b_NxD, preferred_element_type=jnp.float32)


def log_partition(
    q_NxD: Float[Array, "N D"],
    table_CxD: Float[Array, "C D"],
    bias_C: Float[Array, " C"],
    tags_CxK: Int[Array, "C K"] | None = None,
    excluded_NxK: Int[Array, "N K"] | None = None,
    *,
    block_elements: int,
) -> Float[Array, " N"]:
    """log sum_c exp(q_n . e_c + bias_c) over the candidates c, block by block; float32.

    Args:
      q_NxD: queries.
      table_CxD: rows of the candidates.
      bias_C: added to the scores; -inf leaves a candidate out. A constant: it gets no gradient.
      tags_CxK: properties of each candidate, such as its id.
      excluded_NxK: given with `tags_CxK`: position n leaves out candidate c if, for any k,
        excluded[n, k] = tags[c, k].
      block_elements: bound on the logits of a block, which has at least one candidate. The gradient
        needs twice this memory and the table's gradient, however many candidates there are.

    Returns:
      -inf for a position without candidates, which gets no gradient.
    """
    scope = (jax.lax.stop_gradient(bias_C), tags_CxK, excluded_NxK)
    return _log_partition(block_elements, q_NxD, table_CxD, scope)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _log_partition(block_elements: int, q_NxD: Array, table_CxD: Array, scope: Any) -> Array:
    peak_N, sum_N = _peak_and_sum(block_elements, q_NxD, table_CxD, scope)
    return peak_N + jnp.log(sum_N)


def _log_partition_forward(
    block_elements: int, q_NxD: Array, table_CxD: Array, scope: Any
) -> tuple[Array, Any]:
    if _block_rows(block_elements, q_NxD, table_CxD) == table_CxD.shape[0]:
        # One block: its exponentials fit in the budget, and keeping them saves a second pass.
        logit_NxC = _logits(q_NxD, table_CxD, *scope)
        peak_N = _finite_max(logit_NxC)
        # In the inputs' dtype, like any activation; in [0, 1], so bfloat16 holds them too.
        exp_NxC = jnp.exp(logit_NxC - peak_N[:, None])
        sum_N = exp_NxC.sum(1)
        kept_NxC = exp_NxC.astype(q_NxD.dtype)
        return peak_N + jnp.log(sum_N), (q_NxD, table_CxD, kept_NxC, sum_N, None)
    peak_N, sum_N = _peak_and_sum(block_elements, q_NxD, table_CxD, scope)
    return peak_N + jnp.log(sum_N), (q_NxD, table_CxD, peak_N, sum_N, scope)


def _log_partition_backward(
    block_elements: int, residuals: Any, gradient_N: Array
) -> tuple[Array, Array, None]:
    q_NxD, table_CxD, kept, sum_N, scope = residuals
    # The softmax is exp / sum; dividing here takes N divisions instead of N x C.
    weight_N = jnp.where(sum_N > 0, gradient_N / sum_N, 0)
    scaled_NxD = (q_NxD * weight_N[:, None]).astype(q_NxD.dtype)
    if scope is None:
        dq_NxD, dtable_CxD = _products(kept, table_CxD, scaled_NxD)
    else:

        def step(carry: Any, block: "_Block") -> tuple[Any, None]:
            dq_NxD, dtable_CxD = carry
            logit_NxR = _logits(q_NxD, block.rows_RxD, block.bias_R, block.tags_RxK, scope[2])
            exp_NxR = jnp.exp(logit_NxR - kept[:, None]).astype(q_NxD.dtype)
            more_NxD, drows_RxD = _products(exp_NxR, block.rows_RxD, scaled_NxD)
            start = (block.start, 0)
            # Add, not set: the last block overlaps the one before; its exponentials are 0 there.
            drows_RxD += jax.lax.dynamic_slice(dtable_CxD, start, drows_RxD.shape)
            dtable_CxD = jax.lax.dynamic_update_slice(dtable_CxD, drows_RxD, start)
            return (dq_NxD + more_NxD, dtable_CxD), None

        zeros = (jnp.zeros(q_NxD.shape, jnp.float32), jnp.zeros(table_CxD.shape, jnp.float32))
        dq_NxD, dtable_CxD = _scan(step, zeros, block_elements, q_NxD, table_CxD, scope)
    dq_NxD = dq_NxD * weight_N[:, None]
    return dq_NxD.astype(q_NxD.dtype), dtable_CxD.astype(table_CxD.dtype), None


_log_partition.defvjp(_log_partition_forward, _log_partition_backward)


def _block_rows(block_elements: int, q_NxD: Array, table_CxD: Array) -> int:
    """R: as many candidates as fit, in blocks of equal size."""
    candidates = table_CxD.shape[0]
    most = max(block_elements // max(q_NxD.shape[0], 1), 1)
    blocks = -(-candidates // most)
    return -(-candidates // max(blocks, 1))


class _Block(NamedTuple):
    start: Array
    rows_RxD: Array
    bias_R: Array
    tags_RxK: Array | None


def _scan(
    step: Any, carry: Any, block_elements: int, q_NxD: Array, table_CxD: Array, scope: Any
) -> Any:
    """Runs `step` over the blocks of candidates, which are read in place."""
    bias_C, tags_CxK, _ = scope
    candidates = table_CxD.shape[0]
    rows = _block_rows(block_elements, q_NxD, table_CxD)

    def at(carry: Any, first: Array) -> Any:
        # The last block starts early enough to be full; candidates of the one before are masked.
        start = jnp.minimum(first, candidates - rows)
        take = partial(jax.lax.dynamic_slice_in_dim, start_index=start, slice_size=rows)
        new_R = start + jnp.arange(rows) >= first
        bias_R = jnp.where(new_R, take(bias_C), -jnp.inf)
        tags_RxK = None if tags_CxK is None else take(tags_CxK)
        return step(carry, _Block(start, take(table_CxD), bias_R, tags_RxK))

    return jax.lax.scan(at, carry, jnp.arange(0, candidates, rows))[0]


def _peak_and_sum(
    block_elements: int, q_NxD: Array, table_CxD: Array, scope: Any
) -> tuple[Array, Array]:
    """Each position's maximal logit and its sum of exp(logit - maximum), in one pass."""
    size = q_NxD.shape[0]

    def step(carry: Any, block: _Block) -> tuple[Any, None]:
        peak_N, sum_N = carry
        logit_NxR = _logits(q_NxD, block.rows_RxD, block.bias_R, block.tags_RxK, scope[2])
        higher_N = jnp.maximum(peak_N, _finite_max(logit_NxR))
        sum_N = sum_N * jnp.exp(peak_N - higher_N)
        return (higher_N, sum_N + jnp.exp(logit_NxR - higher_N[:, None]).sum(1)), None

    start = (jnp.full(size, _LOWEST), jnp.zeros(size, jnp.float32))
    return _scan(step, start, block_elements, q_NxD, table_CxD, scope)


def _logits(
    q_NxD: Array,
    rows_RxD: Array,
    bias_R: Array,
    tags_RxK: Array | None,
    excluded_NxK: Array | None,
) -> Float[Array, "N R"]:
    logit_NxR = jnp.einsum("nd,rd->nr", q_NxD, rows_RxD, preferred_element_type=jnp.float32)
    logit_NxR = logit_NxR + bias_R
    if tags_RxK is None or excluded_NxK is None:
        return logit_NxR
    for tag_R, excluded_N in zip(tags_RxK.T, excluded_NxK.T, strict=True):
        logit_NxR = jnp.where(tag_R == excluded_N[:, None], -jnp.inf, logit_NxR)
    return logit_NxR


def _finite_max(logit_NxR: Array) -> Float[Array, " N"]:
    """The maximum; finite even if all logits are -inf, so that differences from it are defined."""
    return jnp.maximum(logit_NxR.max(1), _LOWEST)


def _products(
    exp_NxR: Array, rows_RxD: Array, scaled_NxD: Array
) -> tuple[Float[Array, "N D"], Float[Array, "R D"]]:
    """The gradients of the queries (not yet scaled) and of the candidates' rows; float32."""
    product = partial(jnp.einsum, preferred_element_type=jnp.float32)
    return product("nr,rd->nd", exp_NxR, rows_RxD), product("nr,nd->rd", exp_NxR, scaled_NxD)


def gathered_scores(
    q_NxD: Float[Array, "N D"],
    table_VxD: Float[Array, "V D"],
    id_NxM: Int[Array, "N M"],
    block_elements: int,
) -> Float[Array, "N M"]:
    """Scores of each position's own candidates, float32, without gathering all N x M rows at once.

    Args:
      q_NxD: queries.
      table_VxD: one row per item.
      id_NxM: each position's candidates.
      block_elements: bound on the elements gathered at once, which are at least N rows.
    """
    return _gathered_scores(block_elements, q_NxD, table_VxD, id_NxM)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gathered_scores(block_elements: int, q_NxD: Array, table_VxD: Array, id_NxM: Array) -> Array:
    def scores(id_NxR: Array) -> Array:
        rows = table_VxD[id_NxR]
        return jnp.einsum("nd,nrd->nr", q_NxD, rows, preferred_element_type=jnp.float32)

    blocks = _split_columns(id_NxM, block_elements, q_NxD)
    if blocks.shape[0] == 1:
        return scores(id_NxM)
    score_BxNxR = jax.lax.map(scores, blocks)
    return score_BxNxR.swapaxes(0, 1).reshape(len(id_NxM), -1)[:, : id_NxM.shape[1]]


def _gathered_scores_forward(
    block_elements: int, q_NxD: Array, table_VxD: Array, id_NxM: Array
) -> tuple[Array, Any]:
    score_NxM = _gathered_scores(block_elements, q_NxD, table_VxD, id_NxM)
    return score_NxM, (q_NxD, table_VxD, id_NxM)


def _gathered_scores_backward(
    block_elements: int, residuals: Any, gradient_NxM: Array
) -> tuple[Array, Array, None]:
    q_NxD, table_VxD, id_NxM = residuals

    def step(carry: Any, block: Any) -> tuple[Any, None]:
        (dq_NxD, dtable_VxD), (id_NxR, gradient_NxR) = carry, block
        gathered = table_VxD[id_NxR].astype(jnp.float32)
        dq_NxD += jnp.einsum("nr,nrd->nd", gradient_NxR, gathered)
        drows_NxRxD = gradient_NxR[:, :, None] * q_NxD.astype(jnp.float32)[:, None, :]
        return (dq_NxD, dtable_VxD.at[id_NxR].add(drows_NxRxD)), None

    zeros = (jnp.zeros(q_NxD.shape, jnp.float32), jnp.zeros(table_VxD.shape, jnp.float32))
    blocks = [_split_columns(x, block_elements, q_NxD) for x in (id_NxM, gradient_NxM)]
    (dq_NxD, dtable_VxD), _ = jax.lax.scan(step, zeros, tuple(blocks))
    return dq_NxD.astype(q_NxD.dtype), dtable_VxD.astype(table_VxD.dtype), None


_gathered_scores.defvjp(_gathered_scores_forward, _gathered_scores_backward)


def _split_columns(x_NxM: Array, block_elements: int, q_NxD: Array) -> Array:
    """Blocks of R columns: [M / R, N, R]; the last one is padded with zeros."""
    size, width = x_NxM.shape
    most = max(block_elements // max(q_NxD.size, 1), 1)
    blocks = -(-width // most)
    rows = -(-width // blocks)
    padded = jnp.pad(x_NxM, ((0, 0), (0, blocks * rows - width)))
    return padded.reshape(size, blocks, rows).swapaxes(0, 1)
