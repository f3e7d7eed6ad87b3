"""What a model sees: fixed-shape rows of events, several users' histories packed in one row."""

from dataclasses import dataclass

import flax.struct
import numpy as np
from jaxtyping import Bool, Float, Int

from siren_rope_jax.base.arrays import AnyArray
from siren_rope_jax.rotation.sources import Signals
from siren_rope_jax.rotation.time import Time, TimeScale


@dataclass(frozen=True)
class DataSpec:
    """What a model must know of a data set: enough to build and compile it without any data.

    Attributes:
      categories: number of ids (0 included) of every categorical feature, in the batch's order; the
        item first.
      tasks: names of the binary tasks.
      context_length: L of the rows.
      scale: the data set's `TimeScale`.
      dense, context, actions: numbers of columns of the features of those names in a batch.
    """

    categories: dict[str, int]
    tasks: tuple[str, ...]
    context_length: int
    scale: TimeScale
    dense: int = 0
    context: int = 0
    actions: int = 0

    @property
    def items(self) -> int:
        """Rows of the item's table: the known items, and row 0 for all others."""
        return next(iter(self.categories.values()))


@flax.struct.dataclass
class RankingBatch:
    """A batch of rows of L events each, oldest first within a segment.

    Attributes:
      categorical: ids, 0 = unknown.
      dense: standardised features known before the outcome.
      context: standardised features of the request, for the head.
      actions: what the user did; visible to later events only.
      labels: 0 or 1 per task.
      label_mask: which labels count here: known, and in the evaluated split.
      time: when the event happened (UTC).
      position: ordinal within the segment, ascending from 0.
      segment: 1, 2, ... per packed history; 0 is padding.
      event: index of the event in its log; -1 is padding.
    """

    categorical: Int[AnyArray, "B L F"]
    dense: Float[AnyArray, "B L E"]
    context: Float[AnyArray, "B L R"]
    actions: Float[AnyArray, "B L A"]
    labels: Float[AnyArray, "B L T"]
    label_mask: Bool[AnyArray, "B L T"]
    time: Time
    position: Int[AnyArray, "B L"]
    segment: Int[AnyArray, "B L"]
    event: Int[AnyArray, "B L"]

    @classmethod
    def padding(cls, data: DataSpec, rows: int) -> "RankingBatch":
        """A batch without events, numpy arrays: its shapes and dtypes are those of all batches."""
        shape = (rows, data.context_length)
        return cls(
            categorical=np.zeros((*shape, len(data.categories)), np.int32),
            dense=np.zeros((*shape, data.dense), np.float32),
            context=np.zeros((*shape, data.context), np.float32),
            actions=np.zeros((*shape, data.actions), np.float32),
            labels=np.zeros((*shape, len(data.tasks)), np.float32),
            label_mask=np.zeros((*shape, len(data.tasks)), bool),
            time=_no_time(shape),
            position=np.zeros(shape, np.int32),
            segment=np.zeros(shape, np.int32),
            event=np.full(shape, -1, np.int32),
        )


@flax.struct.dataclass
class NextItemBatch:
    """A batch of rows of L slots each. Slot i holds an event and asks for the item of the next one.

    Attributes:
      categorical: ids of the slot's event, 0 = unknown; the item first.
      dense: standardised features of the slot's event.
      time: when the slot's event happened (UTC).
      request_time: when the next item is asked for: the next event's time.
      target: the next event's item; 0 = unknown.
      position: ordinal within the segment, ascending from 0.
      segment: 1, 2, ... per packed window of a history; 0 is padding.
      history: index in the log of the first event of the slot's user; the same in all windows of
        one history.
      event: index of the next event in its log where it is asked for here; else -1.
    """

    categorical: Int[AnyArray, "B L F"]
    dense: Float[AnyArray, "B L E"]
    time: Time
    request_time: Time
    target: Int[AnyArray, "B L"]
    position: Int[AnyArray, "B L"]
    segment: Int[AnyArray, "B L"]
    history: Int[AnyArray, "B L"]
    event: Int[AnyArray, "B L"]

    @classmethod
    def padding(cls, data: DataSpec, rows: int) -> "NextItemBatch":
        """As in `RankingBatch`."""
        shape = (rows, data.context_length)
        return cls(
            categorical=np.zeros((*shape, len(data.categories)), np.int32),
            dense=np.zeros((*shape, data.dense), np.float32),
            time=_no_time(shape),
            request_time=_no_time(shape),
            target=np.zeros(shape, np.int32),
            position=np.zeros(shape, np.int32),
            segment=np.zeros(shape, np.int32),
            history=np.zeros(shape, np.int32),
            event=np.full(shape, -1, np.int32),
        )


def signals_of(batch: RankingBatch | NextItemBatch, data: DataSpec, time: Time) -> Signals:
    """What drives the rotation of a batch's events, if they are turned by `time`."""
    categories = {name: batch.categorical[..., i] for i, name in enumerate(data.categories)}
    return Signals(batch.position, time, categories)


def _no_time(shape: tuple[int, int]) -> Time:
    zeros = np.zeros(shape, np.int32)
    return Time(zeros, zeros, zeros, np.zeros(shape, bool))
