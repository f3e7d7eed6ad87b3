"""Time and order as biases on the logits of attention: the neighbours of rotations.

A rotation changes how a query meets a key; a bias adds a number that depends on their distance
alone. HSTU's tables (arXiv 2402.17152) and FuXi-beta's power law are here, so that they can be
compared with the rotations and combined with them. Both are added to the logits; in FuXi's own
models time and order weigh values in channels of their own, beside attention.

A bias is passed as its ingredients: its parameters, and the positions and times of queries and
keys. An attention computes it for any block of queries and keys, so that a kernel never needs all
of it at once.
"""

from typing import Literal

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from siren_rope_jax.base.arrays import AnyArray
from siren_rope_jax.base.times import DAY, HOUR
from siren_rope_jax.rotation.time import Time

BiasKind = Literal["position", "time_buckets", "time_power"]

BUCKETS = 129
BUCKET_WIDTH = 0.301  # of ln(seconds)


@flax.struct.dataclass
class Events:
    """What an attention knows of its queries or its keys, besides their vectors.

    Attributes:
      segment: int32 [..., L], 1, 2, ... per history; 0 is padding.
      place: int32 [..., L], order within the row or the cache.
      position: int32 [..., L], ordinal within the history.
      time: `Time` of shape [..., L].
    """

    segment: Int[AnyArray, "... L"]
    place: Int[AnyArray, "... L"]
    position: Int[AnyArray, "... L"]
    time: Time

    def __getitem__(self, places: slice) -> "Events":
        """Those at some places of every row."""
        return jax.tree.map(lambda x: x[..., places], self)


@flax.struct.dataclass
class Bias:
    """The parameters of one attention's biases; those that it does not have are None.

    Attributes:
      position: a number for every difference of positions, from -(L - 1) to L - 1.
      time_buckets: one for every bucket of the elapsed time.
      time_power: a and b of a (dt + 1)^(-b) for every head, dt in hours.
    """

    position: Float[Array, " differences"] | None = None
    time_buckets: Float[Array, " buckets"] | None = None
    time_power: tuple[Float[Array, "H 1 1"], Float[Array, "H 1 1"]] | None = None

    def __call__(self, queries: Events, keys: Events) -> Float[Array, "... #H Q K"]:
        """The bias of every query on every key; zero by time where one of them has no time.

        Values for keys that are later than their query are computed, but attention ignores them.
        Positions further apart than the table reaches count as its last entry.
        """
        difference = queries.position[..., :, None] - keys.position[..., None, :]
        total = jnp.zeros(difference[..., None, :, :].shape, jnp.float32)
        if self.position is not None:
            last = self.position.shape[0] - 1
            at = jnp.clip(difference + last // 2, 0, last)
            total += self.position[at][..., None, :, :]
        if self.time_buckets is None and self.time_power is None:
            return total
        known = queries.time.known[..., :, None] & keys.time.known[..., None, :]
        elapsed = elapsed_seconds(queries.time, keys.time)
        if self.time_buckets is not None:
            by_bucket = self.time_buckets[time_bucket(elapsed)]
            total += jnp.where(known, by_bucket, 0.0)[..., None, :, :]
        if self.time_power is not None:
            a, b = self.time_power
            power = a * jnp.exp(-b * jnp.log1p(elapsed / HOUR)[..., None, :, :])
            total += jnp.where(known[..., None, :, :], power, 0.0)
        return total


class LogitBias(nn.Module):
    """Owns the parameters of one attention's biases.

    Attributes:
      kinds: `position`: a learned number for every difference of positions; `time_buckets`: one for
        every bucket of the elapsed time; `time_power`: a (dt + 1)^(-b) of the elapsed hours dt,
        with learned a and b > 0 for every head.
      heads: H.
      context_length: L.
    """

    kinds: tuple[BiasKind, ...]
    heads: int
    context_length: int

    @nn.compact
    def __call__(self) -> Bias:
        """The parameters, ready to be applied."""
        small = nn.initializers.normal(0.02)
        position = buckets = power = None
        if "position" in self.kinds:
            position = self.param("position", small, (2 * self.context_length - 1,))
        if "time_buckets" in self.kinds:
            buckets = self.param("time_buckets", small, (BUCKETS,))
        if "time_power" in self.kinds:
            a = self.param("time_power_scale", nn.initializers.ones, (self.heads, 1, 1))
            decay = self.param("time_power_decay", nn.initializers.zeros, (self.heads, 1, 1))
            power = (a, nn.softplus(decay))
        return Bias(position, buckets, power)


def elapsed_seconds(query: Time, key: Time) -> Float[Array, "... Q K"]:
    """Absolute time from every key to every query, float32: exact to the second within a day."""
    days = query.day[..., :, None] - key.day[..., None, :]
    seconds = query.second[..., :, None] - key.second[..., None, :]
    return jnp.abs(days.astype(jnp.float32) * DAY + seconds.astype(jnp.float32))


def time_bucket(seconds: Float[Array, "..."]) -> Int[Array, "..."]:
    """HSTU's bucket of an elapsed time: floor(ln(max(1, seconds)) / 0.301), 0..128."""
    bucket = jnp.floor(jnp.log(jnp.maximum(seconds, 1.0)) / BUCKET_WIDTH)
    return jnp.clip(bucket, 0, BUCKETS - 1).astype(jnp.int32)
