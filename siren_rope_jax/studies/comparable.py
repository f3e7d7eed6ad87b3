"""Which runs can be compared: those that were evaluated in the same way on the same log."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.files import read_json
from siren_rope_jax.training.experiment import without_execution
from siren_rope_jax.training.kinds.kind import Kind
from siren_rope_jax.training.workdir import about_run

RUN_KEYS = ("version", "split", "protocol", "catalogue", "log.fingerprint", "epochs_before")
"""What compared runs must agree on beside `config_keys`; not every result has all of them."""


def config_keys(kind: type[Kind]) -> tuple[str, ...]:
    """The config keys that compared runs of a kind must agree on."""
    return ("config.kind", *(f"config.{key}" for key in kind.decisive))


class Unfinished(UserError):
    """A directory that is not that of a finished run."""


def finished_run(workdir: Path) -> dict[str, Any]:
    """The content of result.json, and "log": the content of data.json.

    Raises:
      Unfinished: a file of a finished run is missing, its training has not ended, or its result is
        not of the config beside it: it was evaluated before its training went on.
      UserError: a file is damaged.
    """
    for name in ("result.json", "predictions.parquet", "data.json"):
        if not (workdir / name).is_file():
            raise Unfinished(workdir, f"is not the directory of a finished run: {name} is missing")
    result, log = read_json(workdir / "result.json"), about_run(workdir)
    if not result.get("training_ended"):
        raise Unfinished(
            workdir, "its training was interrupted; let `siren-rope train` finish it first"
        )
    if (workdir / "config.json").is_file() and result["version"] == log.get("trained_with"):
        config = read_json(workdir / "config.json")
        if without_execution(config) != without_execution(result["config"]):
            raise Unfinished(
                workdir, "result.json is not of the config beside it; evaluate the run again"
            )
    return {**result, "log": log}


def check_alike(values: Mapping[str, Mapping[str, Any]], keys: Iterable[str]) -> None:
    """Refuses what differs from the first in the value of a dotted key; an absent one is None.

    `values` are nested ones, such as those of `finished_run`, by their names for messages.

    Raises:
      UserError: two differ; it is about the first such key and names both values.
    """
    (first, theirs), *others = values.items()
    for name, own in others:
        for key in keys:
            a, b = value_at(own, key), value_at(theirs, key)
            if a != b:
                raise UserError(
                    key, f"is {a!r} for {name} but {b!r} for {first}; they cannot be compared"
                )


def value_at(values: Any, dotted: str) -> Any:
    """What nested values hold at a dotted key; None if it is not there."""
    for key in dotted.split("."):
        values = (values or {}).get(key)
    return values
