"""Makes the table of events from a raw log: deduplicated, split, with its expressions evaluated."""

from typing import Any
from zoneinfo import available_timezones

import duckdb
import ibis

from siren_rope_jax.base.errors import UserError, suggestion
from siren_rope_jax.data.schema import PREFIXES, TEST, TRAIN, VALIDATION
from siren_rope_jax.prepare import checks, expressions
from siren_rope_jax.prepare.config import RESERVED, PrepareConfig, parse_date, to_iso

ORDER_TIME = "order time"
"""A log's column of the time that orders and splits events; expressions cannot use it."""
SPLIT = "split number"
"""A log's column of the split; expressions cannot use it either."""


def named(raw: ibis.Table, config: PrepareConfig) -> ibis.Table:
    """Adds user, item and time (seconds; also as ORDER_TIME), and keeps the time as given."""
    kept = [column for column in raw.columns if column.lower() not in RESERVED]
    seconds = checks.seconds_of(raw, config.time, config.time_unit, config.origin)
    return raw.select(
        *kept,
        "row",
        user=raw[config.user],
        item=raw[config.item],
        time=seconds,
        **{checks.GIVEN_TIME: raw[config.time], ORDER_TIME: seconds},
    )


def core(con: ibis.BaseBackend, log: ibis.Table, least: int) -> ibis.Table:
    """Leaves out items and users with fewer than `least` events, repeatedly (the k-core)."""
    pairs = con.create_table("core", log.select("row", "user", "item"))
    before = None
    while before != (size := pairs.count().to_pyarrow().as_py()):
        for column in ("item", "user"):
            counts = pairs.group_by(column).aggregate(events=pairs.count())
            enough = pairs.semi_join(counts.filter(counts.events >= least), column)
            pairs = con.create_table("core", enough.cache(), overwrite=True)
        before = size
    if not before:
        raise UserError("config.core", f"no users and items have {least} events with each other")
    return con.create_table("log_core", log.semi_join(pairs, "row"))


def with_order_time(log: ibis.Table) -> ibis.Table:
    """Gives events without a time the user's last known one as ORDER_TIME.

    Before the first known one they get that; where a user has none, the earliest time of the log.
    """
    so_far = ibis.window(group_by="user", order_by="row", preceding=None, following=0)
    known = log.time.count().over(so_far)
    log = log.mutate(**{"known so far": known})
    first = (log["known so far"] == 1).ifelse(log.time, None)  # of the first known time alone
    order_time = ibis.coalesce(
        log.time.max().over(group_by=["user", "known so far"]),  # one row of these has a time
        first.max().over(group_by="user"),
        log.time.min().over(ibis.window()),  # users without any time
    )
    return log.mutate(**{ORDER_TIME: order_time}).drop("known so far")


def with_split(log: ibis.Table, config: PrepareConfig) -> tuple[ibis.Table, dict[str, Any]]:
    """Adds the column SPLIT according to `config.split`; also returns the times of the `Schema`.

    Raises:
      UserError: a split has no events.
    """
    if config.split.kind == "leave_one_out":
        return _leave_one_out(log)
    # Split at the given times, or at those of the events at the given fractions of the log.
    rule, time = config.split, log[ORDER_TIME]
    facts = log.aggregate(first=time.min(), last=time.max(), events=log.count())
    first, last, events = facts.to_pyarrow().to_pylist()[0].values()

    def at(fraction: float) -> int:
        event = log.select(ORDER_TIME).order_by(ORDER_TIME).limit(1, offset=int(fraction * events))
        return event.to_pyarrow()[0][0].as_py()

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
    times = {"train_start": first, "train_end": train_end, "validation_end": validation_end}
    return log.mutate(**{SPLIT: number}), times | {"end": last}


def _leave_one_out(log: ibis.Table) -> tuple[ibis.Table, dict[str, Any]]:
    newest_first = [ibis.desc(ORDER_TIME), ibis.desc("row")]
    newer = ibis.row_number().over(group_by="user", order_by=newest_first)
    few = log.count().over(group_by="user") < 3
    number = ibis.cases((few, TRAIN), (newer == 0, TEST), (newer == 1, VALIDATION), else_=TRAIN)
    log = log.mutate(**{SPLIT: number})
    time, split = log[ORDER_TIME], log[SPLIT]
    found = log.aggregate(
        train_start=time.min(),
        train_end=time.max(where=split == TRAIN) + 1,
        validation_end=time.max(where=split != TEST) + 1,
        end=time.max(),
        tests=(split == TEST).sum(),
    )
    times = found.to_pyarrow().to_pylist()[0]
    if not times.pop("tests"):
        raise UserError(
            "config.split.kind",
            "'leave_one_out' needs users with three events or more; this log has none",
        )
    return log, times


def event_table(con: ibis.BaseBackend, log: ibis.Table, config: PrepareConfig) -> ibis.Table:
    """Makes the table `events` with the columns of a prepared log, ids not yet encoded.

    Raises:
      UserError: an expression that cannot be evaluated, or is of a wrong type.
    """
    hidden = (checks.GIVEN_TIME, ORDER_TIME, SPLIT)
    for name in expressions.in_order(config.derived, "config.derived"):
        about = f"config.derived.{name}"
        known = [column for column in log.columns if column not in hidden]
        if name.lower() in (column.lower() for column in known):
            raise UserError(about, "the log has a column of this name; choose another")
        text = expressions.resolve(config.derived[name], known, about)
        expressions.check(log, name, text, about)
        log = expressions.select(log, {name: text}, step=f"with_{name}")
    known = [column for column in log.columns if column not in hidden]
    texts = {"utc_offset": _utc_offset(con, config), "categorical/item": "item"}
    for group, prefix in PREFIXES.items():
        texts |= {f"{prefix}/{name}": text for name, text in getattr(config, group).items()}
    for column, text in texts.items():
        about = checks.key_of(column)
        texts[column] = expressions.resolve(text, known, about)
        kind = expressions.check(log, column, texts[column], about)
        is_number = kind.is_numeric() or kind.is_boolean() or kind.is_null()
        if not column.startswith("categorical/") and not is_number:
            raise UserError(about, f"{text!r} is of type {kind}, not a number or true/false")
    keep = f'row, "user", time, "{ORDER_TIME}", "{SPLIT}" AS split'
    table = expressions.select(log, texts, keep=keep, step="evaluated")
    numbers = [column for column in texts if not column.startswith("categorical/")]
    table = table.mutate(**{column: table[column].cast("float64") for column in numbers})
    try:
        return con.create_table("events", table)
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error as error:
        for column, text in texts.items():
            expressions.check(log, column, text, checks.key_of(column), run=True)
        raise UserError("config", f"the expressions cannot be evaluated: {error}") from error


def _utc_offset(con: ibis.BaseBackend, config: PrepareConfig) -> str:
    """The expression of an event's UTC offset in seconds; in a time zone, 0 if it has no time."""
    zone = config.time_zone
    if not zone:
        return config.utc_offset or "0"
    names = con.sql("SELECT name FROM pg_timezone_names()").to_pyarrow()["name"].to_pylist()
    zones = available_timezones() & set(names)  # Python has to know it too, for requests
    if zone not in zones:
        raise UserError(
            "config.time_zone",
            f"{zone!r} is not a zone of the IANA database, such as 'Europe/Berlin'"
            f"{suggestion(zone, zones)}",
        )
    return f"coalesce(epoch(timezone('{zone}', to_timestamp(time))) - time, 0)"
