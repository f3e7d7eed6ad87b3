"""Turns a raw event log into a prepared one: checked, encoded, split.

An engine (Ibis over DuckDB, or over Spark) does the work and uses the disk for large logs: it sorts
the rows by user and time and streams them, batch by batch, into histories. Python never has all
rows in memory.
"""

import functools
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa

from siren_rope_jax.base.config import to_dict
from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.files import file_digest
from siren_rope_jax.base.times import NO_TIME
from siren_rope_jax.data.schema import NO_LABEL, TRAIN, Dense, OrdinalLabel, Schema
from siren_rope_jax.prepare import checks, events, readers, times
from siren_rope_jax.prepare.config import INTERNAL, PrepareConfig
from siren_rope_jax.prepare.engine import Engine, opened
from siren_rope_jax.prepare.histories import Block, Histories
from siren_rope_jax.prepare.items import joined, open_items
from siren_rope_jax.prepare.progress import PhaseBar
from siren_rope_jax.prepare.writer import (
    categorical,
    new_directory,
    seen_values,
    write_description,
    write_histories,
)

_NOTES = (  # what of the report is worth a warning
    ("duplicates_dropped", "rows were identical to an earlier one and were dropped"),
    ("left_out", "rows were left out, because config.where is not true for them"),
    ("outside_core", "rows of users or items with fewer events than config.core were dropped"),
    ("out_of_order", "rows come before an earlier event of their user and were sorted"),
    ("missing_times", "events have no time"),
    ("after_now", "events are later than now"),
    ("users_with_one_event", "users have only one event"),
    ("users_only_train", "users have fewer than three events, which are all train"),
)


