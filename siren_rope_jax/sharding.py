"""Where arrays live: one mesh, rows of a batch over its `data` axis, parameters on every device."""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from siren_rope_jax.batch import Batch
from siren_rope_jax.errors import UserError


def make_mesh() -> Mesh:
    """All devices of all processes along one axis, `data`."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def by_row(mesh: Mesh) -> NamedSharding:
    """The first axis dealt over `data`."""
    return NamedSharding(mesh, PartitionSpec("data"))


def place_batch(batch: Batch, mesh: Mesh) -> Batch:
    """Puts this process's rows on its devices as its part of the global batch.

    Raises:
      UserError: the rows cannot be dealt evenly to the devices.
    """
    rows = batch.segment.shape[0] * jax.process_count()
    if rows % mesh.size:
        raise UserError(
            f"config.data.batch_size: {rows} rows cannot be dealt evenly to {mesh.size} devices"
        )
    sharding = by_row(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)
