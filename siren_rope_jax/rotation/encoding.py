"""Rotation angles as a gated sum of angle sources (E2).

An encoding is an ordered mapping of named sources (`angle_sources.py`). Each takes one signal of
the events (index, time, category) through one map (ladder, learned frequencies, network, Time2Vec,
embedding) and adds it, through a gate, to some planes of some heads. Their sum is Theta:

    Theta_j = omega_j f_phi(t(T))_j + lambda p theta_j          (E2)

is the two sources `time = network, gate omega` and `order = ladder, gate lambda`. TO-RoPE, its
splits, RoPE and every ablation are other such mappings; `variants.py` lists them.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from siren_rope_jax.base.arrays import AnyArray
from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.times import DAY
from siren_rope_jax.rotation.networks import Dnn, Siren, Time2Vec
from siren_rope_jax.rotation.rotate import QueryKeyRotation, Rotation, exact_angle, ladder
from siren_rope_jax.rotation.sources import (
    AngleSource,
    Embedding,
    Ladder,
    Linear,
    Network,
    Periodic,
)
from siren_rope_jax.rotation.time import Time, TimeScale, since, time_features


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
