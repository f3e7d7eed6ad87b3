"""What a config can say: every key of a config class, with its type, default and meaning.

All of it is read from the classes, whose docstrings describe their fields.
"""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple


class Key(NamedTuple):
    """A key of a config.

    Attributes:
      name: dotted, as on the command line.
      type: of its value: the choices if there are few.
      default: as Python writes it; empty: there is none.
      meaning: one or more sentences.
    """

    name: str
    type: str
    default: str
    meaning: str


def keys_of(cls: Any, where: str = "config") -> Iterator[Key]:
    """The keys of a config class and of the groups in it, in the order of its fields.

    NAME stands for a name of one's choice, and N for the number of one of several.
    """
    hints, meanings = typing.get_type_hints(cls), _meanings(cls)
    for field in dataclasses.fields(cls):
        name, meaning = f"{where}.{field.name}", meanings.get(field.name, "")
        if tagged := field.metadata.get("one_of"):
            for tag, of in tagged.items():
                yield Key(f"{where}.{tag}", "group", "", _summary(of))
                yield from keys_of(of, f"{where}.{tag}")
            continue
        group, member = _group(hints[field.name])
        if group is None:
            yield Key(name, _type_name(hints[field.name]), _default(field), meaning)
            continue
        yield Key(name, "several groups" if member else "group", "", meaning or _summary(group))
        yield from keys_of(group, name + member)


def as_markdown(keys: Iterable[Key]) -> str:
    """The keys as a table."""
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key in keys:
        default = f"`{key.default}`" if key.default else ""
        cells = (f"`{key.name}`", key.type, default, key.meaning)
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows)


def _group(hint: Any) -> tuple[Any, str]:
    """The config class of a group of keys, or None; and how one of several groups is named."""
    member = {dict: ".NAME", tuple: "[N]"}.get(typing.get_origin(hint), "")
    for part in (hint, *typing.get_args(hint)):
        if dataclasses.is_dataclass(part):
            return part, member
    return None, ""


def _type_name(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin is tuple:
        return f"several {_type_name(arguments[0])}"
    if origin is dict:
        return f"{_type_name(arguments[1])} by name"
    if origin in (typing.Union, types.UnionType):
        return " or ".join("nothing" if a is type(None) else _type_name(a) for a in arguments)
    return getattr(hint, "__name__", str(hint))


def _default(field: dataclasses.Field) -> str:
    if field.default is not dataclasses.MISSING:
        return repr(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return repr(field.default_factory())
    return ""


def _summary(cls: type) -> str:
    return " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split())


def _meanings(cls: type) -> Mapping[str, str]:
    """What docstrings say of the fields of a class and of those that it extends."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        attributes = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")[2]
        for entry in re.split(r"\n(?= {2}\w)", f"\n{attributes}")[1:]:
            names, _, text = entry.partition(":")
            if re.fullmatch(r"[\w, ]+", names):
                meaning = " ".join(text.split())
                found |= {name.strip(): meaning for name in names.split(",")}
    return found
