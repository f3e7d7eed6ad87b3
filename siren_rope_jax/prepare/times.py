"""Times of a log: read exactly, checked for what they cannot be, and described.

A time is an int64 of nanoseconds since 1970 UTC while a log is prepared: events are ordered by all
of it. The prepared log has seconds, rounded down.
"""

import datetime
from typing import Any
from zoneinfo import available_timezones

import ibis

from siren_rope_jax.base.errors import UserError, excerpt
from siren_rope_jax.base.times import DAY, HOUR, MAX_TIME, MIN_TIME
from siren_rope_jax.prepare.checks import Where, first_row, value_in
from siren_rope_jax.prepare.column_types import TIMES
from siren_rope_jax.prepare.config import INTERNAL, PrepareConfig, parse_date, to_iso
from siren_rope_jax.prepare.engine import Engine

GIVEN_TIME = f"{INTERNAL}given time"
"""A log's column of times as the input has them."""

SECOND = 1_000_000_000  # nanoseconds
_UNITS = {"s": SECOND, "ms": 1_000_000, "us": 1_000, "ns": 1}
_UNITS |= {"min": 60 * SECOND, "h": HOUR * SECOND, "day": DAY * SECOND}
_WRITTEN = (("%Y%m%d%H%M%S", 14), ("%Y%m%d%H%M", 12), ("%Y%m%d", 8), ("%Y%m", 6))
_OUTSIDE = 1 << 62  # nanoseconds: a time later than 2100, which `check_times` refuses
_PLAUSIBLE_FROM = int(datetime.datetime(1990, 1, 1, tzinfo=datetime.UTC).timestamp())
_YEAR = 365.25 * DAY

_ZONE = r"(Z| ?UTC| ?GMT| ?[+-](0\d|1[0-8])(:?[0-5]\d)?| [A-Za-z_]+(/[A-Za-z0-9_+-]+)+)?"
_DATE = r"\d{4}([-/])\d{1,2}[-/]\d{1,2}"
_NO_ZONE = rf"^{_DATE}([T ][0-9:.]+)?$"
_NO_SECONDS = r"([T ]\d\d?:\d\d)(Z|[ +-])"
_PLAIN = rf"^{_DATE}([T ]\d{{1,2}}:\d{{2}}(:\d{{2}}(\.\d{{1,6}})?Z?)?)?$"
_ISO = rf"^{_DATE}([T ]\d{{1,2}}:\d{{2}}(:\d{{2}}(\.\d+)?)?{_ZONE})?$"


def nanoseconds(table: ibis.Table, config: PrepareConfig) -> ibis.Value:
    """Returns the column GIVEN_TIME as int64 nanoseconds since 1970; NULL if a value is no time.

    What is far outside of the supported times becomes one that `check_times` refuses.

    Raises:
      UserError: the column's type does not fit config.time_unit.
    """
    value, unit = table[GIVEN_TIME], config.time_unit
    kind = value.type()
    is_date = kind.is_timestamp() or kind.is_date()
    if not (is_date or kind.is_numeric() or kind.is_string() or kind.is_null()):
        right = "numbers, dates, or text"
        raise UserError("config.time", f"{config.time!r} is of type {kind}; times must be {right}")
    if is_date and unit != "iso":
        raise UserError(
            "config.time_unit", f"is {unit!r}, but {config.time!r} holds dates; set it to 'iso'"
        )
    if unit == "iso":
        if not is_date:
            return _of_text(value.cast("string"))
        if kind.is_timestamp() and kind.scale == 9:
            return _epoch_ns(value)
        return _of_instant(value.cast("timestamp('UTC', 6)"))
    each = _UNITS[unit]
    origin, most = config.origin * SECOND, _OUTSIDE // each
    count = value.try_cast(TIMES) if kind.is_string() else value
    if count.type().is_floating():
        count = count.isnan().ifelse(ibis.null("float64"), count)
    inside = count.between(-most, most)
    near = inside.ifelse(count, 0)
    if kind.is_integer():
        ns = near * each
    else:  # apart from the fraction, so that no digit is lost
        whole = near.floor().cast("int64")
        rest = near - whole
        if rest.type().is_decimal():
            rest = rest.cast("decimal(19, 18)") * ibis.literal(each, "decimal(14, 0)")
            ns = whole * each + rest.cast("decimal(38, 18)").floor().cast("int64")
        else:
            ns = whole * each + (rest * each).round().cast("int64")
    ns = inside.isnull().ifelse(ibis.null("int64"), ns + inside.ifelse(origin, _OUTSIDE))
    if kind.is_string():  # of a number that is too large for exact ones
        is_number = value.try_cast("float64").notnull() & ~value.try_cast("float64").isnan()
        ns = ns.coalesce(is_number.ifelse(_OUTSIDE, ibis.null("int64")))
    return ns


