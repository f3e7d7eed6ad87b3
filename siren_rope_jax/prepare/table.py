"""Turns a raw event log into a prepared one: checked, encoded, split.

An embedded database engine (Ibis over DuckDB) does the work and uses the disk for large logs: it
sorts the rows by user and time and streams them, batch by batch, into histories. Python never has
all rows in memory.
"""

import functools
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pyarrow as pa

from siren_rope_jax.base.config import to_dict
from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.times import NO_TIME
from siren_rope_jax.data.schema import NO_LABEL, PREFIXES, SPLITS, TRAIN, Dense, Schema
from siren_rope_jax.prepare import checks, events, readers
from siren_rope_jax.prepare.config import PrepareConfig
from siren_rope_jax.prepare.histories import Histories
from siren_rope_jax.prepare.writer import (
    categorical,
    new_directory,
    write_description,
    write_histories,
)

BATCH_ROWS = 1 << 16


def prepare(config: PrepareConfig, input: str | Path, output: str | Path) -> dict[str, Any]:
    """Prepares the log `input` into the directory `output`, which appears only when complete.

    A user's events are ordered by time; events of the same time keep the order of the input. An
    event without a time is ordered and split as if it had the last known time in the user's rows
    before it.

    Args:
      config: what the columns mean.
      input: a file of one of the kinds of `Format`, perhaps gzipped if it has lines; or a glob of
        several with the same columns, read in the order of their names.
      output: a directory that does not exist yet, or is empty.

    Returns:
      the report, which is also in meta.json: counts of rows, users, items, events and labels, the
      config, and what `write_description` adds.

    Raises:
      UserError: the input, the config or the output is not as it should be.
    """
    begin = time.monotonic()
    files = readers.find_files(input)
    with new_directory(output) as directory:
        scratch = directory / "scratch"
        scratch.mkdir()
        con = _connect(scratch, config)
        try:
            report = _prepare(con, config, files, directory, scratch, begin)
        except duckdb.OutOfMemoryException as error:
            raise UserError(
                "config.memory_gb",
                f"{config.memory_gb} is too little for this log, or the disk of {output} is full: "
                f"{str(error).splitlines()[0]}",
            ) from error
        finally:
            con.disconnect()
            shutil.rmtree(scratch)
    return report


def _connect(scratch: Path, config: PrepareConfig) -> ibis.BaseBackend:
    settings: dict[str, Any] = {"memory_limit": f"{config.memory_gb}GB"}
    if config.threads:
        settings["threads"] = config.threads
    con = ibis.duckdb.connect(
        scratch / "log.duckdb",
        temp_directory=str(scratch / "spill"),
        preserve_insertion_order=True,  # so that `row` numbers the rows as in the file
        **settings,
    )
    con.raw_sql("SET TimeZone = 'UTC'")
    return con


def _prepare(
    con: ibis.BaseBackend,
    config: PrepareConfig,
    files: list[Path],
    directory: Path,
    scratch: Path,
    begin: float,
) -> dict[str, Any]:
    identities = (config.user, config.item)
    # If these are columns, their values must stay different; other expressions have their own.
    categories = [text.strip().strip('"') for text in config.categorical.values()]
    raw, offsets, rows_read = readers.open_log(
        con, files, config.formats, identities, categories, scratch
    )
    where = functools.partial(readers.where_is_row, files=files, offsets=offsets)
    checks.require_columns(raw, config, files[0])
    if config.drop_duplicates:
        raw = events.without_duplicates(raw)
    log = con.create_table("log", events.named(raw, config))
    count = log.count().to_pyarrow().as_py()
    checks.require_present(log, config, where)
    if config.core > 1:
        log = events.core(con, log, config.core)
    in_core = log.count().to_pyarrow().as_py()
    missing_times = checks.check_times(log, config, where)
    if missing_times:
        log = events.with_order_time(log)
    log, bounds = events.with_split(con, log, config)
    table = events.event_table(con, log, config)
    label_counts = _check_values(table, where)

    vocabularies = {
        name: _make_vocabulary(con, table, name) for name in ("item", *config.categorical)
    }
    users = con.create_table("users", _numbered(table.select("user").distinct(), "user"))
    schema = _schema(config, vocabularies, bounds)
    stream = Histories(_encode(con, table, users, schema), schema)
    written = write_histories(directory, schema.event_dtype, stream)
    index, schema = written.counts, stream.fitted()
    report = {
        "files": [path.name for path in files],
        "rows_read": rows_read,
        "duplicates_dropped": rows_read - count,
        "outside_core": count - in_core,
        "out_of_order": stream.out_of_order,
        "missing_times": missing_times,
        "users": len(index),
        "users_with_one_event": int((index[:, 0] == 1).sum()),
        "items": schema.categorical[0].values,
        "known_items": schema.categorical[0].known,
        "events": {split: int(index[:, 1 + i].sum()) for i, split in enumerate(SPLITS)},
        "unknown_item_events": dict(zip(SPLITS, stream.unknown_items.tolist(), strict=True)),
        "tasks": label_counts,
    }
    if schema.protocol == "leave_one_out":
        report["users_only_train"] = int((index[:, 0] < 3).sum())
    report["warnings"] = _warnings(report)
    report["config"] = to_dict(config)
    report["seconds"] = round(time.monotonic() - begin, 2)
    raw_users = users.order_by("number").to_pyarrow()["user"]
    return write_description(directory, schema, written, raw_users, vocabularies, report)


