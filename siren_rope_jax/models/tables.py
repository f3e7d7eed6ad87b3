"""A table of rows, one per item, that may be divided among devices by its rows.

Three functions of it are all that models and losses need: `lookup`, `log_partition` and
`gathered_scores`. On a mesh no device ever holds the whole table or its gradient, which stays where
the rows are and is summed only over devices that hold the same rows. A lookup asks for the rows
(`exchange.py`). The other two bring positions to the rows: every device gets the queries of all
positions, a chunk at a time, and the results are summed over the devices.

Letters: N positions, D width, C candidates (rows of the table), M candidates of each position,
K tags of a candidate; a whole table is [Q, S, D], a device's part of it [R, D] (`division.py`).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from siren_rope_jax.base.arrays import AnyArray
from siren_rope_jax.models import blocked_scores
from siren_rope_jax.models.division import Division, Rows, by_rows, rows_of, scan_positions
from siren_rope_jax.models.exchange import route
from siren_rope_jax.models.partition import WHOLE, Partition, table_init

TOUCHED = "touched"
"""The collection in which a step that updates only some rows of a table gives a module these."""


def _unit_variance(key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Rows whose squares sum to 1 on average, as those of Flax's `Embed`."""
    return jax.random.normal(key, shape, dtype) * jnp.sqrt(jnp.asarray(1 / shape[-1], dtype))


class Table(nn.Module):
    """An embedding per id, as Flax's `Embed`, but divided among devices by its rows.

    Its parameter is [Q, S, D]; reshaped to [-1, D], it has the embeddings in the order of ids.

    Attributes:
      rows: ids; the parameter has some more (`table_shape`), which are zero and stay so.
      width: of an embedding.
      dtype: of the result; the parameter is float32.
      partition: where it lives.
      init: of the rows [Q, S, D].
    """

    rows: int
    width: int
    dtype: DTypeLike = jnp.float32
    partition: Partition = WHOLE
    init: Any = _unit_variance

    @nn.compact
    def content(self) -> Rows:
        """All rows, or those in the collection `TOUCHED` if a step gives them there."""
        if self.has_variable(TOUCHED, "rows"):
            return self.get_variable(TOUCHED, "rows")
        return Rows(
            self.param("embedding", table_init(self.init, self.partition), (self.rows, self.width))
        )

    def __call__(self, ids: Int[AnyArray, "*S"]) -> Float[Array, "*S D"]:
        """The embeddings of ids."""
        return lookup(self.content(), ids, self.partition, self.dtype)


def embedding_of(
    table: Callable[[Array], Array], ids: Int[AnyArray, "..."], is_list: bool
) -> Float[Array, "... D"]:
    """The embedding of what an event has of a categorical feature.

    Args:
      table: id -> embedding.
      ids: of a value each or, if `is_list`, lists of ids [..., K]. Of a list, the mean embedding of
        the ids above 0 counts, or that of id 0 if there are none.
      is_list: whether the last axis holds a list.
    """
    ids = jnp.asarray(ids)
    if not is_list:
        return table(ids)
    known = ids > 0
    none = ~known.any(axis=-1, keepdims=True)
    counted = known | (none & (jnp.arange(ids.shape[-1]) == 0))
    x = table(ids)
    weight = counted / counted.sum(axis=-1, keepdims=True)
    return (x * weight[..., None].astype(x.dtype)).sum(axis=-2)


def lookup(
    table: Float[AnyArray, "V D"] | Rows, ids: Int[AnyArray, "*S"], partition: Partition, dtype: Any
) -> Float[Array, "*S D"]:
    """The rows of these ids, in `dtype`; an id that no row has gets an arbitrary one."""
    rows, ids = rows_of(table), jnp.asarray(ids)
    division = Division.of(partition, rows, ids.reshape(-1))
    if not division.rows and not division.batch and rows.values.dtype == jnp.float32:
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows)
        return flat.values[division.places(flat, ids)[0]].astype(dtype)
    return _lookup(division, jnp.dtype(dtype), rows, ids.reshape(-1)).reshape(*ids.shape, -1)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _lookup(division: Division, dtype: Any, rows: Rows, id_N: Array) -> Array:
    def local(division: Division, rows: Rows, id_N: Array) -> Array:
        if division.rows:
            return route(division, id_N).fetch(rows, dtype)
        place, here = division.places(rows, id_N)
        return jnp.where(here[:, None], rows.values[place], 0).astype(dtype)

    return division.run(local, "positions", ("rows", rows), ("positions", id_N))


def _lookup_forward(
    division: Division, dtype: Any, rows: Rows, id_N: Array
) -> tuple[Array, tuple[Rows, Array]]:
    return _lookup(division, dtype, rows, id_N), (rows, id_N)


