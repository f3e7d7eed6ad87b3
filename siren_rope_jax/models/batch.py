"""What a model sees: fixed-shape rows of events, several users' histories packed in one row."""

from dataclasses import dataclass

import flax.struct
from jaxtyping import Bool, Float, Int

from siren_rope_jax.base.arrays import AnyArray
from siren_rope_jax.rotation.time import Time, TimeScale


@dataclass(frozen=True)
class Inputs:
    """What a model must know of a data set.

    Attributes:
      categories: number of ids (0 included) of every categorical feature, in the batch's order; the
        item first.
      tasks: names of the binary tasks.
      context_length: L of the rows.
      scale: the data set's `TimeScale`.
    """

    categories: dict[str, int]
    tasks: tuple[str, ...]
    context_length: int
    scale: TimeScale


@flax.struct.dataclass
class Batch:
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
