"""What a model sees: fixed-shape rows of events, several users' histories packed in one row."""

import flax.struct
from jaxtyping import Bool, Float, Int

from siren_rope_jax.time_features import AnyArray, Time


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
