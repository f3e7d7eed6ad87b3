"""The rotation for a model of one's own."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from siren_rope_jax.base.arrays import AnyArray
from siren_rope_jax.base.config import from_config_dict
from siren_rope_jax.base.errors import UserError, check
from siren_rope_jax.base.times import NO_TIME
from siren_rope_jax.rotation.encoding import TRUNK, AngleEncoding
from siren_rope_jax.rotation.rotate import QueryKeyRotation
from siren_rope_jax.rotation.signals import Signals
from siren_rope_jax.rotation.sources import AngleSource, check_sources
from siren_rope_jax.rotation.time import Time, TimeScale
from siren_rope_jax.rotation.variants import encoding

DEFAULT_SCALE = TimeScale.fit(946_684_800, 2_524_608_000)  # 2000-01-01 to 2050-01-01


class TimeRotary(nn.Module):
    """Rotates the queries and keys of any attention by time, index and other signals (E2, E3).

    Call it once per forward pass, inside a module, and share the result among the layers:

        rotation = TimeRotary("siren_rope", heads=4, head_width=16)(position, time)
        q, k = rotation(q, k)  # [..., L, H, K], dtypes kept; also rotation.query(q), .key(k)

    Attributes:
      sources: the encoding: the name of one of `ENCODINGS`, or angle sources by name.
      heads: H of the attention.
      head_width: K of the attention, even.
      scale: the span of the training times, which defines the long-range feature T~; with the
        default, the years 2000 to 2050, it hardly moves within a log of some months.
      category_sizes: the number of values of every category, and of every other integer signal,
        that a source uses.
    """

    sources: str | Mapping[str, AngleSource | Mapping[str, Any]]
    heads: int
    head_width: int
    scale: TimeScale = DEFAULT_SCALE
    category_sizes: Mapping[str, int] | None = None

    def setup(self) -> None:
        check(self.heads >= 1, "heads", "at least 1")
        even = self.head_width >= 2 and self.head_width % 2 == 0
        check(even, "head_width", "an even number, because rotation turns pairs of components")
        given = encoding(self.sources) if isinstance(self.sources, str) else self.sources
        sources = {
            name: source
            if isinstance(source, AngleSource)
            else from_config_dict(AngleSource, source, f"sources.{name}")
            for name, source in given.items()
        }
        planes, sizes = self.head_width // 2, dict(self.category_sizes or {})
        check_sources(sources, self.heads, planes, sizes, "sources")
        self.encoding = AngleEncoding(sources, self.heads, planes, self.scale, sizes)

    def __call__(
        self,
        position: Int[AnyArray, "..."],
        time: Time | Int[AnyArray, "..."] | int | None = None,
        *,
        query_time: Time | Int[AnyArray, "..."] | int | None = None,
        categories: Mapping[str, Int[AnyArray, "..."]] | None = None,
        counts: Mapping[str, Int[AnyArray, "..."]] | None = None,
    ) -> QueryKeyRotation:
        """The rotation of a batch of events. Arguments broadcast to one shape [..., L].

        Args:
          position: ordinals p_i of the events, ascending.
          time: when they happened: integer Unix seconds (UTC), or a `Time`, which also knows local
            time and absent times and is what to pass through `jit`; None: all times are absent.
          query_time: turns the queries, such as the time of a request; None: `time`.
          categories: ids by name, for sources that use one, from 0 to below the size in
            `category_sizes`, which is not checked.
          counts: other integer signals by name, from 0, for sources that use one.

        Raises:
          UserError: an argument is missing, is not of integers, or does not broadcast.
        """
        of_event = Time.of(np.asarray(NO_TIME) if time is None else time)
        of_query = of_event if query_time is None else Time.of(query_time)
        given = {"position": position, "time": of_event.day, "query_time": of_query.day}
        sources = self.encoding.sources.values()
        used, missing = _used({name for of in sources for name in of.categories}, categories)
        if missing:
            raise UserError("categories", f"{missing[0]!r} is missing")
        counted, missing = _used({name for of in sources for name in of.counts}, counts)
        if missing:
            raise UserError("counts", f"{missing[0]!r} is missing")
        given |= {f"categories.{name}": ids for name, ids in used.items()}
        given |= {f"counts.{name}": numbers for name, numbers in counted.items()}
        shape: tuple[int, ...] = ()
        for name, array in given.items():
            if not jnp.issubdtype(jnp.result_type(array), jnp.integer):
                raise UserError(name, f"must be of integers, not {jnp.result_type(array)}")
            try:
                shape = np.broadcast_shapes(shape, jnp.shape(array))
            except ValueError as error:
                raise UserError(name, f"{jnp.shape(array)} does not fit {shape}") from error

        def signals(at: Time) -> Signals:
            def whole(x: Any) -> Array:
                return jnp.broadcast_to(jnp.asarray(x), shape)

            at = Time(*map(whole, (at.day, at.second, at.offset, at.known)))
            whole_of = partial(jax.tree.map, whole)
            return Signals(whole(position), at, whole_of(used), whole_of(counted))

        request = None if query_time is None else signals(of_query)
        return self.encoding.rotations(signals(of_event), request)[TRUNK]


def _used(
    names: Iterable[str], given: Mapping[str, Any] | None
) -> tuple[dict[str, Any], list[str]]:
    """What is given under these names, and those under which nothing is."""
    given = given or {}
    return {n: given[n] for n in names if n in given}, sorted(n for n in names if n not in given)
