"""Checks of a log's values: the first bad row of the input is named, with what would be right."""

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ibis

from siren_rope_jax.base.errors import UserError, suggestion
from siren_rope_jax.base.times import MAX_TIME, MAX_UTC_OFFSET, MIN_TIME
from siren_rope_jax.data.schema import SPLITS

Where = Callable[[int], str]
"""Says where a row of the input is, for messages."""

GIVEN_TIME = "time as given"
"""A log's column of times before they became seconds; no column of SQL's is named so."""

_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_PER_UNIT = {"min": 60, "h": 3600, "day": 86_400}
_MICROSECONDS = 1_000_000
_PLAUSIBLE = tuple(
    int(datetime.datetime(year, 1, 1, tzinfo=datetime.UTC).timestamp()) for year in (1990, 2100)
)
_FAR = 1 << 34  # seconds: twice the range of times, so from no origin in it back into it
_REFUSED = ibis.literal(2 * _FAR, "int64")  # a time that `check_times` refuses
_MAX_INT64 = (1 << 63) - 1
_END_OF_1970 = 365 * 86_400
_MAX_FLOAT32 = 3.4028234e38


def require_columns(table: ibis.Table, needed: Mapping[str, str], where: str) -> None:
    """Raises a UserError for the first of {config key: column} that the table lacks."""
    for key, column in needed.items():
        if column not in table.columns:
            columns = [c for c in table.columns if c != "row"]
            tip = suggestion(column, columns)
            if len(columns) == 1 and ";" in columns[0]:
                tip += "; for fields between semicolons set --config.formats.any.delimiter=';'"
            raise UserError(f"{where} has no column {column!r} (config.{key}){tip}")


def require_present(table: ibis.Table, column: str, given: str, where: Where) -> None:
    """Raises a UserError for the first row without a value in `column`, in the input `given`."""
    row = _first(table, table[column].isnull())
    if row is not None:
        raise UserError(f"{where(row)}: no {column} in column {given!r}; every event needs one")


