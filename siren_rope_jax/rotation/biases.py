"""Time and order as biases on the logits of attention: the neighbours of rotations.

A rotation changes how a query meets a key; a bias adds a number that depends on their distance
alone. HSTU's tables (arXiv 2402.17152) and FuXi's power law (FuXi-beta) are here, so that they can
be compared with the rotations, and combined with them. Here both are added to the logits; in FuXi's
own models time and order weigh values in channels of their own, beside attention.
"""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from siren_rope_jax.base.arrays import AnyArray
from siren_rope_jax.base.times import DAY, HOUR
from siren_rope_jax.rotation.time import Time

BiasKind = Literal["position", "time_buckets", "time_power"]

BUCKETS = 129
BUCKET_WIDTH = 0.301  # of ln(seconds)


def elapsed_seconds(query: Time, key: Time) -> Float[Array, "... L L"]:
    """Absolute time from every key to every query, float32: exact to the second within a day."""
    days = query.day[..., :, None] - key.day[..., None, :]
    seconds = query.second[..., :, None] - key.second[..., None, :]
    return jnp.abs(days.astype(jnp.float32) * DAY + seconds.astype(jnp.float32))


def time_bucket(seconds: Float[Array, "..."]) -> Int[Array, "..."]:
    """HSTU's bucket of an elapsed time: floor(ln(max(1, seconds)) / 0.301), 0..128."""
    bucket = jnp.floor(jnp.log(jnp.maximum(seconds, 1.0)) / BUCKET_WIDTH)
    return jnp.clip(bucket, 0, BUCKETS - 1).astype(jnp.int32)


class LogitBias(nn.Module):
    """The sum of the chosen biases of one attention; zero between events without a time.

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
    def __call__(
        self, position: Int[AnyArray, "B L"], query_time: Time, key_time: Time
    ) -> Float[Array, "B #H L L"]:
        """Bias of query i on key j; what it says of a key later than its query is of no use."""
        total = jnp.zeros((*position.shape[:-1], 1, *position.shape[-1:] * 2), jnp.float32)
        small = nn.initializers.normal(0.02)
        if "position" in self.kinds:
            table = self.param("position", small, (2 * self.context_length - 1,))
            difference = position[..., :, None] - position[..., None, :]
            total += table[difference + self.context_length - 1][..., None, :, :]
        if not set(self.kinds) & {"time_buckets", "time_power"}:
            return total
        known = query_time.known[..., :, None] & key_time.known[..., None, :]
        elapsed = elapsed_seconds(query_time, key_time)
        if "time_buckets" in self.kinds:
            table = self.param("time_buckets", small, (BUCKETS,))
            total += jnp.where(known, table[time_bucket(elapsed)], 0.0)[..., None, :, :]
        if "time_power" in self.kinds:
            a = self.param("time_power_scale", nn.initializers.ones, (self.heads, 1, 1))
            b = nn.softplus(self.param("time_power_decay", nn.initializers.zeros, a.shape))
            power = a * jnp.exp(-b * jnp.log1p(elapsed / HOUR)[..., None, :, :])
            total += jnp.where(known[..., None, :, :], power, 0.0)
        return total
