"""Lists of items for users at a given time, from a trained retrieval run."""

import datetime
import itertools
import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Array, Bool, Float, Int, Shaped
from pandas.api.types import infer_dtype

from siren_rope_jax.base.errors import UserError, check, suggestion
from siren_rope_jax.base.times import MAX_TIME, MAX_UTC_OFFSET, MIN_TIME, NO_TIME, utc_offsets
from siren_rope_jax.data.assemble import Piece, next_item_batch
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.inference.fresh_events import comparable, encode, ids_in
from siren_rope_jax.models.item_ranks import top_items
from siren_rope_jax.models.partition import Partition
from siren_rope_jax.models.retriever import Retrieved
from siren_rope_jax.training.rank_scorer import padded_ids
from siren_rope_jax.training.trained import TrainedRun

_MOST_NAMED = 5  # users in an error message


def recommend(
    run: TrainedRun,
    users: Iterable[Any],
    request_time: float | datetime.datetime,
    k: int = 10,
    utc_offset: int | None = None,
    events: pd.DataFrame | None = None,
    items: Iterable[Any] | None = None,
    filter_seen: bool | None = None,
    missing: Literal["raise", "skip"] = "raise",
) -> pd.DataFrame:
    """The k best items for each user, given all the user's events before the request.

    Args:
      run: a trained retrieval run.
      users: raw ids, as in the log or in `events`.
      request_time: when the lists are requested: Unix seconds (UTC), or a `datetime` (such as
        pandas' `Timestamp`) with a time zone. Only events in earlier seconds count. An evaluation
        also counts events of the same second that precede their target in the log (the same day, in
        logs that only record days, such as Beauty's).
      k: length of each list, at least 1; a list is shorter if fewer items are left.
      utc_offset: local time minus UTC at the request, in seconds. None: from the log's time zone
        or, if it has none, that of the user's last event before the request. If the log's offsets
        lag one event behind (`configs/data/gowalla.py`), it is better to pass it. It must be None
        if the log has no offsets. The zone of a `datetime` is not used for it.
      events: events that happened after the log ended, as a table (`inference/fresh_events.py`). A
        user's fresh events must be later than all of that user's events in the log.
      items: raw ids of the items that may be recommended, such as those in stock; items that the
        model does not know are never recommended. None: all items.
      filter_seen: whether to leave out items that the user has had before; None: as in the run's
        config.
      missing: what to do about users without any event before the request, including unknown users:
        "raise" an error, or "skip" them.

    Returns:
      columns user, rank (1 is best), item (raw id) and score (the inner product or, with
      `model.repeat`, the log of the item's probability); one list after the other.

    Raises:
      UserError: about the argument that is wrong.
    """
    if not isinstance(run, TrainedRun):
        raise UserError("run", f"is {run!r}; open its directory first: TrainedRun.open(DIR)")
    if (kind := run.setup.kind.name) != "retrieval":
        raise UserError("run", f"{run.config.variant} is a {kind} run; use a retrieval run")
    whole = isinstance(k, int | np.integer) and not isinstance(k, bool)
    check(whole and k >= 1, "k", f"a whole number of at least 1, not {k!r}")
    right = f"True, False or None, not {filter_seen!r}"
    check(filter_seen in (True, False, None), "filter_seen", right)
    second = _unix_seconds(request_time)
    request = _Request(
        time=second,
        utc_offset=_utc_offset(run.log, utc_offset, second),
        k=min(int(k), run.log.schema.categorical[0].known),
        allowed=None if items is None else _allowed(run.log, _ids(items, "items")),
        filter_seen=run.config.filter_seen if filter_seen is None else filter_seen,
    )
    check(missing in ("raise", "skip"), "missing", f"'raise' or 'skip', not {missing!r}")
    skip = missing == "skip"
    fresh = {} if events is None else encode(run.log, events)
    found = _users_with_events(run.log, _ids(users, "users"), fresh, skip)
    histories = _past_events(run, found, fresh, request.time, skip)
    listed: list[Any] = []
    lists = [(np.zeros((0, request.k), np.int32), np.zeros((0, request.k), np.float32))]
    while batch := list(itertools.islice(histories, run.config.data.batch_size)):
        listed += [user for user, _ in batch]
        lists.append(_lists(run, [past for _, past in batch], request))
    return _table(run.log, listed, lists)


