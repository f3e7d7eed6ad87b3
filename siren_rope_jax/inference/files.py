"""Files of events, candidates and answers."""

import datetime
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.api.types import infer_dtype, is_numeric_dtype

from siren_rope_jax.base.errors import UserError, check, excerpt
from siren_rope_jax.base.extras import needs
from siren_rope_jax.base.files import replacing
from siren_rope_jax.base.times import DAY
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.inference.arguments import unix_second
from siren_rope_jax.inference.fresh_events import times_in
from siren_rope_jax.prepare.config import Purpose, to_iso

T = TypeVar("T")
Columns = Literal["log", "prepared"]
"""How the columns of a file are named: as in the raw log, or as in the prepared one."""
_PARQUET = (".parquet", ".pq")
FORMATS = (".csv", *_PARQUET)
"""Ends of the names of the files that `write_table` writes."""


def read_table(
    log: PreparedLog,
    path: str | Path,
    columns: Columns,
    purpose: Purpose = "events",
    time: int | None = None,
    items: str | None = None,
) -> pd.DataFrame:
    """Reads events, candidates or items.

    Args:
      log: the prepared log of the run.
      path: of the file; with the columns of the raw log, of any kind that `prepare` reads.
      columns: "log": those of the raw log; the config that prepared it makes ours of them.
      purpose: what the rows are; only the item of "items" is read.
      time: of all rows, Unix seconds, in place of those of the file.
      items: a file of one row for each item, as `prepare` had one; for the raw log's columns.

    Raises:
      UserError: about the file: what its columns lack, or a value or a time that cannot be.
    """
    if columns == "log":
        with needs("prepare"):
            from siren_rope_jax.prepare.raw_rows import read_rows
        try:
            table = read_rows(log.report, path, purpose, time, items)
        except UserError as error:
            if not error.about.startswith("config."):
                raise
            how = "is read by the config that prepared the log"
            raise UserError(path, f"{how}: {error}") from error
    else:
        check(items is None, "--items", "left out with --columns=prepared, where rows are complete")
        table = _read(log, Path(path))
        if time is not None:
            table["time"] = time
    if purpose != "items" and "time" in table and len(table):
        _check_not_early(log, path, table["time"])
    return _as_in(log, table)


def _check_not_early(log: PreparedLog, path: str | Path, times: pd.Series) -> None:
    """Refuses a time long before the log begins: it is in another unit, or a date as a number."""
    begin = log.schema.train_start
    if not (is_numeric_dtype(times.dtype) and times.notna().all()):
        return
    seconds, _ = times_in(times, str(path))
    if (early := seconds < begin - DAY).any():
        row = int(early.argmax())
        found = f"{times.iloc[row]}, which is {to_iso(seconds[row])}"
        raise UserError(path, f"has the time {found}; the log begins at {to_iso(begin)}")


def require(table: pd.DataFrame, column: str, argument: str) -> None:
    """Refuses a table without a column."""
    check(column in table, argument, f"a file with a column for the {column}")


def _read(log: PreparedLog, path: Path) -> pd.DataFrame:
    """A CSV or Parquet file. In a CSV file no text of the log is taken for a number, and lists are
    JSON, as `write_table` writes them.
    """
    lists = _in_groups({c.name: None for c in log.schema.categorical if c.most})
    try:
        if path.suffix.lower() in _PARQUET:
            return pd.read_parquet(path)
        kinds = dict.fromkeys([*_texts(log), *lists], str)
        table = pd.read_csv(path, dtype=kinds, keep_default_na=False, na_values=[""])
    except OSError as error:
        raise UserError(path, error.strerror or str(error)) from error
    except (ValueError, pa.ArrowException) as error:
        raise UserError(path, f"is neither CSV nor Parquet: {error}") from error
    for name in table.columns.intersection(list(lists)):
        values = [_list(text, path, name, row) for row, text in enumerate(table[name])]
        table[name] = pd.Series(values, table.index, object)
    return table


