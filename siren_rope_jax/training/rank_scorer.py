"""Exact ranks of the target items of a split among all items, computed by a retriever."""

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
from siren_rope_jax.models.item_ranks import rank_targets
from siren_rope_jax.models.repeat import Mixture, Repeat
from siren_rope_jax.models.retriever import Retriever
from siren_rope_jax.training.mesh import (
    batch_parts,
    by_row,
    fetch_one_behind,
    place_batch,
    replicated,
)

QUERIES_AT_ONCE = 1024


class Ranked(NamedTuple):
    """Target events with the ranks of their items, on the host.

    Attributes:
      event: global index of the event.
      rank: 1 is best; 0: the item is not ranked, because it is unknown or filtered out.
      nll: -log of the item's probability among all items, in nats; NaN if it is not ranked or the
        model learns no probabilities.
    """

    event: Int[np.ndarray, " N"]
    rank: Int[np.ndarray, " N"]
    nll: Float[np.ndarray, " N"]


class RankScorer:
    """Ranks the target items of batches; compiled once for all evaluations."""

    def __init__(self, model: Retriever, log: PreparedLog, filter_seen: bool, mesh: Mesh) -> None:
        """Ranks among all known items or, with `filter_seen`, among those new to the user."""
        self._mesh, self._log, self._filter_seen = mesh, log, filter_seen
        self._at_once = -(-QUERIES_AT_ONCE // batch_parts(mesh)) * batch_parts(mesh)

        def retrieve(params: Any, batch: NextItemBatch) -> tuple[Array, Repeat | None]:
            result: Any = model.apply({"params": params}, batch)
            return result.query, result.repeat

        def items(params: Any) -> Any:
            rows: Any = model.apply({"params": params}, method=Retriever.item_rows)
            return rows.values.astype(jnp.float32)

        def take(
            query: Array, repeat: Repeat | None, batch: NextItemBatch, at: tuple[Array, Array]
        ) -> "_Slots":
            mixture = None if repeat is None else repeat.mixtures(at)
            query = query.astype(jnp.float32)
            return _Slots(batch.event[at], batch.target[at], query[at], mixture)

        self._retrieve = jax.jit(retrieve)
        # Replicated, so that every process sees the events of all processes.
        self._take = jax.jit(take, out_shardings=replicated(mesh))
        self._replicate = jax.jit(lambda x: x, out_shardings=replicated(mesh))
        self._items = jax.jit(items)  # divided as their table is
        rank = partial(rank_targets, items=model.data.items, partition=model.partition)
        self._rank = jax.jit(rank, out_shardings=replicated(mesh))

    def __call__(self, params: Any, batches: Iterable[NextItemBatch]) -> Ranked:
        """Ranks the targets of the batches, in their order."""
        items = self._items(params)
        dispatched = (self._targets(params, place_batch(batch, self._mesh)) for batch in batches)
        targets = (slots.with_target() for slots in fetch_one_behind(dispatched))
        parts = [Ranked(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))]
        for slots in _regroup(targets, self._at_once):
            count = len(slots.event)
            nothing = np.zeros((count, 0), np.int32)
            seen = seen_items(self._log, slots.event) if self._filter_seen else nothing
            # Padded to one size, so that ranking is compiled once, and divided among the devices.
            target, query, seen, repeat = jax.device_put(
                _pad((slots.target, slots.query, seen, slots.repeat), self._at_once),
                by_row(self._mesh),
            )
            rank, nll = jax.device_get(self._rank(query, items, target, seen, repeat))
            parts.append(Ranked(slots.event.astype(np.int64), rank[:count], nll[:count]))
        return Ranked(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _targets(self, params: Any, batch: NextItemBatch) -> "_Slots":
        """The slots of a placed batch that have a target, padded with others to a power of 2.

        Often they are few, so that most slots are never copied to the host.
        """
        wanted = np.asarray(self._replicate(batch.event)) >= 0
        first = np.argsort(~wanted, axis=None, kind="stable")[: next_power_of_2(wanted.sum())]
        at = np.unravel_index(first, wanted.shape)
        return self._take(*self._retrieve(params, batch), batch, at)


def seen_items(log: PreparedLog, event: Int[np.ndarray, " N"]) -> Int[np.ndarray, "N S"]:
    """The distinct known items that each event's user had before it, padded with 0."""
    item = log.schema.categorical[0]
    user = np.searchsorted(log.offsets, event, side="right") - 1
    distinct, which = np.unique(user, return_inverse=True)
    ids = [
        item.known_ids(history[f"categorical/{item.name}"])
        for history in log.histories_of(distinct)
    ]
    before = event - log.offsets[user]
    return padded_ids([np.unique(ids[w][:n]) for w, n in zip(which, before, strict=True)])


def padded_ids(lists: Sequence[np.ndarray]) -> Int[np.ndarray, "N S"]:
    """Lists of ids as rows, padded with 0 to a power of 2, so that few shapes are compiled."""
    width = next_power_of_2(max(map(len, lists), default=0))
    return np.stack([np.pad(ids, (0, width - len(ids))) for ids in lists]).astype(np.int32)


def next_power_of_2(size: int) -> int:
    """The least power of 2 that is not below `size`."""
    return 1 << max(int(size) - 1, 0).bit_length()


class _Slots(NamedTuple):
    """Slots of a `NextItemBatch`, [N], with the model's output for them."""

    event: Any
    target: Any
    query: Any
    repeat: Mixture | None

    def with_target(self) -> "_Slots":
        """Only the slots that have a target."""
        return jax.tree.map(lambda column: column[self.event >= 0], self)


def _pad(columns: Any, size: int) -> Any:
    """Pads the columns with zeros to `size` rows."""

    def pad(column: np.ndarray) -> np.ndarray:
        return np.pad(column, [(0, size - len(column))] + [(0, 0)] * (column.ndim - 1))

    return jax.tree.map(pad, columns)


def _regroup(parts: Iterable[_Slots], size: int) -> Iterator[_Slots]:
    """The same rows in parts of `size`; the last one may be smaller."""
    held: list[_Slots] = []
    count = 0
    for part in parts:
        held.append(part)
        count += len(part.event)
        if count >= size:
            whole = _join(held)
            full = count - count % size
            for start in range(0, full, size):
                yield jax.tree.map(lambda column: column[start : start + size], whole)  # noqa: B023
            held = [jax.tree.map(lambda column: column[full:], whole)]  # noqa: B023
            count -= full
    if count:
        yield _join(held)


def _join(parts: Sequence[_Slots]) -> _Slots:
    return jax.tree.map(lambda *columns: np.concatenate(columns), *parts)
