"""The config of `prepare`: which columns of a log are what."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Literal

from ml_collections import ConfigDict

from siren_rope_jax.config import from_config_dict, to_dict
from siren_rope_jax.errors import UserError, suggestion

RESERVED = ("user", "item", "time", "row")
"""What expressions may use besides the log's columns, whatever columns it has by these names."""

EXPRESSION_GROUPS = ("derived", "categorical", "dense", "context", "actions", "tasks")


@dataclasses.dataclass(frozen=True)
class Format:
    """How files of a certain name are read. A further ".gz" of the name does not matter.

    Attributes:
      pattern: the file names this is for, such as "*.inter".
      kind: "text" (one line a row), "parquet", or "auto": by the name's ending.
      delimiter: between a line's fields; up to 4 characters. Empty: a tab for *.tsv and *.inter,
        else a comma.
      columns: the columns' names in order, for a file without a header line. Empty: it has one.
      rename: new names for some columns, by the names in the file.
    """

    pattern: str = "*"
    kind: Literal["auto", "text", "parquet"] = "auto"
    delimiter: str = ""
    columns: tuple[str, ...] = ()
    rename: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class TimeSplit:
    """The global times that part train, validation and test.

    Attributes:
      train_fraction: the share of all events before `train_end`.
      validation_fraction: the share of all events between the two ends.
      train_end, validation_end: where not empty, these dates ("2024-05-01" or with a time and an
        offset; UTC if none) instead of the fractions; both or neither.
    """

    train_fraction: float = 0.8
    validation_fraction: float = 0.1
    train_end: str = ""
    validation_end: str = ""


@dataclasses.dataclass(frozen=True)
class PrepareConfig:
    """What `prepare` has to know of a log.

    An expression is SQL (DuckDB's) over one row: over the log's columns, `user`, `item`, `time`
    (Unix seconds), `row` (the row's number in the input, from 1) and the derived columns. Window
    functions are allowed. No expression of a feature may look ahead of its event.

    Attributes:
      name: the data set's name.
      user, item, time: the columns that say who, what and when.
      time_unit: of a number: since 1970 UTC; "iso": dates and times as text or Parquet timestamps,
        UTC where they state no offset.
      allow_missing_time: whether an event may have no time.
      utc_offset: expression: local time minus UTC in seconds. Empty: unknown.
      formats: how to read files, by their names; of patterns that fit, the longest counts.
      derived: named expressions for use in the other ones, in any order.
      categorical: named expressions; the item itself is always there and first.
      dense: named expressions, real-valued features of the event; never absent.
      context: named expressions, real-valued features of the request; never absent.
      actions: named expressions, what the user did, besides the labels; NULL where unknown.
      tasks: named expressions, true/false or 1/0; NULL where there is no label.
      min_count: a categorical value seen less often in train is unknown to a model; at least 1.
        From 2 on, the one embedding of all unknown values is trained, on the rare ones; with 1 no
        train event has it, and it stays as it was initialised.
      split: the times between train, validation and test.
      source, license: noted in the prepared log.
      threads: 0: all cores.
      memory_gb: the engine's share of the memory; larger logs are worked on in parts, on disk.
    """

    name: str
    user: str
    item: str
    time: str
    time_unit: Literal["s", "ms", "us", "ns", "min", "h", "day", "iso"] = "s"
    allow_missing_time: bool = False
    utc_offset: str = ""
    formats: dict[str, Format] = dataclasses.field(default_factory=lambda: {"any": Format()})
    derived: dict[str, str] = dataclasses.field(default_factory=dict)
    categorical: dict[str, str] = dataclasses.field(default_factory=dict)
    dense: dict[str, str] = dataclasses.field(default_factory=dict)
    context: dict[str, str] = dataclasses.field(default_factory=dict)
    actions: dict[str, str] = dataclasses.field(default_factory=dict)
    tasks: dict[str, str] = dataclasses.field(default_factory=dict)
    min_count: int = 2
    split: TimeSplit = TimeSplit()
    source: str = ""
    license: str = ""
    threads: int = 0
    memory_gb: float = 2.0

    def __post_init__(self) -> None:
        for key in ("name", "user", "item", "time"):
            if not getattr(self, key):
                raise UserError(f"config.{key}: is required and empty")
        for group in EXPRESSION_GROUPS:
            for name, expression in getattr(self, group).items():
                if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                    raise UserError(f"config.{group}: {name!r} is no name; use letters, digits, _")
                if not expression.strip():
                    raise UserError(f"config.{group}.{name}: is empty; write an SQL expression")
        if "item" in self.categorical:
            raise UserError("config.categorical.item: the item is a feature already; remove it")
        for name in self.derived:
            if name.lower() in RESERVED:
                raise UserError(f"config.derived.{name}: this name has a meaning of its own")
        if self.min_count < 1:
            raise UserError(f"config.min_count: {self.min_count} is not at least 1")
        if self.memory_gb <= 0 or self.threads < 0:
            raise UserError("config: memory_gb must be above 0, threads at least 0")
        self._check_split()

    def _check_split(self) -> None:
        split = self.split
        if bool(split.train_end) != bool(split.validation_end):
            raise UserError("config.split: give both train_end and validation_end, or neither")
        fractions = (split.train_fraction, split.validation_fraction)
        if min(fractions) <= 0 or sum(fractions) >= 1:
            raise UserError(
                f"config.split: train_fraction {fractions[0]} and validation_fraction "
                f"{fractions[1]} must be above 0 and leave something for test"
            )

    @staticmethod
    def load(config: Mapping[str, Any] | ConfigDict) -> "PrepareConfig":
        """Reads a config, in which groups of expressions may be one text: "name=SQL;name=SQL".

        Raises:
          UserError: an unknown key, a wrong or a missing value.
        """
        values = {key: config[key] for key in config}
        for group in EXPRESSION_GROUPS:
            if isinstance(values.get(group), str):
                values[group] = parse_expressions(values[group], f"config.{group}")
        return from_config_dict(PrepareConfig, values)


def parse_expressions(text: str, where: str) -> dict[str, str]:
    """Parses "like=rating>=4;love=rating=5" into {"like": "rating>=4", "love": "rating=5"}.

    Raises:
      UserError: a part without a name, or the same name twice; `where` names the config key.
    """
    expressions: dict[str, str] = {}
    for part in text.split(";"):
        if not part.strip():
            continue
        name, equals, expression = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise UserError(f"{where}: {part.strip()!r} has no name; write name=expression")
        if name in expressions:
            raise UserError(f"{where}: {name!r} is given twice")
        expressions[name] = expression
    return expressions


def config_dict(**values: Any) -> ConfigDict:
    """Returns a `PrepareConfig` as a ConfigDict in which every key exists and can be overridden.

    Args:
      **values: what differs from the defaults of `PrepareConfig`.
    """
    fields = {field.name for field in dataclasses.fields(PrepareConfig)}
    for key in values:
        if key not in fields:
            raise UserError(f"config.{key}: unknown key{suggestion(key, fields)}")
    formats = values.get("formats", {"any": {}})
    values["formats"] = {name: _with_defaults(Format(), f) for name, f in formats.items()}
    values["split"] = _with_defaults(TimeSplit(), values.get("split", {}))
    required = PrepareConfig(name="-", user="-", item="-", time="-")
    return ConfigDict(_with_defaults(required, values))


def _with_defaults(defaults: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    complete = to_dict(defaults) | dict(values)
    return {k: tuple(v) if isinstance(v, list) else v for k, v in complete.items()}
