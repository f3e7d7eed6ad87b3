"""Events that are newer than a prepared log, such as today's, in the encoding of that log."""

import dataclasses
import itertools
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped
from pandas.api.types import infer_dtype, is_numeric_dtype

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.times import DAY, MAX_TIME, MAX_UTC_OFFSET, MIN_TIME, utc_offsets
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.data.schema import NO_LABEL, TEST, OrdinalLabel

_LOOKED_AT = 1000  # values of a log, which are all of one type
_FLOATS = -float(np.finfo(np.float32).max), float(np.finfo(np.float32).max)


def encode_events(log: PreparedLog, events: pd.DataFrame) -> dict[Any, Shaped[np.ndarray, " N"]]:
    """Encodes each user's events, ordered by the full time, as rows of `Schema.event_dtype`.

    Args:
      log: provides the vocabularies; a value that they lack is encoded as one that was too rare.
      events: raw values in columns named as in the prepared log: `user` (old or new); `item` and
        the other categorical features, which may be missing (None) except for the item, and are
        lists of values where the log has such; `time`, in
        Unix seconds, milliseconds, microseconds or nanoseconds, whichever lie between 1902 and
        2100, or as datetimes with a time zone; `utc_offset` in seconds, if the log has offsets but
        no time zone; and the dense features, as the log's config computes them. What the user did
        may be there too: labels (of binary tasks 0, 1, True, False or None) and actions; what
        is not there is absent, as in the log. Other columns are ignored.

    Returns:
      user -> rows; empty if there are no events.

    Raises:
      UserError: about `events`: a column or a required value is missing, a value is out of range,
        or a column has another type than in the log.
    """
    check_frame(events, "events")
    if not len(events):
        return {}
    of_table = _Columns(events, "events")
    rows, full_time = _rows(log, of_table)
    for task in log.schema.tasks:
        rows[f"task/{task}"] = _labels(of_table, of_table.name("task", task))
    for name, of_log in log.schema.outcomes.items():
        given = of_table.name(name.partition("/")[0], of_log.name)
        rows[name] = _optional_numbers(of_table, given)
        if isinstance(of_log, OrdinalLabel):
            _check_values(rows[name], given, of_log, "events")
    for context in log.schema.context:  # of a past request, which no later event sees
        rows[f"context/{context.name}"] = context.mean
    order = np.argsort(full_time, kind="stable")
    users = of_table("user")
    _check_type(users, log.users().slice(0, _LOOKED_AT).to_pandas(), "events")
    users = users.iloc[order]
    return {user: rows[order[at]] for user, at in users.groupby(users).indices.items()}


def encode_candidates(log: PreparedLog, candidates: pd.DataFrame) -> Shaped[np.ndarray, " N"]:
    """Encodes events that may happen, each at the time of its request, in their order.

    Args:
      log: as in `encode_events`.
      candidates: as the events of `encode_events`, with the time of the request as `time` and all
        features of `Schema.context`, but without labels and actions. Without a column
        `utc_offset`, offsets are 0 where they do not follow from the log's time zone.

    Raises:
      UserError: about `candidates`, as in `encode_events`.
    """
    check_frame(candidates, "candidates")
    of_table = _Columns(candidates, "candidates")
    rows, _ = _rows(log, of_table, offsets="utc_offset" in candidates)
    for context in log.schema.context:
        given = of_table(of_table.name("context", context.name))
        rows[f"context/{context.name}"] = _numbers(given, *_FLOATS, "candidates")
    return rows


def check_frame(table: Any, argument: str) -> None:
    """Refuses what is no table."""
    if not isinstance(table, pd.DataFrame):
        raise UserError(argument, f"must be a pandas DataFrame, not a {type(table).__name__}")


