"""The layers that both models are built of: blocks around an attention, and plain MLPs."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from siren_rope_jax.models.attention import PointwiseAttention, RotaryAttention
from siren_rope_jax.rotation.rotate import QueryKeyRotation

BlockKind = Literal["softmax", "hstu"]


class Mlp(nn.Module):
    """Dense layers with SiLU between them; a ReLU after the last if `relu_last`."""

    widths: tuple[int, ...]
    relu_last: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... E"]:
        """Applies the layers."""
        for i, width in enumerate(self.widths):
            x = nn.Dense(width, dtype=self.dtype, name=f"dense_{i}")(x)
            if i < len(self.widths) - 1:
                x = nn.silu(x)
        return nn.relu(x) if self.relu_last else x


class SoftmaxBlock(nn.Module):
    """One pre-norm layer: softmax attention, then a feed-forward part, each a residual branch.

    Attributes:
      heads: H.
      softmax_scale: factor on the logits; None: 1 / sqrt(K).
      empty: as in `RotaryAttention`.
      residual_scale: factor on both branches.
      dropout: rate on both branches.
      dtype: of the computation.
    """

    heads: int
    softmax_scale: float | None = None
    empty: bool = True
    residual_scale: float = 1.0
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B L D"],
        rotation: QueryKeyRotation,
        mask: Bool[Array, "B 1 L L"],
        *,
        value_extra: Float[Array, "B L D"] | None = None,
        bias: Float[Array, "B #H L L"] | None = None,
        deterministic: bool = True,
    ) -> Float[Array, "B L D"]:
        """Q = K = LN(x) and V = LN(x + value_extra), which may be None; see `RotaryAttention`."""
        width = x.shape[-1]
        dropout = nn.Dropout(self.dropout, deterministic=deterministic)
        norm = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="attention_norm")
        normed = norm(x)
        values = normed if value_extra is None else norm(x + value_extra)
        attention = RotaryAttention(
            self.heads, self.softmax_scale, self.empty, self.dtype, name="attention"
        )
        x = x + self.residual_scale * dropout(attention(normed, values, rotation, mask, bias))
        norm = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="mlp_norm")
        mlp = Mlp((4 * width, width), dtype=self.dtype, name="mlp")
        return x + self.residual_scale * dropout(mlp(norm(x)))


class HstuBlock(nn.Module):
    """One layer of HSTU: x + dropout(pointwise attention of LN(x)); it has no feed-forward part.

    Attributes:
      heads: H.
      dropout: rate on the residual branch.
      dtype: of the computation.
    """

    heads: int
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B L D"],
        rotation: QueryKeyRotation,
        mask: Bool[Array, "B 1 L L"],
        *,
        bias: Float[Array, "B #H L L"] | None = None,
        deterministic: bool = True,
    ) -> Float[Array, "B L D"]:
        """Arguments as in `PointwiseAttention`."""
        dropout = nn.Dropout(self.dropout, deterministic=deterministic)
        normed = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm")(x)
        attention = PointwiseAttention(self.heads, self.dtype, name="attention")
        return x + dropout(attention(normed, rotation, mask, bias))
