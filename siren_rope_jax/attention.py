"""Causal multi-head attention over rotated queries and keys."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from siren_rope_jax.rotary import Rotation
from siren_rope_jax.time_features import AnyArray


def strictly_causal_mask(segment: Int[AnyArray, "... L"]) -> Bool[Array, "... 1 L L"]:
    """True where query i may see key j: j < i in the same segment; segment 0 is padding."""
    length = segment.shape[-1]
    earlier = jnp.tri(length, k=-1, dtype=bool)
    same = segment[..., :, None] == segment[..., None, :]
    return (earlier & same & (segment > 0)[..., None, :])[..., None, :, :]


def interleaved_mask(segment: Int[AnyArray, "... L"]) -> Bool[Array, "... 1 2*L 2*L"]:
    """The causal mask of [e_1, a_1, e_2, a_2, ...] for tokens laid out as [e_1..e_L, a_1..a_L].

    Attention does not care where a token lies, so items and actions stay in two blocks: item i sees
    itself and everything of j < i; action i also sees item i and itself.
    """
    length = segment.shape[-1]
    order = jnp.concatenate([2 * jnp.arange(length), 2 * jnp.arange(length) + 1])
    segment = jnp.concatenate([segment, segment], axis=-1)
    same = segment[..., :, None] == segment[..., None, :]
    earlier = order[:, None] >= order[None, :]
    return (earlier & same & (segment > 0)[..., None, :])[..., None, :, :]


class RotaryAttention(nn.Module):
    """Multi-head attention whose queries and keys are rotated.

    A query with no visible key (the first event) gets a learned vector instead of an attention
    output, before the output projection.

    Attributes:
      heads: H; divides the width.
      softmax_scale: factor on the logits; None: 1 / sqrt(K).
      dtype: of the computation; parameters are float32, rotation and softmax run in float32.
    """

    heads: int
    softmax_scale: float | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B L D"],
        values: Float[Array, "B L D"],
        rotation: Rotation,
        mask: Bool[Array, "B 1 L L"],
    ) -> Float[Array, "B L D"]:
        """Attends with Q = K = x and V = values, each through its own projection."""
        width = x.shape[-1]

        def project(inputs: Array, name: str) -> Array:
            y = nn.Dense(width, use_bias=False, dtype=self.dtype, name=name)(inputs)
            return y.reshape(*y.shape[:-1], self.heads, width // self.heads)

        q_BxLxHxK = rotation(project(x, "query"))
        k_BxLxHxK = rotation(project(x, "key"))
        v_BxLxHxK = project(values, "value")
        out = jax.nn.dot_product_attention(
            q_BxLxHxK, k_BxLxHxK, v_BxLxHxK, mask=mask, scale=self.softmax_scale
        )
        out = out.reshape(x.shape)
        empty = self.param("empty", nn.initializers.normal(0.02), (width,))
        sees_any = mask.any(axis=-1)[..., 0, :, None]
        out = jnp.where(sees_any, out, empty.astype(self.dtype))
        return nn.Dense(width, use_bias=False, dtype=self.dtype, name="output")(out)
