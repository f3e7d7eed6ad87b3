"""Reads the files of a raw log into one table: nothing is guessed, rounded or dropped."""

import bisect
import dataclasses
import glob
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import duckdb
import ibis
import pyarrow as pa
import pyarrow.parquet as pq

from siren_rope_jax.base.errors import UserError, excerpt, one_line
from siren_rope_jax.base.files import expanded
from siren_rope_jax.prepare.column_types import Part, find_types
from siren_rope_jax.prepare.config import GIVEN_ROW, INTERNAL, Format, PrepareConfig
from siren_rope_jax.prepare.conversions import convert
from siren_rope_jax.prepare.formats import flag_of_format, format_of, shares_format
from siren_rope_jax.prepare.known_types import as_in_log
from siren_rope_jax.prepare.quoting import Fields
from siren_rope_jax.prepare.text_files import (
    UNNAMED,
    check_readable,
    inspect,
    is_gzipped,
    lines,
    plain_name,
    read_header,
    write_plainly,
)

_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"  # of a column in the name of a folder


@dataclasses.dataclass(frozen=True)
class RawLog:
    """An opened log.

    Attributes:
      table: its rows, in columns of exact types, and `row`, from 1, in input order.
      where: says where a row is: "row 17 of ratings.csv", not counting a header.
      rows: how many there are.
      notes: what a reader of the log should know of its values.
    """

    table: ibis.Table
    where: Callable[[int], str]
    rows: int
    notes: list[str]

    @property
    def columns(self) -> dict[str, str]:
        """The names and types of the columns, for `open_log` of newer files."""
        schema = self.table.schema()
        return {name: str(kind) for name, kind in schema.items() if name != "row"}


def find_files(pattern: str | Path) -> list[Path]:
    """Returns the files that `pattern` stands for, sorted by name.

    Args:
      pattern: the path of a file, taken literally if there is one of that name; else a glob, in
        which `**` stands for any folders. A leading `~` is the home folder.

    Raises:
      UserError: there are none; or one is a folder, a pipe or a device, or may not be read.
    """
    path = expanded(pattern)
    try:
        there = path.exists()
    except (OSError, ValueError) as error:  # such as a name that is too long, or holds NUL
        raise UserError(pattern, f"is no path: {error}") from error
    files = [path] if there else sorted(map(Path, glob.glob(str(path), recursive=True)))
    if not files:
        raise UserError(pattern, "there is no such file")
    for file in files:
        check_readable(file)
    return files


def open_log(
    con: ibis.BaseBackend,
    files: Sequence[Path],
    config: PrepareConfig,
    scratch: Path,
    known: Mapping[str, str] | None = None,
    beside: Sequence[Path] = (),
) -> RawLog:
    """Opens the files as one table.

    Every file is read to its end here, and again when the table is used: that is faster than to
    store it in between. What the engine cannot read is converted to Parquet first, in the folder
    `scratch`, which is needed as long as the table is; and so that no name of a file means anything
    to the engine, it reads all files through links in that folder.

    Types are those of `find_types` or, given the columns of a log that are `known`, those of this
    log (`as_in_log`); each event of a sequence is a row. What `beside` has been read by the same
    formats must go on being so: if these are wrong for a file here, it needs one of its own.

    Raises:
      UserError: a file without a format, a damaged one, columns that differ, or no rows at all.
    """
    parts: list[Part] = []
    expected: list[_Expected] = []
    notes: list[str] = []
    for number, path in enumerate(files):
        with told_of(path):
            part, of_lines = _open(con, path, config, scratch / str(number), beside)
        if parts:
            part = _in_order_of(parts[0], part)
        parts.append(part)
        expected.append(of_lines)
    if UNNAMED in parts[0].table.columns:
        notes.append(
            f"the first column has no name and is called {UNNAMED!r}; if it numbers the rows, none "
            "is a duplicate of another"
        )
    with told_of(files[0] if len(files) == 1 else f"{files[0].parent}/*", files):
        types = find_types(parts, config)
        typed = (as_in_log(types, known, config) if known else types).typed()
    for part, of_lines, found in zip(parts, expected, typed.rows, strict=True):
        if of_lines.rows is not None and of_lines.rows != found:
            raise _other_rows(part, of_lines.rows, found)
        if of_lines.check_fields:
            of_lines.check_fields(found)
    if not sum(typed.rows):
        raise UserError(files[0], "is empty: it has no rows")
    offsets = [0]  # rows before each file, and all of them
    numbered = []
    for table, rows in zip(typed.tables, typed.rows, strict=True):
        numbered.append(table.mutate(row=ibis.row_number() + (1 + offsets[-1])))
        offsets.append(offsets[-1] + rows)

    def where(row: int) -> str:
        number = bisect.bisect_left(offsets, row) - 1
        return f"row {row - offsets[number]} of {files[number].name}"

    table = ibis.union(*numbered) if len(numbered) > 1 else numbered[0]
    return RawLog(table, where, offsets[-1], notes + typed.notes)


