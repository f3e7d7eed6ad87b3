"""Time as integers, exact to the second, up to the moment they become features (E5).

Unix seconds need more bits than float32 has, so a time travels as a pair of int32, day and second
of day (UTC), and becomes a float only after the integer remainder or difference is taken. Phases
are exact to the second and bounded. T~ is affine over the training span and constant outside, where
no network has learned anything and a SIREN diverges.
"""

import math
from collections.abc import Sequence
from typing import Literal

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from siren_rope_jax.base.arrays import AnyArray
from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.times import (
    DAY,
    MAX_TIME,
    MAX_UTC_OFFSET,
    MIN_TIME,
    NO_TIME,
    WEEK,
)
from siren_rope_jax.rotation.sine import sin_cos

TimeFeature = Literal["day", "week", "long_range", "day_fraction", "week_fraction"]


@flax.struct.dataclass
class Time:
    """Instants as days since 1970-01-01 and second of the day (UTC), with their local offset.

    Attributes:
      day: int32 [...], days.
      second: int32 [...], 0..86399, seconds.
      offset: int32 [...], local time minus UTC in seconds; it moves only what follows the clock:
        the phases of day and week, and ladders of local time.
      known: bool [...], False where the time is absent.
    """

    day: Int[AnyArray, "..."]
    second: Int[AnyArray, "..."]
    offset: Int[AnyArray, "..."]
    known: Bool[AnyArray, "..."]

    @classmethod
    def from_seconds(cls, seconds: np.ndarray, offset: np.ndarray | int = 0) -> "Time":
        """From int64 Unix seconds on the host, as numpy arrays.

        Args:
          seconds: `NO_TIME` where a time is absent.
          offset: local time minus UTC, in seconds.

        Raises:
          UserError: a known time outside 1902..2100, an offset of more than 18 hours, or either is
            not an integer.
        """
        seconds = np.asarray(seconds)
        if not np.issubdtype(seconds.dtype, np.integer):
            raise UserError("time", f"must be integer Unix seconds, got {seconds.dtype}")
        seconds = seconds.astype(np.int64)
        known = seconds != NO_TIME
        wrong = known & ((seconds < MIN_TIME) | (seconds >= MAX_TIME))
        if wrong.any():
            value = int(seconds[wrong][0])
            hint = "; are these milliseconds?" if abs(value) > 10**11 else ""
            raise UserError("time", f"{value} is outside 1902-2100 in Unix seconds{hint}")
        day, second = np.divmod(np.where(known, seconds, 0), DAY)
        offset = np.asarray(offset)
        whole = np.issubdtype(offset.dtype, np.integer)
        if not whole or np.abs(offset).max(initial=0) > MAX_UTC_OFFSET:
            raise UserError("offset", f"must be whole seconds, at most {MAX_UTC_OFFSET} either way")
        offset = np.broadcast_to(offset.astype(np.int32), seconds.shape)
        return cls(day.astype(np.int32), second.astype(np.int32), offset, known)

    @classmethod
    def of(cls, time: "Time | AnyArray | int") -> "Time":
        """A `Time` as it is; or integer Unix seconds, UTC.

        Under `jit` seconds are int32, which can neither be checked nor go beyond 2038, nor hold
        `NO_TIME`: make a `Time` on the host and pass that.

        Raises:
          UserError: as `from_seconds`.
        """
        if isinstance(time, cls):
            return time
        if not isinstance(time, jax.core.Tracer):
            return cls.from_seconds(np.asarray(time))
        if not jnp.issubdtype(time.dtype, jnp.integer):
            raise UserError("time", f"must be integer Unix seconds, got {time.dtype}")
        day, second = (x.astype(jnp.int32) for x in jnp.divmod(time, DAY))
        return cls(day, second, jnp.zeros_like(day), jnp.ones(day.shape, bool))

    def or_else(self, seconds: int) -> "Time":
        """The same with these Unix seconds in place of absent times, which stay marked so."""
        day, second = divmod(seconds, DAY)
        known = jnp.asarray(self.known)
        return Time(
            jnp.where(known, self.day, day),
            jnp.where(known, self.second, second),
            self.offset,
            self.known,
        )

    @property
    def local(self) -> "Time":
        """What the local clocks show, as if that were UTC: day and second moved by the offset."""
        second = self.second + self.offset
        return Time(self.day + second // DAY, second % DAY, self.offset * 0, self.known)


@flax.struct.dataclass
class TimeScale:
    """The map of a time to T~: affine to [-1, 1] over the training span, constant outside.

    Fitted to the training events and stored with the model. The paper leaves T~ undefined.

    Attributes:
      origin: Unix seconds at which T~ = 0: the middle of the span.
      half_span: seconds from there to T~ = 1.
    """

    origin: int = flax.struct.field(pytree_node=False)
    half_span: int = flax.struct.field(pytree_node=False)

    @classmethod
    def fit(cls, start: int, end: int) -> "TimeScale":
        """For training times from `start` to `end`, Unix seconds.

        Raises:
          UserError: they are not in this order, or outside 1902..2100.
        """
        if not MIN_TIME <= start <= end < MAX_TIME:
            raise UserError("scale", f"{start} to {end} is not a span of Unix seconds in 1902-2100")
        start, end = int(start), int(end)
        return cls((start + end) // 2, max((end - start + 1) // 2, 1))


def since(time: Time, origin: int, unit: float | int) -> Float[Array, "..."]:
    """Time since `origin` (Unix seconds) in units of `unit` seconds, from integer differences.

    The result is a float32 scalar, exact to the second only within 24 bits. What needs more (the
    phases, ladders without a gate) works on the integers themselves.
    """
    origin_day, origin_second = divmod(origin, DAY)
    days = jnp.asarray(time.day - origin_day, jnp.float32)
    seconds = jnp.asarray(time.second - origin_second, jnp.float32)
    return days * np.float32(DAY / unit) + seconds * np.float32(1 / unit)


def phases(time: Time) -> tuple[Float[AnyArray, "..."], Float[AnyArray, "..."]]:
    """Local Unix time modulo a day and a week, as fractions in [0, 1), float32.

    1970-01-01 was a Thursday, so the phase of the week is 0 on Thursdays at 00:00.
    """
    local = time.local
    second_of_week = local.day % 7 * DAY + local.second
    return local.second.astype(np.float32) / DAY, second_of_week.astype(np.float32) / WEEK


def time_features(
    time: Time, names: Sequence[TimeFeature], scale: TimeScale, dtype: DTypeLike = jnp.float32
) -> Float[Array, "... F"]:
    """(E5): the chosen groups of features, side by side in the order of `names`.

    Args:
      time: instants, [...].
      names: `day`, `week`: (cos, sin) of the local phase; `long_range`: T~; `day_fraction`,
        `week_fraction`: twice the phase minus 1, a raw scalar in [-1, 1).
      scale: defines T~.
      dtype: of the result; the features are computed in float32 and cast last.

    Returns:
      [..., F]; a pair takes two of the F columns, a scalar one. Zero where the time is absent.
    """
    day, week = phases(time)
    columns: list[AnyArray] = []
    for name in names:
        match name:
            case "day" | "week":
                angle = math.tau * (day if name == "day" else week)
                sine, cosine = sin_cos(angle)
                columns += [cosine, sine]
            case "day_fraction" | "week_fraction":
                columns.append(2 * (day if name == "day_fraction" else week) - 1)
            case "long_range":
                columns.append(jnp.clip(since(time, scale.origin, scale.half_span), -1.0, 1.0))
            case _:
                raise UserError("features", f"{name!r} is not a time feature")
    if not columns:
        return jnp.zeros((*time.day.shape, 0), dtype)
    features = jnp.stack(columns, axis=-1) * time.known[..., None]
    return features.astype(dtype)
