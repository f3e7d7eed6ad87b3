"""Which runs can be compared: those that are evaluated alike, on the same log."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.files import read_json

CONFIG_KEYS = ("config.task", "config.filter_seen", "config.data.target_task")
"""Dotted: what of a run's config decides how it is evaluated, where it has such keys."""
RUN_KEYS = (*CONFIG_KEYS, "version", "split", "protocol", "catalogue", "log.fingerprint")
"""Likewise of a finished run, as `finished_run` says."""


def finished_run(workdir: Path) -> dict[str, Any]:
    """What result.json holds, and "log": {"fingerprint"}, from data.json.

    Raises:
      UserError: a file of a finished run is missing or damaged, or its training has not ended.
    """
    for name in ("result.json", "predictions.parquet", "data.json"):
        if not (workdir / name).is_file():
            raise UserError(f"{workdir}: no {name}; this is not the directory of a finished run")
    result, log = (read_json(workdir / name) for name in ("result.json", "data.json"))
    if not result.get("training_ended"):
        raise UserError(f"{workdir}: its training was interrupted; let train.py finish it first")
    return {**result, "log": log}


def check_alike(
    values: Mapping[str, Mapping[str, Any]], keys: Iterable[str], where: str = ""
) -> None:
    """Refuses what differs from the first at a key.

    Args:
      values: what they are called in messages -> nested values, such as `finished_run`.
      keys: dotted; absent ones count as None.
      where: begins the message.

    Raises:
      UserError: two differ; the first such key and both values are named.
    """
    (first, theirs), *others = values.items()
    for name, own in others:
        for key in keys:
            a, b = _value(own, key), _value(theirs, key)
            if a != b:
                raise UserError(
                    f"{where}{key} is {a!r} of {name} and {b!r} of {first}; they cannot be compared"
                )


def _value(values: Mapping[str, Any], dotted: str) -> Any:
    *groups, key = dotted.split(".")
    for group in groups:
        values = values.get(group, {})
    return values.get(key)
