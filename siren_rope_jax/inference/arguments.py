"""The arguments that requests share: times, users, items and the histories of these."""

import datetime
import itertools
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Shaped
from pandas.api.types import infer_dtype

from siren_rope_jax.base.errors import UserError, check, suggestion
from siren_rope_jax.base.times import MAX_TIME, MAX_UTC_OFFSET, MIN_TIME, NO_TIME, utc_offsets
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.inference.fresh_events import comparable, ids_in, unit_of
from siren_rope_jax.training.trained import TrainedRun

RequestTime = float | datetime.datetime
"""Unix seconds, milliseconds, microseconds or nanoseconds (UTC), or a datetime with a zone."""

_MOST_NAMED = 5  # users in an error message


def check_run(run: Any) -> None:
    """Refuses what is not an opened run, or one whose events have signals no request tells."""
    if not isinstance(run, TrainedRun):
        raise UserError("run", f"is {run!r}; open its directory first: TrainedRun.open(DIR)")
    if counts := run.log.schema.counts:
        names = ", ".join(count.name for count in counts)
        problem = f"is of a log whose events have signals ({names}), which no request tells"
        raise UserError("run", problem)


def check_kind(run: Any, needed: str, instead: str) -> None:
    """Refuses a run of another kind, for which there is another function."""
    check_run(run)
    if (kind := run.setup.kind.name) != needed:
        about = f"{run.config.variant} is a {kind} run; use {instead}, or a {needed} run"
        raise UserError("run", about)


