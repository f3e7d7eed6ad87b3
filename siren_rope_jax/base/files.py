"""Files that are complete or absent, never half-written."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from siren_rope_jax.base.errors import UserError


def name_for_split(name: str, split: str) -> str:
    """The name of a run's file about a split: `name` for test, else with the split added to it."""
    stem, dot, suffix = name.partition(".")
    return name if split == "test" else f"{stem}_{split}{dot}{suffix}"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary sibling to write to, which replaces `path` once it is complete."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """The value of an existing JSON file.

    Raises:
      UserError: it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(path, f"is damaged ({error}); restore or remove it") from error


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file.

    Raises:
      ValueError: a number that JSON cannot hold (nan, infinity).
    """
    text = json.dumps(value, indent=1, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
