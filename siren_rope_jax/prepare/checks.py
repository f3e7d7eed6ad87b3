"""Checks of a log's values. Errors name the first bad row of the input and what would be right."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ibis

from siren_rope_jax.base.errors import UserError, suggestion
from siren_rope_jax.base.times import DAY, HOUR, MAX_TIME, MAX_UTC_OFFSET, MIN_TIME
from siren_rope_jax.data.schema import PREFIXES
from siren_rope_jax.prepare.config import PrepareConfig, to_iso

Where = Callable[[int], str]
"""Says where a row of the input is: "row 17 of ratings.csv"."""

GIVEN_TIME = "time as given"
"""A log's column of times before they became seconds; no column of the input can be called so."""

_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_SECONDS = {"min": 60, "h": HOUR, "day": DAY}
_PLAUSIBLE_FROM = int(datetime.datetime(1990, 1, 1, tzinfo=datetime.UTC).timestamp())
_FAR = 1 << 34  # seconds: twice the supported range, so no origin in it brings such a time back
_REFUSED = ibis.literal(2 * _FAR, "int64")  # a time that `check_times` refuses
_MAX_INT64 = (1 << 63) - 1
_MAX_FLOAT32 = 3.4028234e38


def require_columns(table: ibis.Table, config: PrepareConfig, file: Path) -> None:
    """Raises a UserError if the table, read from `file`, lacks the user, the item or the time."""
    columns = [column for column in table.columns if column != "row"]
    for key in ("user", "item", "time"):
        column = getattr(config, key)
        if column not in columns:
            tip = suggestion(column, columns)
            if len(columns) == 1 and ";" in columns[0]:
                tip += "; for fields between semicolons set --config.formats.any.delimiter=';'"
            raise UserError(f"config.{key}", f"{file} has no column {column!r}{tip}")


def require_present(table: ibis.Table, config: PrepareConfig, where: Where) -> None:
    """Raises a UserError for the first row without a user or without an item."""
    for key in ("user", "item"):
        row = _first(table, table[key].isnull())
        if row is not None:
            raise UserError(
                f"config.{key}",
                f"{where(row)} has no {key} in column {getattr(config, key)!r}; every event needs "
                "one",
            )


