"""Scores of many items without holding them all: on one device, in blocks.

The parts of `tables.py` that know nothing of devices. Letters: N positions, D width, C candidates
shared by all positions, R of them in a block, K tags of a candidate, M candidates of each position.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

_LOWEST = float(np.finfo(np.float32).min)


class Limits(NamedTuple):
    """Which candidates count for whom.

    Attributes:
      bias_C: added to the scores; -inf leaves a candidate out.
      tags_CxK: properties of each candidate; None: there are none.
      excluded_NxK: position n leaves out candidate c if excluded[n, k] = tags[c, k] for any k.
    """

    bias_C: Array
    tags_CxK: Array | None = None
    excluded_NxK: Array | None = None


def rowwise(a_NxD: Array, b_NxD: Array) -> Float[Array, " N"]:
    """The inner product of each row of a with the same row of b; float32."""
    return jnp.einsum("nd,nd->n", a_NxD, b_NxD, preferred_element_type=jnp.float32)


def is_one_block(block_elements: int, q_NxD: Array, table_CxD: Array) -> bool:
    """Whether all logits are within the bound."""
    return _block_rows(block_elements, q_NxD, table_CxD) == table_CxD.shape[0]


def exponentials(
    q_NxD: Float[Array, "N D"], table_CxD: Float[Array, "C D"], limits: Limits
) -> tuple[Float[Array, " N"], Float[Array, " N"], Float[Array, "N C"]]:
    """As `peak_and_sum`, and exp(logit - maximum) of all candidates in the queries' dtype."""
    logit_NxC = _logits(q_NxD, table_CxD, *limits)
    peak_N = _finite_max(logit_NxC)
    # In the inputs' dtype, like any activation; in [0, 1], so bfloat16 holds them too.
    exp_NxC = jnp.exp(logit_NxC - peak_N[:, None])
    return peak_N, exp_NxC.sum(1), exp_NxC.astype(q_NxD.dtype)


def peak_and_sum(
    block_elements: int, q_NxD: Float[Array, "N D"], table_CxD: Float[Array, "C D"], limits: Limits
) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """Each position's maximal logit and its sum of exp(logit - maximum), in one pass."""
    size = q_NxD.shape[0]

    def step(carry: Any, block: "_Block") -> tuple[Any, None]:
        peak_N, sum_N = carry
        logit_NxR = _logits(q_NxD, block.rows_RxD, *block.limits)
        higher_N = jnp.maximum(peak_N, _finite_max(logit_NxR))
        sum_N = sum_N * jnp.exp(peak_N - higher_N)
        return (higher_N, sum_N + jnp.exp(logit_NxR - higher_N[:, None]).sum(1)), None

    start = (jnp.full(size, _LOWEST), jnp.zeros(size, jnp.float32))
    return _scan(step, start, block_elements, q_NxD, table_CxD, limits)


def add_gradients(
    block_elements: int,
    q_NxD: Float[Array, "N D"],
    scaled_NxD: Float[Array, "N D"],
    peak_N: Float[Array, " N"],
    table_CxD: Float[Array, "C D"],
    limits: Limits,
    dtable_CxD: Float[Array, "C D"],
) -> tuple[Float[Array, "N D"], Float[Array, "C D"]]:
    """The gradient of the queries, not yet scaled, and the table's, added to `dtable`; float32.

    Args:
      block_elements: bound on the logits held at once.
      q_NxD: queries.
      scaled_NxD: queries, each times its gradient over its sum of exponentials.
      peak_N: the maximal logits.
      table_CxD: rows of the candidates.
      limits: as in `peak_and_sum`.
      dtable_CxD: what is added to.
    """

    def step(carry: Any, block: "_Block") -> tuple[Any, None]:
        dq_NxD, dtable_CxD = carry
        logit_NxR = _logits(q_NxD, block.rows_RxD, *block.limits)
        exp_NxR = jnp.exp(logit_NxR - peak_N[:, None]).astype(q_NxD.dtype)
        more_NxD, drows_RxD = products(exp_NxR, block.rows_RxD, scaled_NxD)
        start = (block.start, 0)
        # Add, not set: the last block overlaps the one before; its exponentials are 0 there.
        drows_RxD += jax.lax.dynamic_slice(dtable_CxD, start, drows_RxD.shape)
        dtable_CxD = jax.lax.dynamic_update_slice(dtable_CxD, drows_RxD, start)
        return (dq_NxD + more_NxD, dtable_CxD), None

    start = (jnp.zeros(q_NxD.shape, jnp.float32), dtable_CxD)
    return _scan(step, start, block_elements, q_NxD, table_CxD, limits)


