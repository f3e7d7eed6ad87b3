"""What an attention knows of its events besides q, k and v: who sees whom, and how far apart.

Nothing here is of size [Q, K]. Whoever computes an attention takes a block of queries and of keys,
`Events` sliced or gathered as it likes, and asks for their mask and bias; only the dense kernel
asks for all at once.
"""

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from siren_rope_jax.models.cache import Cached
from siren_rope_jax.rotation.biases import Bias, Events
from siren_rope_jax.rotation.rotate import QueryKeyRotation


@flax.struct.dataclass
class Relation:
    """All that one attention knows of its events besides q, k and v.

    Attributes:
      rotation: what turns queries and keys, which happens before a kernel gets them; None: they are
        turned already.
      queries, keys: the events of either; in training the same but for the time of the request.
      bias: its parameters; None: there is none.
      strict: whether a query does not see the key of its own event.
      aligned: whether queries and keys are the same places of a row in order, so that a query sees
        no key after its own.
      cached: how a cache is used; None: there is none. With requests, `keys` are those of the
        cache; each query sees them and, unless `strict`, the key of its own event.
      own: the queries' own events as keys.
    """

    rotation: QueryKeyRotation | None
    queries: Events
    keys: Events
    bias: Bias | None = None
    strict: bool = flax.struct.field(pytree_node=False, default=False)
    aligned: bool = flax.struct.field(pytree_node=False, default=False)
    cached: Cached | None = None
    own: Events | None = None

    @property
    def requests(self) -> bool:
        """Whether queries are requests to a cache, which do not see each other."""
        return self.cached is not None and self.cached.requests

    def rotate(
        self, q: Float[Array, "... Q H K"], k: Float[Array, "... L H K"]
    ) -> tuple[Float[Array, "... Q H Kn"], Float[Array, "... L H K"]]:
        """Queries and keys, turned by the rotation.

        After the K components of a query come those weights of it that the bias needs, if any; a
        kernel takes them off with `queries_and_weights`.
        """
        if self.rotation is None:
            return q, k
        weights = None if self.bias is None else self.bias.weights(q)
        q, k = self.rotation(q, k)
        return (q if weights is None else jnp.concatenate([q, weights], axis=-1)), k

    def mask(self, queries: Events, keys: Events) -> Bool[Array, "... 1 Q K"]:
        """Whether queries see keys: earlier ones of the same segment. Nobody sees padding."""
        segment = keys.segment[..., None, :]
        same = (queries.segment[..., :, None] == segment) & (segment > 0)
        earlier = queries.place[..., :, None] - keys.place[..., None, :] >= int(self.strict)
        return (same & earlier)[..., None, :, :]

    def bias_block(
        self, queries: Events, keys: Events, weights: Float[Array, "... Q H n"] | None = None
    ) -> Float[Array, "... #H Q K"] | None:
        """The bias of queries on keys, to be added to the logits; None where there is none.

        Args:
          queries: events.
          keys: events.
          weights: of the queries, from `queries_and_weights`.
        """
        return None if self.bias is None else self.bias(queries, keys, weights)


def queries_and_weights(
    q: Float[Array, "... Q H Kn"], k: Float[Array, "... L H K"]
) -> tuple[Float[Array, "... Q H K"], Float[Array, "... Q H n"]]:
    """Queries from `Relation.rotate` as those that meet keys, and their weights for the bias."""
    width = k.shape[-1]
    return q[..., :width], q[..., width:]