class _Request(NamedTuple):
    """The arguments that all lists share, checked and with their defaults filled in."""

    time: int  # Unix seconds
    utc_offset: int | None  # None: that of each user's last event
    k: int  # at most the number of known items
    allowed: Bool[np.ndarray, " V"] | None  # rows of the item table; None: all
    filter_seen: bool


def _unix_seconds(time: Any) -> int:
    """The time of a request in Unix seconds, rounded down like the times of a log."""
    has_zone = isinstance(time, datetime.datetime) and time.tzinfo is not None
    second = time.timestamp() if has_zone else time
    check(
        _is_number(second) and MIN_TIME <= second < MAX_TIME,
        "request_time",
        f"Unix seconds or a datetime with a time zone, from 1902 to 2100, not {time!r}",
    )
    return math.floor(second)


def _utc_offset(log: PreparedLog, given: Any, second: int) -> int | None:
    """The given offset or that of the log's time zone; None: that of each user's last event."""
    if given is None:
        zone = log.schema.time_zone
        return utc_offsets(zone, [second])[0] if zone else None
    right = f"whole seconds between {-MAX_UTC_OFFSET} and {MAX_UTC_OFFSET}, not {given!r}"
    whole = _is_number(given) and float(given).is_integer()
    check(whole and abs(given) <= MAX_UTC_OFFSET, "utc_offset", right)
    right = f"None, not {given!r}: the log has no offsets; its hours and days are those of UTC"
    check(log.schema.has_utc_offset, "utc_offset", right)
    return int(given)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _ids(ids: Any, argument: str) -> list[Any]:
    """The ids as a list; refuses a single one, even a string, which is iterable."""
    if isinstance(ids, pd.DataFrame):
        raise UserError(argument, "is a DataFrame; pass one of its columns")
    if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
        raise UserError(argument, f"must be a list of ids; for a single one pass [{ids!r}]")
    return list(ids)


def _allowed(log: PreparedLog, items: list[Any]) -> Bool[np.ndarray, " V"]:
    """Marks the rows of the item table that belong to these items."""
    item = log.schema.categorical[0]
    raw = pd.Series(items, name="item", dtype=object)
    ids = ids_in(raw, log.vocabulary(item.name)["value"].to_pandas(), "items")
    allowed = np.isin(np.arange(item.rows), ids[ids > 0])
    if not allowed.any():
        raise UserError("items", f"the model knows none of these {len(items)}")
    return allowed


def _users_with_events(
    log: PreparedLog, users: Sequence[Any], fresh: Mapping[Any, np.ndarray], skip: bool
) -> list[Any]:
    """The users that the log or the fresh events contain; the others are refused unless `skip`.

    An id of another type than the log's is always refused: it is a mistake, not a new user.
    """
    check(len(users) > 0, "users", "at least one id")
    logged, found = log.user_numbers, []
    for user in users:
        if not isinstance(user, Hashable):
            raise UserError("users", f"{user!r} is not an id; pass a flat list of ids")
        if user in logged or user in fresh:
            found.append(user)
            continue
        given, expected = (infer_dtype([value]) for value in (user, next(iter(logged))))
        if not comparable(given, expected):
            raise UserError("users", f"{user!r} is of type {given}; in the log it is {expected}")
        if not skip:
            hint = suggestion(user, logged) if len(logged) < 10_000 else ""  # slow for many users
            raise UserError("users", f"{user!r} is not in the log{hint}")
    return found


