"""Runs that an earlier version of this package trained: they can be used, not continued.

Version 0.4 nested the parameters of gates and of a map's second copy, renamed `task` to `kind` in
configs, and dropped some keys. Version 0.6 padded tables, and version 0.7 dealt out their rows.
Version 0.9 takes some ids for unknown.
"""

import math
import re
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.version import __version__

_DROPPED: dict[str, dict[str, Any]] = {
    "model": {
        "final_network": True,
        "head_time_features": ["day", "week"],
        "softmax_scale": None,
        "residual_scale": 1.0,
    },
    "gate": {"per_layer": False, "per_head": False},
    "network": {"order": False, "angles": None, "siren_layers": 2, "dnn_layers": 2},
}
"""Keys of version 0.3, and the only values with which a model is still the same."""


def present_config(config: dict[str, Any], version: str, where: str) -> dict[str, Any]:
    """A config.json as the present version writes it.

    Args:
      config: as `version` wrote it.
      version: of this package.
      where: the file, for messages.

    Raises:
      UserError: about a key that no longer exists and was not left at its default.
    """
    if _is_before(version, 0, 9):
        config = config | {"model": {"unknown_rate": 0.0} | config["model"]}
    if not _is_before(version, 0, 4):
        return config

    def without_dropped(values: Any, group: str) -> Any:
        if not isinstance(values, dict):
            return values
        dropped = _DROPPED.get(group, {})
        for key, default in dropped.items():
            if values.get(key, default) != default:
                gone = f"{group}.{key} = {values[key]!r} does not exist in {__version__}"
                raise UserError(where, gone)
        kept = {key: value for key, value in values.items() if key not in dropped}
        return {key: without_dropped(value, key) for key, value in kept.items()}

    present = without_dropped(config, "")
    sources = present["model"]["encoding"]
    for name, source in sources.items():  # which listed the maps that they did not have
        sources[name] = {key: value for key, value in source.items() if value is not None}
    return present | {"kind": present.pop("task", "ranking")}


def written_params(specs: Any, unpadded: Any, version: str) -> Any:
    """The specs of the parameters as `version` wrote them.

    Args:
      specs: as the present version writes them.
      unpadded: the same with tables [V, D] that nothing pads.
      version: of this package.
    """
    if not _is_before(version, 0, 7):
        return specs
    if not _is_before(version, 0, 6):
        return jax.tree.map(_in_order_of_ids, specs, unpadded)
    if not _is_before(version, 0, 4):
        return unpadded
    written = {}
    for path, spec in flatten_dict(unpadded).items():
        shape = (1, 1, *(spec.shape or (1,))) if path[-1] == "gate" else spec.shape
        older = jax.ShapeDtypeStruct(shape, spec.dtype, sharding=spec.sharding)
        written[path_before_0_4(path)] = older
    return unflatten_dict(written)


def present_params(written: Any, specs: Any, version: str) -> Any:
    """Parameters that `version` wrote, in the layout of `specs`."""
    if not _is_before(version, 0, 7):
        return written
    flat, present = flatten_dict(written), {}
    for path, spec in flatten_dict(specs).items():
        x = flat[path_before_0_4(path) if _is_before(version, 0, 4) else path]
        if path[-1] == "gate":
            x = x.reshape(spec.shape)
        elif x.shape != spec.shape:
            rows = math.prod(spec.shape[:2])
            x = jnp.pad(x, ((0, rows - len(x)), (0, 0))).reshape(spec.shape)
        present[path] = jax.device_put(x, spec.sharding)
    return unflatten_dict(present)


def _in_order_of_ids(spec: Any, unpadded: Any) -> Any:
    """A table [V, D] with the rows that pad it; other parameters as they are."""
    if spec.ndim == unpadded.ndim:
        return spec
    shape = (math.prod(spec.shape[:2]), spec.shape[2])
    return jax.ShapeDtypeStruct(shape, spec.dtype, sharding=unpadded.sharding)


def path_before_0_4(path: tuple[str, ...]) -> tuple[str, ...]:
    """Where a parameter stood in version 0.3."""
    match path:
        case ("encoding", source, "gate"):
            return ("encoding", f"{source}_gate")
        case ("encoding", source, "_final", *rest):
            return ("encoding", f"{source}_final", *rest)
        case (*rest, "learned_empty_output"):
            return (*rest, "empty")
    return path


def _is_before(version: str, *number: int) -> bool:
    found = re.match(r"(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) < number