def _rows(
    log: PreparedLog, column: "_Columns", offsets: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """What is known of events before their outcome, in the order of the table; and the full times.

    Labels and actions are absent, and so are `offsets` if it is false.
    """
    schema = log.schema
    rows = np.zeros(len(column.table), schema.event_dtype)
    rows["split"] = TEST  # later than all training events
    for task in schema.tasks:
        rows[f"task/{task}"] = NO_LABEL
    for name in schema.outcomes:
        rows[name] = np.nan
    rows["time"], full_time = times_in(column("time"), column.argument)
    if schema.time_zone:
        rows["utc_offset"] = utc_offsets(schema.time_zone, rows["time"])
    elif schema.has_utc_offset and offsets:
        offset = column("utc_offset")
        rows["utc_offset"] = _numbers(offset, -MAX_UTC_OFFSET, MAX_UTC_OFFSET, column.argument)
    for categorical in schema.categorical:
        ids = log.value_ids(categorical.name)
        name = column.name("categorical", categorical.name)
        raw = column(name, required=categorical is schema.categorical[0])
        rows[f"categorical/{categorical.name}"] = (
            _lists_in(raw, ids, categorical.most, column.argument)
            if categorical.most
            else ids_in(raw, ids, column.argument)
        )
    for dense in schema.dense:
        given = column(column.name("dense", dense.name))
        rows[f"dense/{dense.name}"] = _numbers(given, *_FLOATS, column.argument)
    return rows, full_time


@dataclasses.dataclass(frozen=True)
class _Columns:
    """The columns of a table, which is an argument of this name."""

    table: pd.DataFrame
    argument: str

    def name(self, group: str, name: str) -> str:
        """What the column of a feature, an action or a task is called.

        Where groups share a name, theirs may be before it: "dense/x" and "context/x".
        """
        return whole if (whole := f"{group}/{name}") in self.table else name

    def __call__(self, name: str, required: bool = True) -> pd.Series:
        """A column by name, whose values must be there if they are required."""
        table = self.table
        if list(table.columns).count(name) > 1:
            raise UserError(self.argument, f"has more than one column {name!r}")
        if name not in table:
            raise UserError(
                self.argument,
                f"has no column {name!r}, only {', '.join(map(str, table))} (columns are named as "
                "in the prepared log: user, item, time and its features)",
            )
        if required and (missing := table[name].isna()).any():
            raise UserError(self.argument, f"{name} is missing in row {int(missing.argmax())}")
        column = table[name]
        if isinstance(column.dtype, pd.CategoricalDtype):  # pandas' own encoding of the values
            column = column.astype(column.cat.categories.dtype)
        return column


def _labels(column: _Columns, task: str) -> Int[np.ndarray, " N"]:
    """0 and 1; `NO_LABEL` where there is none."""
    if task not in column.table:
        return np.full(len(column.table), NO_LABEL)
    given = column(task, required=False)
    plain = pd.Series([np.nan if pd.isna(x) else x for x in given], given.index, object)
    values = pd.to_numeric(plain, errors="coerce")
    if (wrong := (given.notna() & ~values.isin([0, 1]))).any():
        row = int(wrong.argmax())
        about = f"{task} is {given.iloc[row]!r} in row {row}; a label is 0, 1 or missing"
        raise UserError(column.argument, about)
    return values.fillna(NO_LABEL).to_numpy(np.int64)


def _check_values(given: np.ndarray, name: str, label: OrdinalLabel, argument: str) -> None:
    """Refuses an ordinal label that is none of those of the log."""
    wrong = ~np.isnan(given) & ~np.isin(given, np.array(label.values, np.float32))
    if wrong.any():
        row, known = int(wrong.argmax()), ", ".join(f"{value:g}" for value in label.values)
        about = f"{name} is {given[row]:g} in row {row}; it must be one of {known}, or missing"
        raise UserError(argument, about)


def _optional_numbers(column: _Columns, name: str) -> Float[np.ndarray, " N"]:
    """Numbers; NaN where there is none."""
    if name not in column.table:
        return np.full(len(column.table), np.nan)
    given = column(name, required=False)
    known = given[given.notna()].infer_objects()
    values = np.full(len(given), np.nan)
    if not len(known):  # of no type that says anything
        return values
    values[given.notna().to_numpy()] = _numbers(known, *_FLOATS, column.argument)
    return values


def times_in(
    times: pd.Series, argument: str
) -> tuple[Int[np.ndarray, " N"], Shaped[np.ndarray, " N"]]:
    """Unix seconds, rounded down as in a log, also before 1970; and what orders the events.

    The times are numbers, or datetimes with a zone (of pandas, Python or Arrow).

    Raises:
      UserError: about `argument`: they are something else, or outside of 1902 to 2100.
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
    elif is_numeric_dtype(times.dtype):
        units = {unit_of(x) for x in (times.abs().min(), times.abs().max())}
        if len(units) > 1 and times.abs().min() > DAY:
            about = f"time is between {times.min()} and {times.max()}: not all in one unit"
            raise UserError(argument, about)
        times = times // max(units)
    seconds = np.floor(_numbers(times, MIN_TIME, MAX_TIME - 1, argument)).astype(np.int64)
    return seconds, full.to_numpy()


def unit_of(largest: float) -> int:
    """How many units of time are a second, if the largest of some times since 1970 is this number.

    Seconds, milliseconds, microseconds or nanoseconds: the first in which it is before 2100. Only
    times of the first weeks of 1970 could be meant otherwise.
    """
    return next((unit for unit in (1, 10**3, 10**6, 10**9) if largest < MAX_TIME * unit), 1)


def _numbers(values: pd.Series, least: float, most: float, argument: str) -> np.ndarray:
    name = values.name
    if not is_numeric_dtype(values.dtype):
        right = "numbers or datetimes with a time zone" if name == "time" else "numbers"
        raise UserError(argument, f"{name} is of type {values.dtype}; pass {right}")
    if (wrong := ~values.between(least, most)).any():
        row = int(wrong.argmax())
        found, right = values.iloc[row], f"between {least} and {most}"
        raise UserError(argument, f"{name} is {found} in row {row}; it must be {right}")
    return values.to_numpy()


def ids_in(raw: pd.Series, ids: Mapping[Any, int], argument: str) -> Int[np.ndarray, " N"]:
    """The ids of raw values, as `PreparedLog.value_ids` has them; 0 for missing and unknown ones.

    Raises:
      UserError: about `argument`: the values have another type than those with ids, so that none of
        them could be known.
    """
    _check_type(raw, pd.Series(list(itertools.islice(ids, _LOOKED_AT))), argument)
    return np.array([ids.get(value, 0) for value in raw.tolist()], np.int64)


def _lists_in(
    raw: pd.Series, ids: Mapping[Any, int], most: int, argument: str
) -> Int[np.ndarray, "N K"]:
    """The ids of lists of raw values as a log has them: the `most` smallest, then zeros."""
    found = np.zeros((len(raw), most), np.int32)
    lists: list[list[Any]] = []
    for row, values in enumerate(raw.tolist()):
        if isinstance(values, list | tuple | set | np.ndarray):
            lists.append(list(values))
        elif pd.api.types.is_scalar(values) and pd.isna(values):
            lists.append([])
        else:
            about = f"{raw.name} is {values!r} in row {row}; it must be a list of values, or None"
            raise UserError(argument, about)
    every = pd.Series(list(itertools.chain(*lists)), name=raw.name, dtype=object)
    _check_type(every, pd.Series(list(itertools.islice(ids, _LOOKED_AT))), argument)
    for own, values in zip(found, lists, strict=True):
        known = sorted({ids.get(value, 0) for value in values} - {0})[:most]
        own[: len(known)] = known
    return found


def comparable(given: str, expected: str) -> bool:
    """Whether values of two types, named by `infer_dtype`, can be equal: 2 and 2.0 are."""
    return given == expected or {given, expected} <= {"integer", "floating"}


def _check_type(raw: pd.Series, known: pd.Series, argument: str) -> None:
    raw, known = raw.dropna(), known.dropna()
    given, expected = infer_dtype(raw), infer_dtype(known)
    if given == "mixed-integer" and all(isinstance(x, int | np.integer | str) for x in raw):
        return  # new ids may look different, and some may be known
    if len(raw) and len(known) and not comparable(given, expected):
        raise UserError(argument, f"{raw.name} is of type {given}; in the log it is {expected}")
