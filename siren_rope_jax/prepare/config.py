"""The config of `prepare`: what the columns of a log mean."""

import dataclasses
import datetime
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from ml_collections import ConfigDict

from siren_rope_jax.base.config import complete, from_config_dict, to_dict
from siren_rope_jax.base.errors import UserError, check
from siren_rope_jax.data.schema import LABELS, PREFIXES

RESERVED = ("user", "item", "time", "time_ns", "row")
"""What these names mean in expressions, even if the log has columns that are called so."""
INTERNAL = "siren_rope_jax "
"""Begins the names of columns that `prepare` adds for itself; no column of a log may begin so."""

PREDICTION_COLUMNS = ("event", "user", "item", "time", "utc_offset")
"""Of every predictions.parquet, beside those that are called by the labels."""

GIVEN_ROW = f"{INTERNAL}row"
"""A log's own column "row", if it has one."""

Purpose = Literal["events", "candidates", "items"]
"""What the rows of a newer file are: events that happened, in the order of their times; candidates,
in the order of the file; or items, of which nothing else is read."""

EXPRESSION_GROUPS = ("derived", *PREFIXES)
_REQUIRED = ("name", "user", "item", "time")
_MOST = {"min_count": 1 << 40, "core": 1 << 40, "most_values": 1 << 10, "threads": 1 << 10}


@dataclasses.dataclass(frozen=True)
class Format:
    """How files of a certain name are read. A further ".gz" in the name does not matter.

    Attributes:
      pattern: the names of these files, such as "*.inter".
      kind: what a file holds:
        "text": one row per line.
        "parquet": a Parquet table.
        "jsonl": one JSON object per line.
        "python_dicts": one Python dict per line, as its `repr` writes it (it is never executed).
        "npy": an array of integers [rows, columns] as NumPy saves it, never a pickle.
        "sequences": one user per line, `user item item ...`, in one file, and the times of these
          items, `user time time ...`, in the same line of a second file.
        "auto": by the end of the name, in small letters or capitals: Parquet (.parquet, .pq), JSON
          lines (.jsonl, .ndjson, .json), an array (.npy), else text.
      delimiter: of text: what separates the fields of a line, up to 4 characters. Empty: a tab for
        *.tsv and *.inter, else a comma.
      quote: of text: the character around fields that hold a delimiter. Empty: there is none, and
        quotation marks are part of the text.
      escape: of text: the character before a quotation mark that is part of a quoted field: by
        default another such mark; some programs write a backslash.
      newlines: of text: whether quoted fields may hold line ends. If not, a file of which some do
        is refused: a stray quotation mark would make one row of many.
      missing: what stands for a missing value, beside NULL and NaN: texts that count as such if
        they are a whole field, of a file of any kind.
      columns: the names of the columns, in order: for text without a header line (empty: the text
        has one), for an array, and for sequences (user, item, time). For JSON and Python dicts, the
        keys to read.
      rename: new names for some columns, by the names in the file.
      folders: the names of columns whose values are in the names of the folders of a file, which
        are then called "NAME=VALUE"; such columns are text until their type is known.
      companion: for sequences: a part of the name of the file of items, and what replaces it in the
        name of the file of times, such as ("_item_", "_time_").
    """

    pattern: str = "*"
    kind: Literal["auto", "text", "parquet", "jsonl", "python_dicts", "npy", "sequences"] = "auto"
    delimiter: str = ""
    quote: str = '"'
    escape: str = '"'
    newlines: bool = False
    missing: tuple[str, ...] = ("", "NULL", "null", "NaN", "nan", "\\N")
    columns: tuple[str, ...] = ()
    rename: dict[str, str] = dataclasses.field(default_factory=dict)
    folders: tuple[str, ...] = ()
    companion: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        sequences = self.kind == "sequences"
        right = "two texts for sequences, such as ('_item_', '_time_'), and empty for other kinds"
        named = not any(set(part) & set("/\\\0") for part in self.companion)
        check(len(self.companion) == (2 if sequences else 0) and named, "companion", right)
        right = "three for sequences: those of user, item and time"
        check(not sequences or len(self.columns) == 3, "columns", right)
        for key in ("quote", "escape"):
            sign = getattr(self, key)
            right = "one character, or empty"
            check(len(sign.encode()) <= 1 and sign not in ("\n", "\r"), key, right)
        right = "1 to 4 characters, no line end and not the quotation mark; or empty"
        given = self.delimiter.replace("\\t", "\t")
        bad = set(given) & {"\n", "\r", self.quote, self.escape, "\0"}
        check(len(given.encode()) <= 4 and not bad, "delimiter", right)

    @property
    def escape_sign(self) -> str:
        """`escape`; as that of the default is `quote`, whichever this is."""
        return self.quote if self.escape == '"' else self.escape


