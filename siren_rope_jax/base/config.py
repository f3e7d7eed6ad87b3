"""The boundary between ml-collections config files and the package's frozen dataclasses.

Config files describe experiments as `ConfigDict`s, so that every key can be overridden on the
command line. Behind this boundary there are only typed, immutable dataclasses; an unknown key or a
value of the wrong type is refused with its full name.
"""

import dataclasses
import runpy
import sys
import traceback
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from ml_collections import ConfigDict, FieldReference
from ml_collections.config_dict import placeholder

from siren_rope_jax.base.errors import UserError, excerpt, suggestion

T = TypeVar("T")
_LARGEST = sys.float_info.max


def one_of(**classes: type) -> dict[str, Any]:
    """Metadata of a dataclass field that holds an instance of one of several config classes.

    In a config it is written as one key, the class's tag, beside the other fields:
    `map: Map = field(metadata=one_of(ladder=Ladder, network=Network))` reads {"ladder": {...}}.
    """
    return {"one_of": classes}


def from_config_dict(
    cls: type[T], config: Mapping[str, Any] | ConfigDict, where: str = "config"
) -> T:
    """Builds the frozen dataclass `cls` from a config.

    Args:
      cls: a dataclass whose fields are scalars, `Literal`s, optionals, tuples, `dict[str, X]`,
        dataclasses again, or `one_of` several dataclasses.
      config: its values by field name; absent fields take the dataclass's defaults.
      where: the dotted name of `config`, for messages.

    Raises:
      UserError: about an unknown key (the nearest known one is named), a missing required key, a
        value of the wrong type, or a value that the dataclass itself refuses.
    """
    if not isinstance(config, Mapping | ConfigDict):
        raise UserError(where, f"expected a group of keys, got {config!r}")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    tags = {tag: (name, of) for name, f in fields.items() for tag, of in _classes(f).items()}
    known = {*(name for name, field in fields.items() if not _classes(field)), *tags}
    values: dict[str, Any] = {}
    for key in config:
        if key not in known:
            raise UserError(f"{where}.{key}", f"unknown key{suggestion(key, known)}")
        if key not in tags:
            values[key] = _convert(hints[key], config[key], f"{where}.{key}")
        elif config[key] is not None:
            name, of = tags[key]
            if name in values:
                raise UserError(where, f"give exactly one of {', '.join(_classes(fields[name]))}")
            values[name] = _convert(of, config[key], f"{where}.{key}")
    for name, field in fields.items():
        required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if required and name not in values:
            if tagged := _classes(field):
                raise UserError(where, f"give exactly one of {', '.join(tagged)}")
            raise UserError(f"{where}.{name}", "is required and missing")
    try:
        return cls(**values)
    except UserError as error:
        raise error.below(where) from error


PACKAGED = Path(__file__).parents[1] / "configs"
"""The config files that are installed with the package."""
if not PACKAGED.is_dir():  # of a clone
    PACKAGED = Path(__file__).parents[2] / "configs"


def config_file(path: str | Path) -> Path:
    """A config file, in the current folder or, as `configs/NAME.py`, one that the package has.

    If there is neither, the path is returned as it is.
    """
    path = Path(path)
    packaged = PACKAGED.joinpath(*path.parts[1:])
    known = path.parts[:1] == ("configs",) and len(path.parts) > 1 and packaged.is_file()
    return packaged if known and not path.is_file() else path


_MADE_FOR = {
    "sweep": ("ranges", "trials"),
    "ablate": ("baseline",),
    "train": ("data",),
    "prepare": ("user", "num_users", "corpus"),
    "compare-peer": ("log",),
}
"""Keys that tell the configs of the commands apart."""


def made_for(config: Mapping[str, Any] | ConfigDict) -> str:
    """The command that takes such a config; "" if its keys do not tell."""
    return next((c for c, keys in _MADE_FOR.items() if any(key in config for key in keys)), "")


def load_config_file(
    path: str | Path, overrides: Mapping[str, Any], argument: str | None = None
) -> ConfigDict:
    """Loads a config file and overrides some of its keys.

    Args:
      path: of a Python file with `get_config()`.
      overrides: values by dotted key; the keys must exist.
      argument: of `get_config`, if any.

    Raises:
      UserError: no such file, no `get_config` in it that returns a ConfigDict, or an unknown key.
    """
    if not (path := config_file(path)).is_file():
        raise UserError(path, f"there is no such config file below {Path.cwd()}")
    try:
        namespace = runpy.run_path(str(path))
        if "get_config" not in namespace:
            raise UserError(path, "defines no get_config()")
        config = namespace["get_config"](*([argument] if argument else []))
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(path, said_in(path, error)) from error
    if not isinstance(config, ConfigDict):
        raise UserError(path, "its get_config() returns no ConfigDict")
    for dotted, value in overrides.items():
        *groups, key = dotted.split(".")
        place = config
        for group in groups:
            place = _at(place, group, dotted, path)
        _at(place, key, dotted, path)
        with place.ignore_type():
            place[key] = value
    return config


