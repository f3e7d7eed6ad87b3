"""Lists of items for users at a given time, from a trained retrieval run."""

import datetime
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Array, Bool, Float, Int, Shaped

from siren_rope_jax.base.errors import UserError, suggestion
from siren_rope_jax.base.times import MAX_TIME, MAX_UTC_OFFSET, MIN_TIME, NO_TIME, utc_offsets
from siren_rope_jax.data.assemble import Piece, next_item_batch
from siren_rope_jax.inference.fresh_events import encode, ids_in
from siren_rope_jax.models.item_ranks import top_items
from siren_rope_jax.models.repeat import per_slot
from siren_rope_jax.models.retriever import Retrieved
from siren_rope_jax.training.experiment import RetrievalExperiment
from siren_rope_jax.training.retrieval_scoring import side_by_side
from siren_rope_jax.training.trained import TrainedRun

_NAMED = 5  # at most so many users stand in a message


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
    """The k best items for each user, from all the user's events before the request.

    Args:
      run: of a retrieval experiment.
      users: raw ids, as in the log; with `events` also those that are only there.
      request_time: when the lists are requested: Unix seconds (UTC), or a `datetime` (pandas'
        `Timestamp` is one) with a time zone. Only events at earlier seconds count; an evaluation
        also counts those that stand before their target in the log at the same second (in logs of
        whole days, such as Beauty's: of the same day).
      k: length of a list, at least 1; a list is shorter where no more items are left.
      utc_offset: local time minus UTC at the request, in seconds; None: that of the log's time zone
        at the request or, of a log without a zone, that of the user's last event before it. Where a
        log's offsets are those of the event before (`configs/data/gowalla.py`), that is one event
        behind: better say it. A log without any takes none. The zone of a `datetime` does not
        matter.
      events: what happened after the log ended, as a table (`data/fresh_events.py`); of a user of
        the log, events later than all that it holds.
      items: raw ids of those that a list may show, such as what is in stock; those that the model
        does not know are no candidates anyway. None: all that it knows.
      filter_seen: whether what the user had before is left out; None: as in the run's config.
      missing: of users without an event before the request, unknown ones too: `raise` refuses them,
        `skip` gives them no list.

    Returns:
      columns user, rank (1 is best), item (raw id), score (the inner product; with `model.repeat`
      the log of the item's probability); list after list.

    Raises:
      UserError: another kind of run, an unknown user or one without an event before the request
        (unless skipped), a time, offset or length that is none, `items` of which it knows none, or
        `events` that are wrong or in the log already.
    """
    if not isinstance(run, TrainedRun):
        raise UserError(f"run is {run!r}; open its directory first: TrainedRun.open(DIR)")
    if not isinstance(run.config, RetrievalExperiment):
        raise UserError(f"{run.config.variant}: not a retrieval run; it ranks what it is given")
    second = _unix_seconds(request_time)
    if utc_offset is not None:
        _check_offset(run, utc_offset)
    elif run.log.schema.time_zone:
        utc_offset = utc_offsets(run.log.schema.time_zone, [second])[0]
    if not isinstance(k, int | np.integer) or isinstance(k, bool) or k < 1:
        raise UserError(f"k is {k}; it must be a whole number, at least 1")
    choices = {
        "filter_seen": (filter_seen, (True, False, None)),
        "missing": (missing, ("raise", "skip")),
    }
    for name, (value, known) in choices.items():
        if value not in known:
            raise UserError(f"{name} is {value!r}; it must be one of {known}")
    k = min(int(k), run.log.schema.categorical[0].known)
    users = _several(users, "users")
    fresh = {} if events is None else encode(run.log, events)
    users = _known(run, users, fresh, missing == "skip")
    if filter_seen is None:
        filter_seen = run.config.filter_seen
    shown = _Shown(k, None if items is None else _allowed(run, items), filter_seen)
    asked = _Asked(second, utc_offset, shown)
    rows = run.config.data.batch_size
    lists = [(np.zeros((0, k), np.int32), np.zeros((0, k), np.float32))]
    listed: list[Any] = []
    without: list[Any] = []
    waiting: list[np.ndarray] = []
    for start in range(0, len(users), rows):
        here = users[start : start + rows]
        for user, history in zip(here, _histories(run, here, fresh), strict=True):
            past = before(history, second)
            if len(past):
                listed.append(user)
                waiting.append(past)
            else:
                without.append(user)
        if len(waiting) >= rows:
            lists.append(_lists(run, waiting[:rows], asked))
            waiting = waiting[rows:]
        if without and missing == "raise":
            waiting = []  # there will be no lists: all that is left is to name the others
    if waiting:
        lists.append(_lists(run, waiting, asked))
    if without and missing == "raise":
        names = list(map(repr, dict.fromkeys(without)))
        more = f", ... and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        raise UserError(
            f"no event before {second} (Unix seconds) of users {', '.join(names[:_NAMED])}{more}"
        )
    ids, score = (np.concatenate(column) for column in zip(*lists, strict=True))
    found = np.argwhere(ids > 0)
    raw = run.log.vocabulary(run.log.schema.categorical[0].name)["value"]
    return pd.DataFrame(
        {
            "user": pd.Series(listed, dtype=None if listed else object).to_numpy()[found[:, 0]],
            "rank": found[:, 1] + 1,
            "item": raw.take(pa.array(ids[ids > 0].astype(np.int64) - 1)).to_pandas(),
            "score": score[ids > 0],
        }
    )


