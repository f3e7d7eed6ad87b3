"""Makes the table of events out of a raw log: named, deduplicated, split, evaluated."""

import dataclasses
import datetime
from zoneinfo import available_timezones

import duckdb
import ibis

from siren_rope_jax.base.errors import UserError, suggestion
from siren_rope_jax.data.schema import TEST, TRAIN, VALIDATION
from siren_rope_jax.prepare import checks, expressions
from siren_rope_jax.prepare.config import RESERVED, PrepareConfig, parse_date

ORDER_TIME = "order time"
"""A log's column of the time that orders and splits events; no column of SQL's is named so."""
SPLIT = "split number"
"""A log's column of the split; likewise."""

GROUPS = {  # of the config: the prefix of a column in a prepared log
    "categorical": "categorical",
    "dense": "dense",
    "context": "context",
    "actions": "action",
    "tasks": "task",
}


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Unix seconds: the first event, the two ends of the split (see `Schema`), the last event."""

    first: int
    train_end: int
    validation_end: int
    last: int


def without_duplicates(raw: ibis.Table) -> ibis.Table:
    """Keeps, of the rows that are identical in every column, the first."""
    columns = [column for column in raw.columns if column != "row"]
    return raw.group_by(columns).aggregate(row=raw.row.min())


def named(raw: ibis.Table, config: PrepareConfig) -> ibis.Table:
    """Adds user, item and time (seconds; also as ORDER_TIME), and keeps the time as given."""
    kept = [column for column in raw.columns if column.lower() not in RESERVED]
    seconds = checks.seconds_of(raw, config.time, config.time_unit, time_origin(config))
    return raw.select(
        *kept,
        "row",
        user=raw[config.user],
        item=raw[config.item],
        time=seconds,
        **{checks.GIVEN_TIME: raw[config.time], ORDER_TIME: seconds},
    )


def core(con: ibis.BaseBackend, log: ibis.Table, least: int) -> ibis.Table:
    """Leaves out items and users of fewer events, until all that are left have `least` (k-core).

    Raises:
      UserError: none is left.
    """
    pairs = con.create_table("core", log.select("row", "user", "item"))
    before = None
    while before != (size := pairs.count().to_pyarrow().as_py()):
        for column in ("item", "user"):
            counts = pairs.group_by(column).aggregate(events=pairs.count())
            enough = pairs.semi_join(counts.filter(counts.events >= least), column)
            pairs = con.create_table("core", enough.cache(), overwrite=True)
        before = size
    if not before:
        raise UserError(
            f"config.core: no users and items are left that have {least} events with each other"
        )
    return con.create_table("log_core", log.semi_join(pairs, "row"))


def time_origin(config: PrepareConfig) -> int:
    """The Unix seconds that the log's times count from."""
    return parse_date(config.time_origin, "config.time_origin") if config.time_origin else 0


def with_order_time(log: ibis.Table) -> ibis.Table:
    """Gives events without a time, for order and split, the time of their user's last known one."""
    so_far = ibis.window(group_by="user", order_by="row", preceding=None, following=0)
    known = log.time.count().over(so_far)
    log = log.mutate(**{"known so far": known})
    first = (log["known so far"] == 1).ifelse(log.time, None)  # only the first known one's
    order_time = ibis.coalesce(
        log.time.max().over(group_by=["user", "known so far"]),  # one row of these has a time
        first.max().over(group_by="user"),
        log.time.min().over(ibis.window()),  # a user of no time at all is train
    )
    return log.mutate(**{ORDER_TIME: order_time}).drop("known so far")


def with_split(
    con: ibis.BaseBackend, log: ibis.Table, config: PrepareConfig
) -> tuple[ibis.Table, Bounds]:
    """Adds the column SPLIT, by the rule of `config.split`, and returns the split's bounds too.

    Raises:
      UserError: a split is left without any event.
    """
    if config.split.kind == "leave_one_out":
        return _leave_one_out(log)
    bounds = _time_bounds(con, log, config)
    number = ibis.cases(
        (log[ORDER_TIME] < bounds.train_end, TRAIN),
        (log[ORDER_TIME] < bounds.validation_end, VALIDATION),
        else_=TEST,
    )
    return log.mutate(**{SPLIT: number}), bounds


