"""Runs that an earlier version of this package trained: they can be used, not continued.

Version 0.4 nested the parameters of gates and of a map's second copy, renamed two keys of configs
and dropped some whose defaults nobody changed.
"""

import re
from typing import Any

import jax
from flax.traverse_util import flatten_dict, unflatten_dict

from siren_rope_jax import __version__
from siren_rope_jax.base.errors import UserError

_DROPPED: dict[tuple[str, ...], dict[str, Any]] = {
    ("model",): {
        "final_network": True,
        "head_time_features": ["day", "week"],
        "softmax_scale": None,
        "residual_scale": 1.0,
    },
    ("gate",): {"per_layer": False, "per_head": False},
    ("network",): {"order": False, "angles": None, "siren_layers": 2, "dnn_layers": 2},
}
"""Keys that version 0.3 had, and the only values with which a model is still the same."""


def present_config(config: dict[str, Any], version: str, where: str) -> dict[str, Any]:
    """A config.json as the present version writes it.

    Args:
      config: as `version` wrote it.
      version: of this package.
      where: the file, for messages.

    Raises:
      UserError: about a key that no longer exists and was not left at its default.
    """
    if not _is_before_0_4(version):
        return config
    config = dict(config)
    config["kind"] = config.pop("task", "ranking")
    model = config["model"] = _without(config["model"], ("model",), where)
    sources = model["encoding"] = dict(model["encoding"])
    for name, source in sources.items():
        given = {key: value for key, value in source.items() if value is not None}
        for group in ("gate", "network"):
            if group in given:
                given[group] = _without(given[group], (group,), where)
        sources[name] = given
    return config


def _without(values: dict[str, Any], group: tuple[str, ...], where: str) -> dict[str, Any]:
    for key, default in _DROPPED[group].items():
        if key in values and values[key] != default:
            name = f"{'.'.join(group)}.{key} = {values[key]!r}"
            raise UserError(where, f"{name} no longer exists in version {__version__}")
    return {key: value for key, value in values.items() if key not in _DROPPED[group]}


def written_params(specs: Any, version: str) -> Any:
    """The specs of the parameters as `version` wrote them, from those of the present version."""
    if not _is_before_0_4(version):
        return specs

    def of_gate(spec: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        shape = (1, 1, *spec.shape) if spec.shape else (1, 1, 1)
        return jax.ShapeDtypeStruct(shape, spec.dtype, sharding=spec.sharding)

    flat = flatten_dict(specs)
    written = {
        path_before_0_4(path): of_gate(spec) if path[-1] == "gate" else spec
        for path, spec in flat.items()
    }
    return unflatten_dict(written)


def present_params(written: Any, specs: Any, version: str) -> Any:
    """Parameters that `version` wrote, in the layout of `specs`."""
    if not _is_before_0_4(version):
        return written
    flat = flatten_dict(written)
    return unflatten_dict(
        {
            path: flat[path_before_0_4(path)].reshape(spec.shape)
            for path, spec in flatten_dict(specs).items()
        }
    )


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


def _is_before_0_4(version: str) -> bool:
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) < (0, 4)
