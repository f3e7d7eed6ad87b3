"""Rotation angles as a gated sum of angle sources (E2).

An encoding is an ordered mapping of named sources (`sources.py`). Each takes one signal of the
events (index, time, category) through one map (ladder, learned frequencies, network, Time2Vec,
embedding) and adds it, through a gate, to some planes of some heads. Their sum is Theta:

    Theta_j = omega_j f_phi(t(T))_j + lambda p theta_j          (E2)

is the two sources `time = network, gate omega` and `order = ladder, gate lambda`. TO-RoPE, its
splits, RoPE and every ablation are other such mappings; `variants.py` lists them.
"""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from siren_rope_jax.rotation.rotate import QueryKeyRotation, Rotation
from siren_rope_jax.rotation.sources import AngleSource, Signals, SourceAngles
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
    """

    sources: Mapping[str, AngleSource]
    heads: int
    planes: int
    scale: TimeScale
    category_sizes: Mapping[str, int]
    attentions: tuple[str, ...] = (TRUNK,)

    @nn.compact
    def __call__(self, signals: Signals) -> dict[str, Float[Array, "... L #H P"]]:
        """Theta in radians, float32, by attention."""
        time = signals.time.or_else(self.scale.origin)  # no map needs to bear one far away
        signals = dataclasses.replace(signals, time=time)
        angles = {}
        for name, source in self.sources.items():
            start, stop = source.extent(self.planes, "planes")
            of_source = SourceAngles(
                source, stop - start, self.scale, self.category_sizes, name=name
            )
            angles[name] = of_source(signals, self.attentions)
        theta = {}
        for attention in self.attentions:
            theta[attention] = jnp.zeros((*signals.position.shape, 1, self.planes), jnp.float32)
            for name, source in self.sources.items():
                theta[attention] += self._place(source, angles[name][attention])
        return theta

    def rotations(
        self, signals: Signals, request: Signals | None = None
    ) -> dict[str, QueryKeyRotation]:
        """The rotations of queries and keys, by attention.

        Args:
          signals: of the events, which turn the keys.
          request: what turns the queries; None: the events' own signals.
        """
        keys = {name: Rotation.from_angles(theta) for name, theta in self(signals).items()}
        if request is None:
            return {name: QueryKeyRotation(key, key) for name, key in keys.items()}
        queries = {name: Rotation.from_angles(theta) for name, theta in self(request).items()}
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
