"""Ranking all items for every event of a split with a retriever, exactly and in blocks."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from siren_rope_jax.batch import NextItemBatch
from siren_rope_jax.data.dataset import PreparedLog
from siren_rope_jax.retrieval.model import Repeat, Retriever
from siren_rope_jax.retrieval.ranks import Named, rank_targets
from siren_rope_jax.sharding import on_host_one_late, place_batch, replicated

QUERIES_AT_ONCE = 1024


class Ranked(NamedTuple):
    """Target events with the rank of their item among all, on the host.

    Attributes:
      event: global index of the event.
      rank: 1 is best; 0: no list can show the item: it was never seen in training, or is filtered.
      nll: -log of the item's probability among all items, in nats; NaN where it has no rank.
    """

    event: Int[np.ndarray, " N"]
    rank: Int[np.ndarray, " N"]
    nll: Float[np.ndarray, " N"]


class RankScorer:
    """Ranks of the target events of batches; compiled once, used for every evaluation."""

    def __init__(self, model: Retriever, log: PreparedLog, filter_seen: bool, mesh: Mesh) -> None:
        """Ranks among all known items, or, with `filter_seen`, those new to the user."""
        self._mesh, self._log, self._filter_seen = mesh, log, filter_seen

        def queries(params: Any, batch: NextItemBatch) -> tuple[Any, ...]:
            result: Any = model.apply({"params": params}, batch)
            repeat = () if result.repeat is None else named(result.repeat, batch)
            query = result.query.astype(jnp.float32)
            return jax.tree.map(jnp.asarray, (batch.event, batch.target, query, *repeat))

        def items(params: Any) -> Any:
            vectors: Any = model.apply({"params": params}, method=Retriever.item_vectors)
            return vectors.astype(jnp.float32)

        # Replicated, so that every process sees the events of all.
        self._queries = jax.jit(queries, out_shardings=replicated(mesh))
        self._items = jax.jit(items, out_shardings=replicated(mesh))
        self._rank = jax.jit(rank_targets, out_shardings=replicated(mesh))

    def __call__(self, params: Any, batches: Iterable[NextItemBatch]) -> Ranked:
        """Ranks the targets of the batches, in the order in which they come."""
        items = self._items(params)
        dispatched = (self._queries(params, place_batch(batch, self._mesh)) for batch in batches)
        targets = (_targets(*slots) for slots in on_host_one_late(dispatched))
        events, ranks, nlls = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)], [np.zeros(0)]
        for event, *slots in _regrouped(targets, QUERIES_AT_ONCE):
            # Filled up to one size, so that it compiles once.
            missing = QUERIES_AT_ONCE - len(event)
            target, query, seen, *repeat = (
                np.pad(column, [(0, missing)] + [(0, 0)] * (column.ndim - 1))
                for column in (*slots[:2], self._seen(event), *slots[2:])
            )
            rank, nll = self._rank(query, items, target, seen, Named(*repeat) if repeat else None)
            events.append(event)
            ranks.append(np.asarray(rank)[: len(event)])
            nlls.append(np.asarray(nll)[: len(event)])
        return Ranked(np.concatenate(events), np.concatenate(ranks), np.concatenate(nlls))

    def _seen(self, event: np.ndarray) -> Int[np.ndarray, "N S"]:
        """The known items of every event's user before it; 0 fills up."""
        if not self._filter_seen:
            return np.zeros((len(event), 0), np.int32)
        item = self._log.schema.categorical[0]
        user = np.searchsorted(self._log.offsets, event, side="right") - 1
        distinct, which = np.unique(user, return_inverse=True)
        histories = self._log.histories_of(distinct)
        before = event - self._log.offsets[user]
        column = f"categorical/{item.name}"
        own = [item.known_ids(histories[w][column][:n]) for w, n in zip(which, before, strict=True)]
        longest = max(map(len, own), default=0)
        width = 1 << max(longest - 1, 0).bit_length()  # few sizes, few compilations
        return np.stack([np.pad(ids, (0, width - len(ids))) for ids in own])


def named(repeat: Repeat, batch: NextItemBatch) -> Named:
    """The items that every slot of a batch names, [B, L] of `Named`."""
    item = batch.categorical[..., None, :, 0]
    return Named(jnp.broadcast_to(item, repeat.weight.shape), repeat.weight, repeat.explore)


def _targets(event: np.ndarray, *columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """Those slots of a batch that ask for something."""
    asks = event >= 0
    return (event[asks].astype(np.int64), *(column[asks] for column in columns))


def _regrouped(
    parts: Iterable[tuple[np.ndarray, ...]], size: int
) -> Iterator[tuple[np.ndarray, ...]]:
    """The same rows in parts of `size`, the last one smaller."""
    held: list[tuple[np.ndarray, ...]] = []
    count = 0
    for part in parts:
        held.append(part)
        count += len(part[0])
        if count >= size:
            whole = tuple(np.concatenate(column) for column in zip(*held, strict=True))
            full = count - count % size
            for start in range(0, full, size):
                yield tuple(column[start : start + size] for column in whole)
            held = [tuple(column[full:] for column in whole)]
            count -= full
    if count:
        yield tuple(np.concatenate(column) for column in zip(*held, strict=True))