def _lookup_backward(
    division: Division, dtype: Any, saved: tuple[Rows, Array], d_NxD: Array
) -> tuple[Any, None]:
    def local(division: Division, rows: Rows, id_N: Array, d_NxD: Array) -> Array:
        drows_RxD = jnp.zeros(rows.values.shape, jnp.float32)  # sums of many small numbers
        if division.rows:
            drows_RxD = route(division, id_N).add(rows, d_NxD, drows_RxD)
        else:
            place, here = division.places(rows, id_N)
            at = jnp.where(here, place, len(drows_RxD))
            drows_RxD = drows_RxD.at[at].add(d_NxD.astype(jnp.float32), mode="drop")
        return division.whole_gradient(drows_RxD).astype(rows.values.dtype)

    rows, id_N = saved
    arguments: Any = ("rows", rows), ("positions", id_N), ("positions", d_NxD)
    return replace(rows, values=division.run(local, "rows", *arguments), ids=None), None


_lookup.defvjp(_lookup_forward, _lookup_backward)


def log_partition(
    q_NxD: Float[Array, "N D"],
    table: Float[Array, "*C D"],
    bias: Float[Array, "*C"],
    tags: Int[Array, "*C K"] | None = None,
    excluded_NxK: Int[Array, "N K"] | None = None,
    *,
    block_elements: int,
    partition: Partition = WHOLE,
    candidates: Literal["rows", "batch"] | None = "rows",
) -> Float[Array, " N"]:
    """log sum_c exp(q_n . e_c + bias_c) over the candidates c, block by block; float32.

    Args:
      q_NxD: queries.
      table: rows of the candidates, [C, D] or, of a whole table, [Q, S, D]; then so are bias and
        tags.
      bias: added to the scores; -inf leaves a candidate out. A constant: it gets no gradient.
      tags: properties of each candidate, such as its id.
      excluded_NxK: given with `tags`: position n leaves out candidate c if, for any k,
        excluded[n, k] = tags[c, k].
      block_elements: bound on the logits of a device's block, which has at least one candidate. The
        gradient needs twice this memory and the table's gradient, however many candidates there
        are.
      partition: where queries and candidates live.
      candidates: the logical axis of the candidates: "rows" of a table, "batch" if there is one for
        each position, None if they are whole on every device.

    Returns:
      -inf for a position without candidates, which gets no gradient.
    """
    scope = (jax.lax.stop_gradient(bias), tags)
    if table.ndim == 2:
        table, scope = jax.tree.map(by_rows, (table, scope))
    division = Division.of(partition, table, q_NxD, candidates)
    return _log_partition(division, block_elements, q_NxD, table, scope, excluded_NxK)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _log_partition(
    division: Division,
    block_elements: int,
    q_NxD: Array,
    table: Array,
    scope: Any,
    excluded_NxK: Array | None,
) -> Array:
    return _log_partition_forward(division, block_elements, q_NxD, table, scope, excluded_NxK)[0]


def _log_partition_forward(
    division: Division,
    block_elements: int,
    q_NxD: Array,
    table: Array,
    scope: Any,
    excluded_NxK: Array | None,
) -> tuple[Array, Any]:
    def local(division: Division, q_NxD: Array, excluded: Any, rows_CxD: Array, scope: Any) -> Any:
        def chunk(_: Any, columns: tuple[Array, ...]) -> tuple[None, Any]:
            q_GxD, *excluded = division.gather(columns)
            limits = blocked_scores.Limits(*scope, *excluded)
            peak, total = blocked_scores.peak_and_sum(block_elements, q_GxD, rows_CxD, limits)
            highest = division.over_rows(jax.lax.pmax, peak)
            if division.rows:
                total = division.over_rows(jax.lax.psum, total * jnp.exp(peak - highest))
            return None, (division.own(highest), division.own(total))

        limits = blocked_scores.Limits(*scope, *excluded)
        if not division.rows and blocked_scores.is_one_block(block_elements, q_NxD, rows_CxD):
            # Its exponentials fit in the budget, and keeping them saves a second pass.
            peak_N, sum_N, exp_NxC = blocked_scores.exponentials(q_NxD, rows_CxD, limits)
            return peak_N, sum_N, (exp_NxC,)
        at_once = division.positions_at_once(block_elements, *q_NxD.shape)
        return *scan_positions(chunk, None, at_once, q_NxD, *excluded)[1], ()

    excluded = () if excluded_NxK is None else (excluded_NxK,)
    peak_N, sum_N, kept = division.run(
        local,
        ("positions", "positions", "positions"),
        ("positions", q_NxD),
        ("positions", excluded),
        ("rows", table),
        ("rows", scope),
    )
    saved = q_NxD, table, scope, excluded, peak_N, sum_N, kept
    return peak_N + jnp.log(sum_N), saved


