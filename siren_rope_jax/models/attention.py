"""Causal multi-head attention over rotated queries and keys."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from siren_rope_jax.base.arrays import AnyArray
from siren_rope_jax.rotation.rotate import QueryKeyRotation


def strictly_causal_mask(segment: Int[AnyArray, "... L"]) -> Bool[Array, "... 1 L L"]:
    """True where query i may see key j: j < i in the same segment; segment 0 is padding."""
    return _same_history(segment) & jnp.tri(segment.shape[-1], k=-1, dtype=bool)


def causal_mask(segment: Int[AnyArray, "... L"]) -> Bool[Array, "... 1 L L"]:
    """As `strictly_causal_mask`, but query i sees itself too: j <= i."""
    return _same_history(segment) & jnp.tri(segment.shape[-1], dtype=bool)


def interleaved_mask(segment: Int[AnyArray, "... L"]) -> Bool[Array, "... 1 2*L 2*L"]:
    """The causal mask of [e_1, a_1, e_2, a_2, ...] for tokens laid out as [e_1..e_L, a_1..a_L].

    Attention does not care where a token lies, so items and actions stay in two blocks: item i sees
    itself and everything of j < i; action i also sees item i and itself.
    """
    length = segment.shape[-1]
    order = jnp.concatenate([2 * jnp.arange(length), 2 * jnp.arange(length) + 1])
    both = jnp.concatenate([segment, segment], axis=-1)
    return _same_history(both) & (order[:, None] >= order[None, :])


def _same_history(segment: Int[AnyArray, "... L"]) -> Bool[Array, "... 1 L L"]:
    """True where query i and key j are of one segment that is no padding."""
    same = segment[..., :, None] == segment[..., None, :]
    return (same & (segment > 0)[..., None, :])[..., None, :, :]


class RotaryAttention(nn.Module):
    """Multi-head softmax attention whose queries and keys are rotated.

    Attributes:
      heads: H; divides the width.
      softmax_scale: factor on the logits; None: 1 / sqrt(K).
      empty: whether some queries see no key, as the first event under a strict mask: their
        attention output, before the output projection, is a learned vector.
      dtype: of the computation; parameters are float32, rotation and softmax run in float32.
    """

    heads: int
    softmax_scale: float | None = None
    empty: bool = True
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B L D"],
        values: Float[Array, "B L D"],
        rotation: QueryKeyRotation,
        mask: Bool[Array, "B 1 L L"],
        bias: Float[Array, "B #H L L"] | None = None,
    ) -> Float[Array, "B L D"]:
        """Attends with Q = K = x and V = values, each through its own projection.

        `bias` is added to the logits.
        """
        width = x.shape[-1]

        def project(inputs: Array, name: str) -> Array:
            y = nn.Dense(width, use_bias=False, dtype=self.dtype, name=name)(inputs)
            return y.reshape(*y.shape[:-1], self.heads, width // self.heads)

        q_BxLxHxK = rotation.query(project(x, "query"))
        k_BxLxHxK = rotation.key(project(x, "key"))
        v_BxLxHxK = project(values, "value")
        out = jax.nn.dot_product_attention(
            q_BxLxHxK, k_BxLxHxK, v_BxLxHxK, bias, mask, scale=self.softmax_scale
        )
        out = out.reshape(x.shape)
        if self.empty:
            vector = self.param("empty", nn.initializers.normal(0.02), (width,))
            sees_any = mask.any(axis=-1)[..., 0, :, None]
            out = jnp.where(sees_any, out, vector.astype(self.dtype))
        return nn.Dense(width, use_bias=False, dtype=self.dtype, name="output")(out)


class PointwiseAttention(nn.Module):
    """HSTU's attention (arXiv 2402.17152): SiLU of every logit instead of a softmax over them.

    U, V, Q, K = SiLU(W x); the output is W' (LN(A V) * U) with A = SiLU(Q K^T + bias) / L, so that
    how many events matter is kept, which a softmax divides out.

    Attributes:
      heads: H; divides the width.
      dtype: of the computation; parameters are float32, rotation and logits run in float32.
    """

    heads: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B L D"],
        rotation: QueryKeyRotation,
        mask: Bool[Array, "B 1 L L"],
        bias: Float[Array, "B #H L L"] | None = None,
    ) -> Float[Array, "B L D"]:
        """Attends with queries, keys, values and gates all made of x."""
        length, width = x.shape[-2:]
        projected = nn.Dense(4 * width, use_bias=False, dtype=self.dtype, name="projection")(x)
        u, v, q, k = jnp.split(nn.silu(projected), 4, axis=-1)
        v_BxLxHxK, q_BxLxHxK, k_BxLxHxK = (
            y.reshape(*y.shape[:-1], self.heads, width // self.heads) for y in (v, q, k)
        )
        logits_BxHxLxL = jnp.einsum(
            "bihk,bjhk->bhij",
            rotation.query(q_BxLxHxK),
            rotation.key(k_BxLxHxK),
            preferred_element_type=jnp.float32,
        )
        if bias is not None:
            logits_BxHxLxL = logits_BxHxLxL + bias
        weight = jnp.where(mask, nn.silu(logits_BxHxLxL) / length, 0.0).astype(self.dtype)
        pooled = jnp.einsum("bhij,bjhk->bihk", weight, v_BxLxHxK).reshape(x.shape)
        normed = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm")(pooled)
        return nn.Dense(width, dtype=self.dtype, name="output")(normed * u)


class RepeatAttention(nn.Module):
    """Only the weights of an attention over the history: which of its items will be had again?

    Attributes:
      heads: H; divides the width.
      dtype: of the projections; parameters are float32, rotation and softmax run in float32.
    """

    heads: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B L D"],
        rotation: QueryKeyRotation,
        mask: Bool[Array, "B 1 L L"],
        bias: Float[Array, "B #H L L"] | None = None,
    ) -> Float[Array, "B L L"]:
        """Softmax weights of every query over the keys it sees, a mean over the heads."""
        width = x.shape[-1]

        def project(name: str) -> Array:
            y = nn.Dense(width, use_bias=False, dtype=self.dtype, name=name)(x)
            return y.reshape(*y.shape[:-1], self.heads, width // self.heads).astype(jnp.float32)

        q_BxLxHxK, k_BxLxHxK = rotation.query(project("query")), rotation.key(project("key"))
        logits_BxHxLxL = jnp.einsum("bihk,bjhk->bhij", q_BxLxHxK, k_BxLxHxK)
        logits_BxHxLxL = logits_BxHxLxL / math.sqrt(width // self.heads)
        if bias is not None:
            logits_BxHxLxL = logits_BxHxLxL + bias
        return jax.nn.softmax(logits_BxHxLxL, axis=-1, where=mask).mean(axis=1)