def _in_order_of(first: Part, part: Part) -> Part:
    """The part with its columns in the order of the first one's."""
    ours, theirs = set(part.table.columns), set(first.table.columns)
    if ours != theirs:
        differences = [("lacks", theirs - ours), ("has besides", ours - theirs)]
        said = " and ".join(f"{what} {sorted(names)}" for what, names in differences if names)
        raise UserError(part.path, f"has other columns than {first.path}: it {said}")
    return dataclasses.replace(part, table=part.table.select(*first.table.columns))


@contextmanager
def told_of(file: str | Path, files: Sequence[Path] = ()) -> Iterator[None]:
    """Turns what the engine says of a file into a `UserError` about it, without a user's values.

    The engine reads `files` through links that are called by their numbers; if it names one, the
    error is about that file, else about `file`.
    """
    try:
        yield
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error as error:
        link = re.search(r"/scratch/(\d+)\b", str(error)) if files else None
        about = files[int(link[1])] if link else file
        raise UserError(about, f"cannot be read: {engine_said(error)}") from error


def engine_said(error: duckdb.Error) -> str:
    """The gist of a message of the engine, which may go on with whole lines of a file."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    gist = [
        line
        for number, line in enumerate(lines)
        if number == 0 or re.match(r"Expected Number of Columns|Value with|Maximum line", line)
    ]
    return one_line(re.sub(r'(in )?file "[^"]*",? ?', "", "; ".join(gist)), 300)


@dataclasses.dataclass(frozen=True)
class _Expected:
    """What the lines of a file say: how many rows it has; and refuses others than so many rows."""

    rows: int | None = None
    check_fields: Callable[[int], None] | None = None


def _open(
    con: ibis.BaseBackend, path: Path, config: PrepareConfig, link: Path, beside: Sequence[Path]
) -> tuple[Part, _Expected]:
    """The table of a file, and what must hold of its rows, if its lines say so."""
    chosen = format_of(path, config.formats)[1]
    kind = chosen.kind if chosen.kind != "auto" else _kind_of_name(path)
    if kind not in ("text", "parquet") and not chosen.columns:
        columns = ("uid", "article", "at")
        example = flag_of_format(path, config.formats, beside, columns=columns)
        needed = f"must name the columns of {path}, which is {kind}, as in {example}"
        raise UserError("config.formats", needed)
    expected = _Expected()
    if kind == "text":
        table, expected = _open_text(con, path, config.formats, link, beside)
    elif kind == "parquet":
        table = _open_parquet(con, path, link)
    else:
        if kind == "jsonl":
            inspect(path)
        convert(path, kind, chosen, link)
        table = con.read_parquet(link, hive_partitioning=False)
    names = [chosen.rename.get(column, column) for column in table.columns]
    in_folders = _values_in_folders(path, chosen.folders)
    _check_names(path, [*names, *in_folders])
    table = table.rename(dict(zip(names, table.columns, strict=True)))
    table = table.mutate(**{n: ibis.literal(v, "string") for n, v in in_folders.items()})
    # `prepare` adds a column of this name; the engine ignores case.
    own = [column for column in table.columns if column.lower() == "row"]
    table = table.rename({GIVEN_ROW: own[0]}) if own else table
    return Part(path, table, chosen.missing), expected


def _kind_of_name(path: Path) -> str:
    suffix = Path(plain_name(path)).suffix.lower()
    kinds = {".parquet": "parquet", ".pq": "parquet", ".npy": "npy"}
    kinds |= {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}
    return kinds.get(suffix, "text")


def _open_text(
    con: ibis.BaseBackend,
    path: Path,
    formats: Mapping[str, Format],
    link: Path,
    beside: Sequence[Path],
) -> tuple[ibis.Table, _Expected]:
    chosen = format_of(path, formats)[1]
    tab = plain_name(path).lower().endswith((".tsv", ".inter"))
    delimiter = chosen.delimiter.replace("\\t", "\t") or ("\t" if tab else ",")
    fields = Fields(path, chosen, delimiter)
    found = inspect(path, chosen.newlines, fields)
    names = list(chosen.columns) or read_header(path, chosen, delimiter)
    if not chosen.columns and (not chosen.delimiter or shares_format(path, formats, beside)):
        _check_delimiter(path, names, formats, beside)
    _check_names(path, names)
    # The engine does not see a quotation mark after a byte order mark.
    rewrite = found.mixed or (found.marked and bool(chosen.columns))
    gzipped = is_gzipped(path) and not rewrite
    if rewrite:
        write_plainly(path, link, chosen.newlines)
    else:
        link.symlink_to(path.absolute())
    table = con.read_csv(
        link,
        delim=delimiter,
        quote=chosen.quote,
        escape=chosen.escape_sign if chosen.quote else "",
        header=False,
        skip=int(not chosen.columns),  # `read_header` has read it
        columns=dict.fromkeys(names, "VARCHAR"),
        auto_detect=False,
        strict_mode=True,
        hive_partitioning=False,
        parallel=not chosen.newlines,
        **({"new_line": "\\n"} if chosen.newlines and fields.line_end == b"\n" else {}),
        compression="gzip" if gzipped else "none",
    )

    header = not chosen.columns

    def check_fields(rows: int) -> None:
        if chosen.newlines and fields.lines != header + rows:
            given = f"{fields.lines - header} lines of events, with line ends in quoted fields"
            raise UserError(path, f"has {given}, but {rows} rows can be read")
        if fields.delimiters > (len(names) - 1) * (header + rows):
            raise fields.longer_rows(lines(path), len(names))

    return table, _Expected(None if chosen.newlines else found.count - header, check_fields)


def _check_delimiter(
    path: Path, names: Sequence[str], formats: Mapping[str, Format], beside: Sequence[Path]
) -> None:
    """Refuses a header of one name that looks like several with another delimiter in between."""
    for sign, written in ((";", ";"), ("\t", "\\t"), ("|", "|"), (",", ",")):
        if len(names) == 1 and sign in names[0]:
            flag = flag_of_format(path, formats, beside, delimiter=written)
            given = f"its header is one name, {excerpt(names[0])}"
            raise UserError(path, f"{given}; for fields between '{written}' set {flag}")


def _open_parquet(con: ibis.BaseBackend, path: Path, link: Path) -> ibis.Table:
    try:
        schema = pq.read_schema(path)
    except (OSError, ValueError) as error:
        raise UserError(path, f"is not a complete Parquet file: {error}") from error
    _check_names(path, schema.names)  # the engine would rename the second of a kind
    if any(_readable(field.type) != field.type for field in schema):
        _write_readable(path, link)
    else:
        link.symlink_to(path.absolute())
    return con.read_parquet(link, hive_partitioning=False)


def _readable(kind: pa.DataType) -> pa.DataType:
    """The type itself, or another one for the same values if the engine would change them."""
    if pa.types.is_timestamp(kind) and kind.unit == "ns" and kind.tz is not None:
        return pa.timestamp("ns")  # UTC in any case; it would drop the nanoseconds
    if pa.types.is_decimal(kind) and kind.precision > 38:
        return pa.string()  # it would make a double of them
    return kind


def _write_readable(path: Path, output: Path) -> None:
    """Writes a Parquet file anew, with types that the engine reads exactly."""
    with pq.ParquetFile(path) as file:
        new = pa.schema([f.with_type(_readable(f.type)) for f in file.schema_arrow])
        with pq.ParquetWriter(output, new, version="2.6") as writer:
            for batch in file.iter_batches():
                writer.write_table(pa.Table.from_batches([batch]).cast(new))


def _values_in_folders(path: Path, columns: Sequence[str]) -> dict[str, str | None]:
    """The values of columns that the folders of a file are called by: "NAME=VALUE"."""
    pairs = [part.split("=", 1) for part in path.absolute().parent.parts if "=" in part]
    given = dict(pairs)
    values: dict[str, str | None] = {}
    for column in columns:
        if column not in given:
            raise UserError(path, f"lies in no folder that is called '{column}=...'")
        if sum(name == column for name, _ in pairs) > 1:
            raise UserError(path, f"lies in two folders that are called '{column}=...'")
        values[column] = None if given[column] == _NO_VALUE else unquote(given[column])
    return values


def _check_names(path: Path, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for number, name in enumerate(names, start=1):
        if not name:
            raise UserError(
                path,
                f"column {number} has no name; give it one in the header, or remove it (does every "
                "line end in a delimiter?)",
            )
        if name.lower() in seen:
            raise UserError(path, f"two columns are named {name!r} (case does not matter)")
        if name.lower().startswith(INTERNAL):
            raise UserError(path, f"column {name!r} begins with {INTERNAL!r}; rename it")
        seen.add(name.lower())


def _other_rows(part: Part, expected: int, found: int) -> UserError:
    table = part.table.mutate(siren_rope_jax_row=1 + ibis.row_number())
    texts = [table[c] for c in part.table.columns if table[c].type().is_string()]
    broken = ibis.or_(*(text.contains("\n") for text in texts))
    row = table.siren_rope_jax_row.min(where=broken).to_pyarrow().as_py()
    place = f"; the first such row is row {row}" if row else ""
    return UserError(
        part.path,
        f"has {expected} lines of events, but {found} rows: quotation marks open fields that go on "
        f"over line ends{place}. Set config.formats.*.newlines=True if fields hold line ends, or "
        "config.formats.*.quote='' if quotation marks are part of the text",
    )
