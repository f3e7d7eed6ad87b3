"""Rows of a raw file as a prepared log would have them: newer events, or candidates to be scored.

The config that prepared a log says what the columns of such a file mean, too. What rows of a
request cannot have yet, such as labels, may be missing.
"""

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ibis
import pandas as pd
import sqlglot
from sqlglot import exp

from siren_rope_jax.base.config import from_config_dict
from siren_rope_jax.base.errors import UserError
from siren_rope_jax.data.schema import LABELS, PREFIXES, TEST, bare_names
from siren_rope_jax.prepare import checks, events, readers, times
from siren_rope_jax.prepare.config import RESERVED, Format, PrepareConfig, Purpose
from siren_rope_jax.prepare.engine import opened
from siren_rope_jax.prepare.expressions import DIALECT, in_order, names_in, names_in_key
from siren_rope_jax.prepare.formats import fitting
from siren_rope_jax.prepare.items import Items, joined, open_items

_OPTIONAL = ("context", "actions", *LABELS)
"""The groups of columns that a file may lack."""


def read_rows(
    report: Mapping[str, Any],
    file: str | Path,
    purpose: Purpose,
    second: int | None = None,
    items: str | Path | None = None,
) -> pd.DataFrame:
    """Reads a raw file into the columns of a prepared log.

    Args:
      report: of the prepared log; it has the config that made it, and the types of the raw log's
        columns, which those of the file get, too (`known_types`).
      file: of the same kind, or of another kind with the same columns. It may lack those of the
        user, of labels, of actions, of the request's context and, if `second` is given, of the
        time.
      purpose: what the rows are.
      second: the time of all rows, Unix seconds, in place of those in the file.
      items: a file with a row for each of their items, as `prepare` had one; without it, the
        columns of that file are those of `file` itself.

    Returns:
      columns named as in the prepared log: user, item, time (Unix seconds), utc_offset, and the
      features, actions and labels, as far as the file has what they are made of; then the other
      columns of the file.

    Raises:
      UserError: the file or a value in it is not as it should be; or a column that rows need is
        made of several rows of a log, or of a time that the file does not have.
    """
    if "config" not in report:
        about = "was not prepared from a file, so no config says what columns mean"
        raise UserError("the log", f"{about}; name them as in the prepared log")
    config = from_config_dict(PrepareConfig, dict(report["config"]))
    config = dataclasses.replace(config, tie_breaker="", drop_duplicates=False)
    if purpose == "items":
        nothing: dict[str, Any] = {group: {} for group in PREFIXES}
        config = dataclasses.replace(config, utc_offset="", **nothing)
    if second is not None:
        time = f"CAST({second} AS BIGINT)"
        config = dataclasses.replace(config, time=time, time_unit="s", time_origin="")
    files = readers.find_files(file)
    of_items = [] if items is None or purpose == "items" else readers.find_files(items)
    all_files = [*files, *of_items]
    config = dataclasses.replace(config, formats=_formats_for(all_files, config.formats))
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        with opened("duckdb", scratch / "scratch", config, all_files) as (duck, chosen):
            scratch = scratch / "scratch"
            known = report.get("columns")  # which older logs lack
            raw = readers.open_log(duck, files, config, scratch, known)
            more = open_items(duck, of_items, config, scratch, known) if of_items else None
            columns = [*raw.table.columns, *_columns(more)]
            config, absent = _as_far_as_there(config, columns, purpose)
            with readers.told_of(files[0], files):
                log = events.timed(raw.table, False, config, files[0], raw.where)
                if purpose == "events":
                    log = events.those_that_count(log, False, config, raw.where)
            log = chosen.keep("log", log.mutate(**{events.SPLIT: ibis.literal(TEST, "int64")}))
            checks.require_present(log, config, raw.where)
            if purpose != "items" and "time" not in absent:
                _check_times(log, config, raw.where)
            if more:
                log, _, _ = joined(chosen, log, more, config, some=False)
            table = chosen.keep("events", events.evaluated(log, False, config, raw.where))
            checks.check_values(table, raw.where)
            order = [events.ORDER_TIME, "row"] if purpose == "events" else ["row"]
            rows = _in_pandas(table.order_by(order))
            given = _in_pandas(raw.table.order_by("row"))
    own = ("user", "time", "utc_offset")
    kept = bare_names(c for c in rows if c in own or "/" in c)
    if not (config.utc_offset or config.time_zone):
        absent.add("utc_offset")
    found = rows[list(kept)].rename(columns=kept).drop(columns=sorted(absent))
    others = [c for c in given if c not in found and c not in absent and c != "row"]
    return found.join(given[others].iloc[rows["row"] - 1].reset_index(drop=True))


