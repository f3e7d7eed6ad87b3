"""How arrays are divided among devices: the axes of a mesh, and one table of rules.

On a mesh a module names the dimensions of its parameters by logical axes, in Flax's boxes, which
`flax.linen.unbox` takes off again; nothing else says where they live. Adam's moments and all other
state follow their parameter.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from flax.linen import linear
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from siren_rope_jax.rotation.layers import Dense

MESH_AXES = ("data", "fsdp", "tensor")
"""Of every mesh. Rows of a batch are divided by `data` and `fsdp`; parameters by `fsdp` (their
width) and `tensor` (their heads and hidden units); tables by their rows, over all devices."""

RULES: Mapping[str, tuple[str, ...]] = {
    "batch": ("data", "fsdp"),
    "rows": ("data", "fsdp", "tensor"),
    "width": ("fsdp",),
    "heads": ("tensor",),
    "hidden": ("tensor",),
}
"""A logical axis and the mesh axes that divide it, in order. No others exist."""

LogicalAxes = tuple[str | None, ...]


def table_shape(rows: int) -> tuple[int, int]:
    """Q and S of a table: with the rows added that fill its S stripes evenly, at most 1 in 16.

    They are a function of the table alone, so that a checkpoint fits every number of devices. As
    many of these as divide S, a power of two that is 1,024 from 16,384 rows on, can divide a table.
    """
    stripes = 1 << max(min(rows // 16, 1024), 1).bit_length() - 1
    return -(-rows // stripes), stripes


@dataclass(frozen=True)
class Partition:
    """Where arrays live on a mesh; without a mesh, every method leaves arrays as they are.

    Attributes:
      mesh: with the axes of `MESH_AXES`.
    """

    mesh: Mesh | None = None

    def axes(self, axis: str, size: int | None = None) -> tuple[str, ...]:
        """The mesh axes that divide a logical axis; those of one device are left out.

        Args:
          axis: its name.
          size: of the dimension. If all axes together cannot divide it evenly, it is divided by the
            longest run of them, from the first, that can. None: it is known to be divisible.
        """
        if self.mesh is None:
            return ()
        axes = tuple(a for a in RULES[axis] if self.mesh.shape.get(a, 1) > 1)
        while size is not None and size % self.size(axes):
            axes = axes[:-1]
        return axes

    def parts(self, axis: str) -> int:
        """Into how many parts a logical axis is divided."""
        return self.size(self.axes(axis))

    def spec(self, names: LogicalAxes, shape: tuple[int, ...] | None = None) -> PartitionSpec:
        """How an array with such dimensions is divided.

        Args:
          names: logical axes of the dimensions.
          shape: of the array, as `axes` uses it.

        Raises:
          ValueError: two dimensions claim the same axis of the mesh.
        """
        dimensions: list[Any] = []
        for n, name in enumerate(names):
            size = None if shape is None else shape[n]
            dimensions.append((self.axes(name, size) or None) if name else None)
        claimed = [axis for axes in dimensions for axis in axes or ()]
        if twice := {axis for axis in claimed if claimed.count(axis) > 1}:
            raise ValueError(f"dimensions {names}: two of them claim the mesh axis {min(twice)}")
        return PartitionSpec(*dimensions)

    def sharding(self, names: LogicalAxes, shape: tuple[int, ...] | None = None) -> Any:
        """The same as a sharding; there must be a mesh."""
        assert self.mesh is not None
        return NamedSharding(self.mesh, self.spec(names, shape))

    def constrain(self, x: Array, *names: str | None) -> Array:
        """The same array, said to be divided so; dimensions that cannot be, are not."""
        if self.mesh is None or self.mesh.size == 1:
            return x
        return jax.lax.with_sharding_constraint(x, self.sharding(names, x.shape))

    @property
    def platform(self) -> str:
        """Of the devices: "cpu", "gpu" or "tpu"; without a mesh, of those that JAX uses."""
        if self.mesh is None:
            return jax.default_backend()
        return str(self.mesh.devices.flat[0].platform)

    def size(self, axes: tuple[str, ...]) -> int:
        """How many devices there are along these axes of the mesh together."""
        return math.prod(self.mesh.shape[a] for a in axes) if self.mesh else 1


WHOLE = Partition()
"""The trivial partition: there is no mesh, and nothing is divided."""


@flax.struct.dataclass
class TableRows(nn.LogicallyPartitioned):
    """The box of a table, which says how many of its rows do not only pad it."""

    count: int = flax.struct.field(pytree_node=False, default=0)

    def unpadded(self) -> tuple[int, ...]:
        """The shape in the order of ids, [V, D], without the rows that pad it."""
        return (self.count, self.value.shape[-1])


def table_init(init: Any, partition: Partition) -> Any:
    """An initialiser of tables [V, D] as [Q, S, D]; the rows that pad them are zero.

    Args:
      init: of all rows [Q, S, D]. They are drawn in this shape, so that each device draws its own.
      partition: where they live.
    """

    def padded(key: Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> Any:
        each, stripes = table_shape(shape[0])
        row_QxS = jnp.arange(each)[:, None] * stripes + jnp.arange(stripes)
        drawn = init(key, (each, stripes, shape[1]), dtype)
        drawn = jnp.where(row_QxS[..., None] < shape[0], drawn, 0)
        if partition.mesh is None:
            return drawn
        return TableRows(drawn, names=(None, "rows", None), count=shape[0])

    return padded


def dense(
    features: int,
    *axes: str | None,
    partition: Partition,
    init: Any = linear.default_kernel_init,
    **options: Any,
) -> Dense:
    """A `Dense` layer whose kernel [in, out] has these logical axes."""
    if partition.mesh is not None:
        init = nn.with_logical_partitioning(init, axes)
    return Dense(features, kernel_init=init, **options)
