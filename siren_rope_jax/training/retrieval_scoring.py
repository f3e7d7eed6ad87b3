"""Ranking all items for every event of a split with a retriever, exactly and in blocks."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.models.batch import NextItemBatch
from siren_rope_jax.models.item_ranks import BLOCK_ELEMENTS, rank_targets
from siren_rope_jax.models.repeat import Repeat, per_slot
from siren_rope_jax.models.retriever import Retriever
from siren_rope_jax.training.mesh import by_row, on_host_one_late, place_batch, replicated

QUERIES_AT_ONCE = 1024


class Ranked(NamedTuple):
    """Target events with the rank of their item among all, on the host.

    Attributes:
      event: global index of the event.
      rank: 1 is best; 0: no list can show the item: it was never seen in training, or is filtered.
      nll: -log of the item's probability among all items, in nats; NaN where it has no rank, or
        the model learns no probabilities.
    """

    event: Int[np.ndarray, " N"]
    rank: Int[np.ndarray, " N"]
    nll: Float[np.ndarray, " N"]


class RankScorer:
    """Ranks of the target events of batches; compiled once, used for every evaluation."""

    def __init__(self, model: Retriever, log: PreparedLog, filter_seen: bool, mesh: Mesh) -> None:
        """Ranks among all known items, or, with `filter_seen`, those new to the user."""
        self._mesh, self._log, self._filter_seen = mesh, log, filter_seen
        self._at_once = -(-QUERIES_AT_ONCE // mesh.size) * mesh.size

        def slots(params: Any, batch: NextItemBatch) -> "_Slots":
            result: Any = model.apply({"params": params}, batch)
            query = result.query.astype(jnp.float32)
            asked = (jnp.asarray(batch.event), jnp.asarray(batch.target))
            return _Slots(*asked, query, result.repeat)

        def items(params: Any) -> Any:
            vectors: Any = model.apply({"params": params}, method=Retriever.item_vectors)
            return vectors.astype(jnp.float32)

        def chosen(slots: "_Slots", at: tuple[Array, Array]) -> "_Slots":
            slots = slots._replace(repeat=per_slot(slots.repeat))
            return jax.tree.map(lambda column: column[at], slots)

        self._slots = jax.jit(slots, out_shardings=by_row(mesh))
        # Replicated, so that every process sees the events of all.
        self._chosen = jax.jit(chosen, out_shardings=replicated(mesh))
        self._everywhere = jax.jit(lambda x: x, out_shardings=replicated(mesh))
        self._items = jax.jit(items, out_shardings=replicated(mesh))
        rank = partial(rank_targets, block_elements=BLOCK_ELEMENTS * mesh.size)
        self._rank = jax.jit(rank, out_shardings=replicated(mesh))

    def __call__(self, params: Any, batches: Iterable[NextItemBatch]) -> Ranked:
        """Ranks the targets of the batches, in the order in which they come."""
        items = self._items(params)
        dispatched = (self._asking(params, place_batch(batch, self._mesh)) for batch in batches)
        asked = (slots.asked() for slots in on_host_one_late(dispatched))
        parts = [Ranked(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))]
        for slots in _regrouped(asked, self._at_once):
            count = len(slots.event)
            seen = seen_items(self._log, slots.event) if self._filter_seen else _none(count)
            # Filled up to one size, so that it compiles once; dealt to the devices.
            target, query, seen, repeat = jax.device_put(
                _filled((slots.target, slots.query, seen, slots.repeat), self._at_once),
                by_row(self._mesh),
            )
            rank, nll = jax.device_get(self._rank(query, items, target, seen, repeat))
            parts.append(Ranked(slots.event.astype(np.int64), rank[:count], nll[:count]))
        return Ranked(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _asking(self, params: Any, batch: NextItemBatch) -> "_Slots":
        """The slots of a placed batch that ask for something, and some that fill up their number.

        Often they are few, and those that do not ask are never copied to the host.
        """
        asks = np.asarray(self._everywhere(batch.event)) >= 0
        first = np.argsort(~asks, axis=None, kind="stable")[: _next_power_of_2(asks.sum())]
        return self._chosen(self._slots(params, batch), np.unravel_index(first, asks.shape))


def seen_items(log: PreparedLog, event: Int[np.ndarray, " N"]) -> Int[np.ndarray, "N S"]:
    """The known items that each event's user had before it, once each; 0 fills up."""
    item = log.schema.categorical[0]
    user = np.searchsorted(log.offsets, event, side="right") - 1
    distinct, which = np.unique(user, return_inverse=True)
    ids = [
        item.known_ids(history[f"categorical/{item.name}"])
        for history in log.histories_of(distinct)
    ]
    before = event - log.offsets[user]
    return side_by_side([np.unique(ids[w][:n]) for w, n in zip(which, before, strict=True)])


def side_by_side(lists: Sequence[np.ndarray]) -> Int[np.ndarray, "N S"]:
    """Lists of ids as rows; 0 fills up to a width of few sizes, so that few are compiled."""
    longest = max(map(len, lists), default=0)
    width = _next_power_of_2(longest)
    return np.stack([np.pad(ids, (0, width - len(ids))) for ids in lists]).astype(np.int32)


def _next_power_of_2(size: int) -> int:
    """At least `size`, and 1."""
    return 1 << max(int(size) - 1, 0).bit_length()


def _none(count: int) -> Int[np.ndarray, "N 0"]:
    return np.zeros((count, 0), np.int32)


class _Slots(NamedTuple):
    """What is asked at the slots of a batch, and what the model says; then of those that ask."""

    event: Any
    target: Any
    query: Any
    repeat: Repeat | None

    def asked(self) -> "_Slots":
        """The slots that ask for something, one after the other."""
        asks = np.asarray(self.event) >= 0
        return jax.tree.map(lambda column: column[asks], self)


def _filled(columns: Any, size: int) -> Any:
    """The columns with zeros up to `size` rows."""

    def fill(column: np.ndarray) -> np.ndarray:
        return np.pad(column, [(0, size - len(column))] + [(0, 0)] * (column.ndim - 1))

    return jax.tree.map(fill, columns)


def _regrouped(parts: Iterable[_Slots], size: int) -> Iterator[_Slots]:
    """The same rows in parts of `size`, the last one smaller."""
    held: list[_Slots] = []
    count = 0
    for part in parts:
        held.append(part)
        count += len(part.event)
        if count >= size:
            whole = _joined(held)
            full = count - count % size
            for start in range(0, full, size):
                yield jax.tree.map(lambda column: column[start : start + size], whole)  # noqa: B023
            held = [jax.tree.map(lambda column: column[full:], whole)]  # noqa: B023
            count -= full
    if count:
        yield _joined(held)


def _joined(parts: Sequence[_Slots]) -> _Slots:
    return jax.tree.map(lambda *columns: np.concatenate(columns), *parts)
