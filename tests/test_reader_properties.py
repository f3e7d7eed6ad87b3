"""Random tables that other libraries write and read: `prepare` makes of them what its rules say.

Python's csv, pandas and pyarrow write the files. What is in them is read again by Python's csv or
by pyarrow, and the rules of `prepare` are applied to that in the plain Python of this module.
SIREN_ROPE_EXAMPLES=1000 tries so many tables for each property.
"""

import codecs
import csv
import datetime
import decimal
import functools
import glob
import gzip
import io
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from siren_rope_jax.base.times import NO_TIME
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.prepare import text_files
from tests.raw_logs import START, config, decoded, opened
from tests.refusals import refused

EXAMPLES = int(os.environ.get("SIREN_ROPE_EXAMPLES", 0))
many = functools.partial(
    settings,
    deadline=None,
    derandomize=not EXAMPLES,
    database=None,
    suppress_health_check=list(HealthCheck),
)

# --- The rules, applied to cells as another library reads them ---

MISSING = ("", "NULL", "null", "NaN", "nan", "\\N")
SECOND = 10**9
UNITS = {"s": SECOND, "ms": 10**6, "us": 10**3, "ns": 1}
EXACT = 2**53


def is_missing(cell: Any) -> bool:
    return cell is None or cell != cell or (isinstance(cell, str) and cell in MISSING)


def as_text(cell: Any) -> str:
    """The text of a number, where another file has texts in the same column."""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float):
        return str(int(cell)) if cell == int(cell) else repr(cell)
    if isinstance(cell, Decimal):
        return format(cell.normalize(), "f") if cell else "0"
    return str(cell)


def number(text: str) -> float:
    """The number that a text is, if a double represents it; else NaN."""
    if not text.isascii() or "_" in text or re.match(r"0\d", text):
        return math.nan
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if abs(value) < EXACT or math.isinf(value) else math.nan


def is_int64(cell: Any) -> bool:
    if isinstance(cell, str):
        return re.fullmatch(r"0|-?[1-9][0-9]*", cell) is not None and is_int64(int(cell))
    return -(2**63) <= cell < 2**63


def common(cells: Sequence[Any]) -> list[Any]:
    """The cells of all files, None if missing; as texts if they are of several types."""
    cells = [None if is_missing(cell) else cell for cell in cells]
    types = {type(cell) for cell in cells if cell is not None}
    if len(types) > 1:
        cells = [None if cell is None else as_text(cell) for cell in cells]
    return cells


def each(make: Callable[[Any], Any], cells: Sequence[Any]) -> list[Any]:
    return [None if cell is None else make(cell) for cell in cells]


def identities(cells: Sequence[Any]) -> list[Any]:
    """Users or items: exact integers, or else text."""
    cells = common(cells)
    there = [cell for cell in cells if cell is not None]
    if all(isinstance(cell, str) for cell in there):
        whole = re.compile(r"(0|-?[1-9][0-9]{0,17})(\.0+)?")
        if all(map(is_int64, there)):
            return each(int, cells)
        if all(whole.fullmatch(cell) and abs(number(cell)) < EXACT for cell in there):
            return each(lambda cell: int(cell.partition(".")[0]), cells)
        return cells
    if all(cell == int(cell) and is_int64(int(cell)) for cell in there):
        return each(int, cells)
    return each(as_text, cells)


def values(cells: Sequence[Any], apart: bool = False) -> list[Any]:
    """Numbers, true/false or text; the latter if two texts are not to fall together."""
    cells = common(cells)
    there = [cell for cell in cells if cell is not None]
    if not all(isinstance(cell, str) for cell in there):
        if isinstance(there[0], bool):
            return cells
        if isinstance(there[0], int):
            return cells if all(map(is_int64, there)) else each(str, cells)
        return each(float, cells)
    if all(map(is_int64, there)):
        return each(int, cells)
    flags = {"true": True, "false": False}
    for make in (lambda cell: flags.get(cell.lower(), math.nan), number):
        made = list(map(make, there))
        together = len(set(made)) < len(set(there))
        if all(value == value for value in made) and not (apart and together):
            return each(make, cells)
    return cells


def nanoseconds(cell: Any, unit: str) -> int | None:
    """The full time of a cell; `Instant`s are those of a library's own type."""
    if is_missing(cell):
        return None
    if isinstance(cell, Instant):
        return cell.ns
    if unit == "iso":
        return of_iso(cell)
    size = UNITS[unit]
    if isinstance(cell, float):
        whole = math.floor(cell)
        return whole * size + math.floor((cell - whole) * size + 0.5)
    with decimal.localcontext(prec=60):
        return math.floor(Decimal(cell) * size)


