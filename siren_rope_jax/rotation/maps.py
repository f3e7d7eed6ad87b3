"""From a signal of an event to angles: the maps, as an experiment's config describes them.

A map is one class: its config, its angles, and whether it uses time. A new one joins `MAPS` and
gets a named variant in `variants.py`.
"""

import abc
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from siren_rope_jax.base.errors import check
from siren_rope_jax.base.times import DAY
from siren_rope_jax.rotation import networks
from siren_rope_jax.rotation.rotate import exact_angle, ladder
from siren_rope_jax.rotation.signals import SIGNALS, Signals
from siren_rope_jax.rotation.time import Time, TimeFeature, TimeScale, since, time_features

EMBEDDING_WIDTH = 8
"""Of the category that joins a network's input."""


@runtime_checkable
class Owner(Protocol):
    """What a map knows of the Flax module that owns its parameters.

    Attributes:
      planes: how many angles are wanted.
      scale: defines T~ and the origin of tau.
      category_sizes: the number of values of every category and of every other integer signal.
      gated: whether a learned factor follows.
    """

    planes: int
    scale: TimeScale
    category_sizes: Mapping[str, int]

    @property
    def gated(self) -> bool: ...

    def param(self, name: str, init_fn: Any, *init_args: Any) -> Any:
        """A parameter of the module."""


class AngleMap(abc.ABC):
    """From one signal of an event to its angles. A config, and a function of the signals.

    `SourceAngles` (`sources.py`) does the rest for every map: the gate, the range of planes, events
    without a time, and the copy that the last attention has of a learned map.

    Attributes:
      learned: whether it has parameters, so that each attention may have a copy of its own.
    """

    learned: ClassVar[bool] = True

    @property
    @abc.abstractmethod
    def uses_time(self) -> bool:
        """Whether the angles depend on the events' times."""

    @abc.abstractmethod
    def angles(self, owner: Owner, signals: Signals) -> Float[Array, "... L P"]:
        """The angles in radians, float32.

        Args:
          owner: the Flax module whose compact method calls this. Modules made here (`networks.py`)
            become its children.
          signals: of the events; an absent time is given as that of `owner.scale.origin`.
        """

    @property
    def categories(self) -> tuple[str, ...]:
        """The categorical features that the angles depend on."""
        return ()

    @property
    def counts(self) -> tuple[str, ...]:
        """The other integer signals that the angles depend on."""
        return ()


@dataclass(frozen=True)
class Ladder(AngleMap):
    """The geometric ladder of fixed frequencies theta_j (E1), over the planes the source acts on.

    Attributes:
      signal: `index` is RoPE; `time` is TO-RoPE's tau = T / unit; `local_time` is the same for the
        event's local clock, for ladders whose periods are those of the clock, such as a day. Or the
        name of another integer signal of the data, such as `column`.
      unit: seconds per step of a time.
      base: of the geometric ladder; one for the index in all compared variants, or tuned for each.
    """

    learned: ClassVar[bool] = False

    signal: str = "index"
    unit: float = float(DAY)
    base: float = 10_000.0

    def __post_init__(self) -> None:
        check(self.unit > 0, "unit", "above 0")
        check(self.base > 0, "base", "above 0")

    @property
    def uses_time(self) -> bool:
        return self.signal in ("time", "local_time")

    @property
    def counts(self) -> tuple[str, ...]:
        return () if self.signal in SIGNALS else (self.signal,)

    def angles(self, owner: Owner, signals: Signals) -> Float[Array, "... L P"]:
        theta = ladder(owner.planes, self.base)
        if self.uses_time:
            time = signals.time.local if self.signal == "local_time" else signals.time
            return _turned(owner, time, theta, self.unit)
        steps = signals.position if self.signal == "index" else signals.counts[self.signal]
        if not owner.gated:
            return exact_angle(jnp.asarray(steps), theta)
        return jnp.asarray(steps)[..., None].astype(jnp.float32) * theta.astype("float32")


@dataclass(frozen=True)
class Clock(AngleMap):
    """Planes that turn with the local clock, a whole number of times in a period.

    Plane j turns 1 + j mod `harmonics` times. One harmonic compares hours smoothly, as the cosine
    of their difference; with more, a query can tell its own hour from the next ones.

    Attributes:
      period: seconds.
      harmonics: how many frequencies there are.
    """

    learned: ClassVar[bool] = False

    period: float = float(DAY)
    harmonics: int = 1

    def __post_init__(self) -> None:
        check(self.period > 0, "period", "above 0")
        check(self.harmonics >= 1, "harmonics", "at least 1")

    @property
    def uses_time(self) -> bool:
        return True

    def angles(self, owner: Owner, signals: Signals) -> Float[Array, "... L P"]:
        turns = 1 + np.arange(owner.planes) % self.harmonics
        return _turned(owner, signals.time.local, turns * math.tau, self.period)


def _turned(
    owner: Owner, time: Time, frequencies: np.ndarray, unit: float
) -> Float[Array, "... P"]:
    """Angles that grow with the time, by these frequencies in a unit of so many seconds."""
    if not owner.gated:
        days = time.day - owner.scale.origin // DAY
        by_day, by_second = frequencies * (DAY / unit), frequencies / unit
        return exact_angle(days, by_day) + exact_angle(time.second, by_second)
    # A learned factor forbids the reduction modulo 2 pi that makes fixed frequencies exact.
    return since(time, owner.scale.origin, unit)[..., None] * frequencies.astype("float32")


