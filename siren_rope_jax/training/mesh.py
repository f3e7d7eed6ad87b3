"""The devices of a run: one mesh, what each process reads, and where parameters live."""

import fnmatch
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from siren_rope_jax.base.errors import UserError, check
from siren_rope_jax.models.partition import MESH_AXES, Partition


@dataclass(frozen=True)
class MeshConfig:
    """The shape of the mesh: how many devices along each of its axes (`models/partition.py`).

    It changes where a run is computed, not what: a run may go on with another mesh.

    Attributes:
      data: parts of a batch, each with all parameters but the tables; -1: all that remain.
      fsdp: parts of a batch that divide the parameters of the layers among them.
      tensor: parts of every layer: of its heads and hidden units.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1

    def __post_init__(self) -> None:
        check(self.data >= 1 or self.data == -1, "data", "at least 1, or -1 for all that remain")
        check(self.fsdp >= 1, "fsdp", "at least 1")
        check(self.tensor >= 1, "tensor", "at least 1")


def make_mesh(config: MeshConfig | None = None, devices: Sequence[Any] | None = None) -> Mesh:
    """The mesh of a run.

    Args:
      config: its shape; None: all devices along `data`.
      devices: those of a topology that need not be there; None: all devices of all processes.

    Raises:
      UserError: JAX finds no devices of the platforms in JAX_PLATFORMS; or they cannot be arranged
        in this shape.
    """
    config = config or MeshConfig()
    try:
        count = jax.device_count() if devices is None else len(devices)
    except (RuntimeError, AssertionError) as error:  # JAX asserts that there is some platform
        asked = os.environ.get("JAX_PLATFORMS", "")
        why = str(error) or "JAX finds no such devices"
        raise UserError(
            "JAX_PLATFORMS", f"is {asked!r}: {why}; set it to cpu, or to what this machine has"
        ) from error
    others = config.fsdp * config.tensor
    data = count // others if config.data == -1 else config.data
    if data * others != count:
        asked = f"data x fsdp x tensor = {config.data} x {config.fsdp} x {config.tensor}"
        raise UserError("config.mesh", f"{asked} does not make the {count} devices that there are")
    shape = (data, config.fsdp, config.tensor)
    types = (AxisType.Auto,) * len(shape)
    return jax.make_mesh(shape, MESH_AXES, axis_types=types, devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def by_row(mesh: Mesh) -> NamedSharding:
    """The rows of an array, its first dimension, divided among the parts of a batch."""
    return Partition(mesh).sharding(("batch",))


def batch_parts(mesh: Mesh) -> int:
    """Into how many parts the rows of a batch are divided."""
    return Partition(mesh).parts("batch")


def held_parts(mesh: Mesh) -> tuple[int, ...]:
    """Which of the parts of a batch this process's devices hold, and so which it must read.

    Several processes hold the same ones where `tensor` spans them.
    """
    parts = batch_parts(mesh)
    where: Any = by_row(mesh).addressable_devices_indices_map((parts,))
    return tuple(sorted({n for (rows,) in where.values() for n in range(*rows.indices(parts))}))


def parameter_shardings(boxed: Any, mesh: Mesh) -> Any:
    """Where parameters live, from what a module's `init` returns: a tree without boxes."""

    def sharding(x: Any) -> NamedSharding:
        is_boxed = isinstance(x, nn.Partitioned)
        names = x.names if is_boxed else ()
        return Partition(mesh).sharding(names, (x.value if is_boxed else x).shape)

    return jax.tree.map(sharding, boxed, is_leaf=lambda x: isinstance(x, nn.Partitioned))


def state_shardings(state: Any, params: Any, mesh: Mesh) -> Any:
    """Where an optimiser's state lives: as the parameter whose path its path contains.

    Args:
      state: of shapes.
      params: specs of the parameters, with their shardings.
      mesh: the devices.
    """
    specs = {path_name(path): x for path, x in jax.tree_util.tree_leaves_with_path(params)}
    longest_first = sorted(specs, key=len, reverse=True)

    def sharding(path: Any, x: Any) -> NamedSharding:
        within = f"/{path_name(path)}/"
        spec = next((specs[name] for name in longest_first if f"/{name}/" in within), None)
        if spec is not None and spec.shape[: x.ndim] == x.shape:
            return NamedSharding(mesh, PartitionSpec(*spec.sharding.spec[: x.ndim]))
        return replicated(mesh)

    return jax.tree_util.tree_map_with_path(sharding, state)


def path_name(path: Any) -> str:
    """A parameter's path as text: "encoding/time/gate"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def fits(path: Any, glob: str) -> bool:
    """Whether a glob fits a parameter's path, or what follows some name in it."""
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
