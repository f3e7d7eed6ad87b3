"""Where arrays live: one mesh, its axes, and one table of rules for parameters."""

import fnmatch
import math
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from siren_rope_jax.base.errors import UserError

BATCH_AXES = ("data",)
"""The mesh axes that divide the rows of a batch."""
PARAMETER_RULES: tuple[tuple[str, PartitionSpec], ...] = ()
"""A glob of parameters' paths, such as "items/embedding", and the mesh axes that divide their
dimensions. The first rule that fits counts, less the axes that a mesh lacks; all other parameters
are on every device. The optimiser's state follows the parameters."""

_PATIENCE = 60  # seconds to wait for the other processes of a run


def make_mesh() -> Mesh:
    """All devices of all processes along one axis, `data`.

    Raises:
      UserError: JAX finds no devices of the platforms in JAX_PLATFORMS.
    """
    try:
        devices = jax.device_count()
    except (RuntimeError, AssertionError) as error:  # JAX asserts that there is some platform
        asked = os.environ.get("JAX_PLATFORMS", "")
        why = str(error) or "JAX finds no such devices"
        raise UserError(
            "JAX_PLATFORMS", f"is {asked!r}: {why}; set it to cpu, or to what this machine has"
        ) from error
    return jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,))


def join(where: str) -> None:
    """Joins the processes of a run; must come before anything else touches JAX.

    After a minute without the others the process ends with one line and status 2, for JAX would
    abort it with a trace of its own.

    Args:
      where: "auto" where JAX knows the cluster, else "HOST:PORT,PROCESSES,INDEX".

    Raises:
      UserError: `where` is something else, or the processes cannot be joined (JAX says why).
    """
    given: dict[str, Any] = {}
    if where != "auto":
        parts = re.fullmatch(r"([^,]+),(\d+),(\d+)", where)
        processes, index = (int(parts[2]), int(parts[3])) if parts else (0, 0)
        if not parts or index >= processes:
            form = "HOST:PORT,PROCESSES,INDEX with an index from 0 to PROCESSES - 1"
            raise UserError("--distributed", f"{where!r} is neither 'auto' nor {form}")
        given = {"coordinator_address": parts[1], "num_processes": processes, "process_id": index}
    last = threading.Timer(_PATIENCE, _end_alone, [where])
    last.daemon = True
    last.start()
    try:
        jax.distributed.initialize(**given, initialization_timeout=2 * _PATIENCE)
    except (ValueError, RuntimeError) as error:
        raise UserError("--distributed", f"{where!r}: cannot join: {error}") from error
    finally:
        last.cancel()


def _end_alone(where: str) -> None:
    """Ends this process from another thread while the main one waits in JAX."""
    why = (
        f"{where!r}: not all processes came within {_PATIENCE} seconds; start all of them at about "
        "the same time, each with the address of process 0, which the others must be able to reach"
    )
    print(f"error: {UserError('--distributed', why)}", file=sys.stderr, flush=True)
    os._exit(2)


def is_main() -> bool:
    """Whether this is the process that writes files and prints; every process computes."""
    return jax.process_index() == 0


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def by_row(mesh: Mesh) -> NamedSharding:
    """The rows of an array, its first dimension, divided by `BATCH_AXES`."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def batch_parts(mesh: Mesh) -> int:
    """Into how many parts the rows of a batch are divided."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def parameter_shardings(tree: Any, mesh: Mesh) -> Any:
    """Where parameters live, and the optimiser's state, whose paths end like the parameters'.

    Raises:
      UserError: a dimension cannot be divided evenly.
    """

    def sharding(path: Any, x: Any) -> NamedSharding:
        fitting = (spec for glob, spec in PARAMETER_RULES if fits(path, glob))
        axes = [axis if axis in mesh.shape else None for axis in next(fitting, ())]
        for size, axis in zip(x.shape, axes, strict=False):
            if axis and size % mesh.shape[axis]:
                about = f"{size} cannot be divided evenly by {axis} = {mesh.shape[axis]}"
                raise UserError(path_name(path), about)
        return NamedSharding(mesh, PartitionSpec(*axes))

    return jax.tree_util.tree_map_with_path(sharding, tree)


def path_name(path: Any) -> str:
    """A parameter's path as text: "encoding/time/gate"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def fits(path: Any, glob: str) -> bool:
    """Whether a parameter's path, or its end from some name on, fits a glob."""
    return fnmatch.fnmatchcase(f"/{path_name(path)}", f"*/{glob}")


def place_batch(batch: Any, mesh: Mesh) -> Any:
    """Puts this process's rows on its devices, as its part of the global batch."""
    sharding = by_row(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)


def fetch_one_behind(dispatched: Iterable[Any]) -> Iterator[Any]:
    """Fetches each result after the next one was dispatched, so that the device never waits."""
    pending: list[Any] = []
    for result in dispatched:
        yield from map(jax.device_get, pending)
        pending = [result]
    yield from map(jax.device_get, pending)
