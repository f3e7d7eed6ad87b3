"""What a model sees: fixed-shape rows of events, several users' histories packed in one row."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from siren_rope_jax.base.arrays import AnyArray
from siren_rope_jax.models.tasks import Task
from siren_rope_jax.rotation.signals import Signals
from siren_rope_jax.rotation.time import Time, TimeScale


@dataclass(frozen=True, eq=False)
class ItemFeatures:
    """All items, also those that training never has, by the features that each always has.

    Attributes:
      ids: of the features, by item, in columns as those of a batch; of row 0, the unknown item,
        they are unknown, 0.
      trained: rows of items that training has, with row 0; they are the first ones.
    """

    ids: Int[np.ndarray, "V F"]
    trained: int


@dataclass(frozen=True)
class DataSpec:
    """What a model must know of a data set: enough to build and compile it without any data.

    Attributes:
      categories: number of ids (0 included) of every categorical feature, in the batch's order; the
        item first.
      tasks: what a ranking model predicts.
      context_length: L of the rows.
      scale: the data set's `TimeScale`.
      dense, context, actions: numbers of columns of the features of those names in a batch.
      item_features: of all items; None: a model knows only those that training has.
      lists: the categorical features of which an event has a list of values, and the number of
        their columns in a batch; others have one.
      counts: other integer signals of an event, and the number of values from 0 that each has in
        training, in the batch's order.
    """

    categories: dict[str, int]
    tasks: tuple[Task, ...]
    context_length: int
    scale: TimeScale
    dense: int = 0
    context: int = 0
    actions: int = 0
    item_features: ItemFeatures | None = None
    lists: dict[str, int] = dataclasses.field(default_factory=dict)
    counts: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def columns(self) -> int:
        """Those of the ids of all categorical features in a batch."""
        return sum(self.lists.get(name, 1) for name in self.categories)

    def by_feature(
        self, ids: Int[AnyArray, "*S F"], names: Sequence[str] | None = None
    ) -> dict[str, AnyArray]:
        """The ids of each categorical feature: [...], or [..., K] of one with lists of values.

        Args:
          ids: columns of the features, as in a batch.
          names: of the features; None: all of them.
        """
        found, at = {}, 0
        for name in self.categories if names is None else names:
            width = self.lists.get(name, 1)
            found[name] = ids[..., at : at + width] if name in self.lists else ids[..., at]
            at += width
        return found

    @property
    def items(self) -> int:
        """Rows of the item's table: the known items, and row 0 for all others."""
        return next(iter(self.categories.values()))

    @property
    def trained_items(self) -> int:
        """Those that training has, and row 0; they come first."""
        return self.items if self.item_features is None else self.item_features.trained


@flax.struct.dataclass
class EventBatch:
    """What every batch holds: rows of L events each, oldest first within a segment.

    Attributes:
      categorical: ids, 0 = unknown; the item first. A feature with lists of values has several
        columns (`DataSpec.by_feature`).
      dense: standardised features known before the outcome.
      time: when the event happened (UTC).
      position: ordinal within the segment, ascending from 0.
      segment: 1, 2, ... per packed window of a history; 0 is padding.
      event: index in the log of the event whose outcome is asked for here; else -1.
      counts: other integer signals of the events (`DataSpec.counts`).
    """

    categorical: Int[AnyArray, "B L F"]
    dense: Float[AnyArray, "B L E"]
    time: Time
    position: Int[AnyArray, "B L"]
    segment: Int[AnyArray, "B L"]
    event: Int[AnyArray, "B L"]
    counts: Int[AnyArray, "B L S"]


@flax.struct.dataclass
class RankingBatch(EventBatch):
    """Every event asks for its own labels.

    Attributes:
      context: standardised features of the request, for the head.
      actions: what the user did; visible to later events only.
      labels: of every task, in the label's own unit; 0 where absent.
      label_mask: which labels count here: known, and in the evaluated split.
    """

    context: Float[AnyArray, "B L R"]
    actions: Float[AnyArray, "B L A"]
    labels: Float[AnyArray, "B L T"]
    label_mask: Bool[AnyArray, "B L T"]

    @classmethod
    def padding(cls, data: DataSpec, rows: int) -> "RankingBatch":
        """A batch without events, numpy arrays: its shapes and dtypes are those of all batches."""
        shape, tasks = (rows, data.context_length), len(data.tasks)
        return cls(
            **_no_events(data, shape),
            context=np.zeros((*shape, data.context), np.float32),
            actions=np.zeros((*shape, data.actions), np.float32),
            labels=np.zeros((*shape, tasks), np.float32),
            label_mask=np.zeros((*shape, tasks), bool),
        )


@flax.struct.dataclass
class NextItemBatch(EventBatch):
    """Slot i holds an event and asks for the item of the next one, whose index is `event`.

    Attributes:
      request_time: when the next item is asked for: the next event's time.
      target: the next event's item; 0 = unknown.
      history: index in the log of the first event of the slot's user; the same in all windows of
        one history.
      request_counts: the counts of the next event, where they are known when it is asked for.
    """

    request_time: Time
    target: Int[AnyArray, "B L"]
    history: Int[AnyArray, "B L"]
    request_counts: Int[AnyArray, "B L S"]

    @classmethod
    def padding(cls, data: DataSpec, rows: int) -> "NextItemBatch":
        """As in `RankingBatch`."""
        shape = (rows, data.context_length)
        zeros = np.zeros(shape, np.int32)
        common = _no_events(data, shape)
        return cls(
            **common,
            request_time=common["time"],
            target=zeros,
            history=zeros,
            request_counts=common["counts"],
        )


Batch = TypeVar("Batch", bound=EventBatch)


def with_unknown(batch: Batch, rate: float, key: Array) -> Batch:
    """The same events, but a share of their ids is taken for unknown, each by itself."""
    ids = jnp.asarray(batch.categorical)
    unknown = jax.random.bernoulli(key, rate, ids.shape)
    return dataclasses.replace(batch, categorical=jnp.where(unknown, 0, ids))


def signals_of(batch: EventBatch, data: DataSpec) -> Signals:
    """What drives the rotation of a batch's events."""
    return _signals(batch, data, batch.time, batch.counts)


def request_signals_of(batch: NextItemBatch, data: DataSpec) -> Signals:
    """The same with what is known of the request that follows each event."""
    return _signals(batch, data, batch.request_time, batch.request_counts)


def _signals(
    batch: EventBatch, data: DataSpec, time: Time, count_BxLxS: Int[AnyArray, "B L S"]
) -> Signals:
    """Counts are categories too, whose values beyond those of training are the last one."""
    ids = data.by_feature(batch.categorical)
    categories = {name: of for name, of in ids.items() if name not in data.lists}
    counts = {name: count_BxLxS[..., s] for s, name in enumerate(data.counts)}
    clipped = {n: jnp.clip(jnp.asarray(c), 0, data.counts[n] - 1) for n, c in counts.items()}
    return Signals(batch.position, time, categories | clipped, counts)


def _no_events(data: DataSpec, shape: tuple[int, int]) -> dict[str, Any]:
    zeros = np.zeros(shape, np.int32)
    return {
        "categorical": np.zeros((*shape, data.columns), np.int32),
        "dense": np.zeros((*shape, data.dense), np.float32),
        "time": Time(zeros, zeros, zeros, np.zeros(shape, bool)),
        "position": zeros,
        "segment": zeros,
        "event": zeros - 1,
        "counts": np.zeros((*shape, len(data.counts)), np.int32),
    }