def _of_text(text: Any) -> ibis.Value:
    """Nanoseconds of dates as text; NULL if it is none, or names a zone by an abbreviation."""
    text = text.strip()
    # Most texts are of this form, which takes a third of the time of the others.
    return text.re_search(_PLAIN).ifelse(_of_instant(_in_utc(text)), _of_other_text(text))


def _of_other_text(text: Any) -> ibis.Value:
    """The same where a text names a zone, or has more digits than the engine reads."""
    instant = _instant(text)
    digits = text.re_extract(r"\.\d{6}(\d{1,3})", 1)  # the engine drops all after the sixth
    below = digits.rpad(3, "0").try_cast("int64").fill_null(0)
    below = (digits == "").ifelse(0, below)
    return text.re_search(_ISO).ifelse(_of_instant(instant) + below, ibis.null("int64"))


def _instant(text: Any) -> ibis.Value:
    """The instant that a text means, down to microseconds, if it means one."""
    # The engine wants seconds, and no blank before an offset.
    zoned = text.re_replace(r" ([+-]\d\d)", r"\1").re_replace(_NO_SECONDS, r"\1:00\2")
    # Apart, since it gives a time without a zone that of the row before, if this has a name.
    return text.re_search(_NO_ZONE).ifelse(_in_utc(text), zoned.try_cast("timestamp('UTC', 6)"))


def _in_utc(text: Any) -> ibis.Value:
    """The instant of a date or a time without a zone, or with a Z."""
    return text.try_cast("timestamp(6)").cast("timestamp('UTC', 6)")


def _of_instant(instant: ibis.Value) -> ibis.Value:
    microseconds = _epoch_us(instant)
    most = _OUTSIDE // 1_000
    inside = microseconds.between(-most, most)
    ns = inside.fill_null(False).ifelse(microseconds * 1_000, _OUTSIDE)  # infinity is NULL there
    return instant.isnull().ifelse(ibis.null("int64"), ns)


@ibis.udf.scalar.builtin(name="epoch_us")
def _epoch_us(instant: ibis.dtype("timestamp('UTC', 6)")) -> int:  # type: ignore[empty-body, valid-type]
    """The engine's own function: microseconds since 1970."""


@ibis.udf.scalar.builtin(name="epoch_ns")
def _epoch_ns(instant: ibis.dtype("timestamp(9)")) -> int:  # type: ignore[empty-body, valid-type]
    """The engine's own function: nanoseconds since 1970."""


def whole_seconds(time_ns: ibis.Value) -> ibis.Value:
    """Nanoseconds as seconds, rounded down."""
    # The engine's % has the sign of the dividend, and its division goes through double. Without
    # the remainder the quotient is a whole number below 2^53, which rounding gives exactly.
    remainder = (time_ns % SECOND + SECOND) % SECOND
    return ((time_ns - remainder) / SECOND).round().cast("int64")