def _past_events(
    run: TrainedRun, users: Sequence[Any], fresh: Mapping[Any, np.ndarray], time: int, skip: bool
) -> Iterator[tuple[Any, np.ndarray]]:
    """Each user with the events before `time`; in the end refuses those without, unless `skip`."""
    log, size = run.log, run.config.data.batch_size
    nothing = np.zeros(0, log.schema.event_dtype)
    without: dict[Any, None] = {}  # an ordered set
    for start in range(0, len(users), size):
        batch = users[start : start + size]
        logged = [user for user in batch if user in log.user_numbers]
        rows = log.histories_of([log.user_numbers[user] for user in logged])
        stored = dict(zip(logged, rows, strict=True))
        for user in batch:
            old, new = stored.get(user, nothing), fresh.get(user, nothing)
            if len(old) and len(new) and (first := new["time"][0]) <= (last := old["time"].max()):
                raise UserError(
                    "events",
                    f"of user {user!r} begin at {first}, but the log has events of this user up to "
                    f"{last} (Unix seconds); pass only later ones",
                )
            past = before(np.concatenate([old, new]), time)
            if not len(past) and not skip:
                without[user] = None
            elif len(past) and not without:  # after a failure, only the failing users matter
                yield user, past
    if without:
        names = ", ".join(map(repr, itertools.islice(without, _MOST_NAMED)))
        rest = len(without) - _MOST_NAMED
        more = f", ... and {rest} more" if rest > 0 else ""
        raise UserError("users", f"no event before {time} (Unix seconds) of {names}{more}")


def before(history: Shaped[np.ndarray, " N"], request_time: int) -> Shaped[np.ndarray, " M"]:
    """The events of a history that precede its first one at or after the request.

    Events without a time count by their place in the history.
    """
    late = (history["time"] != NO_TIME) & (history["time"] >= request_time)
    return history[: np.argmax(late)] if late.any() else history


def _lists(
    run: TrainedRun, pasts: Sequence[np.ndarray], request: _Request
) -> tuple[Int[np.ndarray, "N k"], Float[np.ndarray, "N k"]]:
    """Ids and scores of the lists for at most a batch of histories."""
    schema, data = run.log.schema, run.config.data
    pieces = []
    for row, past in enumerate(pasts):
        event = np.zeros(1, schema.event_dtype)  # the request: its time is known, its item is not
        event["time"] = request.time
        known = request.utc_offset is not None
        event["utc_offset"] = request.utc_offset if known else past["utc_offset"][-1]
        history = np.concatenate([past[-data.length :], event])
        pieces.append(Piece(row, 1, 0, history, first=0, start=0, target=0, stop=len(history)))
    batch = next_item_batch(schema, pieces, (data.batch_size, data.length))
    retrieved = run.apply({"params": run.params}, batch)
    slots = np.arange(len(pasts)), np.array([piece.stop - 2 for piece in pieces])
    seen = np.zeros((len(pasts), 0), np.int32)
    if request.filter_seen:
        item = schema.categorical[0]
        seen = padded_ids([item.known_ids(past[f"categorical/{item.name}"]) for past in pasts])
    place = run.model.data.items, run.model.partition
    return jax.device_get(_top_items(place, retrieved, slots, seen, request.k, request.allowed))


@partial(jax.jit, static_argnames=("place", "k"))
def _top_items(
    place: tuple[int, Partition],
    retrieved: Retrieved,
    slots: tuple[Array, Array],
    seen: Array,
    k: int,
    allowed: Array | None,
) -> tuple[Int[Array, "N k"], Float[Array, "N k"]]:
    """The best items for the given slots (rows, places) of a batch."""
    repeat = None if retrieved.repeat is None else retrieved.repeat.mixtures(slots)
    return top_items(
        retrieved.query[slots],
        retrieved.table.values,
        seen,
        k,
        repeat,
        allowed,
        items=place[0],
        partition=place[1],
    )


def _table(
    log: PreparedLog, users: list[Any], lists: Sequence[tuple[np.ndarray, np.ndarray]]
) -> pd.DataFrame:
    """What `recommend` returns: the lists without the places that no item fills (id 0)."""
    ids, scores = (np.concatenate(column) for column in zip(*lists, strict=True))
    row, place = np.nonzero(ids)
    values = log.vocabulary(log.schema.categorical[0].name)["value"]
    return pd.DataFrame(
        {
            "user": pd.Series(users, dtype=None if users else object).to_numpy()[row],
            "rank": place + 1,
            "item": values.take(pa.array(ids[row, place].astype(np.int64) - 1)).to_pandas(),
            "score": scores[row, place],
        }
    )
