"""Exact ranks among all items, never among a sample, and lists of the best items.

Letters: N positions, V rows of the table (row 0, the unknown item, is never ranked), D width,
S seen items per position (padded with 0). Inside of a device: G positions that its rows meet at
once, R of its rows.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from siren_rope_jax.base.arrays import AnyArray
from siren_rope_jax.models.division import Division, rows_of, scan_positions
from siren_rope_jax.models.partition import WHOLE, Partition
from siren_rope_jax.models.repeat import Mixture, floored_log

BLOCK_ELEMENTS = 2**22
"""Scores that a device holds at once; on a CPU, blocks about the size of its caches are fastest."""


def rank_targets(
    q_NxD: Float[AnyArray, "N D"],
    table: Float[AnyArray, "V D"] | Float[AnyArray, "Q S D"],
    target_N: Int[AnyArray, " N"],
    seen_NxS: Int[AnyArray, "N S"],
    repeat: Mixture | None = None,
    block_elements: int = BLOCK_ELEMENTS,
    items: int | None = None,
    partition: Partition = WHOLE,
) -> tuple[Int[Array, " N"], Float[Array, " N"]]:
    """The rank and the negative log-likelihood of every target among all items.

    Args:
      q_NxD: queries; a score is the dot product with an item's row, in float32.
      table: one row per item, [V, D] or as a `Table` has them.
      target_N: the item that followed.
      seen_NxS: items that are not ranked, in any order.
      repeat: mixed with the softmax; None: the softmax alone.
      block_elements: at most this many scores are held by a device at once, but at least those of
        one position.
      items: rows that are items or the unknown one; those after them only pad the table. None: all.
      partition: where positions and rows live.

    Returns:
      int32 ranks: 1 + the number of other ranked items whose score is not below the target's, so
      that ties count against the model; V - 1, the worst, if the target's score is not finite; 0
      for a target that is not ranked, because it is unknown (0, or V and above) or seen.
      float32 NLL in nats under the softmax over all items, including seen ones; NaN for a target
      without a rank, +inf if a score is not finite.
    """
    table = rows_of(table).values
    count = math.prod(table.shape[:2]) if items is None else items

    def ranks(division: Division, columns: Any, rows_RxD: Array) -> tuple[Array, Array]:
        q_GxD, target_G, seen_GxS, *repeat = columns
        score_GxR, candidate_R = _scores(division, q_GxD, rows_RxD, count, *repeat)
        known_G = (target_G > 0) & (target_G < count)
        known_G &= (seen_GxS != target_G[:, None]).all(axis=1)
        at_Gx1 = jnp.where(known_G, target_G, 0)[:, None]
        place_Gx1, here_Gx1 = division.places_of_all(at_Gx1)
        score_Gx1 = jnp.take_along_axis(score_GxR, place_Gx1, 1)
        score_Gx1 = division.over_rows(jax.lax.psum, jnp.where(here_Gx1, score_Gx1, 0))
        # Not `>=`: an item whose score is NaN must count against the model, too.
        rival_GxR = ~(score_GxR < score_Gx1) & candidate_R
        rival_GxR = _without(division, rival_GxR, rows_RxD, at_Gx1, seen_GxS, value=False)
        rank_G = 1 + division.over_rows(jax.lax.psum, rival_GxR.sum(1, dtype=jnp.int32))
        target_score_G = score_Gx1[:, 0]
        rank_G = jnp.where(jnp.isfinite(target_score_G), rank_G, count - 1)
        nll_G = _log_sum_exp(division, score_GxR, candidate_R) - target_score_G
        nll_G = jnp.where(jnp.isfinite(nll_G), nll_G, jnp.inf)
        return jnp.where(known_G, rank_G, 0), jnp.where(known_G, nll_G, jnp.nan)

    columns = (q_NxD, target_N, seen_NxS, *_arrays(repeat))
    return _at_rows(ranks, columns, table, block_elements, partition)


def top_items(
    q_NxD: Float[AnyArray, "N D"],
    table: Float[AnyArray, "V D"] | Float[AnyArray, "Q S D"],
    seen_NxS: Int[AnyArray, "N S"],
    k: int,
    repeat: Mixture | None = None,
    allowed_V: Bool[AnyArray, " V"] | None = None,
    block_elements: int | None = BLOCK_ELEMENTS,
    items: int | None = None,
    partition: Partition = WHOLE,
) -> tuple[Int[Array, "N k"], Float[Array, "N k"]]:
    """The k unseen items with the highest scores, best first; of equal scores, the lower id first.

    Args:
      q_NxD: queries.
      table: one row per item, [V, D] or as a `Table` has them.
      seen_NxS: items to leave out.
      k: length of the lists.
      repeat: as in `rank_targets`; the scores are then log-probabilities.
      allowed_V: which items the lists may contain; None: all.
      block_elements: as in `rank_targets`; None: all scores at once.
      items: as in `rank_targets`.
      partition: as in `rank_targets`.

    Returns:
      int32 ids and float32 scores. Items whose score is NaN are left out; if fewer than k items
      remain, the list is padded with id 0 and score -inf.
    """
    table = rows_of(table).values
    count = math.prod(table.shape[:2]) if items is None else items

    def best(
        division: Division, columns: Any, rows_RxD: Array, allowed: Any
    ) -> tuple[Array, Array]:
        q_GxD, seen_GxS, *repeat = columns
        score_GxR, candidate_R = _scores(division, q_GxD, rows_RxD, count, *repeat)
        for allowed_R in allowed:
            candidate_R &= allowed_R
        score_GxR = jnp.where(candidate_R & ~jnp.isnan(score_GxR), score_GxR, -jnp.inf)
        score_GxR = _without(division, score_GxR, rows_RxD, seen_GxS, value=-jnp.inf)
        score_Gxk, id_Gxk = jax.lax.top_k(score_GxR, min(k, len(rows_RxD)))
        id_Gxk = division.id_at(id_Gxk)
        if division.rows:  # the best of all devices, side by side; of equal ones the lowest ids
            score_Gxk, id_Gxk = (
                jax.lax.all_gather(x, division.rows, axis=1, tiled=True)
                for x in (score_Gxk, id_Gxk)
            )
            minus_Gxk, id_Gxk = jax.lax.sort((-score_Gxk, id_Gxk), num_keys=2)
            score_Gxk, id_Gxk = -minus_Gxk[:, :k], id_Gxk[:, :k]
        id_Gxk = jnp.where(score_Gxk > -jnp.inf, id_Gxk, 0).astype(jnp.int32)
        padding = ((0, 0), (0, k - id_Gxk.shape[1]))
        return jnp.pad(id_Gxk, padding), jnp.pad(score_Gxk, padding, constant_values=-jnp.inf)

    allowed: tuple[Array, ...] = ()
    if allowed_V is not None:
        padding = (0, math.prod(table.shape[:2]) - len(allowed_V))
        allowed = (jnp.pad(allowed_V, padding).reshape(table.shape[:2]),)
    columns = (q_NxD, seen_NxS, *_arrays(repeat))
    return _at_rows(best, columns, table, block_elements, partition, allowed)


def _at_rows(
    function: Any,
    columns: Any,
    table: Array,
    block_elements: int | None,
    partition: Partition,
    *by_row: Any,
) -> Any:
    """Calls `function(division, columns, rows, *by_row)` for some positions after the others."""
    division = Division.of(partition, table, columns[0])

    def local(division: Division, columns: Any, rows_RxD: Array, *by_row: Any) -> Any:
        def chunk(_: None, columns: Any) -> tuple[None, Any]:
            found = function(division, division.gather(columns), rows_RxD, *by_row)
            return None, jax.tree.map(division.own, found)

        sizes = columns[0].shape[0], len(rows_RxD)
        at_once = sizes[0]
        if block_elements is not None:
            at_once = division.positions_at_once(block_elements, *sizes, bounded=True)
        return scan_positions(chunk, None, at_once, *columns)[1]

    of_rows: Any = [("rows", x) for x in (table, *by_row)]
    return division.run(local, ("positions", "positions"), ("positions", columns), *of_rows)


def _arrays(repeat: Mixture | None) -> tuple[AnyArray, ...]:
    return () if repeat is None else (repeat.item, repeat.weight, repeat.explore)


def _without(
    division: Division, x_GxR: Array, rows_RxD: Array, *ids: Array, value: float | bool
) -> Array:
    """The same with `value` at these ids of each position, as far as this device has them."""
    place, here = division.places_of_all(jnp.concatenate(ids, axis=1))
    place = jnp.where(here, place, len(rows_RxD))
    return x_GxR.at[jnp.arange(x_GxR.shape[0])[:, None], place].set(value, mode="drop")


def _log_sum_exp(division: Division, score_GxR: Array, candidate_R: Array) -> Float[Array, " G"]:
    total_G = jax.nn.logsumexp(jnp.where(candidate_R, score_GxR, -jnp.inf), axis=1)
    if not division.rows:
        return total_G
    highest_G = division.over_rows(jax.lax.pmax, total_G)
    finite_G = jnp.where(jnp.isfinite(highest_G), highest_G, 0)
    shares_G = division.over_rows(jax.lax.psum, jnp.exp(total_G - finite_G))
    return jnp.log(shares_G) + finite_G


def _scores(
    division: Division, q_GxD: Array, rows_RxD: Array, items: int, *repeat: Array
) -> tuple[Float[Array, "G R"], Bool[Array, " R"]]:
    """Dot products or, given the three arrays of a `Mixture`, log-probabilities of the mixture.

    Also which rows are items at all.
    """
    id_R = division.id_at(jnp.arange(len(rows_RxD)))
    candidate_R = (id_R > 0) & (id_R < items)
    # At full precision: the reduced precision of accelerators would reorder close items.
    score_GxR = jnp.einsum(
        "gd,rd->gr",
        q_GxD,
        rows_RxD,
        precision=jax.lax.Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )
    if repeat:
        item_GxL, weight_GxL, explore_G = repeat
        place_GxL, here_GxL = division.places_of_all(item_GxL)
        place_GxL = jnp.where(here_GxL, place_GxL, len(rows_RxD))
        row_Gx1 = jnp.arange(q_GxD.shape[0])[:, None]
        repeated_GxR = jnp.zeros_like(score_GxR)
        repeated_GxR = repeated_GxR.at[row_Gx1, place_GxL].add(weight_GxL, mode="drop")
        # In logs, because the probabilities of improbable items would underflow to 0, and tie.
        total_Gx1 = _log_sum_exp(division, score_GxR, candidate_R)[:, None]
        explored_GxR = score_GxR - total_Gx1 + floored_log(explore_G)[:, None]
        known_Gx1 = Mixture(item_GxL, weight_GxL, explore_G).log_known()[:, None]
        score_GxR = jnp.logaddexp(explored_GxR, jnp.log(repeated_GxR)) - known_Gx1
    # Ties must be exact: the compiler must not compute the target's score separately from the
    # scores it is compared with, which could round differently.
    return jax.lax.optimization_barrier(score_GxR), candidate_R