def of_iso(text: str) -> int:
    text = text.strip()
    clock, digits, zone = re.fullmatch(
        r"([-0-9T: ]{16,19}?)(?:\.(\d+))?( ?[-+Z].*| .*)?", text
    ).groups()
    at = datetime.datetime.fromisoformat(clock)
    zone = (zone or "Z").strip().replace("UTC", "Z").replace("GMT", "Z")
    if "/" in zone:
        at = at.replace(tzinfo=ZoneInfo(zone))
    else:
        at = datetime.datetime.fromisoformat(at.isoformat() + zone)
    seconds = (at - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(
        seconds=1
    )
    return seconds * SECOND + int((digits or "0")[:9].ljust(9, "0"))


@dataclass(frozen=True)
class Instant:
    """A time of a library's own type."""

    ns: int


ENDS = (START + 15, START + 25)


def expected(table: dict[str, list[Any]], unit: str, one_out: bool) -> list[tuple]:
    """All events of the prepared log, from the cells of all files."""
    columns = {
        "user": identities(table["user"]),
        "item": identities(table["item"]),
        "ns": [nanoseconds(cell, unit) for cell in table["time"]],
        "tie": values(table["tie"]),
        "label": values(table["label"]),
        "x": values(table["x"]),
        "c": values(table["c"], apart=True),
        "serial": values(table["serial"]),
    }
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    once: dict[Any, dict[str, Any]] = {}
    for row in rows:
        once.setdefault(row["serial"], row)
    rows = list(once.values())
    first = min(row["ns"] for row in rows if row["ns"] is not None)
    in_order = lambda user: user.encode() if isinstance(user, str) else user  # noqa: E731
    events = []
    for user in sorted({row["user"] for row in rows}, key=in_order):
        mine = [row for row in rows if row["user"] == user]
        last = next((row["ns"] for row in mine if row["ns"] is not None), first)
        for place, row in enumerate(mine):
            last = last if row["ns"] is None else row["ns"]
            tie = (row["tie"] is None, row["tie"] or 0)
            row["key"] = (last, tie, place)
        mine.sort(key=lambda row: row["key"])
        for place, row in enumerate(mine):
            split = sum(row["key"][0] // SECOND >= end for end in ENDS)
            if one_out:
                split = max(0, 3 - (len(mine) - place)) if len(mine) > 2 else 0
            time = NO_TIME if row["ns"] is None else row["ns"] // SECOND
            label = -1 if row["label"] is None or one_out else int(row["label"])
            events.append(
                (user, row["item"], time, split, label, row["x"], row["c"], row["serial"])
            )
    return events


def found(log: PreparedLog) -> list[tuple]:
    events = log.events()
    users = log.users().to_pylist()

    def raw(name: str) -> list[Any]:
        of_id = [None, *log.vocabulary(name)["value"].to_pylist()]
        return [of_id[number] for number in events.rows[f"categorical/{name}"]]

    rows, who = events.rows, [users[user] for user in events.user]
    time, split, x = (rows[name].tolist() for name in ("time", "split", "dense/x"))
    labels = rows["task/label"].tolist() if log.schema.tasks else [-1] * len(rows)
    serials = rows["context/serial"].tolist()
    return list(zip(who, raw("item"), time, split, labels, x, raw("c"), serials, strict=True))


# --- Random tables ---

NAMES = (
    "uid", "Order Time", "time as given", "row", "split", "user", "item", "time", "time_ns", "a'b",
    'say "so"', "select", "NULL", "ä€𝄞", "from where", "1", "a.b", "a,b", "a;b", "x|y", "$1", "{}",
    "given", "checked", "log", "events", "tie", "order", "number", "%s", "--", "/*", "\\", "É", "ß",
    "categorical/item", "task/label", "unnamed", "evaluated", "user_index", "siren_rope_jax",
)  # fmt: skip
RESERVED = ("user", "item", "time", "time_ns", "row")
COLUMNS = ("user", "item", "time", "tie", "label", "x", "c", "serial")
WORDS = (
    "a", "A", "a ", " a", "007", "7", "1e3", "1000", "+5", "5", "-0", "0", "0x10", "16", "1_000",
    "Infinity", "inf", "true", "True", "é", "e\u0301", "０", "None", "N/A", "NA", "null ", "Null",
    "1.0", "1.00", "1.", ".5", "0.5", "-0.0", "1.10", "1.1", "2024-01-01", "a,b", "a;b", "a|b",
    "a\tb", 'say "so"', '"', '""', '"a"', "it's", "\\", "a\\b", "\\n", "#a", "=1+1", "\u2028",
    "\xa0", "\ufeff", "😀", "-", "@", "12345678901234567890123", "9223372036854775808",
    "123456789012345678.0",
)  # fmt: skip
PLAIN = st.characters(exclude_categories=("Cs", "Cc"))
TEXTS = st.one_of(
    st.sampled_from(WORDS),
    st.text(PLAIN, min_size=1, max_size=6),
    st.text(st.sampled_from("a\" ',\\;|\t"), min_size=1, max_size=5),
).filter(lambda text: text not in MISSING)
SMALL = st.integers(0, 4)
HUGE = st.sampled_from([10**24 + 7, 2**64 - 1, 2**63, 2**63 - 1, -(2**63), -(2**63) - 1, 2**53 + 1])
IDS = (  # of users and items: values, and the ways to write them
    (SMALL, (str,)),
    (SMALL, (str, lambda i: f"{i}.0", lambda i: f"{i}.00")),
    (SMALL, (str, lambda i: f"0{i}", lambda i: f"+{i}", lambda i: f" {i}")),
    (st.one_of(SMALL, HUGE), (str,)),
    (TEXTS, (str,)),
)
CATEGORIES = (
    (st.one_of(TEXTS, st.sampled_from(MISSING)), (str,)),
    (st.one_of(SMALL, st.just("")), (str,)),
    (st.sampled_from(["1.5", "2.25", "1e3", "-1", "0.1", ""]), (str,)),
    (st.sampled_from(["1.10", "1.1", "1", "1.0"]), (str,)),
    (st.booleans(), (str, lambda b: str(b).lower())),
    (st.booleans(), (lambda b: str(b).lower(),)),
)
LABELS = (  # ..., and one of each class
    (st.sampled_from([0, 1, 1, 0, ""]), (str,), (0, 1)),
    (st.sampled_from([0, 1]), (str, lambda i: f"{i}.0"), (0, 1)),
    (st.sampled_from(["true", "FALSE", "NULL"]), (str,), ("False", "True")),
)
QUARTERS = st.integers(-40, 40).map(lambda i: i / 4)
NUMBERS = (
    (st.integers(-9, 9), (str,)),
    (QUARTERS, (repr, lambda x: f"{x:.3f}", lambda x: f"{x:e}", lambda x: f" {x}")),
)
TIES = ((st.sampled_from([0, 1, 1, 2, -1, ""]), (str,)),)
PARTS_OF_SECONDS = st.sampled_from([0, 0, 1, 999_999_999, 500_000_000, 1_000, 123_456_789, 10**6])
INSTANTS = st.tuples(st.integers(-40, 40), PARTS_OF_SECONDS).map(
    lambda pair: (START + pair[0]) * SECOND + pair[1]
)


def written_number(ns: int, unit: str, style: int) -> str:
    with decimal.localcontext(prec=60):
        value = Decimal(ns) / UNITS[unit]
        forms = (f"{value:f}", f"{value:f}", f"{value:E}", f"0{value:f}", f"+{value:f}")
    return forms[style % len(forms)]


ZONES = (
    ("Z", datetime.UTC), ("", datetime.UTC), (" UTC", datetime.UTC), ("GMT", None),
    ("+02:00", datetime.timezone(datetime.timedelta(hours=2))),
    ("-0330", datetime.timezone(-datetime.timedelta(hours=3, minutes=30))),
    (" +09", datetime.timezone(datetime.timedelta(hours=9))),
    (" Europe/Berlin", ZoneInfo("Europe/Berlin")),
    (" America/Argentina/Buenos_Aires", ZoneInfo("America/Argentina/Buenos_Aires")),
)  # fmt: skip


def written_date(ns: int, style: int) -> str:
    suffix, zone = ZONES[style % len(ZONES)]
    if zone is None:
        suffix, zone = " GMT", datetime.UTC
    second, below = divmod(ns, SECOND)
    at = datetime.datetime.fromtimestamp(second, zone).replace(tzinfo=None)
    digits = f"{below:09d}".rstrip("0")
    text = at.isoformat(sep="T" if style % 2 else " ")
    if not digits and at.second == 0 and "/" not in suffix and style % 3 == 0:
        text = text[:-3]
    padding = "0" * (style % 3) if digits else ""
    return text + (f".{digits}{padding}" if digits else "") + suffix


def of_style(draw: Any, styles: Sequence, count: int) -> list[str]:
    """Texts in one style, one for each row."""
    value, forms = draw(st.sampled_from(styles))
    drawn = draw(st.lists(value, min_size=count, max_size=count))
    form = st.sampled_from(forms)
    return [draw(form)(cell) for cell in drawn]


@dataclass(frozen=True)
class Dialect:
    """How a text file is written."""

    delimiter: str
    quoting: int
    line_end: str
    ends: bool
    bom: bool
    gzipped: bool
    newlines: bool
    writer: str


@st.composite
def dialects(draw: Any) -> Dialect:
    delimiter = draw(st.sampled_from([",", ",", ";", "|", "\t", "::"]))
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE]))
    if delimiter == "::":  # which no library writes, so that lines are joined here
        quoting = csv.QUOTE_NONE
    flag = st.booleans()
    newlines = quoting != csv.QUOTE_NONE and draw(st.integers(0, 5)) == 0
    return Dialect(
        delimiter,
        quoting,
        draw(st.sampled_from(["\n", "\r\n"])),
        draw(flag),
        draw(flag),
        draw(flag),
        newlines,
        draw(st.sampled_from(["csv", "pandas"])),
    )


