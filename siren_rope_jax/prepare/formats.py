"""Which of a config's formats a file has, by its name, and how to give a file one of its own."""

import dataclasses
import fnmatch
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.prepare.config import Format
from siren_rope_jax.prepare.text_files import plain_name

_OF_ITEMS = "items"
"""What the format of a file of items is called in a message."""
_OF_SHELL = set('"$`\\!')  # what means something to a shell between double quotes


def fitting(path: Path, formats: Mapping[str, Format]) -> dict[str, Format]:
    """The formats whose patterns fit the name of a file."""
    name = plain_name(path).lower()
    return {k: f for k, f in formats.items() if fnmatch.fnmatchcase(name, f.pattern.lower())}


def format_of(path: Path, formats: Mapping[str, Format]) -> tuple[str, Format]:
    """The key and the format of a file: the most specific one, as configs do not keep an order.

    Raises:
      UserError: there is none.
    """
    found = fitting(path, formats)
    if not found:
        patterns = ", ".join(f.pattern for f in formats.values())
        raise UserError("config.formats", f"no pattern fits the file {path}; there are {patterns}")
    return max(found.items(), key=lambda item: len(item[1].pattern.replace("*", "")))


def shares_format(path: Path, formats: Mapping[str, Format], beside: Sequence[Path]) -> bool:
    """Whether a file has the format of one of those that are read `beside` it."""
    key, _ = format_of(path, formats)
    return any(format_of(other, formats)[0] == key for other in beside)


def flag_of_format(
    path: Path, formats: Mapping[str, Format], beside: Sequence[Path], **change: Any
) -> str:
    """The flag that changes one key of the format of a file, and nothing for those `beside` it."""
    if shares_format(path, formats, beside):
        return own_format(path, formats, **change)
    ((name, value),) = change.items()
    text = f"'{value}'" if isinstance(value, str) else f'"{value}"'
    return f"--config.formats.{format_of(path, formats)[0]}.{name}={text}"


def own_format(path: Path, formats: Mapping[str, Format], **changes: Any) -> str:
    """The flag with which a file of items is read otherwise, and all other files as before.

    It states all formats: a flag for one key of a format cannot add a format.
    """
    key, present = format_of(path, formats)
    name = plain_name(path)
    own = _stated(present) | {"pattern": name} | changes
    whole = {k: _stated(form) for k, form in formats.items()}
    whole[key if present.pattern == name else _OF_ITEMS] = own
    text = repr(whole)
    value = shlex.quote(text) if set(text) & _OF_SHELL else f'"{text}"'
    return f"--config.formats={value} (in place of other flags for formats)"


def _stated(form: Format) -> dict[str, Any]:
    """What a config has to say of a format: all that is not as in any other."""
    usual = Format()
    values = {field.name: getattr(form, field.name) for field in dataclasses.fields(form)}
    return {key: value for key, value in values.items() if value != getattr(usual, key)}
