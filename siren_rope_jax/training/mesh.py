"""Where arrays live: one mesh, rows of a batch over its `data` axis, parameters on every device."""

from collections.abc import Iterable, Iterator
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from siren_rope_jax.base.errors import UserError


def make_mesh() -> Mesh:
    """All devices of all processes along one axis, `data`."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def join(where: str) -> None:
    """Joins the processes of a run; before anything else touches JAX.

    Args:
      where: "auto" where JAX knows the cluster, else "HOST:PORT,PROCESSES,INDEX".

    Raises:
      UserError: of another form, or they cannot be joined (JAX says why).
    """
    given: tuple[Any, ...] = ()
    if where != "auto":
        try:
            address, processes, index = where.split(",")
            given = address, int(processes), int(index)
            well_formed = 0 <= given[2] < given[1]
        except ValueError:
            well_formed = False
        if not well_formed:
            raise UserError(
                f"--distributed: {where!r} is neither 'auto' nor HOST:PORT,PROCESSES,INDEX with "
                "an index from 0 to PROCESSES - 1"
            )
    try:
        jax.distributed.initialize(*given)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"--distributed: {where!r}: cannot join: {error}") from error


def is_main() -> bool:
    """Whether this is the process that writes files and talks; every process computes."""
    return jax.process_index() == 0


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def by_row(mesh: Mesh) -> NamedSharding:
    """The first axis dealt over `data`."""
    return NamedSharding(mesh, PartitionSpec("data"))


def place_batch(batch: Any, mesh: Mesh) -> Any:
    """Puts this process's rows on its devices as its part of the global batch."""
    sharding = by_row(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)


def on_host_one_late(dispatched: Iterable[Any]) -> Iterator[Any]:
    """Fetches each result once the next one is under way, so that the device never waits."""
    pending: list[Any] = []
    for result in dispatched:
        yield from map(jax.device_get, pending)
        pending = [result]
    yield from map(jax.device_get, pending)
