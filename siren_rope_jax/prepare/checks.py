"""Checks of a log's values. Errors name the first bad row of the input and what would be right."""

from collections.abc import Callable

import ibis

from siren_rope_jax.base.errors import UserError, one_line
from siren_rope_jax.base.times import MAX_UTC_OFFSET
from siren_rope_jax.data.schema import PREFIXES
from siren_rope_jax.prepare.config import PrepareConfig

Where = Callable[[int], str]
"""Says where a row of the input is: "row 17 of ratings.csv"."""

_MAX_FLOAT32 = 3.4028234e38


def require_present(table: ibis.Table, config: PrepareConfig, where: Where) -> None:
    """Raises a UserError for the first row without a user or without an item."""
    for key in ("user", "item"):
        if row := first_row(table, table[key].isnull()):
            raise UserError(
                f"config.{key}",
                f"{where(row)} has no {key} in {getattr(config, key)!r}, and every event needs one "
                "(texts such as 'NULL' are missing, too; see config.formats.*.missing)",
            )


def check_values(table: ibis.Table, where: Where) -> None:
    """Raises a UserError for the first UTC offset, feature, action or label that is not legal."""
    for column in table.columns:
        value, prefix = table[column], column.partition("/")[0]
        if prefix == "utc_offset":
            bad = (value.abs() > MAX_UTC_OFFSET) | (value % 1 != 0)
            bad = bad.fill_null(True)
            right = f"whole seconds between -{MAX_UTC_OFFSET} and {MAX_UTC_OFFSET}"
        elif prefix == "task":
            bad = value.notnull() & ~value.isin([0.0, 1.0])
            right = "0 or 1 (or NULL), so write a condition, such as 'rating >= 4'"
        elif prefix in ("dense", "context", "action", "ordinal", "regression"):
            bad = value.isnan() | (value.abs() > _MAX_FLOAT32)
            bad = bad.fill_null(prefix in ("dense", "context"))  # the others may be absent
            right = "a finite 32-bit number"
            if prefix in ("dense", "context"):
                right += "; replace what is missing, such as by coalesce(..., 0)"
            else:  # a replacement would teach what never happened
                right += ", or NULL where there is none, as in CASE WHEN isfinite(x) THEN x END"
        else:
            continue
        if row := first_row(table, bad):
            found = value_in(table, row, column)
            raise UserError(key_of(column), f"is {found} in {where(row)}; it must be {right}")


def key_of(column: str) -> str:
    """The config key of an event's column: that of "task/like" is "config.tasks.like"."""
    if column == "categorical/item":
        return "config.item"
    prefix, slash, name = column.partition("/")
    groups = {of_column: group for group, of_column in PREFIXES.items()}
    return f"config.{groups.get(prefix, prefix)}{slash.replace('/', '.')}{name}"


def first_row(table: ibis.Table, bad: ibis.Value) -> int:
    """Returns the number of the first row, in input order, for which `bad` is true; 0 if none."""
    return table.row.min(where=bad).to_pyarrow().as_py() or 0


def value_in(table: ibis.Table, row: int, column: str) -> str:
    """Returns the value of a row as text, cut: Python need not be able to represent it."""
    (value,) = table.filter(table.row == row)[column].cast("string").to_pyarrow().to_pylist()
    return one_line(str(value), 60)
