"""Time and order as biases on the logits of attention: the neighbours of rotations.

A rotation changes how a query meets a key; a bias adds a number that depends on their distance, and
in one kind on the query as well. Those of HSTU, FuXi-beta, FuXi-gamma, FuXi-Linear and TiSASRec are
here, so that they can be compared with the rotations and combined with them. All are added to the
logits; in FuXi's own models time and order weigh values in channels of their own, beside attention.

A bias is passed as its ingredients: its parameters, and the positions and times of queries and
keys. An attention computes it for any block of queries and keys, so that a kernel never needs all
of it at once.
"""

import abc
import math
from typing import Literal

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from siren_rope_jax.base.arrays import AnyArray
from siren_rope_jax.base.times import DAY, HOUR
from siren_rope_jax.rotation.sine import sin_cos
from siren_rope_jax.rotation.time import Time

BiasKind = Literal[
    "position",
    "time_buckets",
    "time_power",
    "time_exponential",
    "time_retention",
    "time_relation",
]

BUCKETS = 129
BUCKET_WIDTH = 0.301  # of ln(seconds)
PERIODS = tuple(2.0**n for n in range(10, 26, 3))  # seconds: 17 minutes to 388 days
KNOTS = 13
KNOT_DISTANCE = 1.5  # of ln(1 + seconds): the last knot is at two years


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
class Distance:
    """How far every query is from every key.

    Attributes:
      events: the difference of their positions.
      seconds: the time between them, not negative.
      known: whether both have a time.
      weights: of every query, for what else depends on it; None: nothing does.
    """

    events: Int[AnyArray, "... Q K"]
    seconds: Float[Array, "... Q K"]
    known: Bool[AnyArray, "... Q K"]
    weights: Float[Array, "... Q H n"] | None


class Term(abc.ABC):
    """One kind of bias: a Flax dataclass of its parameters, and a function of the distance."""

    @classmethod
    @abc.abstractmethod
    def made_by(cls, owner: "LogitBias") -> "Term":
        """Makes the parameters, as those of this module."""

    @abc.abstractmethod
    def __call__(self, distance: Distance) -> Float[Array, "... #H Q K"]:
        """The bias; that of time is zeroed later where a query or a key has no time."""


_small = nn.initializers.normal(0.02)