def write_text(path: Path, names: Sequence[str], rows: Sequence[Sequence[str]], d: Dialect) -> None:
    if d.quoting == csv.QUOTE_NONE:
        text = d.line_end.join(d.delimiter.join(row) for row in (names, *rows)) + d.line_end
    elif d.writer == "pandas":
        frame = pd.DataFrame(rows, columns=list(names), dtype=object)
        text = frame.to_csv(
            None, sep=d.delimiter, index=False, quoting=d.quoting, lineterminator=d.line_end
        )
    else:
        buffer = io.StringIO(newline="")
        writer = csv.writer(
            buffer, delimiter=d.delimiter, quoting=d.quoting, lineterminator=d.line_end
        )
        writer.writerows([names, *rows])
        text = buffer.getvalue()
    if not d.ends:
        text = text.removesuffix(d.line_end)
    content = codecs.BOM_UTF8 * d.bom + text.encode()
    path.write_bytes(gzip.compress(content) if d.gzipped else content)


def read_text(path: Path, d: Dialect, with_arrow: bool) -> list[list[str]]:
    """The rows of a file, without its header, as Python's csv or pyarrow read them."""
    content = path.read_bytes()
    content = gzip.decompress(content) if d.gzipped else content
    if d.quoting == csv.QUOTE_NONE:
        text = content.decode("utf-8-sig").removesuffix(d.line_end)
        return [line.split(d.delimiter) for line in text.split(d.line_end)][1:]
    if not with_arrow or content.count(b"\n") < 2:  # pyarrow refuses a header without a line end
        text = io.StringIO(content.decode("utf-8-sig"), newline="")
        return list(csv.reader(text, delimiter=d.delimiter, strict=True))[1:]
    parse = pa_csv.ParseOptions(delimiter=d.delimiter, newlines_in_values=True)
    lines = pa_csv.ReadOptions(autogenerate_column_names=True)
    types = {f"f{i}": pa.string() for i in range(99)}
    convert = pa_csv.ConvertOptions(column_types=types, strings_can_be_null=False)
    table = pa_csv.read_csv(io.BytesIO(content), lines, parse, convert)
    return [list(row) for row in zip(*table.to_pydict().values(), strict=True)][1:]


