"""Users' histories, encoded once, and what a trained model says of them at any later request."""

import dataclasses
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Literal

import jax
import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Array, Float, Int

from siren_rope_jax.base.errors import UserError, check
from siren_rope_jax.base.times import NO_TIME
from siren_rope_jax.inference import arguments
from siren_rope_jax.inference.arguments import RequestTime
from siren_rope_jax.inference.fresh_events import check_frame, encode_candidates, encode_events
from siren_rope_jax.inference.history_cache import HistoryCache
from siren_rope_jax.models.item_ranks import top_items
from siren_rope_jax.models.partition import Partition
from siren_rope_jax.models.retriever import Retrieved
from siren_rope_jax.training.rank_scorer import padded_ids
from siren_rope_jax.training.trained import TrainedRun


def encode(
    run: TrainedRun,
    users: Iterable[Any] | None = None,
    *,
    events: pd.DataFrame | None = None,
    before: RequestTime | None = None,
    missing: Literal["raise", "skip"] = "raise",
) -> "Encoded":
    """Encodes the histories of users, whose later events and requests then cost little.

    All users are encoded together, so pass a few hundred at a time.

    Args:
      run: a trained run.
      users: raw ids, as in the log or in `events`; None: all users of `events`.
      events: events that happened after the log ended, as a table (`inference/fresh_events.py`). A
        user's fresh events must follow all of that user's events in the log.
      before: leaves out events at this time or later; None: none.
      missing: what to do about users without any event: "raise" an error, or "skip" them. A ranking
        model needs no events: there, new users have empty histories.

    Raises:
      UserError: about the argument that is wrong.
    """
    (encoded,) = batches_of_users(run, users, events, before, missing, whole=True)
    return encoded


