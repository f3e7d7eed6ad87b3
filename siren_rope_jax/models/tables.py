"""A table of rows, one per item, that may be divided among devices by its rows.

Three functions of it are all that models and losses need: `lookup`, `log_partition` and
`gathered_scores`. On a mesh, positions go to the rows, not rows to the positions: every device gets
the queries (or ids) of all positions that its rows may serve, a chunk at a time, and the results
are summed over the devices. No device ever holds the whole table or its gradient, which stays where
the rows are and is summed only over devices that hold the same rows.

Letters: N positions, D width, C candidates (rows of the table), M candidates of each position,
K tags of a candidate.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from flax.linen import linear
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from siren_rope_jax.base.arrays import AnyArray
from siren_rope_jax.models import blocked_scores
from siren_rope_jax.models.partition import WHOLE, Partition, table_init

_BLOCK_ELEMENTS = 2**22
"""Elements of a lookup's largest temporary on a divided table."""

TOUCHED = "touched"
"""The collection in which a step that updates only some rows of a table gives a module these."""


@flax.struct.dataclass
class Rows:
    """A table, or only those of its rows that a step touches.

    Attributes:
      values: the rows.
      ids: the id of each row, ascending on every device; the rows after the last have ids that no
        row has. None: all rows are there, in order.
    """

    values: Float[Array, "R D"]
    ids: Int[Array, " R"] | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def width(self) -> int:
        """D."""
        return self.values.shape[1]


def rows_of(table: "AnyArray | Rows") -> Rows:
    """The same as `Rows`."""
    return table if isinstance(table, Rows) else Rows(jnp.asarray(table))


