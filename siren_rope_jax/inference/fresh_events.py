"""Events that are newer than a prepared log, such as today's, encoded as those in it."""

from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int, Shaped

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.times import MAX_TIME, MAX_UTC_OFFSET, MIN_TIME, utc_offsets
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.data.schema import TEST


def encode(log: PreparedLog, events: pd.DataFrame) -> dict[Any, Shaped[np.ndarray, " N"]]:
    """Each user's events, in the order of their times, as rows of `Schema.event_dtype`.

    Args:
      log: whose vocabularies count; a value that is in none of them is as one that was too rare.
      events: columns `user` (of the log, or new) and the categorical features, raw as in the log
        (`item` first among them); `time`, Unix seconds or datetimes with a time zone; `utc_offset`
        in seconds, where the log has any, but not by a time zone, which tells that of new events
        too; the dense features, as the log's config computes them. Others do not count. Of the
        categorical features all but the item may be absent (None).

    Returns:
      user -> their rows; empty if there are no events.

    Raises:
      UserError: a column is missing or empty somewhere, of another type than the log's, or out of
        range.
    """
    if not isinstance(events, pd.DataFrame):
        raise UserError(f"events: must be a pandas DataFrame, not a {type(events).__name__}")
    schema = log.schema
    if not len(events):
        return {}
    rows = np.zeros(len(events), schema.event_dtype)
    rows["split"] = TEST  # later than all that was learnt from
    time = _numbers(_unix_seconds(_column(events, "time")), MIN_TIME, MAX_TIME - 1)
    rows["time"] = np.floor(time)  # as those of the log, also before 1970
    if schema.time_zone:
        rows["utc_offset"] = utc_offsets(schema.time_zone, rows["time"])
    elif schema.has_utc_offset:
        offset = _column(events, "utc_offset")
        rows["utc_offset"] = _numbers(offset, -MAX_UTC_OFFSET, MAX_UTC_OFFSET)
    for categorical in schema.categorical:
        values = log.vocabulary(categorical.name)["value"].to_pandas()
        raw = _column(events, categorical.name, required=categorical is schema.categorical[0])
        rows[f"categorical/{categorical.name}"] = ids_in(raw, values, "events")
    largest = float(np.finfo(np.float32).max)
    for dense in schema.dense:
        rows[f"dense/{dense.name}"] = _numbers(_column(events, dense.name), -largest, largest)
    order = np.argsort(rows["time"], kind="stable")
    users = _column(events, "user")
    _check_type(users, log.users().slice(0, 1000).to_pandas(), "events")
    users = users.iloc[order]
    return {user: rows[order[at]] for user, at in users.groupby(users).indices.items()}


def _column(events: pd.DataFrame, name: str, required: bool = True) -> pd.Series:
    if list(events.columns).count(name) > 1:
        raise UserError(f"events: column {name!r} stands there twice")
    if name not in events:
        raise UserError(
            f"events: no column {name!r}; there are {', '.join(map(str, events))} (columns are "
            "named as in the prepared log: user, item, time, its features)"
        )
    if required and (missing := events[name].isna()).any():
        raise UserError(f"events: {name} is missing in row {int(missing.argmax())}")
    column = events[name]
    if isinstance(column.dtype, pd.CategoricalDtype):  # pandas' own encoding; here values count
        column = column.astype(column.cat.categories.dtype)
    return column


def _unix_seconds(times: pd.Series) -> pd.Series:
    """Datetimes with a zone, of pandas, Python or Arrow, as Unix seconds; the rest as it is."""
    if not isinstance(times.dtype, pd.DatetimeTZDtype):
        values = [] if pd.api.types.is_numeric_dtype(times.dtype) else times.tolist()
        if not values or not all(isinstance(v, datetime) and v.tzinfo for v in values):
            return times
        times = pd.Series(pd.to_datetime(values, utc=True), times.index, name=times.name)
    return (times - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(seconds=1)


def _numbers(values: pd.Series, least: float, most: float) -> np.ndarray:
    if not pd.api.types.is_numeric_dtype(values.dtype):
        more = ", or datetimes with a time zone" if values.name == "time" else ""
        raise UserError(f"events: {values.name} is of type {values.dtype}; give numbers{more}")
    if (wrong := ~values.between(least, most)).any():
        row = int(wrong.argmax())
        raise UserError(
            f"events: {values.name} is {values.iloc[row]} in row {row}; it must be between "
            f"{least} and {most}"
        )
    return values.to_numpy()


def ids_in(raw: pd.Series, vocabulary: pd.Series, where: str) -> Int[np.ndarray, " N"]:
    """Ids from 1 in the order of the vocabulary; 0 of what is not in it, and of nothing.

    Args:
      raw: values, of the vocabulary's type.
      vocabulary: as in the log.
      where: begins the message.

    Raises:
      UserError: values of another type, none of which could be known.
    """
    _check_type(raw, vocabulary, where)
    return pd.Index(vocabulary).get_indexer(pd.Index(raw)) + 1


def _check_type(raw: pd.Series, known: pd.Series, where: str) -> None:
    raw, known = raw.dropna(), known.dropna()
    ours, theirs = (pd.api.types.infer_dtype(column) for column in (raw, known))
    numbers = {ours, theirs} <= {"integer", "floating"}  # of which 2 and 2.0 are one
    if len(raw) and len(known) and ours != theirs and not numbers:
        raise UserError(f"{where}: {raw.name} is of type {ours}; in the log it is {theirs}")