def unix_second(time: Any, argument: str = "request_time") -> int:
    """A time in Unix seconds, rounded down like the times of a log."""
    has_zone = isinstance(time, datetime.datetime) and time.tzinfo is not None
    number = time.timestamp() if has_zone else time
    known = _is_number(number) and math.isfinite(number)
    second = math.floor(number // unit_of(abs(number))) if known else MAX_TIME
    right = f"Unix seconds or a datetime with a time zone, from 1902 to 2100, not {time!r}"
    check(MIN_TIME <= second < MAX_TIME, argument, right)
    return second


def ids(given: Any, argument: str) -> list[Any]:
    """Ids as a list of at least one; refuses a single one, even a string, which is iterable."""
    if isinstance(given, pd.DataFrame):
        raise UserError(argument, "is a DataFrame; pass one of its columns")
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise UserError(argument, f"must be a list of ids; for a single one pass [{given!r}]")
    return list(given)


def allowed_items(log: PreparedLog, items: Any) -> Bool[np.ndarray, " V"]:
    """Marks the rows of the item table that belong to these items."""
    item, given = log.schema.categorical[0], ids(items, "items")
    raw = pd.Series(given, name="item", dtype=object)
    known = ids_in(raw, log.value_ids(item.name), "items")
    allowed = np.isin(np.arange(item.rows), known[known > 0])
    if not allowed.any():
        raise UserError("items", f"the model knows none of these {len(given)}")
    return allowed


def known_users(
    log: PreparedLog,
    users: Sequence[Any],
    fresh: Mapping[Any, np.ndarray],
    skip: bool,
    needed: bool,
) -> list[Any]:
    """The users with a history: in the log or in the fresh events, or an empty one.

    An id of another type than the log's is always refused: it is a mistake, not a new user.

    Args:
      log: has the histories.
      users: raw ids.
      fresh: events after those of the log.
      skip: whether to leave users out that have no history; else they are refused.
      needed: whether the model needs a history at all.
    """
    check(len(users) > 0, "users", "at least one id")
    logged, found = log.user_numbers, dict[Any, None]()  # an ordered set
    for user in users:
        if not isinstance(user, Hashable):
            raise UserError("users", f"{user!r} is not an id; pass a flat list of ids")
        if user not in logged and user not in fresh:
            given, expected = (infer_dtype([value]) for value in (user, next(iter(logged))))
            if not comparable(given, expected):
                about = f"{user!r} is of type {given}; in the log it is {expected}"
                raise UserError("users", about)
            if needed and skip:
                continue
            if needed:
                hint = suggestion(user, logged) if len(logged) < 10_000 else ""  # else too slow
                raise UserError("users", f"{user!r} is not in the log{hint}")
        found[user] = None
    return list(found)


def histories(
    log: PreparedLog, users: Sequence[Any], fresh: Mapping[Any, np.ndarray], second: int | None
) -> list[Shaped[np.ndarray, " N"]]:
    """The events of users, first those of the log, before a request at this second if it is given.

    Raises:
      UserError: about `events`, if a user's fresh events do not follow those of the log.
    """
    logged = [user for user in users if user in log.user_numbers]
    stored = log.histories_of([log.user_numbers[user] for user in logged])
    old = dict(zip(logged, stored, strict=True))
    nothing, found = np.zeros(0, log.schema.event_dtype), []
    for user in users:
        parts = old.get(user, nothing), fresh.get(user, nothing)
        check_later(user, *parts, "the log has")
        history = np.concatenate(parts)
        found.append(history if second is None else before(history, second))
    return found


def check_later(user: Any, old: np.ndarray, new: np.ndarray, who_has: str) -> None:
    """Refuses new events of a user that come before the old ones, or are among them.

    In the second of the last old event others may follow, but not of a known item that it has had.
    """
    known = old["time"][old["time"] != NO_TIME]
    if not len(known) or not len(new):
        return
    first, last = new["time"][0], known.max()
    names: Any = new.dtype.names
    item = next(name for name in names if name.startswith("categorical/"))
    had = old[item][old["time"] == last]
    again = new[item][new["time"] == last]
    if first < last or np.isin(again, had[had > 0]).any():
        raise UserError(
            "events",
            f"of user {user!r} begin at {first}, but {who_has} events of this user up to {last} "
            "(Unix seconds); pass only those that follow",
        )


def no_events(users: Sequence[Any], second: int | None) -> UserError:
    """What is wrong with users that have no event, before this second if it is given."""
    names = ", ".join(map(repr, itertools.islice(users, _MOST_NAMED)))
    rest = len(users) - _MOST_NAMED
    more = f", ... and {rest} more" if rest > 0 else ""
    when = "" if second is None else f" before {second} (Unix seconds)"
    return UserError("users", f"no event{when} of {names}{more}")


def before(history: Shaped[np.ndarray, " N"], request_time: int) -> Shaped[np.ndarray, " M"]:
    """The events of a history that precede its first one at or after the request.

    Events without a time count by their place in the history.
    """
    late = (history["time"] != NO_TIME) & (history["time"] >= request_time)
    return history[: np.argmax(late)] if late.any() else history


def utc_offsets_at(
    log: PreparedLog,
    past: Sequence[np.ndarray],
    number: Int[np.ndarray, " R"],
    times: Int[np.ndarray, " R"],
    given: Any,
) -> Int[np.ndarray, " R"]:
    """Local time minus UTC at requests: as given, of the log's zone, or of each last event.

    Args:
      log: says whether offsets are known.
      past: histories.
      number: of each request's history.
      times: of the requests, Unix seconds.
      given: for all requests; None: it is not given.
    """
    if given is not None:
        right = f"whole seconds between {-MAX_UTC_OFFSET} and {MAX_UTC_OFFSET}, not {given!r}"
        whole = _is_number(given) and float(given).is_integer()
        check(whole and abs(given) <= MAX_UTC_OFFSET, "utc_offset", right)
        right = f"None, not {given!r}: the log has no offsets; its hours and days are those of UTC"
        check(log.schema.has_utc_offset, "utc_offset", right)
        return np.full(len(times), int(given))
    if zone := log.schema.time_zone:
        unique, place = np.unique(times, return_inverse=True)
        return np.array(utc_offsets(zone, unique), np.int64)[place]
    last = [history["utc_offset"][-1] if len(history) else 0 for history in past]
    return np.array(last, np.int64)[number]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
