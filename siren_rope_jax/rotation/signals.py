"""What drives a rotation: the signals of events."""

from collections.abc import Mapping

import flax.struct
from jaxtyping import Int

from siren_rope_jax.base.arrays import AnyArray
from siren_rope_jax.rotation.time import Time

SIGNALS = ("index", "time", "local_time")
"""What every event has, beside the signals that some data bring."""


@flax.struct.dataclass
class Signals:
    """What drives the rotation, per event.

    Attributes:
      position: int32 [..., L], ascending ordinal p_i.
      time: `Time` of shape [..., L].
      categories: name -> int32 [..., L].
      counts: other integers from 0, such as the column of a token: name -> int32 [..., L].
    """

    position: Int[AnyArray, "... L"]
    time: Time
    categories: Mapping[str, Int[AnyArray, "... L"]]
    counts: Mapping[str, Int[AnyArray, "... L"]] = flax.struct.field(default_factory=dict)