@flax.struct.dataclass
class Position(Term):
    """A number for every difference of positions, from -(L - 1) to L - 1, as in HSTU.

    Positions further apart than the table reaches count as its last entry.
    """

    table: Float[Array, " differences"]

    @classmethod
    def made_by(cls, owner: "LogitBias") -> "Position":
        return cls(owner.param("position", _small, (2 * owner.context_length - 1,)))

    def __call__(self, distance: Distance) -> Float[Array, "... 1 Q K"]:
        last = self.table.shape[0] - 1
        at = jnp.clip(distance.events + last // 2, 0, last)
        return self.table[at][..., None, :, :]


@flax.struct.dataclass
class TimeBuckets(Term):
    """A number for every bucket of the elapsed time (HSTU, arXiv 2402.17152)."""

    table: Float[Array, " buckets"]

    @classmethod
    def made_by(cls, owner: "LogitBias") -> "TimeBuckets":
        return cls(owner.param("time_buckets", _small, (BUCKETS,)))

    def __call__(self, distance: Distance) -> Float[Array, "... 1 Q K"]:
        return self.table[time_bucket(distance.seconds)][..., None, :, :]


@flax.struct.dataclass
class TimePower(Term):
    """a (dt + 1)^(-b) of the elapsed hours dt, b > 0, for every head (FuXi-beta)."""

    scale: Float[Array, "H 1 1"]
    power: Float[Array, "H 1 1"]

    @classmethod
    def made_by(cls, owner: "LogitBias") -> "TimePower":
        scale = owner.per_head("time_power_scale", nn.initializers.ones)
        decay = owner.per_head("time_power_decay", nn.initializers.zeros)
        return cls(scale, nn.softplus(decay))

    def __call__(self, distance: Distance) -> Float[Array, "... H Q K"]:
        hours = distance.seconds[..., None, :, :] / HOUR
        return self.scale * jnp.exp(-self.power * jnp.log1p(hours))


@flax.struct.dataclass
class TimeExponential(Term):
    """a gamma^(dt^b) of the elapsed hours dt, gamma < 1 and b > 0, for every head (FuXi-gamma).

    Source: arXiv 2512.12740. `decay` is -ln(gamma). Two events are a second apart at least.
    """

    scale: Float[Array, "H 1 1"]
    decay: Float[Array, "H 1 1"]
    power: Float[Array, "H 1 1"]

    @classmethod
    def made_by(cls, owner: "LogitBias") -> "TimeExponential":
        scale = owner.per_head("time_exponential_scale", nn.initializers.ones)
        decay = owner.per_head("time_exponential_decay", nn.initializers.zeros)
        power = owner.per_head("time_exponential_power", nn.initializers.zeros)
        return cls(scale, nn.softplus(decay), nn.softplus(power))

    def __call__(self, distance: Distance) -> Float[Array, "... H Q K"]:
        hours = jnp.maximum(distance.seconds, 1.0)[..., None, :, :] / HOUR
        return self.scale * jnp.exp(-self.decay * jnp.exp(self.power * jnp.log(hours)))


@flax.struct.dataclass
class TimeRetention(Term):
    """Damped waves of the elapsed time with periods from minutes to a year (FuXi-Linear).

    The sum over `PERIODS` of gamma^x (a cos x + b sin x), x = 2 pi dt / period, with learned a, b
    and gamma < 1 for every head and period. Source: arXiv 2602.23671, whose periods are the first
    of these; the nearest relative of rotations by ladders of time, from which it differs in that
    queries and keys have no say in it. `decay` is -ln(gamma).
    """

    decay: Float[Array, "H 1 1 n"]
    cosine: Float[Array, "H 1 1 n"]
    sine: Float[Array, "H 1 1 n"]

    @classmethod
    def made_by(cls, owner: "LogitBias") -> "TimeRetention":
        shape = (len(PERIODS),)
        start = nn.initializers.constant(math.log(math.expm1(0.1)))  # of a decay of 0.1
        decay = owner.per_head("time_retention_decay", start, shape)
        cosine = owner.per_head("time_retention_cosine", _small, shape)
        sine = owner.per_head("time_retention_sine", _small, shape)
        return cls(nn.softplus(decay), cosine, sine)

    def __call__(self, distance: Distance) -> Float[Array, "... H Q K"]:
        angle = distance.seconds[..., None] * (math.tau / jnp.asarray(PERIODS, jnp.float32))
        angle = angle[..., None, :, :, :]
        sine, cosine = sin_cos(angle)
        waves = jnp.exp(-self.decay * angle) * (self.cosine * cosine + self.sine * sine)
        return waves.sum(axis=-1)


@flax.struct.dataclass
class TimeRelation(Term):
    """What a query makes of an elapsed time: its product with a vector for that time (TiSASRec).

    The vectors are learned for `KNOTS` times, evenly spaced in ln(1 + seconds), and interpolated in
    between. TiSASRec (Li et al. 2020) has one for every multiple of a user's shortest gap instead,
    and adds such vectors to values too.
    """

    vectors: Float[Array, "H n K"]

    @classmethod
    def made_by(cls, owner: "LogitBias") -> "TimeRelation":
        shape = (owner.heads, KNOTS, owner.head_width)
        return cls(owner.param("time_relation", _small, shape))

    def weights(self, q: Float[Array, "... Q H K"]) -> Float[Array, "... Q H n"]:
        """What each query makes of the time of every knot."""
        return jnp.einsum("...hk,hnk->...hn", q, self.vectors.astype(q.dtype))

    def __call__(self, distance: Distance) -> Float[Array, "... H Q K"]:
        assert distance.weights is not None
        weights = distance.weights.astype(jnp.float32)
        at = jnp.log1p(distance.seconds)[..., None] / KNOT_DISTANCE
        beyond = jnp.clip(at - jnp.arange(KNOTS - 1), 0.0, 1.0)  # of the way from knot to knot
        slopes = jnp.einsum("...qkn,...qhn->...hqk", beyond, jnp.diff(weights, axis=-1))
        return jnp.swapaxes(weights[..., 0], -1, -2)[..., None] + slopes


_TERMS: dict[BiasKind, type[Term]] = {
    "position": Position,
    "time_buckets": TimeBuckets,
    "time_power": TimePower,
    "time_exponential": TimeExponential,
    "time_retention": TimeRetention,
    "time_relation": TimeRelation,
}


@flax.struct.dataclass
class Bias:
    """The parameters of one attention's biases, by kind."""

    terms: dict[BiasKind, Term]

    def weights(self, q: Float[Array, "... Q H K"]) -> Float[Array, "... Q H n"] | None:
        """What the biases must know of the queries, before these are turned; None: nothing."""
        relation = self.terms.get("time_relation")
        return relation.weights(q) if isinstance(relation, TimeRelation) else None

    def __call__(
        self, queries: Events, keys: Events, weights: Float[Array, "... Q H n"] | None = None
    ) -> Float[Array, "... #H Q K"]:
        """The bias of every query on every key; zero by time where one of them has no time.

        Values for keys that are later than their query are computed, but attention ignores them.

        Args:
          queries: events.
          keys: events.
          weights: of the queries, from `weights`.
        """
        distance = Distance(
            queries.position[..., :, None] - keys.position[..., None, :],
            elapsed_seconds(queries.time, keys.time),
            queries.time.known[..., :, None] & keys.time.known[..., None, :],
            weights,
        )
        total = jnp.zeros(distance.events[..., None, :, :].shape, jnp.float32)
        for kind, term in self.terms.items():
            bias = term(distance)
            if kind != "position":
                bias = jnp.where(distance.known[..., None, :, :], bias, 0.0)
            total += bias
        return total


class LogitBias(nn.Module):
    """Owns the parameters of one attention's biases.

    Attributes:
      kinds: which ones, each at most once.
      heads: H.
      context_length: L.
      head_width: components of a query, K; only `time_relation` needs it.
    """

    kinds: tuple[BiasKind, ...]
    heads: int
    context_length: int
    head_width: int = 0

    @nn.compact
    def __call__(self) -> Bias:
        """The parameters, ready to be applied."""
        return Bias({kind: _TERMS[kind].made_by(self) for kind in self.kinds})

    def per_head(
        self, name: str, init: nn.initializers.Initializer, shape: tuple[int, ...] = ()
    ) -> Float[Array, "H 1 1 ..."]:
        """A parameter for every head, ready to meet [H, Q, K, ...]."""
        return self.param(name, init, (self.heads, 1, 1, *shape))


def elapsed_seconds(query: Time, key: Time) -> Float[Array, "... Q K"]:
    """Absolute time from every key to every query, float32: exact to the second within a day."""
    days = query.day[..., :, None] - key.day[..., None, :]
    seconds = query.second[..., :, None] - key.second[..., None, :]
    return jnp.abs(days.astype(jnp.float32) * DAY + seconds.astype(jnp.float32))


def time_bucket(seconds: Float[Array, "..."]) -> Int[Array, "..."]:
    """HSTU's bucket of an elapsed time: floor(ln(max(1, seconds)) / 0.301), 0..128."""
    bucket = jnp.floor(jnp.log(jnp.maximum(seconds, 1.0)) / BUCKET_WIDTH)
    return jnp.clip(bucket, 0, BUCKETS - 1).astype(jnp.int32)