def batches_of_users(
    run: TrainedRun,
    users: Iterable[Any] | None,
    events: pd.DataFrame | None,
    before: RequestTime | None,
    missing: str,
    whole: bool = False,
) -> Iterator["Encoded"]:
    """Like `encode`, but yields `batch_size` users of the run's config at a time, or the `whole`.

    Whatever is wrong with an argument is found first, but that a user has no events.
    """
    arguments.check_run(run)
    check(missing in ("raise", "skip"), "missing", f"'raise' or 'skip', not {missing!r}")
    second = None if before is None else arguments.unix_second(before, "before")
    fresh = {} if events is None else encode_events(run.log, events)
    given = list(fresh) if users is None and events is not None else arguments.ids(users, "users")
    skip, needed = missing == "skip", run.setup.kind.name == "retrieval"
    found = arguments.known_users(run.log, given, fresh, skip, needed)
    size = max(len(found), 1) if whole else run.config.data.batch_size
    without: list[Any] = []
    for first in range(0, max(len(found), 1), size):
        some = found[first : first + size]
        histories = arguments.histories(run.log, some, fresh, second)
        if needed:
            without += [u for u, own in zip(some, histories, strict=True) if not len(own)]
            some = [u for u, own in zip(some, histories, strict=True) if len(own)]
            histories = [own for own in histories if len(own)]
        if skip or not without:  # else only the users without events matter
            yield Encoded(HistoryCache.of(run, histories), tuple(some))
    if without and not skip:
        raise arguments.no_events(without, second)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Encoded:
    """Users' histories, encoded by `encode`. It never changes: `append` returns another one.

    Attributes:
      cache: the histories.
      users: whose they are, raw ids.
    """

    cache: HistoryCache
    users: tuple[Any, ...]

    def __repr__(self) -> str:
        events = sum(map(len, self.cache.histories))
        of = f"{events:,} events of {len(self.users):,} users"
        return f"<Encoded: {of}, by {self.run.config.variant}>"

    @property
    def run(self) -> TrainedRun:
        """The model."""
        return self.cache.run

    def append(self, events: pd.DataFrame) -> "Encoded":
        """With later events of these users; only these are computed.

        Args:
          events: as those of `encode`. Their order within a user is that of their times; of equal
            times, that of the table.

        Raises:
          UserError: about `events`: as in `encode`, or they are of other users.
        """
        fresh = encode_events(self.run.log, events)
        self._check_users(fresh, "events")
        nothing = np.zeros(0, self.run.log.schema.event_dtype)
        later = [fresh.get(user, nothing) for user in self.users]
        for user, old, new in zip(self.users, self.cache.histories, later, strict=True):
            arguments.check_later(user, old, new, "the encoded history has")
        return dataclasses.replace(self, cache=self.cache.extended(later))

    def score(
        self,
        candidates: pd.DataFrame,
        request_time: RequestTime | Mapping[Any, RequestTime] | None = None,
        utc_offset: int | None = None,
    ) -> pd.DataFrame:
        """The prediction of every task for candidates, from a ranking model.

        It is the probability of a binary task, and of others what is expected of the label, in its
        own unit: of an ordinal one the mean of its values by their probabilities. Candidates do not
        see each other: each has the prediction that it would have as the one event after the
        history.

        Args:
          candidates: `item` and the other features of an event, and those of the request's context,
            named as in the prepared log. With a column `user`, every row is a candidate for that
            user; without, all are for every user. With a column `time`, that is each row's request,
            which no event of the encoded history may follow. No column has the name of a task.
          request_time: of all rows, or of each user, where there is no column `time`.
          utc_offset: local time minus UTC at the requests, in seconds, where there is no column
            `utc_offset`. None: from the log's time zone or, if it has none, that of the user's last
            event.

        Returns:
          the rows of `candidates` with their index (for each user, if they had none), with the
          columns `user` and `time` (as given) and, for each task of the log, its prediction.

        Raises:
          UserError: about the argument that is wrong; or the run is a retrieval run.
        """
        arguments.check_kind(self.run, "ranking", "recommend")
        check_frame(candidates, "candidates")
        schema, table = self.run.log.schema, candidates.copy()
        for task in schema.label_columns:
            right = f"without a column {task!r}, in which the prediction is returned; rename it"
            check(task not in table, "candidates", right)
        if "user" not in table:
            everyone = pd.DataFrame({"user": pd.Series(list(self.users), dtype=object)})
            table = everyone.merge(table, how="cross")
        self._check_users(table["user"], "candidates")
        number = table["user"].map(self._numbers).to_numpy(np.int64)
        if "time" not in table:
            table["time"] = self._seconds(request_time)[number]
        else:
            right = "left out; the candidates have a column 'time'"
            check(request_time is None, "request_time", right)
        requests = encode_candidates(self.run.log, table)
        if "utc_offset" not in table or utc_offset is not None:
            requests["utc_offset"] = self._offsets(number, requests["time"], utc_offset)
        self._check_times(number, requests["time"])
        order = np.argsort(number, kind="stable")
        counts = np.bincount(number, minlength=len(self.users))
        parts = np.split(requests[order], np.cumsum(counts)[:-1])
        predictions = np.empty((len(table), len(schema.label_columns)), np.float32)
        predictions[order] = np.concatenate(self.cache.predictions(parts))
        for task, column in zip(schema.label_columns, predictions.T, strict=True):
            table[task] = column
        return table

    def recommend(
        self,
        request_time: RequestTime | Mapping[Any, RequestTime],
        k: int = 10,
        *,
        utc_offset: int | None = None,
        items: Iterable[Any] | None = None,
        filter_seen: bool | None = None,
    ) -> pd.DataFrame:
        """The k best items for each user at a request, from a retrieval model.

        Args:
          request_time: when the lists are requested; of all users, or of each.
          k: length of each list, at least 1; a list is shorter if fewer items are left.
          utc_offset: as in `score`. If the log's offsets lag one event behind
            (`configs/data/gowalla.py`), it is better to pass it.
          items: raw ids of the items that may be recommended, such as those in stock; items that
            the model does not know are never recommended. None: all items.
          filter_seen: whether to leave out items that the user has had before; None: as in the
            run's config.

        Returns:
          columns user, rank (1 is best), item (raw id) and score (the inner product or, with
          `model.repeat`, the log of the item's probability); one list after the other.

        Raises:
          UserError: about the argument that is wrong; or the run is a ranking run.
        """
        arguments.check_kind(self.run, "retrieval", "score")
        times = self._seconds(request_time)[:, None]
        return self._lists(times, k, utc_offset, items, filter_seen).drop(columns="time")

    def sweep(
        self,
        request_times: Sequence[RequestTime],
        candidates: pd.DataFrame | None = None,
        *,
        k: int | None = None,
        items: Iterable[Any] | None = None,
        filter_seen: bool | None = None,
        utc_offset: int | None = None,
    ) -> pd.DataFrame:
        """What the model says at each of several request times, from the same encoded histories.

        "When?" is such a question: the 168 hours of a week, say.

        Args:
          request_times: of the requests.
          candidates: of a ranking model, as in `score`, without times; None for a retrieval model.
          k: of a retrieval model: length of each list; None: 10.
          items: of a retrieval model: what may be recommended.
          filter_seen: whether to leave out items that the user has had before.
          utc_offset: as in `score` and `recommend`.

        Returns:
          the tables of `score` or `recommend`, with a column `time` (Unix seconds).

        Raises:
          UserError: as `score` and `recommend`.
        """
        times = list(request_times)
        check(len(times) > 0, "request_times", "at least one time")
        seconds = [arguments.unix_second(time, "request_times") for time in times]
        if self.run.setup.kind.name == "retrieval":
            check(candidates is None, "candidates", "left out; it is a retrieval run")
            every = np.broadcast_to(np.array(seconds), (len(self.users), len(seconds)))
            return self._lists(every, 10 if k is None else k, utc_offset, items, filter_seen)
        for name, value in {"k": k, "items": items, "filter_seen": filter_seen}.items():
            check(value is None, name, "left out; it is a ranking run")
        check_frame(candidates, "candidates")
        columns: Any = candidates
        right = "without a column 'time'; the times are those of the sweep"
        check("time" not in columns, "candidates", right)
        at_all = columns.merge(pd.DataFrame({"time": seconds}), how="cross")
        return self.score(at_all, utc_offset=utc_offset)

    def _lists(
        self,
        times: Int[np.ndarray, "N Q"],
        k: int,
        utc_offset: int | None,
        items: Iterable[Any] | None,
        filter_seen: bool | None,
    ) -> pd.DataFrame:
        """The lists of every user at his or her times."""
        log = self.run.log
        whole = isinstance(k, int | np.integer) and not isinstance(k, bool)
        check(whole and k >= 1, "k", f"a whole number of at least 1, not {k!r}")
        right = f"True, False or None, not {filter_seen!r}"
        check(filter_seen in (True, False, None), "filter_seen", right)
        k = min(int(k), log.schema.categorical[0].known)
        allowed = None if items is None else arguments.allowed_items(log, items)
        if filter_seen is None:
            filter_seen = self.run.config.filter_seen
        if not self.users:
            return _table(self, times, np.zeros((0, k), np.int32), np.zeros((0, k), np.float32))
        number = np.repeat(np.arange(len(self.users)), times.shape[1])
        requests = np.zeros(times.shape, log.schema.event_dtype)  # whose items are not known
        requests["time"] = times
        flat = self._offsets(number, times.reshape(-1), utc_offset)
        requests["utc_offset"] = flat.reshape(times.shape)
        self._check_times(number, times.reshape(-1))
        retrieved = self.cache.queries(list(requests))
        seen = np.zeros((len(retrieved.query), 0), np.int32)  # some queries only pad the others
        if filter_seen:
            name, known = log.schema.categorical[0].name, log.schema.categorical[0].known_ids
            own = padded_ids([known(h[f"categorical/{name}"]) for h in self.cache.histories])
            seen = np.zeros((len(retrieved.query), own.shape[1]), np.int32)
            seen[: len(number)] = own[number]
        place = self.run.model.data.items, self.run.model.partition
        ids, scores = jax.device_get(_top_items(place, retrieved, seen, k, allowed))
        return _table(self, times, ids[: len(number)], scores[: len(number)])

    @cached_property
    def _numbers(self) -> dict[Any, int]:
        """The number of each user."""
        return {user: number for number, user in enumerate(self.users)}

    def _check_users(self, users: Iterable[Any], argument: str) -> None:
        for user in users:
            if not isinstance(user, Hashable) or user not in self._numbers:
                raise UserError(argument, f"name user {user!r}, whose history is not encoded")

    def _seconds(self, request_time: Any) -> Int[np.ndarray, " N"]:
        """The request time of every user."""
        times = request_time
        if isinstance(times, Mapping):
            if absent := [user for user in self.users if user not in times]:
                raise UserError("request_time", f"has no time for user {absent[0]!r}")
            times = [arguments.unix_second(times[user]) for user in self.users]
            return np.array(times, np.int64)
        return np.full(len(self.users), arguments.unix_second(times), np.int64)

    def _offsets(
        self, number: Int[np.ndarray, " R"], times: Int[np.ndarray, " R"], given: int | None
    ) -> Int[np.ndarray, " R"]:
        """Local time minus UTC at requests of these users."""
        return arguments.utc_offsets_at(self.run.log, self.cache.histories, number, times, given)

    def _check_times(self, number: Int[np.ndarray, " R"], times: Int[np.ndarray, " R"]) -> None:
        """Refuses requests that come before the last event of their history."""
        last = np.array([h["time"].max(initial=NO_TIME) for h in self.cache.histories], np.int64)
        if (early := times < last[number]).any():
            n = int(early.argmax())
            raise UserError(
                "request_time",
                f"{times[n]} is before the last encoded event of user {self.users[number[n]]!r}, "
                f"{last[number[n]]} (Unix seconds); encode histories before that time",
            )