def _list(text: Any, path: Path, name: str, row: int) -> list[Any] | None:
    """The list that a cell of a CSV file holds; None if it is empty."""
    if pd.isna(text):
        return None
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    if not isinstance(values, list) or any(isinstance(x, list | dict) for x in values):
        right = 'a list in JSON, such as ["a", "b"], or empty'
        raise UserError(path, f"{name} is {excerpt(text)} in row {row}; it must be {right}")
    return values


def _as_in(log: PreparedLog, table: pd.DataFrame) -> pd.DataFrame:
    """The same, with ids as texts where the log has texts, and as integers where it has these.

    The text "7" looks like a number alone, and beside the new id "a" the number 7 is read as text.
    """
    for name, kind in _kinds(log).items():
        if name in table and pa.types.is_string(kind) and table[name].dtype.kind in "iu":
            table[name] = table[name].astype(str)
        if name in table and pa.types.is_integer(kind) and not is_numeric_dtype(table[name]):
            values = [_integer(value) for value in table[name]]
            table[name] = pd.Series(values, table.index, object)
    return table


def _integer(value: Any) -> Any:
    """The value; as an integer if it is a text of one."""
    is_one = isinstance(value, str) and re.fullmatch(r"0|-?[1-9][0-9]{0,18}", value)
    return int(value) if is_one else value


def _texts(log: PreparedLog) -> list[str]:
    """The columns of ids that are text in the log."""
    return [name for name, kind in _kinds(log).items() if pa.types.is_string(kind)]


def _kinds(log: PreparedLog) -> dict[str, pa.DataType]:
    """The types of the columns of ids."""
    kinds = {c.name: log.vocabulary(c.name)["value"].type for c in log.schema.categorical}
    return _in_groups(kinds) | {"user": log.users().type}


def _in_groups(features: Mapping[str, T]) -> dict[str, T]:
    """By the names that the columns of categorical features may have, "x" and "categorical/x"."""
    return {**features, **{f"categorical/{name}": value for name, value in features.items()}}


def write_table(table: pd.DataFrame, path: str | Path) -> None:
    """Writes a table, as Parquet if the file's name ends so, else as CSV.

    A column of Parquet has one type: one of integers and texts becomes text there. In CSV, lists
    are written in JSON.
    """
    path = Path(path)
    try:
        with replacing(path) as temporary:
            if path.suffix.lower() in _PARQUET:
                mixed = [c for c in table if infer_dtype(table[c]) == "mixed-integer"]
                texts = {c: table[c].map(str, na_action="ignore") for c in mixed}
                table.assign(**texts).to_parquet(temporary, index=False)
            else:
                mixed = [c for c in table if table[c].dtype == object]
                cells = {c: pd.Series(map(_cell, table[c]), table.index, object) for c in mixed}
                table.assign(**cells).to_csv(temporary, index=False)
    except OSError as error:
        raise UserError(path, f"cannot be written: {error.strerror or error}") from error


def _cell(value: Any) -> Any:
    """A list of values as JSON; anything else as it is."""
    if not isinstance(value, list | tuple | set | np.ndarray):
        return value
    plain = [x.item() if isinstance(x, np.generic) else x for x in value]
    return json.dumps(plain, ensure_ascii=False, default=str)


def moment(text: str, time_zone: str = "", argument: str = "--time") -> int:
    """The Unix second of a time that a user types.

    Args:
      text: as typed: Unix seconds, milliseconds, microseconds or nanoseconds (whichever lie between
        1902 and 2100), or a date with or without a time and an offset.
      time_zone: the one in which a date without an offset is meant; empty: UTC.
      argument: where it was typed.
    """
    if re.fullmatch(r"[+-]?\d+(\.\d+)?", text) and not re.fullmatch(r"\d{8}", text):  # a date
        return unix_second(float(text), argument)
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        right = f"Unix seconds, or a date such as 2026-01-31T18:00+01:00, not {text!r}"
        raise UserError(argument, f"must be {right}") from error
    zone = ZoneInfo(time_zone or "UTC")
    return unix_second(time if time.tzinfo else time.replace(tzinfo=zone), argument)
