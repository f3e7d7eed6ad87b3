"""Rotation angles as a gated sum of angle sources (E2).

An encoding is an ordered mapping of named `AngleSource`s. Each takes one signal of the events
(index, time, category) through one map (ladder, learned frequencies, network, Time2Vec, embedding)
and adds it, through a gate, to some planes of some heads. Their sum is Theta:

    Theta_j = omega_j f_phi(t(T))_j + lambda p theta_j          (E2)

is the two sources `time = network, gate omega` and `order = ladder, gate lambda`. TO-RoPE, its
splits, RoPE and every ablation are other such mappings; `variants.py` lists them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from siren_rope_jax.errors import UserError, check
from siren_rope_jax.rotary import QueryKeyRotation, Rotation, exact_angle, ladder
from siren_rope_jax.siren import Dnn, Siren, Time2Vec
from siren_rope_jax.time_features import (
    AnyArray,
    Time,
    TimeFeature,
    TimeScale,
    since,
    time_features,
)
from siren_rope_jax.times import DAY


@dataclass(frozen=True)
class Ladder:
    """The geometric ladder of fixed frequencies theta_j, over the planes the source acts on.

    Attributes:
      signal: `index` is RoPE; `time` is TO-RoPE's tau = T / unit; `local_time` the same of the
        event's local clock, for ladders whose periods are the clock's own, such as a day.
      unit: seconds per step of a time.
      base: the ladder's base; one for all variants of an experiment, or the base is a confound.
    """

    signal: Literal["index", "time", "local_time"] = "index"
    unit: float = float(DAY)
    base: float = 10_000.0

    def __post_init__(self) -> None:
        _check_positive("ladder", unit=self.unit, base=self.base)


@dataclass(frozen=True)
class Linear:
    """Learned frequencies w_j of the time in units of `unit` seconds: shift-invariant.

    They start as the ladder with `base`.
    """

    unit: float = float(DAY)
    base: float = 10_000.0

    def __post_init__(self) -> None:
        _check_positive("linear", unit=self.unit, base=self.base)


@dataclass(frozen=True)
class Network:
    """f_phi of the time features, and if wanted of a category and the order of the event.

    Where it has time features, all of it is zero for an event without a time.

    Attributes:
      branches: which networks are summed: SIREN, DNN, or both (E4).
      features: the groups of time features (E5).
      category: name of a categorical feature whose learned embedding joins the input.
      order: adds (C - 1 - p) / C to the input, C the length of a row: the demo's reverse order,
        which is 0 at the newest event of a full row only.
      width: units of every hidden layer.
      siren_layers, dnn_layers: hidden layers of either branch.
      omega_0: factor inside the sines.
      angles: number of distinct angles, each repeated in consecutive planes; None: one per plane.
    """

    branches: tuple[Literal["siren", "dnn"], ...] = ("siren", "dnn")
    features: tuple[TimeFeature, ...] = ("day", "week", "long_range")
    category: str | None = None
    order: bool = False
    width: int = 64
    siren_layers: int = 2
    dnn_layers: int = 2
    omega_0: float = 10.0
    angles: int | None = None

    def __post_init__(self) -> None:
        given = {"angles": self.angles} if self.angles is not None else {}
        _check_positive("network", width=self.width, omega_0=self.omega_0, **given)
        for name in ("siren_layers", "dnn_layers"):
            check(getattr(self, name) >= 1, f"model.encoding.*.network.{name}", "at least 1")


@dataclass(frozen=True)
class Periodic:
    """Time2Vec as f_phi, of the time in units of `unit` seconds."""

    unit: float = float(DAY)

    def __post_init__(self) -> None:
        _check_positive("time2vec", unit=self.unit)


@dataclass(frozen=True)
class Embedding:
    """A learned angle per plane for every value of the categorical feature `category`."""

    category: str


@dataclass(frozen=True)
class Gate:
    """The learned factor of a source: omega (per plane) or lambda (one scalar) of (E2).

    Attributes:
      init: its value before training.
      per_plane, per_layer, per_head: whether each has its own; the last attention of late fusion
        counts as a layer.
    """

    init: float = 1.0
    per_plane: bool = False
    per_layer: bool = False
    per_head: bool = False


@dataclass(frozen=True)
class AngleSource:
    """One term of the sum: exactly one map, its gate, and where it acts.

    Attributes:
      ladder, linear, network, time2vec, embedding: the map; exactly one is given.
      gate: None: the map's angles as they are.
      planes, heads: the range the source acts on, as fractions of all; split-by-dim and
        split-by-head of TO-RoPE are two sources on complementary ranges.
    """

    ladder: Ladder | None = None
    linear: Linear | None = None
    network: Network | None = None
    time2vec: Periodic | None = None
    embedding: Embedding | None = None
    gate: Gate | None = None
    planes: tuple[float, ...] = (0.0, 1.0)
    heads: tuple[float, ...] = (0.0, 1.0)

    def __post_init__(self) -> None:
        for axis in ("planes", "heads"):
            ends = getattr(self, axis)
            in_order = len(ends) == 2 and 0 <= ends[0] < ends[1] <= 1
            check(in_order, f"model.encoding.*.{axis}", "two ends in 0..1, the lower one first")

    @property
    def map(self) -> Ladder | Linear | Network | Periodic | Embedding:
        """The one map that is given."""
        maps = [self.ladder, self.linear, self.network, self.time2vec, self.embedding]
        given = [m for m in maps if m is not None]
        if len(given) != 1:
            raise UserError(
                "an angle source needs exactly one of ladder, linear, network, time2vec, "
                f"embedding; got {len(given)}"
            )
        return given[0]

    @property
    def uses_time(self) -> bool:
        """Whether its angles depend on the events' times."""
        match self.map:
            case Ladder(signal=signal):
                return signal != "index"
            case Network(features=features):
                return bool(features)
            case Embedding():
                return False
            case _:
                return True

    def extent(self, count: int, axis: Literal["planes", "heads"]) -> tuple[int, int]:
        """The half-open range of planes or heads it acts on, of `count`."""
        low, high = getattr(self, axis)
        start, stop = round(low * count), round(high * count)
        if not 0 <= start < stop <= count:
            raise UserError(f"angle source: {axis} ({low}, {high}) selects none of {count}")
        return start, stop