FOLDERS = ("a", "b c", "x=1", "user=7", "[1-9]", "it's", "ä€", "*", "{}", "a%20b")
ENDINGS = ("", "[1]", " b", "'", '"', "*", "?", "ü", "=", ";", "%41", "~", "{a}", "\\")


@dataclass(frozen=True)
class Table:
    """What a random log is made of."""

    names: tuple[str, ...]  # of COLUMNS, in this order
    order: tuple[int, ...]  # of the columns in a file
    texts: tuple[tuple[str, ...], ...]  # rows
    cuts: tuple[int, ...]  # where each part ends
    unit: str
    one_out: bool
    folder: str
    ending: str
    asked: tuple[int, ...]  # how the config names the columns


@st.composite
def tables(draw: Any, forbidden: str = "", newlines: bool = False) -> Table:
    count = draw(st.integers(1, 24))
    rows = count + 6
    columns = {
        "user": of_style(draw, IDS, rows),
        "item": of_style(draw, IDS, rows),
        "tie": of_style(draw, TIES, rows),
        "x": of_style(draw, NUMBERS, rows),
        "c": of_style(draw, CATEGORIES, rows),
    }
    value, forms, both = draw(st.sampled_from(LABELS))
    labels = draw(st.lists(value, min_size=count, max_size=count))
    columns["label"] = [forms[i % len(forms)](cell) for i, cell in enumerate([*labels, *both * 3])]
    unit = draw(st.sampled_from(["s", "ms", "us", "ns", "iso", "iso"]))
    instants = draw(st.lists(INSTANTS, min_size=count, max_size=count))
    # Labels of both classes in each split, and so a user with three events.
    instants += [(START + s) * SECOND for s in (-50, -50, 20, 20, 60, 60)]
    style = draw(st.integers(0, 999))
    if unit == "iso":
        columns["time"] = [
            written_date(ns, style + i * (style % 7)) for i, ns in enumerate(instants)
        ]
    else:
        whole = draw(st.booleans())
        size = UNITS[unit]
        instants = [ns // size * size if whole else ns for ns in instants]
        columns["time"] = [
            written_number(ns, unit, 0 if whole else style + i) for i, ns in enumerate(instants)
        ]
    for place in draw(st.lists(st.integers(0, count - 1), max_size=3)):
        columns["time"][place] = draw(st.sampled_from(MISSING))
    columns["user"][-6:] = columns["user"][-1:] * 6
    columns["serial"] = [str(i) for i in range(rows)]
    table = [tuple(columns[name][i] for name in COLUMNS) for i in range(rows)]
    if newlines:
        at = draw(st.integers(0, rows - 1))
        table[at] = (*table[at][:6], "two\nlines", table[at][7])
    table = [
        tuple(
            cell if name == "time" else keep_apart(cell, forbidden)
            for name, cell in zip(COLUMNS, row, strict=True)
        )
        for row in table
    ]
    again = draw(st.lists(st.integers(0, rows - 1), max_size=4))
    table = draw(st.permutations([*table, *(table[i] for i in again)]))
    cuts = draw(st.lists(st.integers(0, len(table)), max_size=3))
    names = draw(
        st.lists(  # distinct even without what is forbidden
            st.one_of(st.sampled_from(NAMES), st.text(PLAIN, min_size=1, max_size=5)),
            min_size=len(COLUMNS),
            max_size=len(COLUMNS),
            unique_by=lambda name: keep_apart(name, forbidden).lower(),
        ).filter(lambda names: all(map(is_name, names, COLUMNS)))
    )
    return Table(
        tuple(keep_apart(name, forbidden) for name in names),
        tuple(draw(st.permutations(range(len(COLUMNS))))),
        tuple(table),
        (*sorted(cuts), len(table)),
        unit,
        draw(st.integers(0, 3)) == 0,
        draw(st.sampled_from(FOLDERS)),
        draw(st.sampled_from(ENDINGS)),
        tuple(draw(st.lists(st.integers(0, 2), min_size=4, max_size=4))),
    )


def keep_apart(text: str, forbidden: str) -> str:
    """The text without what a format cannot represent."""
    return "".join("_" if character in forbidden else character for character in text)


def is_name(name: str, column: str) -> bool:
    """Whether a column may be called so; what the config's expressions use is not reserved."""
    of_expression = column in ("label", "x", "c", "serial")
    return (
        name == name.strip()  # `prepare` strips the names in a header
        and not name.startswith("\ufeff")
        and not re.search(r":(token|float)(_seq)?$", name)
        and not (of_expression and name.lower() in RESERVED)
    )


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def asked(name: str, how: int) -> str:
    """A column's name in the config: as it is, or as an expression, in another case."""
    if how == 0 or name.lower() in RESERVED:
        return name
    return quoted(name.swapcase() if how == 2 and name.isascii() else name)


def prepared(table: Table, folder: Path, form: dict[str, Any], names: Sequence[str]) -> PreparedLog:
    """Prepares the files of the folder: one by its path, several by a glob."""
    of = dict(zip(COLUMNS, names, strict=True))
    path = Path(glob.escape(str(folder))) / "*"
    files = list(folder.iterdir())
    ends = [datetime.datetime.fromtimestamp(end, datetime.UTC).isoformat() for end in ENDS]
    split = {"train_end": ends[0], "validation_end": ends[1]}
    return opened(
        config(
            user=asked(of["user"], table.asked[0]),
            item=asked(of["item"], table.asked[1]),
            time=asked(of["time"], table.asked[2]),
            tie_breaker=asked(of["tie"], table.asked[3]),
            time_unit=table.unit,
            categorical={"c": quoted(of["c"])},
            dense={"x": quoted(of["x"])},
            context={"serial": quoted(of["serial"])},
            tasks={} if table.one_out else {"label": quoted(of["label"])},
            split={"kind": "leave_one_out"} if table.one_out else split,
            allow_missing_time=True,
            min_count=1,
            formats={"any": form},
        ),
        files[0] if len(files) == 1 else path,
        folder.parent / "out",
    )


def compare(table: Table, cells: dict[str, list[Any]], log: PreparedLog) -> None:
    assert found(log) == expected(cells, table.unit, table.one_out)
    report, serials = log.report, values(cells["serial"])
    assert report["rows_read"] == len(serials)
    assert report["duplicates_dropped"] == len(serials) - len(set(serials))
    times = dict(zip(serials, cells["time"], strict=True))
    assert report["missing_times"] == sum(map(is_missing, times.values()))


@st.composite
def text_logs(draw: Any) -> tuple[Dialect, Table, bool]:
    dialect = draw(dialects())
    forbidden = "\r\n"
    if dialect.quoting == csv.QUOTE_NONE:
        forbidden += dialect.delimiter
    if dialect.newlines:
        forbidden = ""
    return dialect, draw(tables(forbidden, dialect.newlines)), draw(st.booleans())


@many(max_examples=EXAMPLES or 60)
@given(text_logs())
def test_text_is_read_as_other_libraries_read_it(tmp_path_factory, drawn):
    dialect, table, with_arrow = drawn
    folder = tmp_path_factory.mktemp("text") / table.folder
    folder.mkdir()
    suffix = ".tsv" if dialect.delimiter == "\t" else ".csv"
    suffix += ".gz" if dialect.gzipped else ""
    names = [table.names[i] for i in table.order]
    cells: dict[str, list[str]] = {name: [] for name in COLUMNS}
    begin = 0
    for number, end in enumerate(table.cuts):
        name = f"{number}{table.ending}{suffix.upper() if number % 2 else suffix}"
        rows = [[row[i] for i in table.order] for row in table.texts[begin:end]]
        write_text(folder / name, names, rows, dialect)
        for row in read_text(folder / name, dialect, with_arrow):
            for i, cell in zip(table.order, row, strict=True):
                cells[COLUMNS[i]].append(cell)
        begin = end
    form = {
        "delimiter": "" if dialect.delimiter in ",\t" else dialect.delimiter,
        "quote": "" if dialect.quoting == csv.QUOTE_NONE else '"',
        "newlines": dialect.newlines,
    }
    compare(table, cells, prepared(table, folder, form, table.names))


# --- Parquet: each part with its own types ---


def arrow_of(kind: str, cells: Sequence[Any], unit: str) -> pa.Array:
    """The texts of one part's column as another type, if it represents them all; else as text."""
    there = [cell for cell in cells if not is_missing(cell)]

    def array(make: Callable[[str], Any], of: pa.DataType) -> pa.Array:
        return pa.array([None if is_missing(cell) else make(cell) for cell in cells], of)

    try:
        if kind == "null" and not there:
            return pa.nulls(len(cells))
        if kind in ("int8", "int64", "uint64") and all(map(is_int64, there)):
            return array(int, getattr(pa, kind)())
        if kind in ("float64", "float32") and all(map(is_small, there)):
            return array(float, getattr(pa, kind)())
        if kind == "decimal" and all(map(is_small, there)):
            return array(lambda cell: Decimal(cell.strip()), pa.decimal128(30, 9))
        if kind == "bool" and there and all(cell.lower() in ("true", "false") for cell in there):
            return array(lambda cell: cell.lower() == "true", pa.bool_())
        if kind.startswith("timestamp") and unit == "iso":
            _, size, zone = kind.split(" ", 2)
            of = pa.timestamp(size, zone or None)
            ticks = [None if is_missing(c) else of_iso(c) // UNITS[size] for c in cells]
            return pa.array(ticks, pa.int64()).cast(of)
    except (pa.ArrowInvalid, ValueError, OverflowError):
        pass
    texts = pa.array(list(cells), pa.string())
    if kind == "dictionary":
        return texts.dictionary_encode()
    return texts.cast(pa.large_string()) if kind == "large" else texts


def is_small(text: str) -> bool:
    """Whether doubles and decimals with few digits both represent the text."""
    value = number(text)
    return abs(value) < 10**9 and float(np.float32(value)) == value and value * 4 == int(value * 4)


KINDS = (
    "string", "large", "dictionary", "null", "int8", "int64", "uint64", "float64", "float32",
    "decimal", "bool",
)  # fmt: skip
TIMESTAMPS = tuple(
    f"timestamp {size} {zone}"
    for size in ("s", "ms", "us", "ns")
    for zone in ("", "UTC", "Asia/Tokyo")
)


def read_arrow(column: pa.ChunkedArray) -> list[Any]:
    """The cells of a Parquet file's column: Python's values, and times to the nanosecond."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        ticks = column.cast(pa.int64()).to_pylist()
        return [None if t is None else Instant(t * UNITS[kind.unit]) for t in ticks]
    return column.to_pylist()


@st.composite
def parquet_logs(draw: Any) -> tuple[Table, list[dict[str, str]]]:
    table = draw(tables())
    kinds = [
        {
            name: draw(st.sampled_from(TIMESTAMPS if name == "time" and of_dates else KINDS))
            for name in COLUMNS
        }
        for of_dates in draw(
            st.lists(st.booleans(), min_size=len(table.cuts), max_size=len(table.cuts))
        )
    ]
    return table, kinds


@many(max_examples=EXAMPLES or 40)
@given(parquet_logs(), st.booleans())
def test_parts_of_any_types_are_read_as_pyarrow_reads_them(tmp_path_factory, drawn, with_text):
    """Parquet files with other types in each, and perhaps text among them."""
    table, kinds = drawn
    folder = tmp_path_factory.mktemp("parquet") / table.folder
    folder.mkdir()
    names = [table.names[i] for i in table.order]
    cells: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    begin = 0
    for number, (end, kind) in enumerate(zip(table.cuts, kinds, strict=True)):
        # A row that is there again is so within a part, since types may cut its time.
        before = {row[-1] for row in table.texts[:begin]}
        rows = [row for row in table.texts[begin:end] if row[-1] not in before]
        begin = end
        path = folder / f"{number}{table.ending}"
        if with_text and number % 2:
            path = path.with_name(f"{path.name}.csv")
            dialect = Dialect(",", csv.QUOTE_MINIMAL, "\n", True, False, False, True, "csv")
            write_text(path, names, [[row[i] for i in table.order] for row in rows], dialect)
            for row in read_text(path, dialect, False):
                for i, cell in zip(table.order, row, strict=True):
                    cells[COLUMNS[i]].append(cell)
            continue
        path = path.with_name(f"{path.name}.{'PARQUET' if number % 2 else 'pq'}")
        columns = {
            name: arrow_of(kind[name], [row[i] for row in rows], table.unit)
            for i, name in enumerate(COLUMNS)
        }
        in_order = {table.names[i]: columns[COLUMNS[i]] for i in table.order}
        pq.write_table(pa.table(in_order), path)
        read = pq.read_table(path, partitioning=None)
        for i, name in enumerate(COLUMNS):
            cells[name].extend(read_arrow(read[table.names[i]]))
    form = {"newlines": True}
    compare(table, cells, prepared(table, folder, form, table.names))


# --- One case each of what was once read otherwise ---

HEADER = "uid,iid,at\n"
LATER = [f"last,z,{START + 1000 * i}" for i in range(1, 11)]


def log_of(folder: Path, files: dict[str, Any], **values: Any) -> pd.DataFrame:
    """Prepares files of these names with text, lines or Arrow tables; returns what was made."""
    for name, content in files.items():
        path = folder / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, pa.Table):
            pq.write_table(content, path)
        else:
            path.write_text(content, newline="")
    log = opened(
        config(**{"tasks": {}, **values}),
        path if len(files) == 1 else folder / "raw" / "*",
        folder / "out",
    )
    made = decoded(log).query("user != 'last'")
    made.attrs["warnings"] = log.report["warnings"]
    return made


def lines(*events: str, header: str = HEADER, later: Sequence[str] = LATER) -> str:
    return header + "".join(f"{event}\n" for event in (*events, *later))


def arrow(later: bool = True, **columns: pa.Array) -> pa.Table:
    """A few events with some given columns, and those of LATER."""
    count = len(next(iter(columns.values())))
    table = {
        "uid": pa.array([f"u{i}" for i in range(count)]),
        "iid": pa.array(["a"] * count),
        "at": pa.array([START + i for i in range(count)]),
    }
    first = pa.table(table | columns)
    if not later:
        return first
    rest = {"uid": ["last"] * 10, "iid": ["z"] * 10, "at": [START + 1000 * i for i in range(1, 11)]}
    texts = {name: pa.array(rest.get(name, [None] * 10)) for name in first.column_names}
    if first.schema.field("at").type != pa.int64():
        unit = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[first.schema.field("at").type.unit]
        texts["at"] = pa.array([at * unit for at in rest["at"]])
    if not pa.types.is_string(first.schema.field("iid").type):
        texts["iid"] = first["iid"].take(pa.array([0] * 10))
    return pa.concat_tables([first, pa.table(texts).cast(first.schema)])


NEWLINES = {"any": {"newlines": True}}
BACKSLASH = {"any": {"escape": "\\"}}
AMBIGUOUS = {  # an event, the formats
    "a blank after the mark": ('"a" ,x,5', {}),
    "a blank before the mark": (' "a",x,5', {}),
    "marks in a row": ('a,"x" "y",5', {}),
    "text after the mark": ('a,"x"y,5', {}),
    "one field too many": ("a,x,5,", {}),
    "two fields too many": ("a,x,5,,", {}),
    "an empty text too many": ('a,x,5,""', {}),
    "a tab that is written as two signs": ('"a\\tb",x,5', BACKSLASH),
    "an escape outside of marks": ("a\\\\b,x,5", BACKSLASH),
    "a field too many after a line end": ('"a\nb",x,5,', NEWLINES),
    "a field that is never closed": ('"a\nb,x,5', NEWLINES),
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_what_programs_read_in_different_ways_is_refused(tmp_path, case):
    event, formats = AMBIGUOUS[case]
    formats = formats or {"any": {}}
    named = () if formats == NEWLINES and "too many" in case else ("line 12",)
    with refused(tmp_path / "raw/a.csv", *named):
        log_of(tmp_path, {"a.csv": lines(*LATER, event, later=())}, formats=formats)


def test_marks_that_are_part_of_a_text_are_kept(tmp_path):
    users = ['5" tv', '6"', '  "x"', "it's", 'a""b', '\t"q"\t']
    text = lines(*(f"{user},x,{START + i}" for i, user in enumerate(users)))
    assert set(log_of(tmp_path, {"a.csv": text})["user"]) == set(users)


def test_line_ends_in_fields_are_counted_wherever_a_file_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "_BLOCK", 37)
    header, later = "uid,iid,at,n\n", [f"{event}," for event in LATER]
    events = [f'u,x,{START + i},"{"x" * i}\n\n,""{i}""\n"' for i in range(40)]
    for number, text in enumerate(
        (
            lines(*later, *events, header=header, later=()),
            lines(*later, *events, header=header, later=())[:-1],
            lines(*later, *events, header=header, later=()).replace("\n", "\r\n"),
        )
    ):
        values = {"formats": NEWLINES, "categorical": {"n": "n"}}
        made = log_of(tmp_path / str(number), {"a.csv": text}, **values)
        assert made["categorical/n"].nunique() == len(made) == 40


def test_a_single_mark_is_escaped_by_another(tmp_path):
    text = lines(f"'it''s',x,{START}", f"'say \"\"',x,{START}")
    made = log_of(tmp_path, {"a.csv": text}, formats={"any": {"quote": "'"}})
    assert set(made["user"]) == {"it's", 'say ""'}


def test_a_mark_after_a_byte_order_mark(tmp_path):
    marked = {"b.csv": "\ufeff" + lines(f'"a,b",x,{START}', header='"u,id",iid,at\n')}
    assert list(log_of(tmp_path / "1", marked, user="u,id")["user"]) == ["a,b"]
    bare = {"b.csv": "\ufeff" + lines(f'"a,b",x,{START}', header="")}
    formats = {"any": {"columns": ("uid", "iid", "at")}}
    assert list(log_of(tmp_path / "2", bare, formats=formats)["user"]) == ["a,b"]
    double = {"b.csv": lines(f'"a",x,{START}', header='"uid",iid,at\n').replace(",", "::")}
    formats = {"any": {"delimiter": "::"}}
    assert list(log_of(tmp_path / "3", double, formats=formats)["user"]) == ["a"]


def test_ids_stay_apart_in_a_column_with_a_mark_in_its_name(tmp_path):
    names, header = ["1e3", "1000"], '"say ""so""",iid,at\n'
    later = [event.replace("last", "7") for event in LATER]
    text = lines(*(f"{name},x,{START}" for name in names), header=header, later=later)
    name = '"say ""so"""'
    made = log_of(tmp_path, {"a.csv": text}, user=name, categorical={"a": name})
    assert set(made["user"]) == set(made["categorical/a"]) == {*names, "7"}


@pytest.mark.parametrize("user", ["UID", '"uid"', "coalesce(uid, iid)", "known"])
def test_ids_stay_apart_however_their_column_is_named(tmp_path, user):
    names = ["1e3", "1000", "1.10", "1.1"]
    later = [event.replace("last", "7") for event in LATER]
    text = lines(*(f"{name},x,{START + i}" for i, name in enumerate(names)), later=later)
    values = {"user": "iid", "derived": {"known": "uid"}} if user == "known" else {"user": user}
    categories = {"a": "known" if user == "known" else "(uid)", "b": "CAST(uid AS VARCHAR)"}
    made = log_of(tmp_path, {"a.csv": text}, **values, categorical=categories)
    columns = ["categorical/a", "categorical/b"] + ["user"] * (user != "known")
    for column in columns:
        assert set(made[column]) == {*names, "7"}


def test_the_time_is_exact_however_its_column_is_named(tmp_path):
    below = {"c": "time_ns - 1000000000 * time"}
    for number, time in enumerate(("AT", '"at"')):
        text = lines(f"a,x,{START}.123456789", f"b,x,{START}.9999999996")
        made = log_of(tmp_path / str(number), {"a.csv": text}, time=time, categorical=below)
        assert list(made["categorical/c"]) == [123_456_789, 999_999_999]
        assert list(made["time"]) == [START, START]
    later = [f"{event}000000000.0" for event in LATER]
    text = lines(f"a,x,{START}000000007.0", f"b,x,{START}000000008.5", later=later)
    made = log_of(tmp_path / "ns", {"a.csv": text}, time_unit="ns", categorical=below)
    assert list(made["categorical/c"]) == [7, 8]


def test_a_column_called_row_is_the_logs_own(tmp_path):
    header, later = "Row,uid,iid,at\n", [f"9,{event}" for event in LATER]
    text = lines(f"2,u,x,{START}", f"1,u,x,{START}", header=header, later=later)
    made = log_of(tmp_path, {"a.csv": text}, item="row", tie_breaker="row", actions={"n": "row"})
    assert list(made["categorical/item"]) == [1, 2]
    assert list(made["action/n"]) == [2, 1]  # in an expression it is the number of the row


def test_timestamps_of_all_units_are_one_column(tmp_path):
    files = {}
    for number, (unit, zone) in enumerate(
        [
            ("s", None),
            ("ms", "UTC"),
            ("us", None),
            ("us", "Asia/Tokyo"),
            ("ns", None),
            ("ns", "UTC"),
        ]
    ):
        size = 10**9 // UNITS[unit]
        at = pa.array([START * size + (unit != "s")]).cast(pa.timestamp(unit, zone))
        files[f"{number}.parquet"] = arrow(number == 0, at=at)
    below = {"c": "time_ns - 1000000000 * time"}
    made = log_of(tmp_path, files, time_unit="iso", categorical=below)
    assert list(made["categorical/c"]) == [0, 1, 1000, 1_000_000]  # two are there twice


def test_decimals_of_any_length_are_exact(tmp_path):
    value = Decimal("123456789012345678901234567890123456789.25")
    ids = pa.array([value, Decimal("1.50")], pa.decimal256(50, 2))
    made = log_of(tmp_path / "ids", {"a.parquet": arrow(iid=ids)})
    assert list(made["categorical/item"]) == [str(value), "1.50"]
    times = [
        pa.array([Decimal(START) + Decimal(f"0.{digits}")], pa.decimal128(30, scale))
        for digits, scale in (("9999999996", 10), ("123456789", 9))
    ]
    files = {f"{i}.parquet": arrow(False, at=at) for i, at in enumerate(times)}
    files["2.csv"] = lines()
    made = log_of(tmp_path / "times", files, categorical={"c": "time_ns - 1000000000 * time"})
    assert list(made["categorical/c"]) == [123_456_789, 999_999_999]


def test_huge_ids_of_doubles_are_refused_beside_integers(tmp_path):
    files = {"a.parquet": arrow(iid=pa.array([1.0, 1e20])), "b.parquet": arrow(iid=pa.array([1]))}
    with refused(tmp_path / "raw/a.parquet", "'iid'"):
        log_of(tmp_path, files)


def test_a_time_without_a_zone_is_utc_after_one_in_a_zone(tmp_path):
    times = ["23:12:30 Europe/Berlin", "22:12:30", "22:12:30Z", "22:12+00:00", "22:12"]
    later = [f"last,z,2023-11-15 0{i}:00" for i in range(10)]
    text = lines(*(f"u{i},x,2023-11-14 {at}" for i, at in enumerate(times)), later=later)
    made = log_of(tmp_path, {"a.csv": text}, time_unit="iso").sort_values("user")
    assert list(made["time"]) == [START - 50] * 3 + [START - 80] * 2


@pytest.mark.parametrize("time", ["2023-03-26 02:30:00", "2023-10-29 02:30"])
def test_a_time_that_a_clock_shows_twice_or_never_is_refused(tmp_path, time):
    later = [f"last,z,2023-11-15 0{i}:00" for i in range(10)]
    with refused("config.time", "row 1 of a.csv", time):
        text = lines(f"u,x,{time} Europe/Berlin", later=later)
        log_of(tmp_path, {"a.csv": text}, time_unit="iso")


def test_files_without_rows_have_no_missing_values(tmp_path):
    made = log_of(tmp_path, {"a.csv": HEADER, "b.csv": lines(f"u,x,{START}"), "c.csv": HEADER})
    assert not any("NULL" in warning for warning in made.attrs["warnings"])


def test_one_folder_says_what_a_column_is(tmp_path):
    files = {"day=1/day=2/a.csv": lines(f"u,x,{START}")}
    with refused(tmp_path / "raw/day=1/day=2/a.csv", "'day=...'"):
        log_of(tmp_path, files, formats={"any": {"folders": ("day",)}})


def test_an_offset_is_in_whole_seconds(tmp_path):
    with refused("config.utc_offset", 1800.5):
        log_of(tmp_path, {"a.csv": lines(f"u,x,{START}")}, utc_offset="1800.5")