def said_in(file: str | Path, error: BaseException) -> str:
    """What an exception says that arose in a config file: "line 7: KeyError: 'a'"."""
    lines = str(error).strip().splitlines() or [""]
    said = f"{type(error).__name__}: {lines[-1]}".removesuffix(": ")
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        other = "" if Path(error.filename).name == Path(file).name else f"{error.filename}, "
        return f"{other}line {error.lineno}: {said}"
    frames = traceback.extract_tb(error.__traceback__)
    numbers = [f.lineno for f in frames if Path(f.filename).name == Path(file).name]
    return f"line {numbers[-1]}: {said}" if numbers else said


def _at(place: Any, key: str, dotted: str, path: str | Path) -> Any:
    known = list(place) if isinstance(place, ConfigDict) else []
    if key not in known:
        raise UserError(
            f"config.{dotted}", f"{path} has no such key to override{suggestion(key, known)}"
        )
    return place[key]


def complete(cls: type, config: Mapping[str, Any]) -> ConfigDict:
    """Returns `config`, checked and with all defaults filled in: every key can be overridden.

    Raises:
      UserError: as `from_config_dict`.
    """

    def plain(value: Any, hint: Any = None) -> Any:
        if dataclasses.is_dataclass(value):
            hints = typing.get_type_hints(type(value))
            return {key: plain(item, hints.get(key)) for key, item in _entries(value)}
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if value is None:
            scalars = [t for t in typing.get_args(hint) if t in (int, float, str)]
            return placeholder(scalars[0]) if scalars else None  # a bare None takes no other value
        return value

    return ConfigDict(plain(from_config_dict(cls, config)))


def to_dict(value: Any) -> Any:
    """Returns a dataclass config as plain, JSON-serialisable dicts and lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {key: to_dict(item) for key, item in _entries(value)}
    if isinstance(value, Mapping):
        return {key: to_dict(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_dict(item) for item in value]
    return value


def _entries(value: Any) -> list[tuple[str, Any]]:
    """The keys of a dataclass in a config, each with its value."""
    entries = []
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        tags = [tag for tag, of in _classes(field).items() if type(item) is of]
        entries.append((tags[0] if tags else field.name, item))
    return entries


def _classes(field: Any) -> Mapping[str, type]:
    """The classes of a field's `one_of`, by tag; none of any other field."""
    return field.metadata.get("one_of", {})


def _convert(hint: Any, value: Any, where: str) -> Any:
    if isinstance(value, FieldReference):
        value = value.get()
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(arguments, value, where)
    if origin is typing.Literal:
        if value not in arguments:
            hint_text = suggestion(str(value), map(str, arguments))
            raise UserError(where, f"{value!r} is not a choice{hint_text}")
        return value
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, tuple | list):
            raise UserError(where, f"expected a tuple, got {value!r}")
        items = tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
        if typing.get_origin(arguments[0]) is typing.Literal and len(set(items)) < len(items):
            raise UserError(where, f"{items!r} has a choice twice; name each once")
        return items
    if origin is dict:
        if not isinstance(value, Mapping | ConfigDict):
            raise UserError(where, f"expected a group of keys, got {value!r}")
        return {key: _convert(arguments[1], value[key], f"{where}.{key}") for key in value}
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_config_dict(hint, value, where)  # type: ignore[arg-type]
    if hint is Any:
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and not -_LARGEST <= value <= _LARGEST:  # nan is neither
        raise UserError(where, f"must be a finite number, not {value!r}")
    if is_number and hint is int and not -(1 << 63) <= value < 1 << 63:
        raise UserError(where, f"must be an integer of 64 bits, not {value!r}")
    if hint is float and is_number:
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise UserError(where, f"expected {hint.__name__}, got {excerpt(value)}")
    return value


def _convert_union(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    errors = []
    for argument in arguments:
        if argument is not type(None):
            try:
                return _convert(argument, value, where)
            except UserError as error:
                errors.append(error)
    raise errors[0]
