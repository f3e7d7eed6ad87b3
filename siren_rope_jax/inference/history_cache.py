"""Encoded histories: keys and values of their events, to which events and requests come.

Letters: N histories, C places of the cache, Q requests of each, T tasks, D width.
"""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from siren_rope_jax.data.assemble import Piece
from siren_rope_jax.data.windows import window_start
from siren_rope_jax.models.cache import CACHE, Cached
from siren_rope_jax.models.retriever import Retrieved
from siren_rope_jax.models.tasks import predictions_of
from siren_rope_jax.training.rank_scorer import next_power_of_2
from siren_rope_jax.training.trained import TrainedRun

REQUESTS = 1024
"""Of each history that are computed at once."""


@dataclasses.dataclass(frozen=True)
class HistoryCache:
    """Histories of events, encoded as an evaluation would see them.

    A history that is longer than the model's rows is seen from the same event on as in an
    evaluation (`data.windows.window_start`); whenever that moves on, it is encoded again.

    Attributes:
      run: the trained model.
      histories: all events of each, rows of `Schema.event_dtype`.
      variables: keys, values and events of those that are seen; the first dimension is N, or a few
        more.
    """

    run: TrainedRun
    histories: Sequence[np.ndarray]
    variables: Any

    @classmethod
    def of(cls, run: TrainedRun, histories: Sequence[np.ndarray]) -> "HistoryCache":
        """Encodes histories, each of which may be empty where the model allows that."""
        empty = cls(run, histories, None)
        return dataclasses.replace(empty, variables=empty._encoded(range(len(histories))))

    def extended(self, events: Sequence[np.ndarray]) -> "HistoryCache":
        """With later events of every history, none or some; the earlier ones are not encoded again.

        In any number of calls the result is the same as in one.
        """
        whole = [np.concatenate(pair) for pair in zip(self.histories, events, strict=True)]
        later = dataclasses.replace(self, histories=whole)
        saved, length = self.run.setup.kind.layout.places_saved, self.run.config.data.length
        pieces, moved = [], []
        for row, (start, new_start) in enumerate(zip(self._starts, later._starts, strict=True)):
            first = max(len(self.histories[row]) - saved, 0)
            if new_start != start:
                moved.append(row)
            elif len(whole[row]) - saved > first:
                pieces.append((row, whole[row][first:], first - start))
        variables = self.variables
        if pieces:
            width = next_power_of_2(max(len(events) - saved for _, events, _ in pieces))
            batch = self.batch(pieces, (self._rows, width))
            place = np.where(batch.segment > 0, batch.position, length).astype(np.int32)
            variables = self.run.compiled(_extended)(self.run.params, variables, batch, place)
        if moved:
            again, at = later._encoded(moved), np.array(moved)
            variables = jax.tree.map(lambda x, new: x.at[at].set(new[: len(at)]), variables, again)
        return dataclasses.replace(later, variables=variables)

    def predictions(self, requests: Sequence[np.ndarray]) -> list[Float[np.ndarray, "Q T"]]:
        """Of a ranking model: those of every task for events that may follow each history.

        They are probabilities of binary tasks, and of others what is expected of the label.

        Args:
          requests: of each history, any number of rows of `Schema.event_dtype`, each with the time
            and the context of its request. They do not see each other.
        """
        tasks = len(self.run.model.data.tasks)
        position = np.zeros((self._rows, 1), np.int32)
        position[: len(requests), 0] = [
            len(h) - s for h, s in zip(self.histories, self._starts, strict=True)
        ]
        found = [[np.zeros((0, tasks), np.float32)] for _ in requests]
        for first in range(0, max(map(len, requests), default=0), REQUESTS):
            some = [rows[first : first + REQUESTS] for rows in requests]
            width = next_power_of_2(max(map(len, some)))
            pieces = [(row, events, 0) for row, events in enumerate(some) if len(events)]
            batch = self.batch(pieces, (self._rows, width))
            batch = batch.replace(position=np.broadcast_to(position, batch.position.shape))
            scores = self.run.compiled(_predictions)(self.run.params, self.variables, batch)
            for own, events, row in zip(found, some, np.asarray(scores), strict=False):
                own.append(row[: len(events)])
        return [np.concatenate(own) for own in found]

    def queries(self, requests: Sequence[np.ndarray]) -> Retrieved:
        """Of a retrieval model: the queries of requests, [N * Q], and what they are compared with.

        Args:
          requests: of each history, which is not empty, the same number of rows with the time and
            the offset of a request.
        """
        (count,) = {len(rows) for rows in requests}
        pieces = []
        for row, (history, asked, start) in enumerate(
            zip(self.histories, requests, self._starts, strict=True)
        ):
            last = len(history) - 1 - start
            pieces += [
                (row * count + nth, np.concatenate([history[-1:], asked[nth : nth + 1]]), last)
                for nth in range(count)
            ]
        batch = self.batch(pieces, (self._rows * count, 1))
        batch = jax.tree.map(lambda x: x.reshape(self._rows, count, *x.shape[2:]), batch)
        return self.run.compiled(_queries)(self.run.params, self.variables, batch)

    @cached_property
    def _starts(self) -> list[int]:
        """Of each history, the number of the first event that is seen by the next request."""
        data, saved = self.run.config.data, self.run.setup.kind.layout.places_saved
        count = np.array([len(history) for history in self.histories], np.int64)
        return window_start(count, data.length + saved, data.stride).tolist()

    @property
    def _rows(self) -> int:
        """Of the arrays, so that few shapes are compiled."""
        return next_power_of_2(len(self.histories))

    def _encoded(self, which: Sequence[int]) -> Any:
        """The variables of some histories."""
        pieces = [
            (row, self.histories[n][self._starts[n] :], 0)
            for row, n in enumerate(which)
            if len(self.histories[n]) > self._starts[n]
        ]
        batch = self.batch(pieces, (next_power_of_2(len(which)), self.run.config.data.length))
        return self.run.compiled(_encoded)(self.run.params, batch)

    def batch(self, pieces: Sequence[tuple[int, np.ndarray, int]], shape: tuple[int, int]) -> Any:
        """A batch of rows of one history each: (row, events, position of the first)."""
        made = [
            Piece(row, 1, 0, events, first=0, start=0, target=0, stop=len(events))
            for row, events, _ in pieces
        ]
        batch = self.run.setup.kind.layout.make(self.run.log.schema, made, shape)
        offset = np.zeros((shape[0], 1), np.int32)
        for row, _, position in pieces:
            offset[row] = position
        return batch.replace(position=batch.position + offset)


def _encoded(model: Any, params: Any, batch: Any) -> Any:
    return model.apply({"params": params}, batch, mutable=[CACHE])[1][CACHE]


def _extended(model: Any, params: Any, variables: Any, batch: Any, places: Array) -> Any:
    given = {"params": params, CACHE: variables}
    return model.apply(given, batch, cached=Cached.for_events(places), mutable=[CACHE])[1][CACHE]


def _predictions(model: Any, params: Any, variables: Any, batch: Any) -> Float[Array, "N Q T"]:
    given = {"params": params, CACHE: variables}
    output = model.apply(given, batch, cached=Cached.for_requests())
    return predictions_of(model.data.tasks, output)


def _queries(model: Any, params: Any, variables: Any, batch: Any) -> Retrieved:
    """Queries and mixtures of all requests, one history's after the other's."""
    found = model.apply({"params": params, CACHE: variables}, batch, cached=Cached.for_requests())
    repeat = None if found.repeat is None else found.repeat.of_requests()
    return Retrieved(found.query.reshape(-1, found.query.shape[-1]), found.table, repeat)