@dataclass(frozen=True)
class _OfTime(AngleMap):
    """A map of the time in units of `unit` seconds.

    Attributes:
      unit: seconds per step of the time.
    """

    unit: float = float(DAY)

    def __post_init__(self) -> None:
        check(self.unit > 0, "unit", "above 0")

    @property
    def uses_time(self) -> bool:
        return True


@dataclass(frozen=True)
class LearnedFrequencies(_OfTime):
    """Learned frequencies w_j of the time in units of `unit` seconds: shift-invariant.

    They start as the ladder with `base`.

    Attributes:
      base: of the ladder.
    """

    base: float = 10_000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.base > 0, "base", "above 0")

    def angles(self, owner: Owner, signals: Signals) -> Float[Array, "... L P"]:
        start = ladder(owner.planes, self.base)
        w = owner.param("frequency", lambda _: jnp.asarray(start, jnp.float32))
        return since(signals.time, owner.scale.origin, self.unit)[..., None] * w


@dataclass(frozen=True)
class Time2Vec(_OfTime):
    """Time2Vec as f_phi, of the time in units of `unit` seconds."""

    def angles(self, owner: Owner, signals: Signals) -> Float[Array, "... L P"]:
        tau = since(signals.time, owner.scale.origin, self.unit)
        return networks.Time2Vec(owner.planes)(tau)


@dataclass(frozen=True)
class TimeNetwork:
    """f_phi (E4) of the time features (E5).

    Attributes:
      branches: which networks are summed: SIREN, DNN, or both.
      features: the groups of time features.
      width: units of every hidden layer.
      layers: hidden layers of each branch.
      omega_0: factor inside the sines.
    """

    branches: tuple[Literal["siren", "dnn"], ...] = ("siren", "dnn")
    features: tuple[TimeFeature, ...] = ("day", "week", "long_range")
    width: int = 64
    layers: int = 2
    omega_0: float = 10.0

    def __post_init__(self) -> None:
        check(len(self.branches) > 0, "branches", "at least one of siren, dnn")
        check(self.sees_something, "features", "some, where the network has no other input")
        check(self.width >= 1, "width", "at least 1")
        check(self.layers >= 1, "layers", "at least 1")
        check(self.omega_0 > 0, "omega_0", "above 0")

    @property
    def sees_something(self) -> bool:
        """Whether it has an input at all."""
        return bool(self.features)

    def network(self, x: Float[Array, "... L F"], outputs: int) -> Float[Array, "... L outputs"]:
        """The sum of the branches (E4), as modules of the one whose compact method calls this."""
        width, layers = self.width, self.layers
        f = []
        if "siren" in self.branches:
            f.append(networks.Siren(outputs, width, layers, self.omega_0, name="siren")(x))
        if "dnn" in self.branches:
            f.append(networks.Dnn(outputs, width, layers, name="dnn")(x))
        return sum(f[1:], start=f[0])


@dataclass(frozen=True)
class Network(TimeNetwork, AngleMap):
    """SIREN-RoPE's network f_phi (E4): time features, counts and a category, to angles.

    All of it is zero for an event without a time, if it has time features.

    Attributes:
      counts: names of other integer signals: the input has log(1 + n) of each, scaled so that its
        range in training becomes [-1, 1].
      category: name of a categorical feature whose learned embedding joins the input.
    """

    counts: tuple[str, ...] = ()
    category: str | None = None

    @property
    def sees_something(self) -> bool:
        return bool(self.features or self.counts or self.category)

    @property
    def uses_time(self) -> bool:
        return bool(self.features)

    @property
    def categories(self) -> tuple[str, ...]:
        return () if self.category is None else (self.category,)

    def angles(self, owner: Owner, signals: Signals) -> Float[Array, "... L P"]:
        return self.network(jnp.concatenate(self.inputs(owner, signals), axis=-1), owner.planes)

    def inputs(self, owner: Owner, signals: Signals) -> Sequence[Float[Array, "... L F"]]:
        """The parts of the network's input."""
        parts = []
        if self.features:
            parts.append(time_features(signals.time, self.features, owner.scale))
        for name in self.counts:
            most = max(owner.category_sizes[name] - 1, 1)
            n = jnp.clip(jnp.asarray(signals.counts[name]), 0, most).astype(jnp.float32)
            parts.append((2 * jnp.log1p(n) / math.log1p(most) - 1)[..., None])
        if self.category is not None:
            rows, init = owner.category_sizes[self.category], nn.initializers.uniform(1.0)
            table = nn.Embed(rows, EMBEDDING_WIDTH, embedding_init=init)
            parts.append(table(signals.categories[self.category]))
        return parts


@dataclass(frozen=True)
class Embedding(AngleMap):
    """A learned angle per plane for every value of the categorical feature `category`.

    Attributes:
      category: name of the feature.
    """

    category: str

    @property
    def uses_time(self) -> bool:
        return False

    @property
    def categories(self) -> tuple[str, ...]:
        return (self.category,)

    def angles(self, owner: Owner, signals: Signals) -> Float[Array, "... L P"]:
        shape = (owner.category_sizes[self.category], owner.planes)
        table = owner.param("table", nn.initializers.normal(1.0), shape)
        return table[signals.categories[self.category]]


MAPS = {
    "ladder": Ladder,
    "clock": Clock,
    "linear": LearnedFrequencies,
    "network": Network,
    "time2vec": Time2Vec,
    "embedding": Embedding,
}
"""By the key with which a config chooses one."""
