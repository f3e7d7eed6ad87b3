"""Exact ranks among all items, never among a sample, and lists of the best items.

Letters: N positions, V rows of the table (row 0, the unknown item, is never ranked), D width,
S seen items per position (padded with 0), R positions of a block.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from siren_rope_jax.base.arrays import AnyArray
from siren_rope_jax.models.repeat import Repeat, floored_log

BLOCK_ELEMENTS = 2**22
"""Scores that a device holds at once; on a CPU, blocks about the size of its caches are fastest."""


def rank_targets(
    q_NxD: Float[AnyArray, "N D"],
    table_VxD: Float[AnyArray, "V D"],
    target_N: Int[AnyArray, " N"],
    seen_NxS: Int[AnyArray, "N S"],
    repeat: Repeat | None = None,
    block_elements: int = BLOCK_ELEMENTS,
) -> tuple[Int[Array, " N"], Float[Array, " N"]]:
    """The rank and the negative log-likelihood of every target among all items.

    Args:
      q_NxD: queries; a score is the dot product with an item's row, in float32.
      table_VxD: one row per item.
      target_N: the item that followed.
      seen_NxS: items that are not ranked, in any order.
      repeat: mixed with the softmax; of shape [N, L]. None: the softmax alone.
      block_elements: at most this many scores are held at once, but at least those of one position.

    Returns:
      int32 ranks: 1 + the number of other ranked items whose score is not below the target's, so
      that ties count against the model; V - 1, the worst, if the target's score is not finite; 0
      for a target that is not ranked, because it is unknown (0, or V and above) or seen.
      float32 NLL in nats under the softmax over all items, including seen ones; NaN for a target
      without a rank, +inf if a score is not finite.
    """
    items = table_VxD.shape[0]

    def block(
        q_RxD: Array, target_R: Array, seen_RxS: Array, *repeat: Array
    ) -> tuple[Array, Array]:
        score_RxV = _scores(q_RxD, table_VxD, *repeat)
        known_R = (target_R > 0) & (target_R < items)
        known_R &= (seen_RxS != target_R[:, None]).all(axis=1)
        at_Rx1 = jnp.where(known_R, target_R, 0)[:, None]
        target_score_Rx1 = jnp.take_along_axis(score_RxV, at_Rx1, 1)
        # Not `>=`: an item whose score is NaN must count against the model, too.
        rival_RxV = ~(score_RxV < target_score_Rx1)
        row_Rx1 = jnp.arange(len(target_R))[:, None]
        absent_RxS = jnp.concatenate([jnp.zeros_like(at_Rx1), at_Rx1, seen_RxS], 1)
        rival_RxV = rival_RxV.at[row_Rx1, absent_RxS].set(False, mode="drop")
        rank_R = 1 + rival_RxV.sum(1, dtype=jnp.int32)
        target_score_R = target_score_Rx1[:, 0]
        rank_R = jnp.where(jnp.isfinite(target_score_R), rank_R, items - 1)
        candidate_V = jnp.arange(items) > 0
        total_R = jax.nn.logsumexp(jnp.where(candidate_V, score_RxV, -jnp.inf), axis=1)
        nll_R = total_R - target_score_R
        nll_R = jnp.where(jnp.isfinite(nll_R), nll_R, jnp.inf)
        return jnp.where(known_R, rank_R, 0), jnp.where(known_R, nll_R, jnp.nan)

    return _map_blocks(
        block, block_elements // max(items, 1), q_NxD, target_N, seen_NxS, *_arrays(repeat)
    )


def top_items(
    q_NxD: Float[AnyArray, "N D"],
    table_VxD: Float[AnyArray, "V D"],
    seen_NxS: Int[AnyArray, "N S"],
    k: int,
    repeat: Repeat | None = None,
    allowed_V: Bool[AnyArray, " V"] | None = None,
    block_elements: int = BLOCK_ELEMENTS,
) -> tuple[Int[Array, "N k"], Float[Array, "N k"]]:
    """The k unseen items with the highest scores, best first; of equal scores, the lower id first.

    Args:
      q_NxD: queries.
      table_VxD: one row per item.
      seen_NxS: items to leave out.
      k: length of the lists.
      repeat: as in `rank_targets`; the scores are then log-probabilities.
      allowed_V: which items the lists may contain; None: all.
      block_elements: as in `rank_targets`.

    Returns:
      int32 ids and float32 scores. Items whose score is NaN are left out; if fewer than k items
      remain, the list is padded with id 0 and score -inf.
    """
    items = table_VxD.shape[0]

    def block(q_RxD: Array, seen_RxS: Array, *repeat: Array) -> tuple[Array, Array]:
        score_RxV = _scores(q_RxD, table_VxD, *repeat)
        score_RxV = jnp.where(jnp.isnan(score_RxV), -jnp.inf, score_RxV).at[:, 0].set(-jnp.inf)
        row_Rx1 = jnp.arange(len(q_RxD))[:, None]
        score_RxV = score_RxV.at[row_Rx1, seen_RxS].set(-jnp.inf, mode="drop")
        if allowed_V is not None:
            score_RxV = jnp.where(allowed_V, score_RxV, -jnp.inf)
        score_Rxk, id_Rxk = jax.lax.top_k(score_RxV, min(k, items))
        id_Rxk = jnp.where(score_Rxk > -jnp.inf, id_Rxk, 0).astype(jnp.int32)
        padding = ((0, 0), (0, max(k - items, 0)))
        return jnp.pad(id_Rxk, padding), jnp.pad(score_Rxk, padding, constant_values=-jnp.inf)

    return _map_blocks(block, block_elements // max(items, 1), q_NxD, seen_NxS, *_arrays(repeat))


def _arrays(repeat: Repeat | None) -> tuple[AnyArray, ...]:
    return () if repeat is None else (repeat.item, repeat.weight, repeat.explore)


def _scores(q_RxD: Array, table_VxD: AnyArray, *repeat: Array) -> Float[Array, "R V"]:
    """Dot products or, given the three arrays of a `Repeat`, log-probabilities of the mixture."""
    # At full precision: the reduced precision of accelerators would reorder close items.
    score_RxV = jnp.einsum(
        "rd,vd->rv",
        q_RxD,
        jnp.asarray(table_VxD),
        precision=jax.lax.Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )
    if repeat:
        item_RxL, weight_RxL, explore_R = repeat
        candidate_V = jnp.arange(score_RxV.shape[1]) > 0
        row_Rx1 = jnp.arange(len(q_RxD))[:, None]
        repeated_RxV = jnp.zeros_like(score_RxV).at[row_Rx1, item_RxL].add(weight_RxL)
        # In logs, because the probabilities of improbable items would underflow to 0, and tie.
        total_Rx1 = jax.nn.logsumexp(score_RxV, axis=1, where=candidate_V, keepdims=True)
        explored_RxV = score_RxV - total_Rx1 + floored_log(explore_R)[:, None]
        known_Rx1 = Repeat(item_RxL, weight_RxL, explore_R).log_known()[:, None]
        score_RxV = jnp.logaddexp(explored_RxV, jnp.log(repeated_RxV)) - known_Rx1
    # Ties must be exact: the compiler must not compute the target's score separately from the
    # scores it is compared with, which could round differently.
    return jax.lax.optimization_barrier(score_RxV)


def _map_blocks(function: Callable[..., Any], rows: int, *columns: AnyArray) -> Any:
    """Applies `function` to the columns, `rows` positions (but at least one) at a time."""
    size = len(columns[0])
    blocks = -(-size // max(rows, 1))
    if blocks <= 1:
        return function(*map(jnp.asarray, columns))
    rows = -(-size // blocks)

    def split(column: AnyArray) -> Array:
        # With a stride: the positions are divided among the devices, and so is every block then.
        column = jnp.asarray(column)
        padded = jnp.pad(column, [(0, rows * blocks - size)] + [(0, 0)] * (column.ndim - 1))
        return padded.reshape(rows, blocks, *column.shape[1:]).swapaxes(0, 1)

    def join(parts: Array) -> Array:
        return parts.swapaxes(0, 1).reshape(rows * blocks, *parts.shape[2:])[:size]

    results = jax.lax.map(lambda block: function(*block), tuple(map(split, columns)))
    return jax.tree.map(join, results)