def _log_partition_backward(
    division: Division, block_elements: int, saved: Any, gradient_N: Array
) -> tuple[Any, ...]:
    def local(
        division: Division, by_position: Any, excluded: Any, kept: Any, rows_CxD: Array, scope: Any
    ) -> Any:
        q_NxD, _, weight_N = by_position

        def chunk(drows_CxD: Array, columns: tuple[Array, ...]) -> tuple[Array, Any]:
            q_GxD, peak_G, weight_G, *excluded = division.gather(columns)
            limits = blocked_scores.Limits(*scope, *excluded)
            scaled_GxD = (q_GxD * weight_G[:, None]).astype(q_GxD.dtype)
            dq_GxD, drows_CxD = blocked_scores.add_gradients(
                block_elements, q_GxD, scaled_GxD, peak_G, rows_CxD, limits, drows_CxD
            )
            return drows_CxD, division.own_sum(dq_GxD)

        if kept:
            scaled_NxD = (q_NxD * weight_N[:, None]).astype(q_NxD.dtype)
            dq_NxD, drows_CxD = blocked_scores.products(kept[0], rows_CxD, scaled_NxD)
        else:
            zeros = jnp.zeros(rows_CxD.shape, jnp.float32)
            at_once = division.positions_at_once(block_elements, *q_NxD.shape)
            drows_CxD, dq_NxD = scan_positions(chunk, zeros, at_once, *by_position, *excluded)
        dq_NxD = (dq_NxD * weight_N[:, None]).astype(q_NxD.dtype)
        return dq_NxD, division.whole_gradient(drows_CxD).astype(rows_CxD.dtype)

    q_NxD, table, scope, excluded, peak_N, sum_N, kept = saved
    # The softmax is exp / sum; dividing here takes N divisions instead of N x C.
    weight_N = jnp.where(sum_N > 0, gradient_N / sum_N, 0)
    dq_NxD, dtable = division.run(
        local,
        ("positions", "rows"),
        ("positions", (q_NxD, peak_N, weight_N)),
        ("positions", excluded),
        ("positions", kept),
        ("rows", table),
        ("rows", scope),
    )
    return dq_NxD, dtable, None, None


_log_partition.defvjp(_log_partition_forward, _log_partition_backward)


def gathered_scores(
    q_NxD: Float[Array, "N D"],
    table: Float[Array, "V D"] | Rows,
    id_NxM: Int[Array, "N M"],
    block_elements: int,
    partition: Partition = WHOLE,
) -> Float[Array, "N M"]:
    """Scores of each position's own candidates, float32, without gathering all N x M rows at once.

    On a divided table every device looks for all candidates of all positions among its rows, which
    costs as much as there are devices: candidates that positions share are far cheaper there.

    Args:
      q_NxD: queries.
      table: one row per item.
      id_NxM: each position's candidates.
      block_elements: bound on the elements that a device gathers at once, at least a position's.
      partition: where queries and rows live.
    """
    rows = rows_of(table)
    division = Division.of(partition, rows, q_NxD)
    return _gathered_scores(division, block_elements, q_NxD, rows, id_NxM)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _gathered_scores(
    division: Division, block_elements: int, q_NxD: Array, rows: Rows, id_NxM: Array
) -> Array:
    def local(division: Division, q_NxD: Array, id_NxM: Array, rows: Rows) -> Array:
        def chunk(_: Any, columns: tuple[Array, ...]) -> tuple[None, Array]:
            q_GxD, id_GxM = division.gather(columns)
            place, here = division.places(rows, id_GxM)
            scores = blocked_scores.gathered(block_elements, q_GxD, rows.values, place)
            return None, division.own_sum(jnp.where(here, scores, 0))

        at_once = division.positions_at_once(block_elements, *q_NxD.shape)
        return scan_positions(chunk, None, at_once, q_NxD, id_NxM)[1]

    arguments: Any = ("positions", q_NxD), ("positions", id_NxM), ("rows", rows)
    return division.run(local, "positions", *arguments)


def _gathered_scores_forward(
    division: Division, block_elements: int, *arguments: Any
) -> tuple[Array, Any]:
    return _gathered_scores(division, block_elements, *arguments), arguments


def _gathered_scores_backward(
    division: Division, block_elements: int, saved: Any, gradient_NxM: Array
) -> tuple[Array, Rows, None]:
    def local(division: Division, by_position: Any, rows: Rows) -> tuple[Array, Array]:
        def chunk(drows_RxD: Array, columns: tuple[Array, ...]) -> tuple[Array, Array]:
            q_GxD, id_GxM, gradient_GxM = division.gather(columns)
            place, here = division.places(rows, id_GxM)
            gradient_GxM = jnp.where(here, gradient_GxM, 0)
            dq_GxD, drows_RxD = blocked_scores.add_gathered_gradients(
                block_elements, q_GxD, rows.values, place, gradient_GxM, drows_RxD
            )
            return drows_RxD, division.own_sum(dq_GxD)

        q_NxD, zeros = by_position[0], jnp.zeros(rows.values.shape, jnp.float32)
        at_once = division.positions_at_once(block_elements, *q_NxD.shape)
        drows_RxD, dq_NxD = scan_positions(chunk, zeros, at_once, *by_position)
        drows_RxD = division.whole_gradient(drows_RxD)
        return dq_NxD.astype(q_NxD.dtype), drows_RxD.astype(rows.values.dtype)

    q_NxD, rows, id_NxM = saved
    arguments: Any = ("positions", (q_NxD, id_NxM, gradient_NxM)), ("rows", rows)
    dq_NxD, drows = division.run(local, ("positions", "rows"), *arguments)
    return dq_NxD, replace(rows, values=drows, ids=None), None


_gathered_scores.defvjp(_gathered_scores_forward, _gathered_scores_backward)
