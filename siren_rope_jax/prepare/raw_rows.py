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
from siren_rope_jax.data.schema import TEST
from siren_rope_jax.prepare import checks, events, readers
from siren_rope_jax.prepare.config import RESERVED, PrepareConfig
from siren_rope_jax.prepare.engine import opened
from siren_rope_jax.prepare.expressions import DIALECT, names_in

_LATER = ("context", "actions", "tasks")
"""The groups of columns that a file may lack."""


def read_rows(report: Mapping[str, Any], file: str | Path) -> pd.DataFrame:
    """Reads a raw file into the columns of a prepared log, in the order of the file.

    Args:
      report: of the prepared log; it has the config that made it.
      file: of the same kind, or of another kind with the same columns. It may lack those of the
        user, of the time, of labels, of actions and of the request's context.

    Returns:
      columns named as in the prepared log: user, item, time (Unix seconds), utc_offset, and the
      features, actions and tasks, as far as the file has what they are made of.

    Raises:
      UserError: the file or a value in it is not as it should be; or a column is made of several
        rows of a log, which the file does not have.
    """
    if "config" not in report:
        about = "was not prepared from a file, so no config says what columns mean"
        raise UserError("the log", f"{about}; name them as in the prepared log")
    config = from_config_dict(PrepareConfig, dict(report["config"]))
    files = readers.find_files(file)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        with opened("duckdb", scratch / "scratch", config, files) as (duck, chosen):
            raw = readers.open_log(duck, files, config, scratch / "scratch")
            config, absent = _as_far_as_there(config, raw.table.columns)
            with readers.told_of(files[0], files):
                log = events.timed(raw.table, False, config, files[0])
            log = chosen.keep("log", log.mutate(**{events.SPLIT: ibis.literal(TEST, "int64")}))
            checks.require_present(log, config, raw.where)
            table = chosen.keep("events", events.evaluated(log, False, config))
            checks.check_values(table, raw.where)
            rows = table.order_by("row").to_pyarrow().to_pandas()
    kept = {c: c.partition("/")[2] or c for c in rows if c in ("user", "time", "utc_offset")}
    kept |= {c: c.partition("/")[2] for c in rows if "/" in c}
    if not (config.utc_offset or config.time_zone):
        absent.add("utc_offset")
    return rows[list(kept)].rename(columns=kept).drop(columns=sorted(absent))


def _as_far_as_there(
    config: PrepareConfig, columns: Sequence[str]
) -> tuple[PrepareConfig, set[str]]:
    """The config without what the columns cannot make; and which columns only stand in for it.

    Raises:
      UserError: a column is made of other rows, too.
    """
    there, absent = {c.lower() for c in columns}, set()
    changes: dict[str, Any] = {"tie_breaker": "", "drop_duplicates": False}
    for key in ("user", "time"):
        text = getattr(config, key)
        if text.lower() not in there and not names_in(text, f"config.{key}") <= there:
            absent.add(key)
            changes[key] = "'1970-01-01'" if key == "time" and config.time_unit == "iso" else "0"
    there |= {*RESERVED} - absent - ({"time_ns"} if "time" in absent else set())
    of_derived = {name.lower() for name in config.derived}
    changes["derived"] = {
        name: text
        for name, text in config.derived.items()
        if names_in(text, f"config.derived.{name}") <= there | of_derived
    }
    there |= {name.lower() for name in changes["derived"]}
    for group in _LATER:
        changes[group] = {
            name: text
            for name, text in getattr(config, group).items()
            if names_in(text, f"config.{group}.{name}") <= there
        }
    config = dataclasses.replace(config, **changes)
    texts = {f"config.{g}.{n}": t for g in ("derived", "categorical", "dense", *_LATER)
             for n, t in getattr(config, g).items()}  # fmt: skip
    for about, text in (texts | {"config.utc_offset": config.utc_offset}).items():
        if text and sqlglot.parse_one(text, dialect=DIALECT).find(exp.Window):
            why = "is made of several rows of a log, which the file does not have"
            raise UserError(about, f"{why}; name the file's columns as in the prepared log instead")
    return config, absent