def _check_offset(run: TrainedRun, seconds: Any) -> None:
    """Refuses an offset that is none, or that the model, trained without any, would mistake."""
    number = isinstance(seconds, int | float | np.integer | np.floating)
    if not number or not abs(seconds) <= MAX_UTC_OFFSET:
        raise UserError(
            f"utc_offset is {seconds!r}; it must be seconds between {-MAX_UTC_OFFSET} and "
            f"{MAX_UTC_OFFSET}"
        )
    if not run.log.schema.has_utc_offset:
        raise UserError(
            f"utc_offset is {seconds!r}, but the log has no offsets: its hours and days are UTC's"
        )


def _several(ids: Any, name: str) -> list[Any]:
    """The ids as a list; a single one is refused, a text above all, which is letters to Python."""
    if isinstance(ids, pd.DataFrame):
        raise UserError(f"{name}: is a DataFrame; give one of its columns")
    if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
        raise UserError(f"{name}: must be several; for one write [{ids!r}]")
    return list(ids)


class _Shown(NamedTuple):
    """What a list may show: how many items, which of all (None: each), which of a user's."""

    k: int
    allowed: Bool[np.ndarray, " V"] | None
    filter_seen: bool


def _allowed(run: TrainedRun, items: Iterable[Any]) -> Bool[np.ndarray, " V"]:
    """Which rows of the model's table are of these items."""
    item = run.log.schema.categorical[0]
    raw = pd.Series(_several(items, "items"), name="item", dtype=object)
    known = ids_in(raw, run.log.vocabulary(item.name)["value"].to_pandas(), "items")
    allowed = np.zeros(item.rows, bool)
    allowed[item.known_ids(known)] = True
    allowed[0] = False
    if not allowed.any():
        raise UserError(f"items: the model knows none of these {len(raw)}")
    return allowed


def before(history: Shaped[np.ndarray, " N"], request_time: int) -> Shaped[np.ndarray, " M"]:
    """The events of a history up to the first whose time is that of the request or later.

    What has the request's own time, be it a day or a second, counts as coming after it.
    """
    late = (history["time"] != NO_TIME) & (history["time"] >= request_time)
    return history[: np.argmax(late)] if late.any() else history


def _unix_seconds(time: Any) -> int:
    """A request's time in Unix seconds, rounded down as those of a log are.

    Raises:
      UserError: it is none.
    """
    aware = isinstance(time, datetime.datetime) and time.tzinfo is not None
    second = time.timestamp() if aware else time
    number = isinstance(second, int | float | np.integer | np.floating)
    if number and not isinstance(second, bool) and MIN_TIME <= second < MAX_TIME:
        return math.floor(second)
    raise UserError(
        f"request_time is {time!r}; it must be Unix seconds or a datetime with a time zone, from "
        "1902 to 2100"
    )