def _check_values(
    table: ibis.Table, where: checks.Where
) -> dict[str, dict[str, dict[str, int | float]]]:
    """Checks labels and features. Returns {task: {split: {labels, positives, rate}}}."""
    columns = {p: [c for c in table.columns if c.startswith(f"{p}/")] for p in PREFIXES.values()}
    checks.check_utc_offset(table, where)
    checks.check_finite(table, columns["dense"] + columns["context"], False, where)
    checks.check_finite(table, columns["action"], True, where)
    checks.check_labels(table, columns["task"], where)
    sums = {f"{c} labels": table[c].count() for c in columns["task"]}
    sums |= {f"{c} positives": (table[c] == 1).sum() for c in columns["task"]}
    by_split = table.group_by("split").aggregate(events=table.count(), **sums)
    found = {SPLITS[row["split"]]: row for row in by_split.to_pyarrow().to_pylist()}
    for split in SPLITS:
        if split not in found:
            raise UserError("config.split", f"{split} has no events")
    counts: dict[str, dict[str, dict[str, int | float]]] = {}
    for column in columns["task"]:
        counts[column.removeprefix("task/")] = {
            split: {
                "labels": found[split][f"{column} labels"],
                "positives": found[split][f"{column} positives"] or 0,
            }
            for split in SPLITS
        }
    checks.check_classes(counts)
    for by_name in counts.values():
        for count in by_name.values():
            count["rate"] = round(count["positives"] / count["labels"], 6)
    return counts


def _numbered(table: ibis.Table, *order_by: Any) -> ibis.Table:
    return table.mutate(number=ibis.row_number().over(order_by=list(order_by)).cast("int32"))


def _make_vocabulary(con: ibis.BaseBackend, table: ibis.Table, name: str) -> pa.Table:
    """Gives ids from 1, by decreasing train count, then by value; NULL gets none."""
    value = table[f"categorical/{name}"]
    counted = (
        table.filter(value.notnull())
        .group_by(value=value)
        .aggregate(train_count=(table.split == TRAIN).sum())
    )
    numbered = _numbered(counted, ibis.desc("train_count"), "value")
    numbered = numbered.select(
        id=(numbered.number + 1).cast("int32"), value="value", train_count="train_count"
    )
    return con.create_table(f"vocabulary_{name}", numbered).order_by("id").to_pyarrow()


def _schema(
    config: PrepareConfig, vocabularies: Mapping[str, pa.Table], bounds: events.Bounds
) -> Schema:
    return Schema(
        name=config.name,
        categorical=tuple(
            categorical(name, table, config.min_count) for name, table in vocabularies.items()
        ),
        dense=tuple(Dense(name) for name in config.dense),
        context=tuple(Dense(name) for name in config.context),
        actions=tuple(Dense(name) for name in config.actions),
        tasks=tuple(config.tasks),
        has_utc_offset=bool(config.utc_offset or config.time_zone),
        train_start=bounds.first,
        train_end=bounds.train_end,
        validation_end=bounds.validation_end,
        end=bounds.last,
        source=config.source,
        license=config.license,
        protocol=config.split.kind,
        time_zone=config.time_zone,
    )


def _encode(
    con: ibis.BaseBackend, table: ibis.Table, users: ibis.Table, schema: Schema
) -> Iterator[pa.RecordBatch]:
    """Streams all events by user and time: user_index, row, and the columns of `event_dtype`."""
    numbers = users.rename(user_value="user")
    joined = table.join(numbers, table.user == numbers.user_value)
    for name in (feature.name for feature in schema.categorical):
        ids = con.table(f"vocabulary_{name}").select(
            **{f"{name} id": "id", f"{name} value": "value"}
        )
        joined = joined.left_join(ids, joined[f"categorical/{name}"] == ids[f"{name} value"])
    columns = {
        "user_index": joined.number,
        "row": joined.row,
        events.ORDER_TIME: joined[events.ORDER_TIME],
    }
    for field in schema.event_dtype.names or ():
        group, _, name = field.partition("/")
        if group == "categorical":
            columns[field] = joined[f"{name} id"].fill_null(0)
        elif group == "task":
            columns[field] = joined[field].fill_null(NO_LABEL).cast("int8")
        elif field == "time":
            columns[field] = joined.time.fill_null(NO_TIME)
        elif field == "utc_offset":
            columns[field] = joined.utc_offset.round().cast("int32")
        else:
            columns[field] = joined[field]
    encoded = joined.select(**columns).order_by(["user_index", events.ORDER_TIME, "row"])
    return encoded.to_pyarrow_batches(chunk_size=BATCH_ROWS)


def _warnings(report: Mapping[str, Any]) -> list[str]:
    texts = {
        "duplicates_dropped": "rows were identical to an earlier one and were dropped",
        "outside_core": "rows of users or items with fewer events than config.core were dropped",
        "out_of_order": "rows were not in order of time and were sorted",
        "missing_times": "events have no time",
        "users_with_one_event": "users have only one event",
        "users_only_train": "users have fewer than three events, which are all train",
    }
    return [f"{report[key]} {text}" for key, text in texts.items() if report.get(key)]