def products(
    exp_NxR: Float[Array, "N R"], rows_RxD: Float[Array, "R D"], scaled_NxD: Float[Array, "N D"]
) -> tuple[Float[Array, "N D"], Float[Array, "R D"]]:
    """The gradients of the queries (not yet scaled) and of the candidates' rows; float32."""
    product = partial(jnp.einsum, preferred_element_type=jnp.float32)
    return product("nr,rd->nd", exp_NxR, rows_RxD), product("nr,nd->rd", exp_NxR, scaled_NxD)


def gathered(
    block_elements: int, q_NxD: Array, table_VxD: Array, id_NxM: Array
) -> Float[Array, "N M"]:
    """Scores of each position's own candidates, float32."""

    def scores(id_NxR: Array) -> Array:
        rows = table_VxD[id_NxR]
        return jnp.einsum("nd,nrd->nr", q_NxD, rows, preferred_element_type=jnp.float32)

    blocks = _split_columns(id_NxM, block_elements, q_NxD)
    if blocks.shape[0] == 1:
        return scores(id_NxM)
    score_BxNxR = jax.lax.map(scores, blocks)
    return score_BxNxR.swapaxes(0, 1).reshape(len(id_NxM), -1)[:, : id_NxM.shape[1]]


def add_gathered_gradients(
    block_elements: int,
    q_NxD: Array,
    table_VxD: Array,
    id_NxM: Int[Array, "N M"],
    gradient_NxM: Float[Array, "N M"],
    dtable_VxD: Float[Array, "V D"],
) -> tuple[Float[Array, "N D"], Float[Array, "V D"]]:
    """The gradient of `gathered` by the queries, and by the table, added to `dtable`; float32."""

    def step(carry: Any, block: Any) -> tuple[Any, None]:
        (dq_NxD, dtable_VxD), (id_NxR, gradient_NxR) = carry, block
        rows = table_VxD[id_NxR].astype(jnp.float32)
        dq_NxD += jnp.einsum("nr,nrd->nd", gradient_NxR, rows)
        drows_NxRxD = gradient_NxR[:, :, None] * q_NxD.astype(jnp.float32)[:, None, :]
        return (dq_NxD, dtable_VxD.at[id_NxR].add(drows_NxRxD)), None

    blocks = [_split_columns(x, block_elements, q_NxD) for x in (id_NxM, gradient_NxM)]
    start = (jnp.zeros(q_NxD.shape, jnp.float32), dtable_VxD)
    return jax.lax.scan(step, start, tuple(blocks))[0]


def _block_rows(block_elements: int, q_NxD: Array, table_CxD: Array) -> int:
    """R: as many candidates as fit, in blocks of equal size."""
    candidates = table_CxD.shape[0]
    most = max(block_elements // max(q_NxD.shape[0], 1), 1)
    blocks = -(-candidates // most)
    return -(-candidates // max(blocks, 1))


class _Block(NamedTuple):
    start: Array
    rows_RxD: Array
    limits: Limits


def _scan(
    step: Any, carry: Any, block_elements: int, q_NxD: Array, table_CxD: Array, limits: Limits
) -> Any:
    """Runs `step` over the blocks of candidates, which are read in place."""
    candidates = table_CxD.shape[0]
    rows = _block_rows(block_elements, q_NxD, table_CxD)

    def at(carry: Any, first: Array) -> Any:
        # The last block starts early enough to be full; candidates of the one before are masked.
        start = jnp.minimum(first, candidates - rows)
        take = partial(jax.lax.dynamic_slice_in_dim, start_index=start, slice_size=rows)
        new_R = start + jnp.arange(rows) >= first
        bias_R = jnp.where(new_R, take(limits.bias_C), -jnp.inf)
        tags_RxK = None if limits.tags_CxK is None else take(limits.tags_CxK)
        of_block = Limits(bias_R, tags_RxK, limits.excluded_NxK)
        return step(carry, _Block(start, take(table_CxD), of_block))

    return jax.lax.scan(at, carry, jnp.arange(0, candidates, rows))[0]


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


def _split_columns(x_NxM: Array, block_elements: int, q_NxD: Array) -> Array:
    """Blocks of R columns: [M / R, N, R]; the last one is padded with zeros."""
    size, width = x_NxM.shape
    most = max(block_elements // max(q_NxD.size, 1), 1)
    blocks = -(-width // most)
    rows = -(-width // blocks)
    padded = jnp.pad(x_NxM, ((0, 0), (0, blocks * rows - width)))
    return padded.reshape(size, blocks, rows).swapaxes(0, 1)