def seconds_of(table: ibis.Table, column: str, unit: str, origin: int = 0) -> ibis.Value:
    """Returns the column as int64 Unix seconds, rounded down; NULL if a value is not a time.

    The column has times in `unit` (as in `PrepareConfig`) since `origin` (Unix seconds), or dates.
    Integers are divided as integers: no time passes through a float.

    Raises:
      UserError: the column's type does not fit the unit.
    """
    value = table[column]
    kind = value.type()
    is_date = kind.is_timestamp() or kind.is_date()
    if is_date and unit != "iso":
        raise UserError(
            "config.time_unit", f"is {unit!r}, but column {column!r} holds dates; set it to 'iso'"
        )
    if unit == "iso":
        zoned = ibis.dtype("timestamp('UTC', 6)")
        instant = value.cast(zoned) if is_date else value.cast("string").try_cast(zoned)
        return _floor_divide(_epoch_microseconds(instant), _PER_SECOND["us"])
    factor, divisor = _SECONDS.get(unit, 1), _PER_SECOND.get(unit, 1)
    if kind.is_integer():
        limit = min(_FAR * divisor // factor, _MAX_INT64)
        whole = _floor_divide(value, divisor) * factor
        return (~value.between(-limit, limit)).ifelse(_REFUSED, whole + origin)
    count = value.try_cast("float64") if kind.is_string() else value
    seconds = count * factor / divisor
    whole = (seconds.abs() > _FAR).ifelse(_REFUSED, seconds.floor().cast("int64") + origin)
    return count.isnan().ifelse(ibis.null("int64"), whole)


def check_times(table: ibis.Table, config: PrepareConfig, where: Where) -> int:
    """Checks `time`, made by `seconds_of`; returns the number of events that have none.

    Raises:
      UserError: a value that is not a time, or is before 1902 or after 2099; events without a time,
        if they are not allowed; or another unit than that of the config.
    """
    raw, time = table[GIVEN_TIME], table["time"]
    column, unit = config.time, config.time_unit
    row = _first(table, raw.notnull() & time.isnull())
    if row is not None:
        value = _value(table, row, GIVEN_TIME)
        right = f"a number in {unit!r}; for dates as text set config.time_unit to 'iso'"
        if unit == "iso":
            right = "a date and time such as 2024-05-01T19:30"
            if isinstance(value, int | float) or str(value).isdigit():
                right = "a date; for numbers set config.time_unit to 's' or 'ms'"
        raise UserError(
            "config.time", f"{where(row)} has {value!r} in column {column!r}, which is not {right}"
        )
    facts = (time.min(), time.max(), raw.isnull().sum())
    low, high, missing = (value.to_pyarrow().as_py() for value in facts)
    row = _first(table, raw.isnull())
    if row is not None and not config.allow_missing_time:
        raise UserError(
            "config.time",
            f"{where(row)} has no time in column {column!r}, as is the case in {missing} "
            "rows; set config.allow_missing_time=True if events may have none",
        )
    if low is None:
        raise UserError("config.time", f"column {column!r} is empty; the split needs times")
    hint = "" if config.origin else _other_unit(raw, unit)
    since = f" since {to_iso(config.origin)}" if config.origin else ""
    row = _first(table, (time < MIN_TIME) | (time >= MAX_TIME))
    if row is not None:
        raise UserError(
            "config.time_unit" if hint else "config.time",
            f"with {unit!r}{since} the time {_value(table, row, GIVEN_TIME)!r} in {where(row)}, "
            f"column {column!r}, is outside 1902-01-01 to 2100-01-01"
            f"{hint or '; correct or remove the row'}",
        )
    if hint and low >= 0 and high < 365 * DAY:
        raise UserError(
            "config.time_unit",
            f"with {unit!r} all times in column {column!r} are in early 1970{hint}",
        )
    return missing


def check_values(table: ibis.Table, where: Where) -> None:
    """Raises a UserError for the first UTC offset, feature, action or label that is not legal."""
    for column in table.columns:
        value, prefix = table[column], column.partition("/")[0]
        if prefix == "utc_offset":
            bad = (value.isnull() | (value.abs() > MAX_UTC_OFFSET)).fill_null(True)
            right = f"seconds between -{MAX_UTC_OFFSET} and {MAX_UTC_OFFSET}"
        elif prefix == "task":
            bad = value.notnull() & ~value.isin([0.0, 1.0])
            right = "0 or 1 (or NULL), so write a condition, such as 'rating >= 4'"
        elif prefix in ("dense", "context", "action"):
            bad = value.isnan() | (value.abs() > _MAX_FLOAT32)
            bad = bad.fill_null(prefix != "action")  # an action may be absent
            right = "a finite 32-bit number; replace what is missing, such as by coalesce(..., 0)"
        else:
            continue
        row = _first(table, bad)
        if row is not None:
            found = _value(table, row, column)
            raise UserError(key_of(column), f"is {found} in {where(row)}; it must be {right}")


def key_of(column: str) -> str:
    """The config key of an event's column: that of "task/like" is "config.tasks.like"."""
    if column == "categorical/item":
        return "config.item"
    prefix, slash, name = column.partition("/")
    groups = {of_column: group for group, of_column in PREFIXES.items()}
    return f"config.{groups.get(prefix, prefix)}{slash.replace('/', '.')}{name}"


def _first(table: ibis.Table, bad: ibis.Value) -> int | None:
    """Returns the number of the first row, in input order, for which `bad` is true."""
    return table.row.min(where=bad).to_pyarrow().as_py()


def _value(table: ibis.Table, row: int, column: str) -> Any:
    return table.filter(table.row == row)[column].to_pyarrow()[0].as_py()


def _floor_divide(value: ibis.Value, divisor: int) -> ibis.Value:
    # The engine's % has the sign of the dividend, and its division goes through double. Without
    # the remainder the quotient is a whole number below 2^53, which rounding gives exactly.
    remainder = (value % divisor + divisor) % divisor
    return value if divisor == 1 else ((value - remainder) / divisor).round().cast("int64")


@ibis.udf.scalar.builtin(name="epoch_us")
def _epoch_microseconds(instant: ibis.dtype("timestamp('UTC', 6)")) -> int:  # type: ignore[empty-body, valid-type]
    """The engine's own function: microseconds since 1970."""


def _other_unit(raw: ibis.Value, unit: str) -> str:
    """Names the other unit, if there is one, with which all times are from 1990 to 2100."""
    if unit not in _PER_SECOND or not raw.type().is_numeric():
        return ""
    low, high = (value.to_pyarrow().as_py() for value in (raw.min(), raw.max()))
    for other, per_second in _PER_SECOND.items():
        begin, end = low / per_second, high / per_second
        if other != unit and begin >= _PLAUSIBLE_FROM and end <= MAX_TIME:
            dates = [to_iso(int(t)).partition("T")[0] for t in (begin, end)]
            return (
                f"; with {other!r} the log would run from {dates[0]} to {dates[1]}, so that is "
                "probably its unit"
            )
    return ""
