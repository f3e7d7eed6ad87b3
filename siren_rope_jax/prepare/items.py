"""Joins what a second file says of items to the events: it has one row for each item."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import ibis

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.prepare import checks, events, expressions, readers
from siren_rope_jax.prepare.config import GIVEN_ROW, INTERNAL, PrepareConfig
from siren_rope_jax.prepare.engine import Engine
from siren_rope_jax.prepare.formats import format_of, own_format

_KEY = f"{INTERNAL}items key"  # the column of the item that a row is about


@dataclasses.dataclass(frozen=True)
class Items:
    """What a file says of items.

    Attributes:
      file: of which it is; the first of several.
      table: a row for each item: which one it is, and the other columns of the file.
      rows: how many there are.
      columns: the names and types of the file's columns, as in `RawLog.columns`.
      notes: those of `RawLog`.
    """

    file: Path
    table: ibis.Table
    rows: int
    columns: dict[str, str]
    notes: list[str]


def open_items(
    con: ibis.BaseBackend,
    files: Sequence[Path],
    config: PrepareConfig,
    scratch: Path,
    known: Mapping[str, str] | None = None,
    beside: Sequence[Path] = (),
) -> Items:
    """Reads a file of items, or several, as the events' files are read.

    Args:
      con: the engine that reads.
      files: what to read.
      config: that of the log; `items_key`, or else `item`, says which item a row is about.
      scratch: a folder that the engine can read, for a folder of links to the files.
      known: the columns of a log, whose types these get, as in `readers.open_log`.
      beside: the files of the events, as there.

    Raises:
      UserError: as `readers.open_log`; or the key cannot be found in the file, or is missing or not
        unique.
    """
    key = config.items_key or config.item
    config = dataclasses.replace(config, item=key, items_key=key)
    links = scratch / "items"
    links.mkdir()
    raw = readers.open_log(con, files, config, links, known, beside)
    columns = [column for column in raw.table.columns if column != "row"]
    sql = events.sql_of(key, columns, "items_key", files[0])
    expressions.check(raw.table, "value", sql, "config.items_key")
    table = expressions.select(raw.table, {_KEY: sql}, step="items_given")
    table = table.mutate(**{_KEY: events.identity(table[_KEY], "items_key", config)})
    table = table.drop(*(column for column in columns if expressions.quoted(column) == sql))
    with readers.told_of(files[0]):
        table = con.create_table("items_read", table)
    if row := checks.first_row(table, table[_KEY].isnull()):
        about = f"{raw.where(row)} has no item in {key!r}, and every row of this file needs one"
        raise UserError("config.items_key", about)
    places = table.group_by(_KEY).aggregate(first=table.row.min(), row=table.row.max())
    if row := checks.first_row(places, places.row > places.first):
        item = checks.value_in(table, row, _KEY)
        about = f"{raw.where(row)} is about item {item!r}, as an earlier row is"
        raise UserError("config.items_key", f"{about}; leave one row for each item")
    return Items(files[0], table.drop("row"), raw.rows, raw.columns, raw.notes)


def joined(
    engine: Engine, log: ibis.Table, items: Items, config: PrepareConfig, some: bool = True
) -> tuple[ibis.Table, int, list[str]]:
    """The events with what is known of their items, which is missing where an item has no row.

    Ids are compared as text if they are text in one of the files and integers in the other.

    Args:
      engine: has the events.
      log: the events.
      items: what is known of items.
      config: that of the log.
      some: whether some event must have an item of the file.

    Returns:
      the events; how many of them have an item without a row; and what a reader of the log should
      know of this.

    Raises:
      UserError: both have a column of the same name, or `some` event is needed and none is found.
    """
    taken = {column.lower() for column in log.columns}
    for column in items.table.columns:
        name = "row" if column == GIVEN_ROW else column
        if name.lower() in taken:
            renamed = format_of(items.file, config.formats)[1].rename | {name: f"item_{name}"}
            flag = own_format(items.file, config.formats, rename=renamed)
            problem = f"has a column {name!r}, and so do the events; rename it, such as by {flag}"
            raise UserError(items.file, problem)
    table, notes = engine.take("items", items.table), []
    item, key = log.item, table[_KEY]
    if item.type().is_string() != key.type().is_string():
        kinds = [("integers", "text")[value.type().is_string()] for value in (item, key)]
        notes.append(f"items are {kinds[0]} in the events and {kinds[1]} in {items.file.name}")
        table = table.mutate(**{_KEY: key.cast("string")})
        item, key = item.cast("string"), table[_KEY]
    missing = log.anti_join(table, item == key).count().to_pyarrow().as_py()
    if some and missing == log.count().to_pyarrow().as_py():
        given = [value.max().cast("string").to_pyarrow().as_py() for value in (item, key)]
        problem = f"has a row for no item of the log; one of them is {given[0]!r}"
        raise UserError(items.file, f"{problem}, and one of this file {given[1]!r}")
    return log.left_join(table, item == key).drop(_KEY), missing, notes