class _Asked(NamedTuple):
    """A request: its time (Unix seconds), where its clock is, and what its list may show."""

    time: int
    utc_offset: int | None
    shown: _Shown


def _lists(
    run: TrainedRun, pasts: Sequence[np.ndarray], asked: _Asked
) -> tuple[np.ndarray, np.ndarray]:
    """Ids and scores of the lists of at most a batch of users."""
    assert isinstance(run.config, RetrievalExperiment)
    shape = run.config.data.batch_size, run.config.data.length
    schema = run.log.schema
    item = schema.categorical[0]
    pieces = []
    for row, past in enumerate(pasts):
        # The request is one more event: its time is known, its item (0) is what is asked for.
        request = np.zeros(1, schema.event_dtype)
        request["time"] = asked.time
        request["utc_offset"] = (
            past["utc_offset"][-1] if asked.utc_offset is None else asked.utc_offset
        )
        events = np.concatenate([past[-shape[1] :], request])
        stop = len(events)
        pieces.append(Piece(row, 1, 0, history=events, first=0, start=0, target=0, stop=stop))
    result = run.apply({"params": run.params}, next_item_batch(schema, pieces, shape))
    slots = np.arange(len(pasts)), np.array([piece.stop - 2 for piece in pieces])
    seen = np.zeros((len(pasts), 0), np.int32)
    if asked.shown.filter_seen:
        seen = side_by_side([item.known_ids(p[f"categorical/{item.name}"]) for p in pasts])
    return jax.device_get(_top_items(result, slots, seen, asked.shown.k, asked.shown.allowed))


@partial(jax.jit, static_argnames="k")
def _top_items(
    result: Retrieved, asked: tuple[Array, Array], seen: Array, k: int, allowed: Array | None
) -> tuple[Int[Array, "N k"], Float[Array, "N k"]]:
    """The lists of the asked slots (rows, places) of a batch."""
    slots = result.query, per_slot(result.repeat)
    query, repeat = jax.tree.map(lambda x: x[asked], slots)
    return top_items(query, result.table, seen, k, repeat, allowed)


def _histories(
    run: TrainedRun, users: Sequence[Any], fresh: Mapping[Any, np.ndarray]
) -> list[np.ndarray]:
    """All events of these users: those in the log, then the fresh ones."""
    known = run.log.user_numbers
    logged = [user for user in users if user in known]
    numbers = [known[user] for user in logged]
    old = dict(zip(logged, run.log.histories_of(numbers), strict=True)) if logged else {}
    nothing = np.zeros(0, run.log.schema.event_dtype)
    parts = [(user, old.get(user, nothing), fresh.get(user, nothing)) for user in users]
    for user, past, new in parts:
        if len(past) and len(new) and new["time"][0] <= (last := past["time"].max()):
            raise UserError(
                f"events: the first of user {user!r} is at {new['time'][0]}, but the log holds "
                f"that user's events up to {last} (Unix seconds); give later ones only"
            )
    return [np.concatenate([past, new]) for _, past, new in parts]


def _known(
    run: TrainedRun, users: Sequence[Any], fresh: Mapping[Any, np.ndarray], skip: bool
) -> list[Any]:
    """Those of whom something is known; refuses no users, and others unless `skip`.

    One of another type than the log's is a mistake, not a newcomer.
    """
    if not users:
        raise UserError("users: there are none")
    known = run.log.user_numbers
    for user in users:
        if not isinstance(user, Hashable):
            raise UserError(f"users: {user!r} is no id; give a flat list of them")
        if user in known or user in fresh:
            continue
        ours, theirs = (pd.api.types.infer_dtype([value]) for value in (user, next(iter(known))))
        hint = "" if ours == theirs else f"; it is of type {ours}, those of the log {theirs}"
        if skip and not hint:
            continue
        if not hint and len(known) < 10_000:  # the search for a near name is slow
            hint = suggestion(user, known)
        raise UserError(f"user {user!r} is not in the log{hint}")
    return [user for user in users if user in known or user in fresh]