def check_times(table: ibis.Table, config: PrepareConfig, where: Where) -> int:
    """Checks `time_ns`, made by `nanoseconds`; returns the number of events that have none.

    Raises:
      UserError: a value that is not a time, or is before 1902 or after 2099; events without a time,
        if they are not allowed; another unit than that of the config; or times that cannot be
        right, such as a few zeros among others.
    """
    raw, time = table[GIVEN_TIME], table["time_ns"]
    column, unit = config.time, config.time_unit
    facts = table.aggregate(
        unread=(raw.notnull() & time.isnull()).sum(),
        missing=raw.isnull().sum(),
        low=time.min(),
        high=time.max(),
    )
    unread, missing, low, high = facts.to_pyarrow().to_pylist()[0].values()
    if unread:
        row = first_row(table, raw.notnull() & time.isnull())
        value = value_in(table, row, GIVEN_TIME)
        right = f"a number in {unit!r}; for dates as text set config.time_unit to 'iso'"
        if unit == "iso":
            right = "a date and time such as 2024-05-01T19:30 (others: strptime() in config.time)"
            if value.lstrip("-").isdigit():
                right = "a date; for numbers set config.time_unit to 's' or 'ms'"
            elif value.rstrip()[-3:].isalpha():
                right = "a date and time with Z, UTC, an offset or the name of an IANA time zone"
        raise UserError(
            "config.time",
            f"{where(row)} has {excerpt(value)} in {column!r}, which is not {right}",
        )
    if missing and not config.allow_missing_time:
        row = first_row(table, raw.isnull())
        raise UserError(
            "config.time",
            f"{where(row)} has no time in {column!r}, as is the case in {missing} rows; set "
            "config.allow_missing_time=True if events may have none",
        )
    if low is None:
        raise UserError("config.time", f"{column!r} is empty; the split needs times")
    hint = "" if config.time_origin or config.earliest else _other_unit(raw, unit)
    since = f" since {to_iso(config.origin)}" if config.origin else ""
    if low < MIN_TIME * SECOND or high >= MAX_TIME * SECOND:
        row = first_row(table, (time < MIN_TIME * SECOND) | (time >= MAX_TIME * SECOND))
        raise UserError(
            "config.time_unit" if hint else "config.time",
            f"with {unit!r}{since} the time {value_in(table, row, GIVEN_TIME)} in {where(row)}, "
            f"{column!r}, is outside 1902-01-01 to 2100-01-01"
            f"{hint or '; correct or remove the row'}",
        )
    if hint and low >= 0 and high < 365 * DAY * SECOND:
        raise UserError(
            "config.time_unit",
            f"with {unit!r} all times in {column!r} are in early 1970{hint}. If they are not Unix "
            "times, say from which date they count with config.time_origin",
        )
    return int(missing)


def _other_unit(raw: ibis.Value, unit: str) -> str:
    """Names what else numbers can be that are all from 1990 to 2100 as such, if anything."""
    if unit == "iso" or not raw.type().is_numeric():
        return ""
    low, high = (value.to_pyarrow().as_py() for value in (raw.min(), raw.max()))
    low, high = float(low), float(high)
    for form, digits in _WRITTEN:  # before units, as 202405 would be a number of hours, too
        if all(_is_written(value, form, digits) for value in (low, high)):
            return (
                "; the numbers look like dates written without signs between their parts: set "
                f"config.time=\"strptime(CAST(... AS VARCHAR), '{form}')\" and "
                "config.time_unit='iso'"
            )
    for other in _UNITS:
        begin, end = (value * _UNITS[other] / SECOND for value in (low, high))
        if other != unit and begin >= _PLAUSIBLE_FROM and end <= MAX_TIME:
            dates = [to_iso(t).partition("T")[0] for t in (begin, end)]
            return (
                f"; with {other!r} the log would run from {dates[0]} to {dates[1]}, so that is "
                "probably its unit"
            )
    return ""


def _is_written(value: float, form: str, digits: int) -> bool:
    """Whether a number such as 20240501 is a date from 1990 on, written so."""
    text = f"{value:.0f}"
    try:
        return len(text) == digits and datetime.datetime.strptime(text, form).year >= 1990
    except ValueError:
        return False


