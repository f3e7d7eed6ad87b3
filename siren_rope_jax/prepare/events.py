"""Makes the table of events from a raw log: deduplicated, split, with its expressions evaluated."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

import ibis

from siren_rope_jax.base.errors import UserError, excerpt, suggestion
from siren_rope_jax.data.schema import PREFIXES, TEST, TRAIN, VALIDATION
from siren_rope_jax.prepare import checks, expressions, times
from siren_rope_jax.prepare.config import (
    GIVEN_ROW,
    INTERNAL,
    RESERVED,
    PrepareConfig,
    parse_date,
    to_iso,
)
from siren_rope_jax.prepare.engine import Engine
from siren_rope_jax.prepare.values import as_text

# Columns of a log that expressions cannot use:
ORDER_TIME = f"{INTERNAL}order time"
"""The time that orders and splits events, in nanoseconds; every event has one."""
TIE = f"{INTERNAL}tie"
"""Orders events of the same time, before `row` does."""
SPLIT = f"{INTERNAL}split"
"""The split."""

_GIVEN = {  # keys of the config, and the columns of what they give
    "user": f"{INTERNAL}user",
    "item": f"{INTERNAL}item",
    "time": times.GIVEN_TIME,
    "tie_breaker": TIE,
}


def timed(
    table: ibis.Table, run: bool, config: PrepareConfig, file: Path, where: checks.Where
) -> ibis.Table:
    """Adds user, item, the time as given, `time_ns` (also as ORDER_TIME) and `time` (seconds).

    Args:
      table: the rows of the log.
      run: whether to try every expression on all rows, so that an error can name it.
      config: says what the columns mean.
      file: where the log is, for messages.
      where: says where a row is.

    Raises:
      UserError: a column is missing or of a type that cannot be what the config says.
    """
    columns = [column for column in table.columns if column != "row"]
    given = {key: sql_of(getattr(config, key), columns, key, file) or "0" for key in _GIVEN}
    for key, text in given.items():
        expressions.check(table, "value", text, f"config.{key}", run, where)
    kept = [column for column in columns if column.lower() not in (*RESERVED, GIVEN_ROW)]
    texts = {_GIVEN[key]: text for key, text in given.items()}
    table = expressions.select(table, texts, step="given")
    ids = {key: identity(table[_GIVEN[key]], key, config) for key in ("user", "item")}
    log = table.select(*kept, "row", times.GIVEN_TIME, TIE, **ids)
    log = log.mutate(time_ns=times.nanoseconds(log, config))
    return log.mutate(time=times.whole_seconds(log.time_ns), **{ORDER_TIME: log.time_ns})


def those_that_count(
    log: ibis.Table, run: bool, config: PrepareConfig, where: checks.Where
) -> ibis.Table:
    """The events for which `config.where` is true; all where it is empty.

    Args:
      log: the events.
      run: whether to try the condition on all rows, so that an error can name it.
      config: says what counts.
      where: says where a row is.

    Raises:
      UserError: it is not a condition.
    """
    if not config.where:
        return log
    about = "config.where"
    known = [column for column in log.columns if not column.startswith(INTERNAL)]
    text = expressions.resolve(config.where, known, about)
    kind = expressions.check(log, "value", text, about, run, where)
    if not kind.is_boolean():
        raise UserError(about, f"{excerpt(text)} is of type {kind}, not a condition")
    is_true = f"{INTERNAL}where"
    log = expressions.select(log, {is_true: text}, step="where")
    return log.filter(log[is_true]).drop(is_true)


def sql_of(text: str, columns: Sequence[str], key: str, file: Path) -> str:
    """The SQL of a column, or of an expression over the columns.

    Raises:
      UserError: the text, of this key of the config, is neither for the columns of this file.
    """
    if not text or text in columns:
        return expressions.quoted(text) if text else ""
    if text.lower() == "row" and GIVEN_ROW in columns:
        return expressions.quoted(GIVEN_ROW)
    columns = [column for column in columns if column != GIVEN_ROW]
    try:
        return expressions.resolve(text, [*columns, "row"], f"config.{key}")
    except UserError as error:
        if not re.fullmatch(r"[\w .-]+", text):
            raise
        tip = suggestion(text, columns)
        if len(columns) == 1:
            tip += "; config.formats.*.delimiter says what separates columns"
        raise UserError(f"config.{key}", f"{file} has no column {text!r}{tip}") from error


def identity(value: ibis.Value, key: str, config: PrepareConfig) -> ibis.Value:
    """A user or an item: an exact integer or text; what is empty, NaN or infinite is missing.

    Raises:
      UserError: the value, which this key of the config names, has a type that no id can have.
    """
    kind = value.type()
    if kind.is_integer() and not (kind.is_unsigned_integer() and kind.nbytes == 8):
        return value.cast("int64")
    if kind.is_floating():
        return as_text(value.isinf().ifelse(ibis.null(kind), value))
    if kind.is_decimal() or kind.is_integer():
        return as_text(value)
    if kind.is_string():
        return value.nullif("")
    if kind.is_boolean() or kind.is_date() or kind.is_timestamp() or kind.is_uuid():
        return value.cast("string")
    text = getattr(config, key)
    raise UserError(f"config.{key}", f"{text!r} is of type {kind}; ids must be text or integers")


def core(engine: Engine, log: ibis.Table, least: int) -> ibis.Table:
    """Leaves out items and users with fewer than `least` events, repeatedly (the k-core)."""
    pairs, before, kept = log.select("row", "user", "item"), None, 0
    while before != (size := pairs.count().to_pyarrow().as_py()):
        for column in ("item", "user"):
            counts = pairs.group_by(column).aggregate(events=pairs.count())
            enough = pairs.semi_join(counts.filter(counts.events >= least), column)
            pairs = engine.keep(f"core_{kept % 2}", enough)  # in turns: it is made of the other
            kept += 1
        before = size
    if not before:
        raise UserError("config.core", f"no users and items have {least} events with each other")
    return engine.keep("log_core", log.semi_join(pairs, "row"))


def with_order_time(log: ibis.Table) -> ibis.Table:
    """Gives events without a time the user's last known one as ORDER_TIME.

    Before the first known one they get that; where a user has none, the earliest time of the log.
    """
    # Asked for by itself: in a window over all rows, one of many machines would have to hold these.
    earliest = log.time_ns.min().to_pyarrow().as_py()
    so_far = ibis.window(group_by="user", order_by="row", preceding=None, following=0)
    known, time = f"{INTERNAL}known so far", log.time_ns
    log = log.mutate(**{known: time.count().over(so_far)})
    first = (log[known] == 1).ifelse(log.time_ns, None)  # of the first known time alone
    order_time = ibis.coalesce(
        log.time_ns.max().over(group_by=["user", known]),  # one row of these has a time
        first.max().over(group_by="user"),
        ibis.literal(earliest, "int64"),  # users without any time
    )
    return log.mutate(**{ORDER_TIME: order_time}).drop(known)


def with_split(log: ibis.Table, config: PrepareConfig) -> tuple[ibis.Table, dict[str, Any]]:
    """Adds the column SPLIT according to `config.split`; also returns the times of the `Schema`.

    Raises:
      UserError: a split has no events.
    """
    if config.split.kind == "leave_one_out":
        return _leave_one_out(log, config.split.last)
    # Split at the given times, or at those of the events at the given fractions of the log.
    rule, time = config.split, times.whole_seconds(log[ORDER_TIME])
    if rule.test_end:
        log = log.filter(time < parse_date(rule.test_end, "config.split.test_end"))
        time = times.whole_seconds(log[ORDER_TIME])
    facts = log.aggregate(first=time.min(), last=time.max(), events=log.count())
    first, last, events = facts.to_pyarrow().to_pylist()[0].values()
    if not events:
        raise UserError("config.split.test_end", f"is {rule.test_end}; no event is earlier")

    def at(fraction: float) -> int:
        return times.at_place(log.select(time=time), int(fraction * events))

    if rule.train_end:
        train_end = parse_date(rule.train_end, "config.split.train_end")
        validation_end = parse_date(rule.validation_end, "config.split.validation_end")
    else:
        train_end = at(rule.train_fraction)
        validation_end = at(rule.train_fraction + rule.validation_fraction)
    if not first < train_end < validation_end <= last:
        raise UserError(
            "config.split",
            f"train until {to_iso(train_end)} and validation until {to_iso(validation_end)} leave "
            f"a split without events; the log runs from {to_iso(first)} to {to_iso(last)}",
        )
    number = ibis.cases((time < train_end, TRAIN), (time < validation_end, VALIDATION), else_=TEST)
    ends = {"train_start": first, "train_end": train_end, "validation_end": validation_end}
    return log.mutate(**{SPLIT: number}), ends | {"end": last}


def _leave_one_out(log: ibis.Table, last: int) -> tuple[ibis.Table, dict[str, Any]]:
    newest_first = [ibis.desc(ORDER_TIME), ibis.desc(TIE, nulls_first=True), ibis.desc("row")]
    newer = ibis.row_number().over(group_by="user", order_by=newest_first) - (last - 1)
    few = log.count().over(group_by="user") < last + 2
    number = ibis.cases((few, TRAIN), (newer == 0, TEST), (newer == 1, VALIDATION), else_=TRAIN)
    place = f"{INTERNAL}place from the end"
    log = log.mutate(**{SPLIT: number, place: newer})
    log = log.filter(log[place] >= 0).drop(place)
    time, split = times.whole_seconds(log[ORDER_TIME]), log[SPLIT]
    found = log.aggregate(
        train_start=time.min(),
        train_end=time.max(where=split == TRAIN) + 1,
        validation_end=time.max(where=split != TEST) + 1,
        end=time.max(),
        tests=(split == TEST).sum(),
    )
    ends = found.to_pyarrow().to_pylist()[0]
    if not ends.pop("tests"):
        raise UserError(
            "config.split.kind",
            "'leave_one_out' needs users with three events or more; this log has none",
        )
    return log, ends


def evaluated(log: ibis.Table, run: bool, config: PrepareConfig, where: checks.Where) -> ibis.Table:
    """Returns the columns of a prepared log, ids not yet encoded.

    With `run` it tries every expression on all rows, so that an error can name it; `where` says
    where a row is.

    Raises:
      UserError: an expression that cannot be evaluated, or is of a wrong type.
    """
    given = [column for column in log.columns if not column.startswith(INTERNAL)]
    for name in expressions.in_order(config.derived, "config.derived", given):
        about = f"config.derived.{name}"
        known = [column for column in log.columns if not column.startswith(INTERNAL)]
        if name.lower() in (column.lower() for column in known):
            raise UserError(about, "the log has a column of this name; choose another")
        text = expressions.resolve(config.derived[name], known, about)
        expressions.check(log, name, text, about, run, where)
        log = expressions.select(log, {name: text}, step=f"with_{name}")
    known = [column for column in log.columns if not column.startswith(INTERNAL)]
    texts = {"utc_offset": _utc_offset(config), "categorical/item": "item"}
    for group, prefix in PREFIXES.items():
        texts |= {f"{prefix}/{name}": text for name, text in getattr(config, group).items()}
    for column, text in texts.items():
        about = checks.key_of(column)
        texts[column] = expressions.resolve(text, known, about)
        kind = expressions.check(log, column, texts[column], about, run, where)
        is_number = kind.is_numeric() or kind.is_boolean() or kind.is_null()
        if column.startswith("categorical/"):
            kind = kind.value_type if kind.is_array() else kind
            is_number = kind.is_numeric() or kind.is_boolean() or kind.is_null()
            if not (is_number or kind.is_string() or _is_written_out(kind)):
                raise UserError(about, f"{excerpt(text)} is of type {kind}, not text or a number")
        elif not is_number:
            why = expressions.why_text(log, texts[column], where) if kind.is_string() else ""
            problem = f"{excerpt(text)} is of type {kind}, not a number or true/false"
            raise UserError(about, f"{problem}{why and ': '}{why}")
    keep = f'row, "user", time, "{ORDER_TIME}", "{TIE}", "{SPLIT}" AS split'
    table = expressions.select(log, texts, keep=keep, step="evaluated")
    is_category = {column: column.startswith("categorical/") for column in texts}
    values = {
        c: _categories(table[c]) if yes else table[c].cast("float64")
        for c, yes in is_category.items()
    }
    return table.mutate(**values)


def _categories(value: ibis.Value) -> ibis.Value:
    """A category; or of a list, the different ones that are there, in their order."""
    if not value.type().is_array():
        return _category(value)
    return value.map(_category).filter(lambda one: one.notnull()).unique().sort()


def _is_written_out(kind: ibis.DataType) -> bool:
    return kind.is_date() or kind.is_timestamp() or kind.is_uuid()


def _category(value: ibis.Value) -> ibis.Value:
    """A category: text, an integer, true/false or a double; what is empty or NaN is missing.

    The double -0.0 is 0.0, to which it is equal.
    """
    kind = value.type()
    if kind.is_string():
        return value.nullif("")
    if kind.is_floating():
        positive = (value == 0).ifelse(0.0, value.cast("float64"))
        return value.isnan().ifelse(ibis.null("float64"), positive)
    return as_text(value) if kind.is_decimal() or _is_written_out(kind) else value


def _utc_offset(config: PrepareConfig) -> str:
    """The expression of an event's UTC offset in seconds; in a time zone, 0 if it has no time."""
    zone = config.time_zone
    if not zone:
        return config.utc_offset or "0"
    # Python has to know it too, for requests.
    zones = available_timezones() & expressions.time_zones()
    if zone not in zones:
        raise UserError(
            "config.time_zone",
            f"{zone!r} is not a zone of the IANA database, such as 'Europe/Berlin'"
            f"{suggestion(zone, zones)}",
        )
    return f"coalesce(epoch(timezone('{zone}', to_timestamp(time))) - time, 0)"