@dataclasses.dataclass(frozen=True)
class SplitRule:
    """Which events are train, validation and test.

    Attributes:
      kind: "time": split at two global times. "leave_one_out": each user's last event is test, the
        one before it validation, the rest train; all are train if a user has fewer than three.
      last: for "leave_one_out": which event from the end is test, 1 the last; later ones are left
        out, as if the user had stopped there.
      train_fraction: for "time": the fraction of all events before `train_end`.
      validation_fraction: for "time": the fraction of all events between the two ends.
      train_end: for "time": the date at which validation begins ("2024-05-01", or with a time and
        an offset; UTC if there is none), instead of a fraction; give it with `validation_end`.
      validation_end: for "time": the date at which the test begins, with `train_end`.
      test_end: for "time": the date from which events are left out, as if the log ended there. With
        the other two, one log gives several tests, each of its own time (a rolling origin). A
        `core` is that of the whole log. Empty: the log's end.
    """

    kind: Literal["time", "leave_one_out"] = "time"
    last: int = 1
    train_fraction: float = 0.8
    validation_fraction: float = 0.1
    train_end: str = ""
    validation_end: str = ""
    test_end: str = ""

    def __post_init__(self) -> None:
        right = "given together with validation_end, or not at all"
        check(bool(self.train_end) == bool(self.validation_end), "train_end", right)
        right = f"empty for {self.kind!r}, which does not split by time"
        for key in ("train_end", "test_end"):
            check(self.kind == "time" or not getattr(self, key), key, right)
        for key in ("train_end", "validation_end", "test_end"):
            if getattr(self, key):
                parse_date(getattr(self, key), key)
        right = "1 for 'time'" if self.kind == "time" else "at least 1"
        check(self.last == 1 or (self.last > 1 and self.kind != "time"), "last", right)
        for key in ("train_fraction", "validation_fraction"):
            check(getattr(self, key) > 0, key, "above 0")
        right = "below 1 - validation_fraction, so that some events are left for test"
        check(self.train_fraction + self.validation_fraction < 1, "train_fraction", right)


@dataclasses.dataclass(frozen=True)
class Download:
    """Where the publisher offers the log.

    Attributes:
      url: a direct link to a file; empty if there is none.
      checksum: of that file, "md5:..." or "sha256:..."; empty if none is known.
      member: the path of the log inside the file, if that is a zip archive.
    """

    url: str = ""
    checksum: str = ""
    member: str = ""

    def __post_init__(self) -> None:
        known = re.fullmatch(r"(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})?", self.checksum)
        right = "'md5:' and 32, or 'sha256:' and 64 hexadecimal digits"
        check(known is not None, "checksum", right)
        link = urlsplit(self.url)
        is_link = link.scheme in ("http", "https") and link.hostname
        check(not self.url or bool(is_link), "url", "a link that begins with https://")
        for key, path in (("url", unquote(link.path).lstrip("/")), ("member", self.member)):
            parts = PurePosixPath(path).parts
            below = not path.startswith("/") and ".." not in parts and not set(path) & set("\\\0")
            check(below, key, "a path below the folder of downloads, without '..'")


