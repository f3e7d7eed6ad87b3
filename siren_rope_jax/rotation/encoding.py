"""Rotation angles as a gated sum of angle sources (E2).

An encoding is an ordered mapping of named sources (`sources.py`). Each takes one signal of the
events (index, time, category, count) through one map (ladder, clock, learned frequencies, network,
Time2Vec, embedding) and adds it, through a gate, to some planes of some heads. Their sum is Theta:

    Theta_j = omega_j f_phi(t(T))_j + lambda p theta_j          (E2)

is the two sources `time = network, gate omega` and `order = ladder, gate lambda`. TO-RoPE, its
splits, RoPE and every ablation are other such mappings; `variants.py` lists them.

Sources with a weight do not join that sum. Each turns a copy of a vector by its own angle, on top
of Theta, and the copies are added (RoTE, arXiv 2604.13389), which no sum of angles can express:

    x' = sum_s w_s R(Theta + Theta_s) x
"""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.rotation.rotate import QueryKeyRotation, Rotation, SpaceRotation
from siren_rope_jax.rotation.signals import Signals
from siren_rope_jax.rotation.sources import AngleSource, SourceAngles
from siren_rope_jax.rotation.time import TimeScale

TRUNK, LAST = "trunk", "last"
"""The attentions of a model's trunk, which share their angles, and one that may follow them."""


class AngleEncoding(nn.Module):
    """The gated sum of all sources, for every attention of a model at once.

    Attributes:
      sources: by name, which is also the name of their parameters.
      heads, planes: of every attention.
      scale: defines T~ and the origin of tau.
      category_sizes: the number of values of every category.
      attentions: the names of those that have angles of their own: learned maps have a copy for
        each, while gates are shared.
      in_space: whether the angles turn blocks of three components (`SpaceRotation`), not planes.
    """

    sources: Mapping[str, AngleSource]
    heads: int
    planes: int
    scale: TimeScale
    category_sizes: Mapping[str, int]
    attentions: tuple[str, ...] = (TRUNK,)
    in_space: bool = False

    def __call__(self, signals: Signals) -> dict[str, Float[Array, "... L #H P"]]:
        """Theta in radians, float32, by attention.

        Raises:
          UserError: sources have weights, and a sum of turned vectors has no angles.
        """
        if weighted := self.weights:
            problem = f"{', '.join(weighted)}: a sum of turned vectors has no angles"
            raise UserError("encoding", problem)
        return {name: theta for name, (theta, _) in self._angles(signals).items()}

    @property
    def weights(self) -> dict[str, float]:
        """Those of the sources that have one."""
        return {
            name: source.weight
            for name, source in self.sources.items()
            if source.weight is not None
        }

    @nn.compact
    def _angles(self, signals: Signals) -> dict[str, tuple[Array, dict[str, Array]]]:
        """Theta, and the angles of sources with a weight, by attention; [... L #H P], float32."""
        time = signals.time.or_else(self.scale.origin)  # no map needs to bear one far away
        signals = dataclasses.replace(signals, time=time)
        angles = {}
        for name, source in self.sources.items():
            start, stop = source.extent(self.planes, "planes")
            of_source = SourceAngles(
                source, stop - start, self.scale, self.category_sizes, name=name
            )
            angles[name] = of_source(signals, self.attentions)
        of_attentions = {}
        for attention in self.attentions:
            theta = jnp.zeros((*signals.position.shape, 1, self.planes), jnp.float32)
            placed = {
                name: self._place(source, angles[name][attention])
                for name, source in self.sources.items()
            }
            weighted = {name: placed.pop(name) for name in self.weights}
            of_attentions[attention] = sum(placed.values(), start=theta), weighted
        return of_attentions

    def _rotations(self, signals: Signals) -> dict[str, Rotation]:
        """What the signals turn vectors by, by attention."""
        rotations, weights = {}, [*self.weights.values()]
        kind = SpaceRotation if self.in_space else Rotation
        for attention, (theta, weighted) in self._angles(signals).items():
            if weighted:
                turned = [kind.from_angles(theta + angle) for angle in weighted.values()]
                rotations[attention] = kind.sum_of(turned, weights)
            else:
                rotations[attention] = kind.from_angles(theta)
        return rotations

    def rotations(
        self, signals: Signals, request: Signals | None = None
    ) -> dict[str, QueryKeyRotation]:
        """The rotations of queries and keys, by attention.

        Args:
          signals: of the events, which turn the keys.
          request: what turns the queries; None: the events' own signals.
        """
        keys = self._rotations(signals)
        if request is None:
            return {name: QueryKeyRotation(key, key) for name, key in keys.items()}
        queries = self._rotations(request)
        return {name: QueryKeyRotation(queries[name], key) for name, key in keys.items()}

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