def _leave_one_out(log: ibis.Table) -> tuple[ibis.Table, Bounds]:
    newest_first = [ibis.desc(ORDER_TIME), ibis.desc("row")]
    ranked = log.mutate(
        **{
            "newer events": ibis.row_number().over(group_by="user", order_by=newest_first),
            "user events": log.count().over(group_by="user"),
        }
    )
    number = ibis.cases(
        (ranked["user events"] < 3, TRAIN),
        (ranked["newer events"] == 0, TEST),
        (ranked["newer events"] == 1, VALIDATION),
        else_=TRAIN,
    )
    log = ranked.mutate(**{SPLIT: number}).drop("newer events", "user events")
    time = log[ORDER_TIME]
    found = log.aggregate(
        first=time.min(),
        train_end=time.max(where=log[SPLIT] == TRAIN) + 1,
        validation_end=time.max(where=log[SPLIT] != TEST) + 1,
        last=time.max(),
        tests=(log[SPLIT] == TEST).sum(),
    )
    values = found.to_pyarrow().to_pylist()[0]
    if not values.pop("tests"):
        raise UserError(
            "config.split.kind: 'leave_one_out' needs users with three events or more; this log "
            "has none"
        )
    return log, Bounds(**values)


def _time_bounds(con: ibis.BaseBackend, log: ibis.Table, config: PrepareConfig) -> Bounds:
    """The times of the split: those of the events at the given fractions of all, in time order."""
    split = config.split
    counts = log.group_by(time=log[ORDER_TIME]).aggregate(n=log.count())
    window = ibis.cumulative_window(order_by="time")
    upto = con.create_table("times", counts.mutate(upto=counts.n.sum().over(window)))
    first, last, events = (
        value.to_pyarrow().as_py() for value in (upto.time.min(), upto.time.max(), upto.upto.max())
    )

    def at(fraction: float) -> int:
        beyond = upto.upto > int(fraction * events)
        return upto.time.min(where=beyond).to_pyarrow().as_py()

    if split.train_end:
        train_end = parse_date(split.train_end, "config.split.train_end")
        validation_end = parse_date(split.validation_end, "config.split.validation_end")
    else:
        train_end = at(split.train_fraction)
        validation_end = at(split.train_fraction + split.validation_fraction)
    bounds = Bounds(first, train_end, validation_end, last)
    if not first < bounds.train_end < bounds.validation_end <= last:
        raise UserError(
            f"config.split: train until {iso(bounds.train_end)} and validation until "
            f"{iso(bounds.validation_end)} leave a split without events; the log runs from "
            f"{iso(first)} to {iso(last)}"
        )
    return bounds


def event_table(con: ibis.BaseBackend, log: ibis.Table, config: PrepareConfig) -> ibis.Table:
    """Makes the table `events` with the columns of a prepared log, ids not yet encoded."""
    hidden = (checks.GIVEN_TIME, ORDER_TIME, SPLIT)
    for name in expressions.in_order(config.derived, "config.derived"):
        where = f"config.derived.{name}"
        known = [column for column in log.columns if column not in hidden]
        if name.lower() in (column.lower() for column in known):
            raise UserError(f"{where}: the log has a column of this name; choose another")
        text = expressions.resolve(config.derived[name], known, where)
        expressions.check(log, name, text, where)
        log = expressions.select(log, {name: text}, step=f"with_{name}")
    known = [column for column in log.columns if column not in hidden]
    texts: dict[str, str] = {"utc_offset": _utc_offset(con, config), "categorical/item": "item"}
    keys = {"utc_offset": "config.utc_offset", "categorical/item": "config.item"}
    for group, prefix in GROUPS.items():
        for name, text in getattr(config, group).items():
            texts[f"{prefix}/{name}"] = text
            keys[f"{prefix}/{name}"] = f"config.{group}.{name}"
    for column, text in texts.items():
        texts[column] = expressions.resolve(text, known, keys[column])
        kind = expressions.check(log, column, texts[column], keys[column])
        if not column.startswith("categorical/") and not (
            kind.is_numeric() or kind.is_boolean() or kind.is_null()
        ):
            raise UserError(
                f"{keys[column]}: {text!r} is of type {kind}, not a number or true/false"
            )
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
            expressions.check(log, column, text, keys[column], run=True)
        raise UserError(f"config: the expressions cannot be evaluated: {error}") from error


def _utc_offset(con: ibis.BaseBackend, config: PrepareConfig) -> str:
    """The expression of an event's UTC offset in seconds; 0 where an event has no time."""
    zone = config.time_zone
    if not zone:
        return config.utc_offset or "0"
    names = con.sql("SELECT name FROM pg_timezone_names()").to_pyarrow()["name"].to_pylist()
    zones = available_timezones() & set(names)  # what both know, as Python needs it for requests
    if zone not in zones:
        raise UserError(
            f"config.time_zone: {zone!r} is no zone of the IANA database (as 'Europe/Berlin' is)"
            f"{suggestion(zone, zones)}"
        )
    return f"coalesce(epoch(timezone('{zone}', to_timestamp(time))) - time, 0)"


def iso(seconds: int) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