@dataclasses.dataclass(frozen=True)
class PrepareConfig:
    """What `prepare` needs to know about a log.

    An expression is SQL (DuckDB's) over one row: over the log's columns, `user`, `item`, `time`
    (Unix seconds, rounded down), `time_ns` (the full time, in nanoseconds), `row` (the number of
    the row in the input, from 1) and the derived columns. Window functions are allowed; order by
    `time_ns, row`. The expression of a feature must not use later events.

    Attributes:
      name: the data set's name.
      user: the column that says who did something, or an expression over the columns.
      item: the column or expression that says with what.
      time: the column or expression that says when, such as "strptime(day || clock,
        '%d/%m/%Y%H:%M')".
      time_unit: of numbers, which count from 1970 UTC; "iso": dates and times as text or Parquet
        timestamps, in UTC if they state no offset.
      time_origin: the date from which numbers count instead, as in `SplitRule`. Empty: 1970.
      earliest: the date from which all times must be. Empty: any from 1902 on, as long as a few are
        not so far from the others that they must be mistakes.
      latest: the date up to which all times must be. Empty: any up to 2099, likewise.
      items_key: of the file of items (`--items`): the column, or an expression over its columns,
        that says which item a row is about. Empty: the same as `item`.
      tie_breaker: a column or an expression that orders events of the same time. Those that are
        equal in it, too, keep the order of the input.
      drop_duplicates: whether to keep only the first of rows that are identical in every column.
      where: a condition; events for which it is not true are left out, before any other is counted,
        and so are such events of a user's history in later requests. Empty: all events count.
      core: leave out users and items with fewer events, repeatedly, until none are left that have
        fewer (the k-core of all splits together); 1 keeps all.
      allow_missing_time: whether an event may have no time.
      utc_offset: expression: local time minus UTC in seconds. Empty: unknown. It is part of the
        request, so it must be known before the item is: if it were that of the item's own place, it
        would tell a model where the next item is. Use the offset of the event before, with
        `lag(...) OVER (PARTITION BY user ORDER BY time_ns, row)`, as configs/data/gowalla.py does.
      time_zone: instead of `utc_offset`, the one zone of all users by its name in the IANA database
        ("America/New_York"), with daylight saving time.
      formats: how to read files, by their names; if several patterns fit, the longest applies.
      derived: named expressions for use in the others, in any order.
      categorical: named expressions; the item itself is always there and comes first. One may give
        a list of values, such as `string_split(genres, '|')`.
      dense: named expressions: real-valued features of the event, which every event has.
      context: named expressions: real-valued features of the request, which every event has.
      actions: named expressions: what the user did, besides the labels; NULL if unknown.
      tasks: named expressions, true/false or 1/0; NULL if there is no label.
      ordinal: named expressions: labels that take one of a few ordered numbers, such as stars; at
        most 20 different ones. NULL if there is no label.
      regression: named expressions: real-valued labels, such as seconds watched, which are learned
        by squared error, so take the logarithm of what has a long tail. NULL if there is no label.
      min_count: categorical values that occur less often in train share the row of unknown values;
        with 1 each has a row of its own. (In training this row also stands for a share of all ids,
        `model.unknown_rate`, so it is learned in any case.)
      most_values: of the list of an event, how many count; those that are rarest in train do not.
      split: which events are train, validation and test.
      download: where the publisher offers the log.
      source: where the log is from, noted in the prepared one.
      license: under which terms, noted in the prepared log.
      threads: 0: one per core.
      memory_gb: memory for the database engine, which processes larger logs in parts, on disk. On
        Linux, expressions may take no more than twice as much and about 1 GB, whatever they ask
        for.
    """

    name: str
    user: str
    item: str
    time: str
    time_unit: Literal["s", "ms", "us", "ns", "min", "h", "day", "iso"] = "s"
    time_origin: str = ""
    earliest: str = ""
    latest: str = ""
    items_key: str = ""
    tie_breaker: str = ""
    drop_duplicates: bool = True
    where: str = ""
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
    ordinal: dict[str, str] = dataclasses.field(default_factory=dict)
    regression: dict[str, str] = dataclasses.field(default_factory=dict)
    min_count: int = 2
    most_values: int = 16
    split: SplitRule = SplitRule()
    download: Download = Download()
    source: str = ""
    license: str = ""
    threads: int = 0
    memory_gb: float = 2.0

    def __post_init__(self) -> None:
        for key in _REQUIRED:
            check(bool(getattr(self, key)), key, "given; it is empty")
        for group in EXPRESSION_GROUPS:
            seen: set[str] = set()
            for name, expression in getattr(self, group).items():
                key = f"{group}.{name}"
                is_name = bool(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", name))
                check(is_name, key, "named with letters, digits and _ only, at most 100 of them")
                check(name.lower() not in seen, key, "named otherwise; case does not matter")
                seen.add(name.lower())
                check(bool(expression.strip()), key, "an SQL expression; it is empty")
        of_labels = [(name, group) for group in LABELS for name in getattr(self, group)]
        groups: dict[str, str] = {}
        for name, group in of_labels:
            other = groups.setdefault(name.lower(), group)
            right = f"named otherwise; config.{other} has a label of this name"
            check(other == group, f"{group}.{name}", right)
        for name, group in of_labels:  # each has a column in predictions.parquet
            right = "named otherwise; predictions have a column of this name, as they have "
            right += ", ".join(PREDICTION_COLUMNS)
            check(name.lower() not in PREDICTION_COLUMNS, f"{group}.{name}", right)
            scored = name.lower().removesuffix("_score")
            right = f"named otherwise; the predictions of {scored!r} have a column of this name"
            check(scored == name.lower() or scored not in groups, f"{group}.{name}", right)
        check("item" not in self.categorical, "categorical.item", "left out; it is always there")
        for name in self.derived:
            right = f"called differently; {', '.join(RESERVED)} have a meaning already"
            check(name.lower() not in RESERVED, f"derived.{name}", right)
        for key, least in (("min_count", 1), ("core", 1), ("most_values", 1), ("threads", 0)):
            right = f"at least {least} and at most {_MOST[key]}"
            check(least <= getattr(self, key) <= _MOST[key], key, right)
        check(0 < self.memory_gb <= 1e6, "memory_gb", "above 0 and at most a million")
        for key in ("earliest", "latest"):
            if getattr(self, key):
                parse_date(getattr(self, key), key)
        if self.time_origin:
            check(self.time_unit != "iso", "time_origin", "empty if time_unit is 'iso'")
            parse_date(self.time_origin, "time_origin")
        right = "empty if utc_offset is given, or the other way round"
        check(not (self.time_zone and self.utc_offset), "time_zone", right)

    @property
    def origin(self) -> int:
        """The Unix seconds from which the times of the log count."""
        return parse_date(self.time_origin, "config.time_origin") if self.time_origin else 0

    @staticmethod
    def load(config: Mapping[str, Any] | ConfigDict) -> "PrepareConfig":
        """Reads a config, in which a group of expressions may be one text: "name=SQL;name=SQL".

        In a group that is not, an expression that is empty leaves its name out, so that the command
        line can drop a feature of a config file.

        Raises:
          UserError: an unknown key, or a wrong or missing value.
        """
        values = {key: config[key] for key in config}
        for group in EXPRESSION_GROUPS:
            if isinstance(values.get(group), str):
                values[group] = _parse_expressions(values[group], f"config.{group}")
            elif isinstance(values.get(group), Mapping | ConfigDict):
                values[group] = {name: text for name, text in values[group].items() if text != ""}
        return from_config_dict(PrepareConfig, values)


SEQUENCES = {
    "rank": {
        "pattern": "*_item_*.txt",
        "kind": "sequences",
        "columns": ("user", "item", "time"),
        "companion": ("_item_", "_time_"),
    }
}
"""`PrepareConfig.formats` of the files that TiCoSeRec publishes."""


def config_dict(**values: Any) -> ConfigDict:
    """Returns a `PrepareConfig` as a ConfigDict in which every key exists and can be overridden.

    What is required and not given is empty and must be overridden. So are groups without an
    expression: ConfigDicts keep the type of a value, and on the command line these are texts.
    """
    missing = [key for key in _REQUIRED if not values.get(key)]
    whole = PrepareConfig.load(values | dict.fromkeys(missing, "-"))
    config = complete(PrepareConfig, to_dict(whole))
    with config.ignore_type():
        for key in (*missing, *(group for group in EXPRESSION_GROUPS if not config[group])):
            config[key] = ""
    return config


def parse_date(text: str, about: str) -> int:
    """Returns the Unix seconds of an ISO date, UTC if it states no offset; `about` is its key."""
    try:
        date = datetime.datetime.fromisoformat(text)
        date.timestamp()
    except (ValueError, OverflowError) as error:
        raise UserError(about, f"{text!r} is not a date such as 2024-05-01") from error
    return int((date if date.tzinfo else date.replace(tzinfo=datetime.UTC)).timestamp())


def to_iso(seconds: float) -> str:
    """Returns Unix seconds as a date and time in UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _parse_expressions(text: str, about: str) -> dict[str, str]:
    """Parses "like=rating>=4;love=rating=5" into {"like": "rating>=4", "love": "rating=5"}."""
    expressions: dict[str, str] = {}
    for part in text.split(";"):
        if not part.strip():
            continue
        name, equals, expression = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise UserError(about, f"{part.strip()!r} has no name; write name=expression")
        if name in expressions:
            raise UserError(about, f"{name!r} is given twice")
        expressions[name] = expression
    return expressions
