"""The config of `prepare`: which columns of a log are what."""

import dataclasses
import datetime
import re
from collections.abc import Mapping
from typing import Any, Literal

from ml_collections import ConfigDict

from siren_rope_jax.base.config import from_config_dict, to_dict
from siren_rope_jax.base.errors import UserError, suggestion
from siren_rope_jax.data.schema import Protocol

RESERVED = ("user", "item", "time", "row")
"""What expressions may use besides the log's columns, whatever columns it has by these names."""

EXPRESSION_GROUPS = ("derived", "categorical", "dense", "context", "actions", "tasks")


@dataclasses.dataclass(frozen=True)
class Format:
    """How files of a certain name are read. A further ".gz" of the name does not matter.

    Attributes:
      pattern: the file names this is for, such as "*.inter".
      kind: what a file holds:
        "text": one line a row.
        "parquet".
        "jsonl": one JSON object a line, as in *.jsonl.
        "python_dicts": one Python dict a line, as its `repr` writes it (never run as a program).
        "npy": a table of integers, numpy's array [rows, columns], never a pickle.
        "sequences": one user a line, `user item item ...`, in one file and the times of these
          items, `user time time ...`, in a second one of the same lines.
        "auto": by the name's ending, else text.
      delimiter: of text: between a line's fields; up to 4 characters. Empty: a tab for *.tsv and
        *.inter, else a comma.
      columns: the columns' names in order, for text without a header line (empty: it has one), for
        an array, and for sequences (user, item, time); of JSON and Python, the keys to take.
      rename: new names for some columns, by the names in the file.
      companion: of sequences: what the name of the file of items has, and what that of the file of
        times has in its place, such as ("_item_", "_time_").
    """

    pattern: str = "*"
    kind: Literal["auto", "text", "parquet", "jsonl", "python_dicts", "npy", "sequences"] = "auto"
    delimiter: str = ""
    columns: tuple[str, ...] = ()
    rename: dict[str, str] = dataclasses.field(default_factory=dict)
    companion: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.kind == "sequences") != bool(self.companion) or len(self.companion) not in (0, 2):
            raise UserError(
                "config.formats: sequences need a companion of two texts, such as "
                "('_item_', '_time_'), and other kinds none"
            )
        if self.kind == "sequences" and len(self.columns) != 3:
            raise UserError("config.formats: sequences need 3 columns: of user, item and time")


@dataclasses.dataclass(frozen=True)
class SplitRule:
    """What parts train, validation and test.

    Attributes:
      kind: "time": two global times. "leave_one_out": each user's last event is test, the one
        before it validation, the rest train; all are train where a user has less than three.
      train_fraction: by time: the share of all events before `train_end`.
      validation_fraction: by time: the share of all events between the two ends.
      train_end, validation_end: by time: where not empty, these dates ("2024-05-01" or with a time
        and an offset; UTC if none) instead of the fractions; both or neither.
    """

    kind: Protocol = "time"
    train_fraction: float = 0.8
    validation_fraction: float = 0.1
    train_end: str = ""
    validation_end: str = ""

    def __post_init__(self) -> None:
        if bool(self.train_end) != bool(self.validation_end):
            raise UserError("config.split: give both train_end and validation_end, or neither")
        if self.kind != "time" and self.train_end:
            raise UserError(f"config.split: train_end and validation_end are not for {self.kind!r}")
        fractions = (self.train_fraction, self.validation_fraction)
        if min(fractions) <= 0 or sum(fractions) >= 1:
            raise UserError(
                f"config.split: train_fraction {fractions[0]} and validation_fraction "
                f"{fractions[1]} must be above 0 and leave something for test"
            )


@dataclasses.dataclass(frozen=True)
class Download:
    """Where the publisher offers the log.

    Attributes:
      url: a plain link to a file. Empty: there is none.
      checksum: of that file, "md5:..." or "sha256:..."; empty where none is known.
      member: the log's path inside the file, if that is a zip archive.
    """

    url: str = ""
    checksum: str = ""
    member: str = ""

    def __post_init__(self) -> None:
        if self.checksum and not re.fullmatch(
            r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", self.checksum
        ):
            raise UserError(
                f"config.download.checksum: {self.checksum!r} is not 'md5:' and 32 or 'sha256:' "
                "and 64 hexadecimal digits"
            )


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
      time_origin: of a number: the date it counts from instead, as in `SplitRule`. Empty: 1970.
      drop_duplicates: whether of rows that are identical in every column only the first counts.
      core: users and items of fewer events are left out, again and again until none is left that
        has fewer (k-core, of all splits together); 1: none is.
      allow_missing_time: whether an event may have no time.
      utc_offset: expression: local time minus UTC in seconds. Empty: unknown. It is part of the
        request, so it must be known then, before the item is: taken from the item's own place it
        tells a model where the next item lies. Take that of the event before, with
        `lag(...) OVER (PARTITION BY user ORDER BY time, row)`, as configs/data/gowalla.py does.
      time_zone: in place of `utc_offset`, the one zone of all users, as the IANA database names it
        ("America/New_York"), summer time included.
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
      split: what parts train, validation and test.
      download: where the publisher offers the log.
      source, license: noted in the prepared log.
      threads: 0: all cores.
      memory_gb: the engine's share of the memory; larger logs are worked on in parts, on disk.
    """

    name: str
    user: str
    item: str
    time: str
    time_unit: Literal["s", "ms", "us", "ns", "min", "h", "day", "iso"] = "s"
    time_origin: str = ""
    drop_duplicates: bool = True
    core: int = 1
    allow_missing_time: bool = False
    utc_offset: str = ""
    time_zone: str = ""
    formats: dict[str, Format] = dataclasses.field(default_factory=lambda: {"any": Format()})
    derived: dict[str, str] = dataclasses.field(default_factory=dict)
    categorical: dict[str, str] = dataclasses.field(default_factory=dict)
    dense: dict[str, str] = dataclasses.field(default_factory=dict)
    context: dict[str, str] = dataclasses.field(default_factory=dict)
    actions: dict[str, str] = dataclasses.field(default_factory=dict)
    tasks: dict[str, str] = dataclasses.field(default_factory=dict)
    min_count: int = 2
    split: SplitRule = SplitRule()
    download: Download = Download()
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
        for key in ("min_count", "core"):
            if getattr(self, key) < 1:
                raise UserError(f"config.{key}: {getattr(self, key)} is not at least 1")
        if self.memory_gb <= 0 or self.threads < 0:
            raise UserError("config: memory_gb must be above 0, threads at least 0")
        if self.time_origin and self.time_unit == "iso":
            raise UserError("config.time_origin: dates ('iso') have none; leave it empty")
        if self.time_zone and self.utc_offset:
            raise UserError("config.time_zone: not beside config.utc_offset; leave one empty")

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


def parse_date(text: str, where: str) -> int:
    """Returns the Unix seconds of an ISO date such as "2024-05-01"; UTC if it states no offset.

    Raises:
      UserError: it is none; `where` names the config key.
    """
    try:
        date = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"{where}: {text!r} is no date such as 2024-05-01") from error
    return int((date if date.tzinfo else date.replace(tzinfo=datetime.UTC)).timestamp())


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
    values["split"] = _with_defaults(SplitRule(), values.get("split", {}))
    values["download"] = _with_defaults(Download(), values.get("download", {}))
    required = PrepareConfig(name="-", user="-", item="-", time="-")
    return ConfigDict(_with_defaults(required, values))


def _with_defaults(defaults: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    complete = to_dict(defaults) | dict(values)
    return {k: tuple(v) if isinstance(v, list) else v for k, v in complete.items()}