def prepare(
    config: PrepareConfig,
    input: str | Path,
    output: str | Path,
    engine: str = "duckdb",
    items: str | Path | None = None,
) -> dict[str, Any]:
    """Prepares the log `input` into the directory `output`, which appears only when complete.

    A user's events are ordered by the full time given, then by config.tie_breaker, then as in the
    input. An event without a time is ordered and split as if it had the last known time in the
    user's rows before it, else the first after it; that of a user without any time, as the earliest
    of the log.

    Args:
      config: what the columns mean.
      input: a file of one of the kinds of `Format`, perhaps gzipped if it has lines; or a glob of
        several with the same columns, read in the order of their names.
      output: a directory that does not exist yet, or is empty.
      engine: "duckdb" computes on this machine, "spark" on those of Spark; the log is the same.
      items: a file of one row for each item, or a glob of several; expressions may use its columns.

    Returns:
      the report, which is also in meta.json: counts of rows, users, items, events and labels, the
      config, and what `write_description` adds.

    Raises:
      UserError: the input, the config or the output is not as it should be.
    """
    begin = time.monotonic()
    files = readers.find_files(input)
    of_items = [] if items is None else readers.find_files(items)
    if config.items_key and not of_items:
        named = f"{config.items_key!r} is of a file of items; name it with --items"
        raise UserError("config.items_key", f"{named}, or leave this key empty")
    with (
        new_directory(output) as directory,
        opened(engine, directory / "scratch", config, [*files, *of_items]) as (duck, chosen),
        PhaseBar(chosen.percent) as progress,
    ):
        progress.begin("finding types")
        raw = readers.open_log(duck, files, config, directory / "scratch")
        where = raw.where
        scratch, known = directory / "scratch", None
        if of_items:
            known = open_items(duck, of_items, config, scratch, beside=files)
        table = chosen.take("events", raw.table)
        if config.drop_duplicates:
            table = _first_of_equal(table)
        timed = functools.partial(events.timed, config=config, file=files[0], where=where)
        progress.begin("reading events")
        with readers.told_of(input if len(files) > 1 else files[0], files):
            log = chosen.by_row("log", table, timed)
        progress.begin("checking and splitting")
        given = count = log.count().to_pyarrow().as_py()
        if config.where:
            counting = functools.partial(events.those_that_count, config=config, where=where)
            log = chosen.by_row("log_where", log, counting)
            count = log.count().to_pyarrow().as_py()
            if given and not count:
                raise UserError("config.where", "is true for no event")
        checks.require_present(log, config, where)
        if config.core > 1:
            log = events.core(chosen, log, config.core)
        in_core = log.count().to_pyarrow().as_py()
        if in_core >= 2**31:  # which batches number by int32
            raise UserError("input", f"{in_core:,} events are left, and a log has fewer than 2^31")
        times.check_zones(chosen, log, config, where)
        missing_times = times.check_times(log, config, where)
        of_times = times.check_plausible(log, config, where)
        if missing_times:
            log = events.with_order_time(log)
        log, ends = events.with_split(log, config)
        notes, about_items = list(raw.notes), dict[str, Any]()
        if known:
            log, without_row, of_join = joined(chosen, log, known, config)
            notes += [*known.notes, *of_join]
            about_items = {
                "item_files": [path.name for path in of_items],
                "item_digests": [file_digest(path) for path in of_items],
                "item_rows": known.rows,
                "without_item_row": without_row,
            }
        progress.begin("computing columns")
        evaluated = functools.partial(events.evaluated, config=config, where=where)
        table = chosen.by_row("events", log, evaluated)
        checks.check_values(table, where)

        progress.begin("numbering values")
        names = ("item", *config.categorical)
        ids = {name: _number(chosen, table, name) for name in names}
        vocabularies = {name: _in_memory(chosen, of_name, "id") for name, of_name in ids.items()}
        users = chosen.numbered("users", table.select("user").distinct(), ["user"], "number", 0)
        longest, dropped = _lengths(table, config.most_values)
        most = {name: max(min(n, config.most_values), 1) for name, n in longest.items()}
        schema = _schema(config, vocabularies, most, ends)
        progress.begin("writing histories", in_core)
        seen = seen_values(vocabularies["item"])
        stream = Histories(_encode(chosen, table, users, ids, schema), schema, seen)
        blocks = _counted(stream, progress)
        written = write_histories(directory, schema.event_dtype, blocks)
        events_of_users = written[0][:, 0]
        report = {
            "files": [path.name for path in files],
            "digests": [file_digest(path) for path in files],
            "columns": (known.columns if known else {}) | raw.columns,
            "rows_read": raw.rows,
            **about_items,
            "duplicates_dropped": raw.rows - given,
            "left_out": given - count,
            "outside_core": count - in_core,
            "out_of_order": stream.out_of_order,
            "missing_times": missing_times,
            **of_times,
            "users": len(events_of_users),
            "users_with_one_event": int((events_of_users == 1).sum()),
            **stream.report(),
        }
        if schema.protocol == "leave_one_out":
            report["users_only_train"] = int((events_of_users < 3).sum())
        for name, length in longest.items():
            report["categorical"][name]["longest"] = length
        if dropped:
            report["values_dropped"] = dropped
            rule = f"in lists of more than config.most_values={config.most_values} do not count"
            notes += [f"{n} values of {name!r} {rule}" for name, n in dropped.items() if n]
        counted = [f"{report[key]} {text}" for key, text in _NOTES if report.get(key)]
        report["warnings"] = [*notes, *counted]
        report["config"] = to_dict(config)
        report["seconds"] = round(time.monotonic() - begin, 2)
        raw_users = _in_memory(chosen, users, "number")["user"]
        schema = stream.fitted()
        return write_description(directory, schema, written, raw_users, vocabularies, report)


def _first_of_equal(table: ibis.Table) -> ibis.Table:
    """The first of all rows that are identical in every column but `row`."""
    values = [column for column in table.columns if column != "row"]
    floats = [column for column in values if table[column].type().is_floating()]
    first = {f"{INTERNAL}{c}": table[c].argmin(table.row) for c in floats}  # -0.0 is equal to 0.0
    rows = table.group_by(values).aggregate(row=table.row.min(), **first)
    return rows.drop(floats).rename({c: f"{INTERNAL}{c}" for c in floats}).select(*values, "row")


def _counted(blocks: Iterable[Block], progress: PhaseBar) -> Iterator[Block]:
    """The blocks, whose events are counted when they have been used."""
    for block in blocks:
        yield block
        progress.count(len(block[0]))


