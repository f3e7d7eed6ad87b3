"""Multi-head attention over rotated queries and keys: the modules that own its parameters.

A `Relation` says what an attention may see and how its bias is computed; `kernels.py` computes the
attention from that.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from siren_rope_jax.models import kernels
from siren_rope_jax.models.cache import remembered
from siren_rope_jax.models.partition import WHOLE, Partition, dense
from siren_rope_jax.models.relation import Relation
from siren_rope_jax.rotation.layers import Dense, silu


def _to_heads(width: int, name: str, dtype: DTypeLike, partition: Partition) -> Dense:
    """A projection without a bias, whose result is split into heads."""
    axes = "width", "heads"
    return dense(width, *axes, partition=partition, use_bias=False, dtype=dtype, name=name)


def _heads(x: Array, heads: int, partition: Partition = WHOLE) -> Float[Array, "... H K"]:
    x = x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)
    return partition.constrain(x, "batch", None, "heads", None) if x.ndim == 4 else x


class SoftmaxAttention(nn.Module):
    """Multi-head softmax attention whose queries and keys are rotated.

    Attributes:
      heads: H; divides the width.
      kernel: how it is computed.
      learned_empty_output: whether the output of a query that sees no key, before the output
        projection, is a learned vector. Needed under strict causality, where the first event sees
        nothing.
      dtype: of the computation; parameters are float32, rotation and softmax run in float32.
      partition: where activations live.
    """

    heads: int
    kernel: kernels.KernelKind = "auto"
    learned_empty_output: bool = True
    dtype: DTypeLike = jnp.float32
    partition: Partition = WHOLE

    @nn.compact
    def __call__(
        self, x: Float[Array, "B L D"], values: Float[Array, "B L D"], relation: Relation
    ) -> Float[Array, "B L D"]:
        """Attends with Q = K = x and V = values, each through its own projection."""
        width = x.shape[-1]

        def project(inputs: Array, name: str) -> Array:
            y = _to_heads(width, name, self.dtype, self.partition)(inputs)
            return _heads(y, self.heads, self.partition)

        q_BxLxHxK, k_BxLxHxK = relation.rotate(project(x, "query"), project(x, "key"))
        own = k_BxLxHxK, project(values, "value")
        seen = remembered(self, relation.cached, "keys_and_values", own)
        empty = None
        if self.learned_empty_output:
            init = nn.initializers.normal(0.02)
            vector_D = self.param("learned_empty_output", init, (width,)).astype(self.dtype)
            empty = _heads(vector_D, self.heads)
        qkv, on = (q_BxLxHxK, *seen), self.partition
        out = kernels.softmax(self.kernel, on, qkv, relation=relation, empty=empty, own=own)
        output = dense(
            width,
            "heads",
            "width",
            use_bias=False,
            dtype=self.dtype,
            name="output",
            partition=self.partition,
        )
        return output(out.reshape(x.shape))


class PointwiseAttention(nn.Module):
    """HSTU's attention (arXiv 2402.17152): SiLU of every logit instead of a softmax over them.

    U, V, Q, K = SiLU(W x); the output is W' (LN(A V) * U) with A = SiLU(Q K^T + bias) / L, so that
    the number of events that matter is kept, which a softmax divides out.

    Attributes:
      heads: H; divides the width.
      length: L, a constant of the model, however long the rows are.
      kernel: how it is computed.
      dtype: of the computation; parameters are float32, rotation and logits run in float32.
      partition: where activations live.
    """

    heads: int
    length: int
    kernel: kernels.KernelKind = "auto"
    dtype: DTypeLike = jnp.float32
    partition: Partition = WHOLE

    @nn.compact
    def __call__(
        self, x: Float[Array, "B L D"], values: Float[Array, "B L D"] | None, relation: Relation
    ) -> Float[Array, "B L D"]:
        """Attends with queries, keys and gates made of x; values of `values`, or of x if None."""
        width = x.shape[-1]

        def project(inputs: Array, parts: int, name: str) -> Array:
            return silu(_to_heads(parts * width, name, self.dtype, self.partition)(inputs))

        if values is None:
            u, v, q, k = jnp.split(project(x, 4, "projection"), 4, axis=-1)
        else:
            u, q, k = jnp.split(project(x, 3, "projection"), 3, axis=-1)
            v = project(values, 1, "value")
        q, k, v_BxLxHxK = (_heads(y, self.heads, self.partition) for y in (q, k, v))
        q_BxLxHxK, k_BxLxHxK = relation.rotate(q, k)
        own = k_BxLxHxK, v_BxLxHxK
        seen = remembered(self, relation.cached, "keys_and_values", own)
        pooled = kernels.pointwise(
            self.kernel,
            self.partition,
            (q_BxLxHxK, *seen),
            relation=relation,
            length=self.length,
            own=own,
        )
        normed = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm")(pooled.reshape(x.shape))
        return dense(
            width, "heads", "width", dtype=self.dtype, name="output", partition=self.partition
        )(normed * u)


class RepeatAttention(nn.Module):
    """The queries and keys of an attention over the history: which of its items come again?

    With a cache, only queries and keys of the call are returned; those of the cache are kept there.

    Attributes:
      heads: H; divides the width.
      dtype: of the projections; parameters are float32, rotation and softmax run in float32.
      partition: where activations live.
    """

    heads: int
    dtype: DTypeLike = jnp.float32
    partition: Partition = WHOLE

    @nn.compact
    def __call__(
        self, x: Float[Array, "B L D"], relation: Relation
    ) -> tuple[Float[Array, "B L H K"], Float[Array, "B L H K"]]:
        """Rotated, float32; `Repeat` makes weights of them, a mean over the heads."""
        width = x.shape[-1]

        def project(name: str) -> Array:
            y = _to_heads(width, name, self.dtype, self.partition)(x)
            return _heads(y, self.heads, self.partition).astype(jnp.float32)

        return relation.rotate(project("query"), project("key"))