@dataclass(frozen=True)
class Division:
    """What a compiled function depends on.

    Attributes:
      partition: where the arrays live.
      batch: mesh axes that divide the positions.
      rows: mesh axes that divide the table's rows.
      block_elements: bound on the elements of the largest temporary of a device.
    """

    partition: Partition
    batch: tuple[str, ...]
    rows: tuple[str, ...]
    block_elements: int

    @classmethod
    def of(
        cls,
        partition: Partition,
        table: Any,
        positions: Any,
        block_elements: int,
        axis: str = "rows",
    ) -> "Division":
        """Of the first dimensions of a table and of what is given for each position."""
        batch = partition.axes("batch", len(positions))
        return cls(partition, batch, partition.axes(axis, len(table)), block_elements)

    @property
    def gathered(self) -> tuple[str, ...]:
        """Those over which positions must be brought together to meet all rows."""
        return tuple(axis for axis in self.batch if axis in self.rows)

    def positions_at_once(self, size: int, width: int, *, bounded: bool = False) -> int:
        """How many of a device's positions are a chunk, each of which takes `width` elements.

        So many that the gathered ones are within the bound. Where nothing is gathered all are one
        chunk, unless it must be `bounded` even then.
        """
        if not self.gathered and not bounded:
            return size
        each = self.partition.size(self.gathered) * max(width, 1)
        return min(max(self.block_elements // each, 1), size)

    def run(self, function: Callable[..., Any], out: str, *arrays: Any) -> Any:
        """Calls `function(division, *arrays)` with the parts of each device.

        Args:
          function: of the local parts.
          out: a letter for each result, as in `arrays`.
          arrays: pairs of a letter and a tree of arrays, which are divided by positions (n), by
            rows (r), or not at all (s).
        """
        local = partial(function, self)
        arrays = tuple((kind, jax.tree.map(jnp.asarray, array)) for kind, array in arrays)
        if self.partition.mesh is None or self.partition.mesh.size == 1:
            return local(*(array for _, array in arrays))
        axes = {"n": self.batch, "r": self.rows}

        def spec(kind: str, array: Any = 0) -> Any:
            divided = axes.get(kind)
            return jax.tree.map(
                lambda _: PartitionSpec(divided) if divided else PartitionSpec(), array
            )

        mapped = jax.shard_map(
            local,
            mesh=self.partition.mesh,
            in_specs=tuple(spec(kind, array) for kind, array in arrays),
            out_specs=tuple(map(spec, out)) if len(out) > 1 else spec(out),
            check_vma=False,
        )
        return mapped(*(array for _, array in arrays))

    # Inside of `run`

    def gather(self, x: Any) -> Any:
        """The same positions of all devices that must meet these rows, side by side."""
        if not self.gathered:
            return x
        return jax.tree.map(lambda x: jax.lax.all_gather(x, self.gathered, tiled=True), x)

    def own(self, x: Array) -> Array:
        """What belongs to this device's positions, of what is the same on all devices."""
        if not self.gathered:
            return x
        parts = x.reshape(self.partition.size(self.gathered), -1, *x.shape[1:])
        return parts[jax.lax.axis_index(self.gathered)]

    def own_sum(self, x: Array) -> Array:
        """Sums over the devices' rows; returns what belongs to this device's positions."""
        others = tuple(axis for axis in self.rows if axis not in self.gathered)
        x = jax.lax.psum(x, others) if others else x
        if not self.gathered:
            return x
        return jax.lax.psum_scatter(x, self.gathered, scatter_dimension=0, tiled=True)

    def whole_gradient(self, drows: Array) -> Array:
        """Sums the gradient of rows over devices with other positions and the same rows."""
        others = tuple(axis for axis in self.batch if axis not in self.rows)
        return jax.lax.psum(drows, others) if others else drows

    def over_rows(self, reduce: Callable[..., Any], x: Array) -> Array:
        """`reduce`, such as `jax.lax.psum`, over the devices among which the rows are divided."""
        return reduce(x, self.rows) if self.rows else x

    def first_row(self, rows: Any) -> Array | int:
        """The number of this device's first row."""
        return jax.lax.axis_index(self.rows) * len(rows) if self.rows else 0

    def places(self, rows: Any, ids: Array) -> tuple[Array, Array]:
        """Where ids are among this device's rows (0 if they are not), and which of them are.

        Args:
          rows: `Rows`, or an array of all rows.
          ids: any.
        """
        if isinstance(rows, Rows) and rows.ids is not None:
            place = jnp.minimum(jnp.searchsorted(rows.ids, ids), len(rows) - 1)
            here = rows.ids[place] == ids
            return jnp.where(here, place, 0), here
        place = ids - self.first_row(rows)
        here = (place >= 0) & (place < len(rows))
        return jnp.where(here, place, 0), here


def scan_positions(
    step: Callable[..., tuple[Any, Any]], carry: Any, at_once: int, *columns: Array
) -> tuple[Any, Any]:
    """(carry, chunk) -> (carry, results), chunk by chunk of positions, the last one zero-padded."""
    size = columns[0].shape[0]
    if at_once >= size:
        return step(carry, columns)
    chunks = -(-size // at_once)

    def split(x: Array) -> Array:
        padded = jnp.pad(x, [(0, chunks * at_once - size)] + [(0, 0)] * (x.ndim - 1))
        return padded.reshape(chunks, at_once, *x.shape[1:])

    carry, results = jax.lax.scan(step, carry, tuple(map(split, columns)))
    return carry, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:size], results)


class Table(nn.Module):
    """An embedding per id, as Flax's `Embed`, but divided among devices by its rows.

    Attributes:
      rows: ids; the parameter has some more (`padded_rows`), which are zero and stay so.
      width: of an embedding.
      dtype: of the result; the parameter is float32.
      partition: where it lives.
      init: of the rows.
    """

    rows: int
    width: int
    dtype: DTypeLike = jnp.float32
    partition: Partition = WHOLE
    init: Any = linear.default_embed_init

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


def lookup(
    table: Float[AnyArray, "V D"] | Rows, ids: Int[AnyArray, "*S"], partition: Partition, dtype: Any
) -> Float[Array, "*S D"]:
    """The rows of these ids, in `dtype`; an id that no row has gets an arbitrary one."""
    rows, ids = rows_of(table), jnp.asarray(ids)
    division = Division.of(partition, rows, ids.reshape(-1), _BLOCK_ELEMENTS)
    if not division.rows and not division.batch and rows.values.dtype == jnp.float32:
        place = ids if rows.ids is None else division.places(rows, ids)[0]
        return rows.values[place].astype(dtype)
    found = _lookup(division, jnp.dtype(dtype), rows.values, rows.ids, ids.reshape(-1))
    return found.reshape(*ids.shape, -1)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _lookup(
    division: Division, dtype: Any, values_RxD: Array, of_rows: Array | None, id_N: Array
) -> Array:
    def local(division: Division, rows: Rows, id_N: Array) -> Array:
        def chunk(_: Any, columns: tuple[Array, ...]) -> tuple[None, Array]:
            place, here = division.places(rows, division.gather(columns[0]))
            found = jnp.where(here[:, None], rows.values[place], 0).astype(dtype)
            return None, division.own_sum(found)

        at_once = division.positions_at_once(len(id_N), rows.width)
        return scan_positions(chunk, None, at_once, id_N)[1]

    return division.run(local, "n", ("r", Rows(values_RxD, of_rows)), ("n", id_N))


def _lookup_forward(
    division: Division, dtype: Any, values_RxD: Array, of_rows: Array | None, id_N: Array
) -> tuple[Array, Any]:
    saved = values_RxD, of_rows, id_N
    return _lookup(division, dtype, *saved), saved


def _lookup_backward(
    division: Division, dtype: Any, saved: Any, d_NxD: Array
) -> tuple[Array, None, None]:
    def local(division: Division, rows: Rows, id_N: Array, d_NxD: Array) -> Array:
        def chunk(drows_RxD: Array, columns: tuple[Array, ...]) -> tuple[Array, None]:
            id_G, d_GxD = division.gather(columns)
            place, here = division.places(rows, id_G)
            at = jnp.where(here, place, len(rows))
            return drows_RxD.at[at].add(d_GxD.astype(drows_RxD.dtype), mode="drop"), None

        at_once = division.positions_at_once(*d_NxD.shape)
        zeros = jnp.zeros(rows.values.shape, jnp.float32)  # sums of many small numbers
        drows_RxD = scan_positions(chunk, zeros, at_once, id_N, d_NxD)[0]
        return division.whole_gradient(drows_RxD).astype(rows.values.dtype)

    values_RxD, of_rows, id_N = saved
    rows = Rows(values_RxD, of_rows)
    return division.run(local, "r", ("r", rows), ("n", id_N), ("n", d_NxD)), None, None


_lookup.defvjp(_lookup_forward, _lookup_backward)


def log_partition(
    q_NxD: Float[Array, "N D"],
    table_CxD: Float[Array, "C D"],
    bias_C: Float[Array, " C"],
    tags_CxK: Int[Array, "C K"] | None = None,
    excluded_NxK: Int[Array, "N K"] | None = None,
    *,
    block_elements: int,
    partition: Partition = WHOLE,
    candidates: str = "rows",
) -> Float[Array, " N"]:
    """log sum_c exp(q_n . e_c + bias_c) over the candidates c, block by block; float32.

    Args:
      q_NxD: queries.
      table_CxD: rows of the candidates.
      bias_C: added to the scores; -inf leaves a candidate out. A constant: it gets no gradient.
      tags_CxK: properties of each candidate, such as its id.
      excluded_NxK: given with `tags_CxK`: position n leaves out candidate c if, for any k,
        excluded[n, k] = tags[c, k].
      block_elements: bound on the logits of a device's block, which has at least one candidate. The
        gradient needs twice this memory and the table's gradient, however many candidates there
        are.
      partition: where queries and candidates live.
      candidates: the logical axis of the candidates: "rows" of a table, or "batch" if there is one
        for each position.

    Returns:
      -inf for a position without candidates, which gets no gradient.
    """
    division = Division.of(partition, table_CxD, q_NxD, block_elements, candidates)
    scope = (jax.lax.stop_gradient(bias_C), tags_CxK)
    return _log_partition(division, q_NxD, table_CxD, scope, excluded_NxK)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _log_partition(
    division: Division, q_NxD: Array, table_CxD: Array, scope: Any, excluded_NxK: Array | None
) -> Array:
    return _log_partition_forward(division, q_NxD, table_CxD, scope, excluded_NxK)[0]


def _log_partition_forward(
    division: Division, q_NxD: Array, table_CxD: Array, scope: Any, excluded_NxK: Array | None
) -> tuple[Array, Any]:
    def local(division: Division, q_NxD: Array, excluded: Any, rows_CxD: Array, scope: Any) -> Any:
        def chunk(_: Any, columns: tuple[Array, ...]) -> tuple[None, Any]:
            q_GxD, *excluded = division.gather(columns)
            limits = blocked_scores.Limits(*scope, *excluded)
            peak, total = blocked_scores.peak_and_sum(
                division.block_elements, q_GxD, rows_CxD, limits
            )
            highest = division.over_rows(jax.lax.pmax, peak)
            if division.rows:
                total = division.over_rows(jax.lax.psum, total * jnp.exp(peak - highest))
            return None, (division.own(highest), division.own(total))

        limits = blocked_scores.Limits(*scope, *excluded)
        if not division.rows and blocked_scores.is_one_block(
            division.block_elements, q_NxD, rows_CxD
        ):
            # Its exponentials fit in the budget, and keeping them saves a second pass.
            peak_N, sum_N, exp_NxC = blocked_scores.exponentials(q_NxD, rows_CxD, limits)
            return peak_N, sum_N, (exp_NxC,)
        at_once = division.positions_at_once(*q_NxD.shape)
        return *scan_positions(chunk, None, at_once, q_NxD, *excluded)[1], ()

    excluded = () if excluded_NxK is None else (excluded_NxK,)
    arrays = ("n", q_NxD), ("n", excluded), ("r", table_CxD), ("r", scope)
    peak_N, sum_N, kept = division.run(local, "nnn", *arrays)
    saved = q_NxD, table_CxD, scope, excluded, peak_N, sum_N, kept
    return peak_N + jnp.log(sum_N), saved


def _log_partition_backward(division: Division, saved: Any, gradient_N: Array) -> tuple[Any, ...]:
    def local(
        division: Division, by_position: Any, excluded: Any, kept: Any, rows_CxD: Array, scope: Any
    ) -> Any:
        q_NxD, _, weight_N = by_position

        def chunk(drows_CxD: Array, columns: tuple[Array, ...]) -> tuple[Array, Any]:
            q_GxD, peak_G, weight_G, *excluded = division.gather(columns)
            limits = blocked_scores.Limits(*scope, *excluded)
            scaled_GxD = (q_GxD * weight_G[:, None]).astype(q_GxD.dtype)
            dq_GxD, drows_CxD = blocked_scores.add_gradients(
                division.block_elements, q_GxD, scaled_GxD, peak_G, rows_CxD, limits, drows_CxD
            )
            return drows_CxD, division.own_sum(dq_GxD)

        if kept:
            scaled_NxD = (q_NxD * weight_N[:, None]).astype(q_NxD.dtype)
            dq_NxD, drows_CxD = blocked_scores.products(kept[0], rows_CxD, scaled_NxD)
        else:
            zeros = jnp.zeros(rows_CxD.shape, jnp.float32)
            at_once = division.positions_at_once(*q_NxD.shape)
            drows_CxD, dq_NxD = scan_positions(chunk, zeros, at_once, *by_position, *excluded)
        dq_NxD = (dq_NxD * weight_N[:, None]).astype(q_NxD.dtype)
        return dq_NxD, division.whole_gradient(drows_CxD).astype(rows_CxD.dtype)

    q_NxD, table_CxD, scope, excluded, peak_N, sum_N, kept = saved
    # The softmax is exp / sum; dividing here takes N divisions instead of N x C.
    weight_N = jnp.where(sum_N > 0, gradient_N / sum_N, 0)
    by_position = (q_NxD, peak_N, weight_N)
    arrays = ("n", by_position), ("n", excluded), ("n", kept), ("r", table_CxD), ("r", scope)
    dq_NxD, dtable_CxD = division.run(local, "nr", *arrays)
    return dq_NxD, dtable_CxD, None, None


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
    division = Division.of(partition, rows, q_NxD, block_elements)
    return _gathered_scores(division, q_NxD, rows.values, rows.ids, id_NxM)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gathered_scores(
    division: Division, q_NxD: Array, values_RxD: Array, of_rows: Array | None, id_NxM: Array
) -> Array:
    def local(division: Division, q_NxD: Array, id_NxM: Array, rows: Rows) -> Array:
        def chunk(_: Any, columns: tuple[Array, ...]) -> tuple[None, Array]:
            q_GxD, id_GxM = division.gather(columns)
            place, here = division.places(rows, id_GxM)
            scores = blocked_scores.gathered(division.block_elements, q_GxD, rows.values, place)
            return None, division.own_sum(jnp.where(here, scores, 0))

        at_once = division.positions_at_once(*q_NxD.shape)
        return scan_positions(chunk, None, at_once, q_NxD, id_NxM)[1]

    rows = Rows(values_RxD, of_rows)
    return division.run(local, "n", ("n", q_NxD), ("n", id_NxM), ("r", rows))


def _gathered_scores_forward(division: Division, *arguments: Any) -> tuple[Array, Any]:
    return _gathered_scores(division, *arguments), arguments


def _gathered_scores_backward(
    division: Division, saved: Any, gradient_NxM: Array
) -> tuple[Array, Array, None, None]:
    def local(division: Division, by_position: Any, rows: Rows) -> tuple[Array, Array]:
        def chunk(drows_RxD: Array, columns: tuple[Array, ...]) -> tuple[Array, Array]:
            q_GxD, id_GxM, gradient_GxM = division.gather(columns)
            place, here = division.places(rows, id_GxM)
            gradient_GxM = jnp.where(here, gradient_GxM, 0)
            dq_GxD, drows_RxD = blocked_scores.add_gathered_gradients(
                division.block_elements, q_GxD, rows.values, place, gradient_GxM, drows_RxD
            )
            return drows_RxD, division.own_sum(dq_GxD)

        q_NxD, zeros = by_position[0], jnp.zeros(rows.values.shape, jnp.float32)
        at_once = division.positions_at_once(*q_NxD.shape)
        drows_RxD, dq_NxD = scan_positions(chunk, zeros, at_once, *by_position)
        drows_RxD = division.whole_gradient(drows_RxD)
        return dq_NxD.astype(q_NxD.dtype), drows_RxD.astype(rows.values.dtype)

    q_NxD, values_RxD, of_rows, id_NxM = saved
    by_position = ("n", (q_NxD, id_NxM, gradient_NxM))
    return *division.run(local, "nr", by_position, ("r", Rows(values_RxD, of_rows))), None, None


_gathered_scores.defvjp(_gathered_scores_forward, _gathered_scores_backward)
