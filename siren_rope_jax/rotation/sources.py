"""What an encoding is made of: angle sources, as an experiment's config describes them.

A source takes one signal (index, time, category, or another integer such as the column of a token)
through one map (`maps.py`), weighs the result with a gate, and acts on some planes of some heads.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from siren_rope_jax.base.config import one_of
from siren_rope_jax.base.errors import UserError, check, suggestion
from siren_rope_jax.rotation.maps import MAPS, AngleMap, Ladder
from siren_rope_jax.rotation.signals import SIGNALS, Signals
from siren_rope_jax.rotation.time import TimeScale

_COPIES = {"last": "_final"}
"""Names of a map's copies, else _ATTENTION. Flax draws initial values by name: this keeps them."""


@dataclass(frozen=True)
class Gate:
    """The learned factor of a source: omega (one per plane) or lambda (one scalar) of (E2).

    Attributes:
      init: its value before training.
      per_plane: whether each plane has its own.
      category: name of a categorical feature that scales it: by 1 plus a learned number for every
        value and plane, which begins at 0. None: it is the same for all events.
    """

    init: float = 1.0
    per_plane: bool = False
    category: str | None = None

    @property
    def categories(self) -> tuple[str, ...]:
        """The categorical features that it depends on."""
        return () if self.category is None else (self.category,)


CATEGORY_GATE = "category_gate"
"""The parameter by which a category scales a gate."""


@dataclass(frozen=True)
class AngleSource:
    """One term of the sum: a map, its gate, and where it acts.

    Attributes:
      map: how a signal becomes angles.
      gate: a learned factor on the angles; None: they are taken as they are.
      planes: the range of planes it acts on, as fractions of all; split-by-dim of TO-RoPE is two
        sources on complementary ranges.
      heads: the range of heads, in the same way, for split-by-head.
      weight: None: the angles join the sum of all others (E2). A number: they turn a copy of the
        vectors, on top of that sum, and the copies of such sources are added with their weights.
    """

    map: AngleMap = field(metadata=one_of(**MAPS))
    gate: Gate | None = None
    planes: tuple[float, ...] = (0.0, 1.0)
    heads: tuple[float, ...] = (0.0, 1.0)
    weight: float | None = None

    def __post_init__(self) -> None:
        for axis in ("planes", "heads"):
            ends = getattr(self, axis)
            in_order = len(ends) == 2 and 0 <= ends[0] < ends[1] <= 1
            check(in_order, axis, "two ends in 0..1, the lower one first")

    @property
    def uses_time(self) -> bool:
        """Whether its angles depend on the events' times."""
        return self.map.uses_time

    @property
    def categories(self) -> tuple[str, ...]:
        """The categorical features that its angles depend on."""
        return (*self.map.categories, *(self.gate.categories if self.gate else ()))

    @property
    def counts(self) -> tuple[str, ...]:
        """The other integer signals that its angles depend on."""
        return self.map.counts

    def extent(self, count: int, axis: Literal["planes", "heads"]) -> tuple[int, int]:
        """The half-open range of planes or heads it acts on, of `count`.

        Raises:
          UserError: the range is empty.
        """
        low, high = getattr(self, axis)
        start, stop = round(low * count), round(high * count)
        if not 0 <= start < stop <= count:
            raise UserError(axis, f"({low}, {high}) selects none of {count}")
        return start, stop


class SourceAngles(nn.Module):
    """The gated angles of one source, on the planes it acts on; owns the parameters of its map.

    Attributes:
      source: its config.
      planes: how many planes it acts on, each of which wants an angle.
      scale: defines T~ and the origin of tau.
      category_sizes: the number of values of every category and of every other integer signal.
    """

    source: AngleSource
    planes: int
    scale: TimeScale
    category_sizes: Mapping[str, int]

    @property
    def gated(self) -> bool:
        """Whether a learned factor follows."""
        return self.source.gate is not None

    @nn.compact
    def __call__(
        self, signals: Signals, attentions: Sequence[str]
    ) -> dict[str, Float[Array, "... L 1 planes"]]:
        """The angles in radians, float32; each attention after the first has a copy of the map."""
        source, (first, *others) = self.source, attentions
        angle = source.map.angles(self, signals)
        if angle.shape[-1:] != (self.planes,) or angle.dtype != jnp.float32:
            raise ValueError(f"{self.name}: {angle.dtype} {angle.shape} for {self.planes} planes")
        if source.uses_time:  # an event without a time gets no rotation from this source
            angle = jnp.where(signals.time.known[..., None], angle, 0.0)
        angle = jnp.broadcast_to(angle, (*signals.position.shape, self.planes))
        angles = {first: angle[..., None, :]}  # the same for all heads
        for name in others:
            angles[name] = angles[first]
            if source.map.learned:
                ungated = dataclasses.replace(source, gate=None)
                copy = SourceAngles(
                    ungated,
                    self.planes,
                    self.scale,
                    self.category_sizes,
                    name=_COPIES.get(name, f"_{name}"),
                )
                angles |= copy(signals, (name,))
        if source.gate is not None:
            shape = (self.planes,) if source.gate.per_plane else ()
            gate = self.param("gate", nn.initializers.constant(source.gate.init), shape)
            if (category := source.gate.category) is not None:
                rows = self.category_sizes[category]
                zeros = nn.initializers.zeros
                of_category = self.param(CATEGORY_GATE, zeros, (rows, self.planes))
                gate = gate * (1 + of_category[signals.categories[category]])[..., None, :]
            angles = {name: angle * gate for name, angle in angles.items()}
        return angles


def check_sources(
    sources: Mapping[str, AngleSource],
    heads: int,
    planes: int,
    category_sizes: Mapping[str, int] | None,
    where: str,
) -> None:
    """Refuses sources that cannot turn heads of so many planes.

    Args:
      sources: by name.
      heads: of the attention.
      planes: of a head.
      category_sizes: of the categories and other integer signals there are; None: they are not
        known yet.
      where: what the sources are called in messages.

    Raises:
      UserError: about a key below `where`.
    """
    for name, source in sources.items():
        try:
            source.extent(planes, "planes")
            source.extent(heads, "heads")
            if category_sizes is not None:
                for category in source.map.categories:
                    _check_known("category", category, category_sizes)
                for category in source.gate.categories if source.gate else ():
                    _check_known("gate.category", category, category_sizes)
                for count in source.counts:
                    key = "signal" if isinstance(source.map, Ladder) else "counts"
                    _check_known(key, count, category_sizes, SIGNALS)
        except UserError as error:
            raise error.below(f"{where}.{name}") from error


def _check_known(
    key: str, name: str, sizes: Mapping[str, int], others: tuple[str, ...] = ()
) -> None:
    if name not in sizes:
        known = suggestion(name, [*others, *sizes]) or "; there are none"
        raise UserError(key, f"no size is known of a {key.split('.')[-1]} {name!r}{known}")