@partial(jax.jit, static_argnames=("place", "k"))
def _top_items(
    place: tuple[int, Partition],
    retrieved: Retrieved,
    seen: Array,
    k: int,
    allowed: Array | None,
) -> tuple[Int[Array, "R k"], Float[Array, "R k"]]:
    """The best items for all requests."""
    repeat: Any = retrieved.repeat  # the mixtures of the requests alone
    return top_items(
        retrieved.query,
        retrieved.table.values,
        seen,
        k,
        repeat,
        allowed,
        items=place[0],
        partition=place[1],
    )


def _table(
    encoded: Encoded, times: Int[np.ndarray, "N Q"], ids: np.ndarray, scores: np.ndarray
) -> pd.DataFrame:
    """Lists, one after the other, without the places that no item fills (id 0)."""
    log = encoded.run.log
    row, place = np.nonzero(ids)
    values = log.vocabulary(log.schema.categorical[0].name)["value"]
    users = pd.Series(encoded.users, dtype=None if encoded.users else object).to_numpy()
    return pd.DataFrame(
        {
            "user": np.repeat(users, times.shape[1])[row],
            "time": times.reshape(-1)[row],
            "rank": place + 1,
            "item": values.take(pa.array(ids[row, place].astype(np.int64) - 1)).to_pandas(),
            "score": scores[row, place],
        }
    )