def seconds_of(table: ibis.Table, column: str, unit: str, origin: int = 0) -> ibis.Value:
    """Returns the column's times as int64 Unix seconds, rounded down; NULL where it is no time.

    Integers are divided as integers: no time passes through a float.

    Args:
      table: has the column.
      column: of times in `unit` since `origin`, or of dates.
      unit: one of `PrepareConfig.time_unit`.
      origin: Unix seconds; 0 for dates.

    Raises:
      UserError: the column's type does not fit the unit.
    """
    value = table[column]
    kind = value.type()
    is_date = kind.is_timestamp() or kind.is_date()
    if is_date and unit != "iso":
        raise UserError(
            f"config.time_unit is {unit!r}, but column {column!r} holds dates; set it to 'iso'"
        )
    if unit == "iso":
        zoned = ibis.dtype("timestamp('UTC', 6)")
        instant = value.cast(zoned) if is_date else value.cast("string").try_cast(zoned)
        return _floor_divide(_epoch_microseconds(instant), _MICROSECONDS)
    factor, divisor = _PER_UNIT.get(unit, 1), _SECOND.get(unit, 1)
    if kind.is_integer():
        limit = min(_FAR * divisor // factor, _MAX_INT64)
        whole = _floor_divide(value, divisor) * factor
        return (~value.between(-limit, limit)).ifelse(_REFUSED, whole + origin)
    count = value.try_cast("float64") if kind.is_string() else value
    seconds = count * factor / divisor
    whole = (seconds.abs() > _FAR).ifelse(_REFUSED, seconds.floor().cast("int64") + origin)
    return count.isnan().ifelse(ibis.null("int64"), whole)


def check_times(
    table: ibis.Table, column: str, unit: str, allow_missing: bool, where: Where, origin: int = 0
) -> int:
    """Checks `time` (Unix seconds), made of the input's `column` as in `seconds_of`.

    Returns:
      how many events have none.

    Raises:
      UserError: a time that is none, outside 1902 to 2100, absent without leave, or a wrong unit.
    """
    raw, time = table[GIVEN_TIME], table["time"]
    row = _first(table, raw.notnull() & time.isnull())
    if row is not None:
        expected = "a date and time" if unit == "iso" else f"a number in {unit!r}"
        value = _value(table, row, GIVEN_TIME)
        tip = "; for dates as text set it to 'iso'"
        if unit == "iso":
            number = isinstance(value, int | float) or str(value).isdigit()
            tip = "; for numbers set it to 's' or 'ms'" if number else ", such as 2024-05-01T19:30"
        raise UserError(
            f"{where(row)}: {column!r} is {value!r}, which is not "
            f"{expected} (config.time_unit){tip}"
        )
    facts = (
        table.aggregate(
            missing=raw.isnull().sum(),
            low=time.min(),
            high=time.max(),
            raw_low=raw.min(),
            raw_high=raw.max(),
        )
        .to_pyarrow()
        .to_pylist()[0]
    )
    row = _first(table, raw.isnull())
    if row is not None and not allow_missing:
        raise UserError(
            f"{where(row)}: no time in column {column!r}, as in {facts['missing']} rows; "
            "set config.allow_missing_time=True if events may have none"
        )
    if facts["low"] is None:
        raise UserError(f"no event has a time in column {column!r}; the log cannot be split by it")
    hint = "" if origin else _other_unit(facts["raw_low"], facts["raw_high"], unit)
    since = f" since {datetime.datetime.fromtimestamp(origin, datetime.UTC)}" if origin else ""
    row = _first(table, (time < MIN_TIME) | (time >= MAX_TIME))
    if row is not None:
        raise UserError(
            f"{where(row)}: time {_value(table, row, GIVEN_TIME)!r} in column {column!r} is "
            f"outside 1902-01-01 to 2100-01-01 with config.time_unit={unit!r}{since}"
            f"{hint or '; correct or remove the row'}"
        )
    if hint and facts["low"] >= 0 and facts["high"] < _END_OF_1970:
        raise UserError(
            f"column {column!r}: with config.time_unit={unit!r} all times lie in early 1970{hint}"
        )
    return facts["missing"]


def check_finite(
    table: ibis.Table, columns: Sequence[str], absent_allowed: bool, where: Where
) -> None:
    """Raises a UserError for the first value that is NaN, infinite or, unless allowed, absent."""
    for column in columns:
        value = table[column]
        bad = value.isnan() | (value.abs() > _MAX_FLOAT32)
        bad = bad.fill_null(False) if absent_allowed else bad.fill_null(True)
        row = _first(table, bad)
        if row is not None:
            found = _value(table, row, column)
            said = "has no value; give one by coalesce(..., 0)"
            if found is not None:
                said = f"is {found}, no finite number of 32 bits"
            raise UserError(f"{where(row)}: {_key(column)} {said}")


def check_labels(table: ibis.Table, columns: Sequence[str], where: Where) -> None:
    """Raises a UserError for the first label that is neither 0, 1 nor absent."""
    for column in columns:
        row = _first(table, table[column].notnull() & ~table[column].isin([0.0, 1.0]))
        if row is not None:
            raise UserError(
                f"{where(row)}: {_key(column)} is {_value(table, row, column):g}; a label is 0 or "
                "1 (or NULL); write a condition, such as 'rating >= 4'"
            )


def check_utc_offset(table: ibis.Table, where: Where) -> None:
    """Raises a UserError for the first offset absent or beyond 18 hours."""
    offset = table["utc_offset"]
    row = _first(table, (offset.isnull() | (offset.abs() > MAX_UTC_OFFSET)).fill_null(True))
    if row is not None:
        raise UserError(
            f"{where(row)}: config.utc_offset is {_value(table, row, 'utc_offset')}; it must be "
            "seconds between -64800 and 64800"
        )


def check_classes(counts: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Raises a UserError for a task with one class only in a split, where NE and AUC mean nothing.

    Args:
      counts: {task: {split: {"labels", "positives"}}}.
    """
    for task, by_split in counts.items():
        for split in SPLITS:
            labels, positives = int(by_split[split]["labels"]), int(by_split[split]["positives"])
            if labels == 0:
                raise UserError(f"config.tasks.{task}: no event of {split} has a label")
            if positives in (0, labels):
                raise UserError(
                    f"config.tasks.{task}: all {labels} labels of {split} are "
                    f"{int(positives > 0)}; both classes are needed, so change the task or the "
                    "split (config.split)"
                )


def _first(table: ibis.Table, bad: ibis.Value) -> int | None:
    """Returns the number of the first row, in input order, where `bad` is true."""
    return table.row.min(where=bad).to_pyarrow().as_py()


def _value(table: ibis.Table, row: int, column: str) -> Any:
    return table.filter(table.row == row)[column].to_pyarrow()[0].as_py()


def _key(column: str) -> str:
    """The config key of an event's column: "task/like" is config.tasks.like."""
    group, name = column.split("/")
    plural = {"task": "tasks", "action": "actions"}
    return f"config.{plural.get(group, group)}.{name}"


def _floor_divide(value: ibis.Value, divisor: int) -> ibis.Value:
    # The engine's % has the sign of the dividend, and its division goes through double. Without
    # the remainder the quotient is a whole number below 2^53, which rounding gives exactly.
    remainder = (value % divisor + divisor) % divisor
    return value if divisor == 1 else ((value - remainder) / divisor).round().cast("int64")


@ibis.udf.scalar.builtin(name="epoch_us")
def _epoch_microseconds(instant: ibis.dtype("timestamp('UTC', 6)")) -> int:  # type: ignore[empty-body, valid-type]
    """The engine's own function: microseconds since 1970."""


def _other_unit(low: Any, high: Any, unit: str) -> str:
    """Says which unit would put the whole log between 1990 and 2100, if another one does."""
    if unit not in _SECOND or not isinstance(low, int | float):
        return ""
    for other, per_second in _SECOND.items():
        begin, end = low / per_second, high / per_second
        if other != unit and _PLAUSIBLE[0] <= begin and end <= _PLAUSIBLE[1]:
            dates = [datetime.datetime.fromtimestamp(t, datetime.UTC).date() for t in (begin, end)]
            return (
                f"; with config.time_unit={other!r} the log would run from {dates[0]} to "
                f"{dates[1]}, so that is probably its unit"
            )
    return ""
