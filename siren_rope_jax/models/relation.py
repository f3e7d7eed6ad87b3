"""What an attention knows of its events besides q, k and v: who sees whom, and how far apart.

Nothing here is of size [L, L]. Whoever computes an attention asks for the mask or the bias of a
block of queries and keys; only the dense kernel asks for all of it at once.
"""

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from siren_rope_jax.base.arrays import AnyArray
from siren_rope_jax.rotation.biases import Bias, Distances
from siren_rope_jax.rotation.rotate import QueryKeyRotation

WHOLE = slice(None)


@flax.struct.dataclass
class Visibility:
    """Causal attention within segments: a query sees earlier keys of its own segment.

    Attributes:
      segment: int32 [..., L]; segments are contiguous, and 0 is padding, which nobody sees.
      strict: whether a query does not see the key of its own event.
    """

    segment: Int[AnyArray, "... L"]
    strict: bool = flax.struct.field(pytree_node=False, default=False)

    def mask(self, queries: slice = WHOLE, keys: slice = WHOLE) -> Bool[Array, "... 1 Q K"]:
        """True where a query of the block may see a key of the block."""
        segment, place = jnp.asarray(self.segment), jnp.arange(self.segment.shape[-1])
        q, k = segment[..., queries, None], segment[..., None, keys]
        earlier = place[queries, None] - place[None, keys] >= int(self.strict)
        return ((q == k) & (k > 0) & earlier)[..., None, :, :]

    def sees_any(self) -> Bool[Array, "... L"]:
        """Whether a query sees any key; under strict causality a segment's first event does not."""
        segment = jnp.asarray(self.segment)
        if not self.strict:
            return segment > 0
        before = jnp.pad(segment, [(0, 0)] * (segment.ndim - 1) + [(1, 0)])[..., :-1]
        return (segment == before) & (segment > 0)


@flax.struct.dataclass
class Relation:
    """All that one attention knows of its events besides q, k and v.

    Attributes:
      rotation: what turns queries and keys, which happens before a kernel gets them.
      visibility: which keys a query sees.
      distances: what a bias is computed from.
      bias: its parameters; None: there is none.
    """

    rotation: QueryKeyRotation
    visibility: Visibility
    distances: Distances
    bias: Bias | None = None

    def bias_of(
        self, queries: slice = WHOLE, keys: slice = WHOLE
    ) -> Float[Array, "... #H Q K"] | None:
        """The bias on the logits of a block of queries and keys; None where there is none."""
        if self.bias is None:
            return None

        def block(part: slice) -> Distances:
            return jax.tree.map(lambda x: x[..., part], self.distances)

        return self.bias(block(queries), block(keys))
