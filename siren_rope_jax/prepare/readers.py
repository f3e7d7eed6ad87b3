"""Reads the files of a raw log into one table, without rounding or guessing any value."""

import bisect
import csv
import fnmatch
import glob
from collections.abc import Sequence
from pathlib import Path

import duckdb
import ibis
import numpy as np
import pyarrow.parquet as pq

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.prepare.checks import Where
from siren_rope_jax.prepare.config import Format, PrepareConfig
from siren_rope_jax.prepare.conversions import check_gzip, convert, lines

_TYPE_SUFFIXES = (":token", ":token_seq", ":float", ":float_seq")  # of RecBole's .inter files
_KINDS = ("int64", "boolean", "float64")  # what text may become, in this order


def find_files(pattern: str | Path) -> list[Path]:
    """Returns the files that `pattern`, a path or a glob, stands for, sorted by name.

    Raises:
      UserError: there are none, or it is a folder.
    """
    path = Path(pattern)
    if path.is_dir():
        raise UserError(path, f"is a folder; name a file, or several as '{path}/*.csv'")
    if path.exists():
        return [path]
    files = sorted(Path(name) for name in glob.glob(str(pattern)))
    if not files:
        raise UserError(pattern, "there is no such file")
    return files


def open_log(
    con: ibis.BaseBackend, files: Sequence[Path], config: PrepareConfig, scratch: Path
) -> tuple[ibis.Table, Where, int]:
    """Opens the files as one table with the column `row`, from 1, in input order.

    Every text file is read to its end here, and again when the table is used: that is faster than
    to store the text in between. What the engine cannot read is converted to Parquet first, in the
    folder `scratch`, which is needed as long as the table is.

    Text columns become 64-bit integers if all their values are integers in canonical form (so "007"
    and "7" stay different), else true/false, else double if all are numbers that double represents.
    Otherwise they stay text, and so do categories of which two values of a file would become one
    ("1.1" and "1.10"), and users and items that are not integers: "1.0" is not "1". An empty field
    is NULL. Each event of a sequence is a row.

    Returns:
      the table, what says where a row is ("row 17 of ratings.csv", not counting a header), and the
      number of all rows.

    Raises:
      UserError: a file without a format, a damaged one, columns that differ, or no rows at all.
    """
    # Where a category is a column and not another expression, its values must stay different.
    categories = [text.strip().strip('"').lower() for text in config.categorical.values()]
    parts: list[ibis.Table] = []
    offsets = [0]  # rows before each file, and all of them
    kinds: list[dict[str, set[str]]] = []
    for path in files:
        try:
            part = _open(con, path, config, scratch / f"{len(parts)}.parquet")
            if parts and part.columns != parts[0].columns:
                raise UserError(path, f"has other columns than {files[0]}: {list(part.columns)}")
            rows, kinds_of_part = _possible_kinds(part, categories)
        except duckdb.Error as error:
            said = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise UserError(path, f"cannot be read: {'; '.join(said[:3])}") from error
        parts.append(part)
        offsets.append(offsets[-1] + rows)
        kinds.append(kinds_of_part)
    if offsets[-1] == 0:
        raise UserError(files[0], "the log is empty: it has no events")
    casts = {}
    for column in kinds[0]:
        possible = set.intersection(*(of_part[column] for of_part in kinds))
        wanted = ("int64",) if column in (config.user, config.item) else _KINDS
        casts[column] = next((kind for kind in wanted if kind in possible), "string")
    numbered = [
        part.cast(casts).mutate(row=ibis.row_number() + (1 + offset))
        for part, offset in zip(parts, offsets[:-1], strict=True)
    ]

    def where(row: int) -> str:
        number = bisect.bisect_left(offsets, row) - 1
        return f"row {row - offsets[number]} of {files[number].name}"

    return ibis.union(*numbered) if len(numbered) > 1 else numbered[0], where, offsets[-1]


def _open(con: ibis.BaseBackend, path: Path, config: PrepareConfig, converted: Path) -> ibis.Table:
    chosen = _choose_format(path, config.formats)
    kind = chosen.kind if chosen.kind != "auto" else _kind_of_name(path)
    if kind not in ("text", "parquet") and not chosen.columns:
        example = "--config.formats.any.columns=\"('uid', 'article', 'at')\""
        needed = f"must name the columns of {path}, which is {kind}, as in {example}"
        raise UserError("config.formats", needed)
    if kind in ("text", "jsonl") and path.suffix == ".gz":
        check_gzip(path)
    if kind == "text":
        table = _open_text(con, path, chosen)
    elif kind == "jsonl":
        table = _open_json_lines(con, path, chosen)
    elif kind == "parquet":
        table = _open_parquet(con, path)
    else:
        convert(path, kind, chosen, converted)
        table = _open_parquet(con, converted)
    names = [chosen.rename.get(column, column) for column in table.columns]
    _check_names(path, names)
    table = table.rename(dict(zip(names, table.columns, strict=True)))
    # `prepare` adds a column of this name; the engine ignores case.
    return table.drop(*(c for c in table.columns if c.lower() == "row"))