def _lengths(table: ibis.Table, limit: int) -> tuple[dict[str, int], dict[str, int]]:
    """Of features with lists: how long the longest is, and how many values are beyond a limit."""
    longest, dropped = dict[str, int](), dict[str, int]()
    for column in table.columns:
        if table[column].type().is_array():
            length, name = table[column].length(), column.partition("/")[2]
            beyond = (length - limit).clip(lower=0)
            found = table.aggregate(longest=length.max(), beyond=beyond.sum()).to_pyarrow()
            longest[name], dropped[name] = (values[0].as_py() or 0 for values in found.columns)
    return longest, dropped


def _number(engine: Engine, table: ibis.Table, name: str) -> ibis.Table:
    """Gives ids from 1, by decreasing train count, then by value; NULL gets none."""
    value = table[f"categorical/{name}"]
    values = table.select("split", value=value.unnest() if value.type().is_array() else value)
    counted = (
        values.filter(values.value.notnull())
        .group_by("value")
        .aggregate(train_count=(values.split == TRAIN).sum())
    )
    order = [ibis.desc("train_count"), "value"]
    return engine.numbered(f"vocabulary_{name}", counted, order, "id", 1).relocate("id")


def _in_memory(engine: Engine, table: ibis.Table, key: str) -> pa.Table:
    """All rows of a table, in the order of this column."""
    schema = table.schema().to_pyarrow()
    batches = [batch.cast(schema) for batch in engine.stream(table.order_by(key))]
    return pa.Table.from_batches(batches, schema)


def _schema(
    config: PrepareConfig,
    vocabularies: Mapping[str, pa.Table],
    most: Mapping[str, int],
    ends: dict[str, Any],
) -> Schema:
    least = config.min_count
    return Schema(
        name=config.name,
        categorical=tuple(
            categorical(name, values, least, most.get(name, 0))
            for name, values in vocabularies.items()
        ),
        dense=tuple(map(Dense, config.dense)),
        context=tuple(map(Dense, config.context)),
        actions=tuple(map(Dense, config.actions)),
        tasks=tuple(config.tasks),
        ordinal=tuple(map(OrdinalLabel, config.ordinal)),
        regression=tuple(map(Dense, config.regression)),
        has_utc_offset=bool(config.utc_offset or config.time_zone),
        source=config.source,
        license=config.license,
        protocol=config.split.kind,
        time_zone=config.time_zone,
        **ends,
    )


def _encode(
    engine: Engine,
    table: ibis.Table,
    users: ibis.Table,
    vocabularies: Mapping[str, ibis.Table],
    schema: Schema,
) -> Iterator[pa.RecordBatch]:
    """Streams all events by user and time: user_index, row, and the columns of `event_dtype`."""
    numbers = users.rename(user_value="user")
    joined = table.join(numbers, table.user == numbers.user_value)
    for feature in schema.categorical:
        name, column = feature.name, f"categorical/{feature.name}"
        ids = vocabularies[name].select("id", "value")
        nothing = ibis.literal(0, "int32")
        if feature.most:
            ids = _lists(table[column], ids, feature.most)
            nothing = ibis.literal([0] * feature.most, "array<int32>")
        ids = ids.rename({f"{name} id": "id", f"{name} raw": "value"})
        joined = joined.left_join(ids, joined[column] == ids[f"{name} raw"])
        joined = joined.mutate(**{column: joined[f"{name} id"].fill_null(nothing)})
    encoded = joined.mutate(
        user_index=joined.number,
        time=joined.time.fill_null(NO_TIME),
        utc_offset=joined.utc_offset.round().cast("int32"),
        **{f"task/{t}": joined[f"task/{t}"].fill_null(NO_LABEL).cast("int8") for t in schema.tasks},
    )
    ordered = encoded.order_by(["user_index", events.ORDER_TIME, events.TIE, "row"])
    return engine.stream(ordered.select("user_index", "row", *(schema.event_dtype.names or ())))


def _lists(column: ibis.Value, ids: ibis.Table, most: int) -> ibis.Table:
    """Of every list that a column has: the `most` smallest ids of its values, then zeros."""
    lists = column.as_table().distinct().rename(value=column.get_name())
    single = lists.select(whole="value", one=lists.value.unnest())
    known = single.join(ids, single.one == ids.value)
    found = known.group_by("whole").aggregate(id=known.id.collect(order_by=known.id))
    zeros = ibis.literal([0] * most, "array<int32>")
    return found.select(value="whole", id=found.id.concat(zeros)[:most])