def _check_times(log: ibis.Table, config: PrepareConfig, where: checks.Where) -> None:
    """Refuses rows without a time, and times that `prepare` refuses."""
    if row := checks.first_row(log, log[times.GIVEN_TIME].isnull()):
        raise UserError("config.time", f"{where(row)} has no time in {config.time!r}")
    if log.count().to_pyarrow().as_py():
        times.check_times(log, config, where)


def _columns(items: Items | None) -> list[str]:
    return list(items.table.columns) if items else []


def _formats_for(files: Sequence[Path], formats: dict[str, Format]) -> dict[str, Format]:
    """The formats of a log; if it has only one, this is how files of any name are read.

    Raises:
      UserError: there are several, and none is for files of such a name.
    """
    if len(formats) == 1:
        return {key: dataclasses.replace(only, pattern="*") for key, only in formats.items()}
    for path in files:
        if not fitting(path, formats):
            patterns = ", ".join(sorted(f.pattern for f in formats.values()))
            raise UserError(
                path,
                f"fits none of the names of the log's files, {patterns}, which say how they are "
                "read; rename it, or name its columns as in the prepared log and pass "
                "--columns=prepared",
            )
    return formats


def _in_pandas(table: ibis.Table) -> pd.DataFrame:
    """With whole numbers as such, even beside missing ones."""
    return table.to_pyarrow().to_pandas(integer_object_nulls=True)


def _as_far_as_there(
    config: PrepareConfig, columns: Sequence[str], purpose: Purpose
) -> tuple[PrepareConfig, set[str]]:
    """The config without what the columns cannot make; and which columns only stand in for it.

    Candidates have neither labels nor actions, whatever the columns are.

    Raises:
      UserError: a column that all rows need is made of what the file does not have.
    """
    there, absent = {c.lower() for c in columns}, set()
    changes: dict[str, Any] = {}
    for key in ("user", "time"):
        text = getattr(config, key)
        if text.lower() not in there and not names_in_key(text, f"config.{key}") <= there:
            absent.add(key)
            changes[key] = "'1970-01-01'" if key == "time" and config.time_unit == "iso" else "0"
    there |= {*RESERVED} - absent - ({"time_ns"} if "time" in absent else set())

    def possible(text: str, about: str) -> bool:
        return names_in(text, about) <= there and not _has_window(text)

    changes["derived"] = {}
    for name in in_order(config.derived, "config.derived"):
        if possible(text := config.derived[name], f"config.derived.{name}"):
            changes["derived"][name] = text
            there.add(name.lower())
    for group in _OPTIONAL:
        of_group = getattr(config, group).items()
        if purpose == "candidates" and group != "context":
            of_group = ()
        changes[group] = {n: t for n, t in of_group if possible(t, f"config.{group}.{n}")}
    if config.utc_offset and not possible(config.utc_offset, "config.utc_offset"):
        changes["utc_offset"] = ""
    for group in ("categorical", "dense"):
        for name, text in getattr(config, group).items():
            about = f"config.{group}.{name}"
            if _has_window(text):
                why = "is made of several rows of a log, which the file does not have"
                raise UserError(about, f"{why}; name its columns as in the prepared log instead")
            if names_in(text, about) & {"time", "time_ns"} - there:
                raise UserError(about, "is made of the time, which the file does not have")
    return dataclasses.replace(config, **changes), absent


def _has_window(text: str) -> bool:
    return sqlglot.parse_one(text, dialect=DIALECT).find(exp.Window) is not None