def _kind_of_name(path: Path) -> str:
    suffix = Path(path.name.removesuffix(".gz")).suffix
    kinds = {".parquet": "parquet", ".pq": "parquet", ".jsonl": "jsonl", ".npy": "npy"}
    return kinds.get(suffix, "text")


def _open_text(con: ibis.BaseBackend, path: Path, chosen: Format) -> ibis.Table:
    tab = path.name.removesuffix(".gz").endswith((".tsv", ".inter"))
    delimiter = chosen.delimiter or ("\t" if tab else ",")
    names = list(chosen.columns) or _read_header(path, delimiter)
    _check_names(path, names)
    return con.read_csv(
        path,
        delim=delimiter,
        quote='"',
        escape='"',
        header=not chosen.columns,
        columns=dict.fromkeys(names, "VARCHAR"),
        auto_detect=False,
        compression="gzip" if path.suffix == ".gz" else "none",
    )


def _open_json_lines(con: ibis.BaseBackend, path: Path, chosen: Format) -> ibis.Table:
    table = con.read_json(
        path,
        columns=dict.fromkeys(chosen.columns, "VARCHAR"),
        format="newline_delimited",
        records="true",
        compression="gzip" if path.suffix == ".gz" else "uncompressed",
    )
    return table.mutate(**{column: table[column].nullif("") for column in table.columns})


def _open_parquet(con: ibis.BaseBackend, path: Path) -> ibis.Table:
    try:
        pq.read_metadata(path)
    except (OSError, ValueError) as error:
        raise UserError(path, f"is not a complete Parquet file: {error}") from error
    table, casts = con.read_parquet(path), {}
    for c in table.columns:  # numbers are widened, to give the same log as those of a text file
        kind, largest = table[c].type(), np.iinfo(np.int64).max
        if kind.is_unsigned_integer() and (table[c] > largest).any().to_pyarrow().as_py():
            casts[c] = "string"  # hashes
        elif kind.is_integer():
            casts[c] = "int64"
        elif kind.is_floating() or kind.is_decimal():
            casts[c] = "float64"
    return table.cast(casts)


def _choose_format(path: Path, formats: dict[str, Format]) -> Format:
    name = path.name.removesuffix(".gz")
    # The most specific pattern counts, since configs do not keep the order of their keys.
    fitting = [f for f in formats.values() if fnmatch.fnmatchcase(name, f.pattern)]
    if not fitting:
        patterns = ", ".join(f.pattern for f in formats.values())
        raise UserError("config.formats", f"no pattern fits the file {path}; there are {patterns}")
    return max(fitting, key=lambda f: len(f.pattern.replace("*", "")))


def _read_header(path: Path, delimiter: str) -> list[str]:
    header = next(lines(path), "").rstrip("\r\n")
    if not header:
        raise UserError(path, "the file has no header line")
    if len(delimiter) == 1:
        names = next(csv.reader([header], delimiter=delimiter))
    else:
        names = header.split(delimiter)
    for suffix in _TYPE_SUFFIXES:
        names = [name.strip().removesuffix(suffix) for name in names]
    return names


def _check_names(path: Path, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for number, name in enumerate(names, start=1):
        if not name:
            raise UserError(path, f"column {number} has no name")
        if name.lower() in seen:
            raise UserError(path, f"two columns are named {name!r} (case does not matter)")
        seen.add(name.lower())


def _possible_kinds(
    table: ibis.Table, categories: Sequence[str]
) -> tuple[int, dict[str, set[str]]]:
    """Returns the number of rows, and for each text column the kinds that represent its values.

    For categories, these are kinds that also keep the values different.
    """
    texts = [c for c in table.columns if table[c].type().is_string()]
    tests = {"rows": table.count()}
    for c in texts:
        text = table[c]
        fits = {
            "int64": (text.try_cast("int64").cast("string") == text).fill_null(False),
            "boolean": text.lower().isin(["true", "false"]),
            "float64": _is_number(text),
        }
        for kind, ok in fits.items():
            tests[f"{kind} {c}"] = (text.isnull() | ok).all()
            if c.lower() in categories and kind != "int64":
                tests[f"{kind} {c}"] &= text.nunique() == text.try_cast(kind).nunique()
    found = table.aggregate(**tests).to_pyarrow().to_pylist()[0]
    return found["rows"], {c: {k for k in _KINDS if found[f"{k} {c}"]} for c in texts}


def _is_number(text: ibis.Value) -> ibis.Value:
    """Whether a double represents the text exactly: not that of "007", "1_000" or 20 digits."""
    number = text.try_cast("float64")
    exact = (number.abs() < 2.0**53) | number.isnan() | number.isinf()
    leading_zero = text.substr(0, 2).between("00", "09")
    return (exact & ~leading_zero & ~text.contains("_")).fill_null(False)
