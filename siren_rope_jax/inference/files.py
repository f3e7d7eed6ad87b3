"""Files of events, candidates and answers: CSV or Parquet."""

import datetime
from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow as pa

from siren_rope_jax.base.errors import UserError, check
from siren_rope_jax.base.extras import needs
from siren_rope_jax.base.files import replacing
from siren_rope_jax.data.log import PreparedLog

Columns = Literal["log", "prepared"]
"""How the columns of a file are named: as in the raw log, or as in the prepared one."""


def read_table(log: PreparedLog, path: str | Path, columns: Columns) -> pd.DataFrame:
    """Reads events or candidates.

    Args:
      log: the prepared log of the run.
      path: of the file; with the columns of the raw log, of any kind that `prepare` reads.
      columns: "log": those of the raw log; the config that prepared it makes ours of them.

    Raises:
      UserError: about the file, or what its columns lack.
    """
    if columns == "log":
        with needs("prepare"):
            from siren_rope_jax.prepare.raw_rows import read_rows
        return _as_in(log, read_rows(log.report, path))
    path = Path(path)
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return pd.read_parquet(path)
        return pd.read_csv(path)
    except OSError as error:
        raise UserError(path, error.strerror or str(error)) from error
    except (ValueError, pa.ArrowException) as error:
        raise UserError(path, f"is neither CSV nor Parquet: {error}") from error


def _as_in(log: PreparedLog, table: pd.DataFrame) -> pd.DataFrame:
    """The same, with ids as text where the log has them as text: "7" looks like a number alone."""
    known = {c.name: log.vocabulary(c.name)["value"].type for c in log.schema.categorical}
    for name, kind in (known | {"user": log.users().type}).items():
        if name in table and pa.types.is_string(kind) and table[name].dtype.kind in "iu":
            table[name] = table[name].astype(str)
    return table


def write_table(table: pd.DataFrame, path: str | Path) -> None:
    """Writes a table, as Parquet if the file's name ends so, else as CSV."""
    path = Path(path)
    try:
        with replacing(path) as temporary:
            if path.suffix.lower() in (".parquet", ".pq"):
                table.to_parquet(temporary, index=False)
            else:
                table.to_csv(temporary, index=False)
    except OSError as error:
        raise UserError(path, f"cannot be written: {error.strerror or error}") from error


def moment(text: str, argument: str = "--time") -> float:
    """A time that a user types: Unix seconds, or a date with or without a time and an offset."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        time = None
    right = f"Unix seconds, or a date such as 2026-01-31T18:00+01:00, not {text!r}"
    check(time is not None, argument, right)
    assert time is not None
    return (time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).timestamp()
