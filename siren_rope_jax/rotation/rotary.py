"""The rotation for a model of one's own."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
from jaxtyping import Int

from siren_rope_jax.base.arrays import AnyArray
from siren_rope_jax.base.config import from_config_dict
from siren_rope_jax.base.errors import check
from siren_rope_jax.rotation.encoding import TRUNK, AngleEncoding
from siren_rope_jax.rotation.rotate import QueryKeyRotation
from siren_rope_jax.rotation.sources import AngleSource, Signals, check_sources
from siren_rope_jax.rotation.time import Time, TimeScale

DEFAULT_SCALE = TimeScale.fit(946_684_800, 2_524_608_000)  # 2000-01-01 to 2050-01-01


class TimeRotary(nn.Module):
    """Rotates the queries and keys of any attention by time, index and category (E2, E3).

    Call it once per forward pass and share the result among the layers:

        rotation = TimeRotary(encoding("siren_rope"), heads=4, head_width=16)(position, time)
        q, k = rotation(q, k)  # [..., L, H, K], dtypes kept

    Attributes:
      sources: the encoding: its angle sources by name, as `encoding` returns them.
      heads, head_width: H and K of the attention; K is even.
      scale: the span of the training times, which defines the long-range feature T~; the default,
        the years 2000 to 2050, hardly lets it move within a log of some months.
      category_sizes: the number of values of every category that a source uses.
    """

    sources: Mapping[str, AngleSource | Mapping[str, Any]]
    heads: int
    head_width: int
    scale: TimeScale = DEFAULT_SCALE
    category_sizes: Mapping[str, int] | None = None

    def setup(self) -> None:
        check(self.heads >= 1, "heads", "at least 1")
        even = self.head_width >= 2 and self.head_width % 2 == 0
        check(even, "head_width", "an even number, because rotation turns pairs of components")
        sources = {
            name: source
            if isinstance(source, AngleSource)
            else from_config_dict(AngleSource, source, f"sources.{name}")
            for name, source in self.sources.items()
        }
        planes, sizes = self.head_width // 2, dict(self.category_sizes or {})
        check_sources(sources, self.heads, planes, sizes, "sources")
        self.encoding = AngleEncoding(sources, self.heads, planes, self.scale, sizes)

    def __call__(
        self,
        position: Int[AnyArray, "... L"],
        time: Time | Int[AnyArray, "... L"],
        *,
        query_time: Time | Int[AnyArray, "... L"] | None = None,
        categories: Mapping[str, Int[AnyArray, "... L"]] | None = None,
    ) -> QueryKeyRotation:
        """The rotation of a batch of events.

        Args:
          position: their ordinals p_i, ascending.
          time: when they happened: integer Unix seconds (UTC), or a `Time`, which also knows local
            time and absent times.
          query_time: turns the queries, such as the time of a request; None: `time`.
          categories: ids by name, for sources that use one.

        Raises:
          UserError: the sources do not fit the sizes, or a time is not an integer.
        """
        categories = categories or {}
        signals = Signals(position, Time.of(time), categories)
        request = None
        if query_time is not None:
            request = Signals(position, Time.of(query_time), categories)
        return self.encoding.rotations(signals, request)[TRUNK]
