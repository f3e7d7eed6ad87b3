"""How the positions of a batch and the rows of a table are divided among devices.

The rows of a table are dealt out in turn: with S stripes, the row of an id is row id // S of stripe
id % S, and every device has some neighbouring stripes. So ids, which are sorted by popularity, ask
every device for about as many rows. Outside of `Division.run` an array by rows is [Q, S, ...], in
the order of ids; inside, a device sees its own as [R, ...], also in the order of their ids.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

from siren_rope_jax.models.partition import Partition

Divided = Literal["positions", "rows", "nothing"]
"""What divides the first dimension of an array (of arrays by rows, the first two)."""


@flax.struct.dataclass
class Rows:
    """A table, or only those of its rows that a step touches.

    Attributes:
      values: the rows. Inside of `Division.run` the first two dimensions are one.
      ids: the id of each row, ascending on every device; the rows after the last have ids that no
        row has. None: all rows are there, in order.
      of: Q and S of the whole table; None: those of `values`.
    """

    values: Float[Array, "*R D"]
    ids: Int[Array, "*R"] | None = None
    of: tuple[int, int] | None = flax.struct.field(pytree_node=False, default=None)

    @property
    def whole_shape(self) -> tuple[int, int]:
        """Q and S of the whole table."""
        return self.of or (self.values.shape[0], self.values.shape[1])

    @property
    def width(self) -> int:
        """D."""
        return self.values.shape[-1]


def by_rows(array: Any) -> Array:
    """An array [V, ...] as [1, V, ...]: its rows are divided into contiguous parts."""
    return jnp.asarray(array)[None]


def rows_of(table: Any) -> Rows:
    """The same as `Rows`, from these, from an array [V, D] or one [Q, S, D]."""
    if isinstance(table, Rows):
        return table
    return Rows(by_rows(table) if jnp.ndim(table) == 2 else jnp.asarray(table))


@dataclass(frozen=True)
class Division:
    """How positions and a table's rows are divided: hashable, so compiled functions depend on it.

    Attributes:
      partition: where the arrays live.
      batch: mesh axes that divide the positions.
      rows: mesh axes that divide the table's rows.
      table: Q and S of the whole table.
    """

    partition: Partition
    batch: tuple[str, ...]
    rows: tuple[str, ...]
    table: tuple[int, int]

    @classmethod
    def of(
        cls, partition: Partition, table: Any, positions: Any, axis: str | None = "rows"
    ) -> "Division":
        """Of a table (`Rows`, or an array [Q, S, ...]) and of what is given for each position."""
        shape = table.whole_shape if isinstance(table, Rows) else table.shape[:2]
        batch = partition.axes("batch", np.shape(positions)[0])
        rows = partition.axes(axis, shape[1]) if axis else ()
        return cls(partition, batch, rows, shape)

    @property
    def gathered(self) -> tuple[str, ...]:
        """Mesh axes that divide both: over them, positions are gathered to meet all rows."""
        return tuple(axis for axis in self.batch if axis in self.rows)

    @property
    def devices(self) -> int:
        """Among how many devices the rows are divided."""
        return self.partition.size(self.rows)

    @property
    def stripes(self) -> int:
        """Of a device."""
        return self.table[1] // self.devices

    def positions_at_once(
        self, block_elements: int, size: int, width: int, *, bounded: bool = False
    ) -> int:
        """How many of a device's positions are a chunk, each of which takes `width` elements.

        So many that the gathered ones take at most `block_elements`. Where nothing is gathered all
        are one chunk, unless it must be `bounded` even then.
        """
        if not self.gathered and not bounded:
            return size
        each = self.partition.size(self.gathered) * max(width, 1)
        return min(max(block_elements // each, 1), size)

    def run(
        self,
        function: Callable[..., Any],
        results: Divided | tuple[Divided, ...],
        *arguments: tuple[Divided, Any],
    ) -> Any:
        """Calls `function(division, *arrays)` with the parts of each device.

        Args:
          function: of the local parts.
          results: what divides each result; not a tuple for a single one.
          arguments: what divides the arrays of a tree, and the tree.
        """
        kinds = tuple(kind for kind, _ in arguments)

        def local(*arrays: Any) -> Any:
            flat = (
                _flat(x) if kind == "rows" else x for kind, x in zip(kinds, arrays, strict=True)
            )
            found = function(self, *flat)
            if isinstance(results, str):
                return self._striped(results, found)
            return tuple(map(self._striped, results, found))

        arrays = tuple(jax.tree.map(jnp.asarray, tree) for _, tree in arguments)
        if self.partition.mesh is None or self.partition.mesh.size == 1:
            return local(*arrays)
        specs = {
            "positions": PartitionSpec(self.batch) if self.batch else PartitionSpec(),
            "rows": PartitionSpec(None, self.rows) if self.rows else PartitionSpec(),
            "nothing": PartitionSpec(),
        }
        mapped = jax.shard_map(
            local,
            mesh=self.partition.mesh,
            in_specs=tuple(specs[kind] for kind in kinds),
            out_specs=specs[results]
            if isinstance(results, str)
            else tuple(specs[kind] for kind in results),
            check_vma=False,
        )
        return mapped(*arrays)

    def _striped(self, kind: Divided, tree: Any) -> Any:
        """Undoes `_flat`, for rows of the whole table; other rows become [1, R, ...]."""
        if kind != "rows":
            return tree
        own = self.table[0] * self.stripes

        def striped(x: Array) -> Array:
            first = self.table[0] if len(x) == own else 1
            return x.reshape(first, len(x) // first, *x.shape[1:])

        return jax.tree.map(striped, tree)

    # Inside of `run`

    def gather(self, x: Any) -> Any:
        """The arrays of the positions of all devices along `gathered`, side by side."""
        if not self.gathered:
            return x
        return jax.tree.map(lambda x: jax.lax.all_gather(x, self.gathered, tiled=True), x)

    def own(self, x: Array) -> Array:
        """This device's part of what was computed for gathered positions."""
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

    def id_at(self, place: Int[Array, "*N"]) -> Int[Array, "*N"]:
        """The ids of this device's rows, by their places in the whole of them."""
        if not self.rows:
            return place
        first = jax.lax.axis_index(self.rows) * self.stripes
        return place // self.stripes * self.table[1] + first + place % self.stripes

    def owner_and_place(self, ids: Int[Array, "*N"]) -> tuple[Int[Array, "*N"], Int[Array, "*N"]]:
        """The device that has a row, and its place there; one beyond all devices if none has."""
        count, stripes = self.table[0], max(self.table[1], 1)  # even of an empty table
        there = (ids >= 0) & (ids < count * stripes)
        owner = ids % stripes // self.stripes
        place = ids // stripes * self.stripes + ids % self.stripes
        return jnp.where(there, owner, self.devices), jnp.where(there, place, 0)

    def places(self, rows: Rows, ids: Int[Array, "*N"]) -> tuple[Array, Array]:
        """Where ids are among this device's part of some rows, and which of them are.

        The place of an id that is not there is 0.
        """
        if rows.ids is None:
            return self.places_of_all(ids)
        place = jnp.minimum(jnp.searchsorted(rows.ids, ids), len(rows.ids) - 1)
        here = rows.ids[place] == ids
        return jnp.where(here, place, 0), here

    def places_of_all(self, ids: Int[Array, "*N"]) -> tuple[Array, Array]:
        """The same among this device's rows of the whole table."""
        owner, place = self.owner_and_place(ids)
        here = owner == (jax.lax.axis_index(self.rows) if self.rows else 0)
        return jnp.where(here, place, 0), here


def _flat(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), tree)


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