def _check_positive(of: str, **values: int | float) -> None:
    for name, value in values.items():
        check(value > 0, f"model.encoding.*.{of}.{name}", "above 0")


def check_encoding(sources: Mapping[str, AngleSource], width: int, heads: int) -> None:
    """Refuses an encoding that cannot turn the heads of a model of this width.

    Raises:
      UserError: naming the keys of the model's config.
    """
    if width % heads or width // heads % 2:
        raise UserError(
            f"model.width {width} over model.heads {heads}: the head width must be a whole, even "
            "number, because rotation turns pairs of components"
        )
    for name, source in sources.items():
        _ = source.map, source.extent(width // heads // 2, "planes")
        source.extent(heads, "heads")
        if name.endswith(("_final", "_gate")):
            raise UserError(f"model.encoding.{name}: the endings _final and _gate are taken")


@flax.struct.dataclass
class Signals:
    """What drives the rotation, per event.

    Attributes:
      position: int32 [..., L], ascending ordinal p_i.
      time: `Time` of shape [..., L].
      categories: name -> int32 [..., L].
    """

    position: Int[AnyArray, "... L"]
    time: Time
    categories: Mapping[str, Int[AnyArray, "... L"]]


class SourceAngles(nn.Module):
    """The ungated angles of one source, on the planes it acts on.

    Attributes:
      source: the map.
      planes: how many planes it acts on.
      scale: defines T~ and the origin of tau.
      category_sizes: number of values of every categorical feature.
      context_length: C of the normalised order.
    """

    source: AngleSource
    planes: int
    scale: TimeScale
    category_sizes: Mapping[str, int]
    context_length: int

    @nn.compact
    def __call__(self, signals: Signals) -> Float[Array, "... L planes"]:
        """The angles in radians, float32."""
        time, position = signals.time, signals.position
        match self.source.map:
            case Ladder() as m:
                angle = self._ladder(m, signals)
            case Linear() as m:
                start = ladder(self.planes, m.base)
                w = self.param("frequency", lambda _: jnp.asarray(start, jnp.float32))
                angle = since(time, self.scale.origin, m.unit)[..., None] * w
            case Network() as m:
                angle = self._network(m, signals)
            case Periodic() as m:
                angle = Time2Vec(self.planes)(since(time, self.scale.origin, m.unit))
            case Embedding(category):
                init = nn.initializers.normal(1.0)
                rows = self._category_size(category)
                table = self.param("table", init, (rows, self.planes))
                angle = table[signals.categories[category]]
        if self.source.uses_time:  # an absent time turns nothing; the other sources stay
            angle = jnp.where(time.known[..., None], angle, 0.0)
        return jnp.broadcast_to(angle, (*position.shape, self.planes))

    def _ladder(self, m: Ladder, signals: Signals) -> Array:
        theta = ladder(self.planes, m.base)
        if m.signal == "index":
            if self.source.gate is None:
                return exact_angle(signals.position, theta)
            return signals.position[..., None].astype(jnp.float32) * theta.astype("float32")
        time = signals.time.local if m.signal == "local_time" else signals.time
        if self.source.gate is None:
            days = time.day - self.scale.origin // DAY
            by_day, by_second = theta * (DAY / m.unit), theta / m.unit
            return exact_angle(days, by_day) + exact_angle(time.second, by_second)
        # A learned factor forbids the reduction modulo 2 pi that makes the fixed ladder exact.
        return since(time, self.scale.origin, m.unit)[..., None] * theta.astype("float32")

    def _network(self, m: Network, signals: Signals) -> Array:
        inputs = []
        if m.order:
            reverse = self.context_length - 1 - signals.position
            inputs.append(reverse[..., None].astype(jnp.float32) / self.context_length)
        if m.features:
            inputs.append(time_features(signals.time, m.features, self.scale))
        if m.category is not None:
            rows = self._category_size(m.category)
            init = nn.initializers.uniform(1.0)
            inputs.append(nn.Embed(rows, 8, embedding_init=init)(signals.categories[m.category]))
        if not inputs or not m.branches:
            raise UserError("angle network: needs at least one input and one branch")
        x = jnp.concatenate(inputs, axis=-1)
        angles = self.planes if m.angles is None else m.angles
        if self.planes % angles:
            raise UserError(f"angle network: {self.planes} planes are no multiple of {angles}")
        f: Any = 0.0
        if "siren" in m.branches:
            f = f + Siren(angles, m.width, m.siren_layers, m.omega_0, name="siren")(x)
        if "dnn" in m.branches:
            f = f + Dnn(angles, m.width, m.dnn_layers, name="dnn")(x)
        return jnp.repeat(f, self.planes // angles, axis=-1)

    def _category_size(self, name: str) -> int:
        if name not in self.category_sizes:
            known = ", ".join(self.category_sizes) or "none"
            raise UserError(f"angle source: no categorical feature {name!r}; the data has: {known}")
        return self.category_sizes[name]


class AngleEncoding(nn.Module):
    """The gated sum of all sources, for every attention of a model at once.

    Attributes:
      sources: by name, which is also the name of its parameters.
      heads, planes: of every attention.
      layers: number of attentions in the trunk.
      final: whether one more attention (late fusion) follows them.
      final_network: gives that one its own maps (its own f_phi) instead of the trunk's.
      scale, category_sizes, context_length: as in `SourceAngles`.
    """

    sources: Mapping[str, AngleSource]
    heads: int
    planes: int
    layers: int
    scale: TimeScale
    category_sizes: Mapping[str, int]
    context_length: int
    final: bool = False
    final_network: bool = True

    @nn.compact
    def __call__(self, signals: Signals) -> list[Float[Array, "... L #H P"]]:
        """Theta in radians, float32, per attention; those that are equal are the same array."""
        attentions = self.layers + self.final
        own_maps = self.final and self.final_network
        trunk, final, gates = {}, {}, {}
        for name, source in self.sources.items():
            start, stop = source.extent(self.planes, "planes")
            shared = (self.scale, self.category_sizes, self.context_length)
            trunk[name] = SourceAngles(source, stop - start, *shared, name=name)(signals)
            final[name] = trunk[name]
            if own_maps and not isinstance(source.map, Ladder):
                own = SourceAngles(source, stop - start, *shared, name=f"{name}_final")
                final[name] = own(signals)
            if source.gate is not None:
                shape = (
                    attentions if source.gate.per_layer else 1,
                    self.heads if source.gate.per_head else 1,
                    stop - start if source.gate.per_plane else 1,
                )
                init = nn.initializers.constant(source.gate.init)
                gates[name] = self.param(f"{name}_gate", init, shape)

        def theta(layer: int, maps: Mapping[str, Array]) -> Array:
            total = jnp.zeros((*signals.position.shape, 1, self.planes), jnp.float32)
            for name, source in self.sources.items():
                angle = maps[name][..., None, :]  # the same for all heads
                if name in gates:
                    angle = angle * gates[name][layer if len(gates[name]) > 1 else 0]
                total = total + self._place(source, angle)
            return total

        if any(len(gate) > 1 for gate in gates.values()):
            angles = [theta(layer, trunk) for layer in range(self.layers)]
        else:
            angles = [theta(0, trunk)] * self.layers
        if self.final:
            same = all(final[name] is trunk[name] for name in trunk)
            same = same and all(other is angles[0] for other in angles)
            angles.append(angles[0] if same else theta(self.layers, final))
        return angles

    def rotations(self, signals: Signals, request: Signals | None = None) -> list[QueryKeyRotation]:
        """cos and sin of the angles, per attention; equal ones are computed once.

        Args:
          signals: of the events, which turn the keys.
          request: what turns the queries; None: the events' own signals.
        """
        made: dict[int, Rotation] = {}

        def rotation(theta: Array) -> Rotation:
            if id(theta) not in made:
                made[id(theta)] = Rotation.from_angles(theta)
            return made[id(theta)]

        keys = self(signals)
        queries = keys if request is None else self(request)
        pairs = zip(queries, keys, strict=True)
        return [QueryKeyRotation(rotation(query), rotation(key)) for query, key in pairs]

    def _place(self, source: AngleSource, angle: Array) -> Float[Array, "... L #H P"]:
        """Puts a source's angles on its planes and heads; zero on the others."""
        start, stop = source.extent(self.planes, "planes")
        if (start, stop) != (0, self.planes):
            angle = jnp.pad(angle, [(0, 0)] * (angle.ndim - 1) + [(start, self.planes - stop)])
        top, bottom = source.extent(self.heads, "heads")
        if (top, bottom) != (0, self.heads):
            head = jnp.arange(self.heads)[:, None]
            angle = jnp.where((head >= top) & (head < bottom), angle, 0.0)
        return angle
