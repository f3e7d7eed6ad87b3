"""The layers of a trunk: blocks around an attention, and plain MLPs."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from siren_rope_jax.models.attention import PointwiseAttention, SoftmaxAttention
from siren_rope_jax.models.relation import Relation

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
      learned_empty_output: as in `SoftmaxAttention`.
      dropout: rate on both branches.
      dtype: of the computation.
    """

    heads: int
    learned_empty_output: bool
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B L D"],
        added_to_values: Float[Array, "B L D"] | None,
        relation: Relation,
        deterministic: bool = True,
    ) -> Float[Array, "B L D"]:
        """Attends with Q = K = LN(x) and V = LN(x + added_to_values)."""
        width = x.shape[-1]
        dropout = nn.Dropout(self.dropout, deterministic=deterministic)
        norm = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="attention_norm")
        normed = norm(x)
        values = normed if added_to_values is None else norm(x + added_to_values)
        attention = SoftmaxAttention(
            self.heads, self.learned_empty_output, self.dtype, name="attention"
        )
        x = x + dropout(attention(normed, values, relation))
        norm = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="mlp_norm")
        mlp = Mlp((4 * width, width), dtype=self.dtype, name="mlp")
        return x + dropout(mlp(norm(x)))


class HstuBlock(nn.Module):
    """One layer of HSTU: x + dropout(pointwise attention of LN(x)); it has no feed-forward part.

    Attributes:
      heads: H.
      length: as in `PointwiseAttention`.
      dropout: rate on the residual branch.
      dtype: of the computation.
    """

    heads: int
    length: int
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B L D"],
        added_to_values: Float[Array, "B L D"] | None,
        relation: Relation,
        deterministic: bool = True,
    ) -> Float[Array, "B L D"]:
        """As `SoftmaxBlock`; the gates U are made of LN(x) too."""
        dropout = nn.Dropout(self.dropout, deterministic=deterministic)
        norm = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm")
        values = None if added_to_values is None else norm(x + added_to_values)
        attention = PointwiseAttention(self.heads, self.length, self.dtype, name="attention")
        return x + dropout(attention(norm(x), values, relation))
