"""Events that are newer than a prepared log, such as today's, in the encoding of that log."""

from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int, Shaped
from pandas.api.types import infer_dtype, is_numeric_dtype

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.times import MAX_TIME, MAX_UTC_OFFSET, MIN_TIME, utc_offsets
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.data.schema import TEST


def encode(log: PreparedLog, events: pd.DataFrame) -> dict[Any, Shaped[np.ndarray, " N"]]:
    """Encodes each user's events, ordered by the full time, as rows of `Schema.event_dtype`.

    Args:
      log: provides the vocabularies; a value that they lack is encoded as one that was too rare.
      events: raw values in columns named as in the prepared log: `user` (old or new); `item` and
        the other categorical features, which may be missing (None) except for the item; `time`, in
        Unix seconds or as datetimes with a time zone; `utc_offset` in seconds, if the log has
        offsets but no time zone; and the dense features, as the log's config computes them. Other
        columns are ignored.

    Returns:
      user -> rows; empty if there are no events.

    Raises:
      UserError: about `events`: a column or a required value is missing, a value is out of range,
        or a column has another type than in the log.
    """
    if not isinstance(events, pd.DataFrame):
        raise UserError("events", f"must be a pandas DataFrame, not a {type(events).__name__}")
    if not len(events):
        return {}
    schema = log.schema
    rows = np.zeros(len(events), schema.event_dtype)
    rows["split"] = TEST  # later than all training events
    seconds, full_time = _times(_column(events, "time"))
    rows["time"] = seconds
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
    order = np.argsort(full_time, kind="stable")
    users = _column(events, "user")
    _check_type(users, log.users().slice(0, 1000).to_pandas(), "events")
    users = users.iloc[order]
    return {user: rows[order[at]] for user, at in users.groupby(users).indices.items()}


def _column(events: pd.DataFrame, name: str, required: bool = True) -> pd.Series:
    if list(events.columns).count(name) > 1:
        raise UserError("events", f"has more than one column {name!r}")
    if name not in events:
        raise UserError(
            "events",
            f"has no column {name!r}, only {', '.join(map(str, events))} (columns are named as in "
            "the prepared log: user, item, time and its features)",
        )
    if required and (missing := events[name].isna()).any():
        raise UserError("events", f"{name} is missing in row {int(missing.argmax())}")
    column = events[name]
    if isinstance(column.dtype, pd.CategoricalDtype):  # pandas' own encoding of the values
        column = column.astype(column.cat.categories.dtype)
    return column


def _times(times: pd.Series) -> tuple[Int[np.ndarray, " N"], Shaped[np.ndarray, " N"]]:
    """Unix seconds, rounded down as in a log, also before 1970; and what orders the events.

    The times are numbers, or datetimes with a zone (of pandas, Python or Arrow).
    """
    zoned = isinstance(times.dtype, pd.DatetimeTZDtype)
    if not zoned and not is_numeric_dtype(times.dtype):
        values = times.tolist()
        zoned = all(isinstance(value, datetime) and value.tzinfo for value in values)
        if zoned:
            times = pd.Series(pd.to_datetime(values, utc=True), times.index, name=times.name)
    full = times
    if zoned:
        full = times - pd.Timestamp(0, tz="UTC")
        times = full // pd.Timedelta(seconds=1)
    seconds = np.floor(_numbers(times, MIN_TIME, MAX_TIME - 1)).astype(np.int64)
    return seconds, full.to_numpy()


def _numbers(values: pd.Series, least: float, most: float) -> np.ndarray:
    name = values.name
    if not is_numeric_dtype(values.dtype):
        right = "numbers or datetimes with a time zone" if name == "time" else "numbers"
        raise UserError("events", f"{name} is of type {values.dtype}; pass {right}")
    if (wrong := ~values.between(least, most)).any():
        row = int(wrong.argmax())
        found, right = values.iloc[row], f"between {least} and {most}"
        raise UserError("events", f"{name} is {found} in row {row}; it must be {right}")
    return values.to_numpy()


def ids_in(raw: pd.Series, vocabulary: pd.Series, argument: str) -> Int[np.ndarray, " N"]:
    """Ids, counted from 1 in the order of the vocabulary; 0 for missing and unknown values.

    Raises:
      UserError: about `argument`: the values have another type than the vocabulary's, so that none
        of them could be known.
    """
    _check_type(raw, vocabulary, argument)
    return pd.Index(vocabulary).get_indexer(pd.Index(raw)) + 1


def comparable(given: str, expected: str) -> bool:
    """Whether values of two types, named by `infer_dtype`, can be equal: 2 and 2.0 are."""
    return given == expected or {given, expected} <= {"integer", "floating"}


def _check_type(raw: pd.Series, known: pd.Series, argument: str) -> None:
    raw, known = raw.dropna(), known.dropna()
    given, expected = infer_dtype(raw), infer_dtype(known)
    if len(raw) and len(known) and not comparable(given, expected):
        raise UserError(argument, f"{raw.name} is of type {given}; in the log it is {expected}")