def at_place(times: ibis.Table, place: int) -> int:
    """Returns the time that `place` of the column `time` (seconds) are before, in their order.

    It counts hours, then the seconds of one hour: to sort all times would take far longer.
    """
    for unit in (HOUR, 1):
        # The division goes through double, which is exact for these.
        counted = times.group_by(begin=times.time // unit).aggregate(events=ibis._.count())
        begins, counts = counted.order_by("begin").to_pyarrow().columns
        so_far = counts.to_numpy().cumsum()
        found = int((so_far > place).argmax())
        begin = begins[found].as_py()
        place -= int(so_far[found - 1]) if found else 0
        times = times.filter(times.time // unit == begin)
    return int(begin)


def check_plausible(table: ibis.Table, config: PrepareConfig, where: Where) -> dict[str, Any]:
    """Refuses times that cannot be right beside the others; returns what the report says of them.

    Returns:
      "time_span": first and last time and those of the central 99 % (dates), and the days between
      these; "after_now": how many events have not happened yet.

    Raises:
      UserError: about config.earliest, config.latest or config.time.
    """
    time = table["time_ns"]
    now = datetime.datetime.now(datetime.UTC).timestamp()
    hours = table.filter(time.notnull()).group_by(hour=table.time // HOUR)
    counted = hours.aggregate(events=ibis._.count()).order_by("hour").to_pyarrow()
    count = counted["events"].to_numpy().cumsum()
    starts = counted["hour"].to_numpy() * HOUR

    def at(event: int) -> float:
        return float(starts[int((count > event).argmax())])

    events = int(count[-1])
    aside = max(int(0.005 * events), min(1, (events - 1) // 2))  # on each side, at least one
    low, middle, high = at(aside), at(events // 2), at(events - 1 - aside)
    facts = table.aggregate(
        first=time.min(), last=time.max(), later=(time > int(now * SECOND)).sum()
    )
    first, last, later = facts.to_pyarrow().to_pylist()[0].values()
    first, last = first // SECOND, last // SECOND
    for key, wrong in (("earliest", lambda end: time < end), ("latest", lambda end: time > end)):
        if given := getattr(config, key):
            end = parse_date(given, f"config.{key}") * SECOND
            if row := first_row(table, wrong(end)):
                found = value_in(table, row, GIVEN_TIME)
                raise UserError(f"config.{key}", f"is {given}, but {where(row)} has {found}")
    if not config.latest and middle > now + DAY:
        raise UserError(
            "config.time",
            f"half of the events are after {to_iso(middle)}, which is still to come; is "
            "config.time_unit right? If it is, say until when with config.latest",
        )
    far = max(10 * (high - low), 10 * _YEAR)
    # Zeros and -1 stand for something else; the others have a larger unit.
    in_1970 = first in (0, -1) or (0 < first < _YEAR and low > 10 * _YEAR)
    for key, end, is_far in (
        ("earliest", first, first < low - far or (in_1970 and middle > _PLAUSIBLE_FROM)),
        ("latest", last, last > high + far),
    ):
        if is_far and not getattr(config, key):
            row = first_row(table, whole_seconds(time) == end)
            raise UserError(
                "config.time",
                f"{where(row)} has {value_in(table, row, GIVEN_TIME)}, which is {to_iso(end)}, "
                f"but most events are from {to_iso(low)} to {to_iso(high)}. If it stands "
                'for a missing time, set config.time="nullif(..., ...)" and '
                "config.allow_missing_time=True; if it is in another unit, correct it; if it is "
                f"right, say so with config.{key}, such as '{to_iso(end)}'",
            )
    days = round((high - low) / DAY, 2)
    span = {"first": to_iso(first), "last": to_iso(last)}
    span |= {"central_99_first": to_iso(low), "central_99_last": to_iso(high)}
    return {"time_span": {**span, "central_99_days": days}, "after_now": int(later)}


def check_zones(engine: Engine, table: ibis.Table, config: PrepareConfig, where: Where) -> None:
    """Refuses names of zones in times as text that are not in the IANA database.

    So are times that a zone's clock showed twice, or never, because it was set back or forward.

    Raises:
      UserError: about config.time.
    """
    value = table[GIVEN_TIME]
    if config.time_unit != "iso" or not value.type().is_string():
        return
    table = engine.in_duckdb(table.filter(value.contains("/")).select("row", GIVEN_TIME))
    value = table[GIVEN_TIME].strip()
    name = value.re_extract(r"([A-Za-z_]+(/[A-Za-z0-9_+-]+)+)$", 1)
    in_zone = name != ""
    names = table.filter(in_zone).select(name=name).distinct().name.to_pyarrow().to_pylist()
    for zone in names:
        if zone not in available_timezones():
            row = first_row(table, name == zone)
            raise UserError(
                "config.time", f"{where(row)} has the time zone {excerpt(zone)}, which is unknown"
            )
    if not names:
        return
    shown = value.re_extract(r"^(.*) ", 1).try_cast("timestamp(6)")
    instant = _instant(value)
    zone = in_zone.ifelse(name, "UTC")
    changes = [ibis.interval(minutes=sign * m) for m in _CLOCK_CHANGES for sign in (-1, 1)]
    twice = ibis.or_(*(_clock(zone, instant + change) == shown for change in changes))
    if row := first_row(table, in_zone & (twice | (_clock(zone, instant) != shown))):
        raise UserError(
            "config.time",
            f"{where(row)} has {value_in(table, row, GIVEN_TIME)}, which the clocks of this zone "
            "showed twice or never, as they were set back or forward; write the offset instead of "
            "the zone, or choose one by a timezone(...) in config.time",
        )


_CLOCK_CHANGES = (20, 30, 60, 120)  # minutes


@ibis.udf.scalar.builtin(name="timezone")
def _clock(
    zone: str,
    instant: ibis.dtype("timestamp('UTC', 6)"),  # type: ignore[valid-type]
) -> ibis.dtype("timestamp(6)"):  # type: ignore[valid-type]
    """The engine's own function: what a clock in the zone shows."""
