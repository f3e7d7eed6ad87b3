"""The layers of a trunk: blocks around an attention, and plain MLPs."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from siren_rope_jax.models.attention import PointwiseAttention, SoftmaxAttention
from siren_rope_jax.models.kernels import KernelKind
from siren_rope_jax.models.partition import WHOLE, Partition, dense
from siren_rope_jax.models.relation import Relation
from siren_rope_jax.rotation.layers import silu

BlockKind = Literal["softmax", "hstu"]


class Mlp(nn.Module):
    """Dense layers with SiLU between them; a ReLU after the last if `relu_last`."""

    widths: tuple[int, ...]
    relu_last: bool = False
    dtype: DTypeLike = jnp.float32
    partition: Partition = WHOLE

    @nn.compact
    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... E"]:
        """Applies the layers."""
        for i, width in enumerate(self.widths):
            axes = ("hidden", "width") if i % 2 else ("width", "hidden")
            x = dense(width, *axes, dtype=self.dtype, name=f"dense_{i}", partition=self.partition)(
                x
            )
            if i < len(self.widths) - 1:
                x = silu(x)
        return nn.relu(x) if self.relu_last else x


class Block(nn.Module):
    """One pre-norm layer of a trunk; attention and feed-forward part are residual branches.

    Attributes:
      kind: `softmax`: softmax attention, then a feed-forward part; `hstu`: pointwise attention,
        whose gates take the place of the latter.
      heads: H.
      length: of the model's context (`PointwiseAttention`).
      kernel: how its attention is computed.
      learned_empty_output: as in `SoftmaxAttention`.
      dropout: rate on the branches.
      dtype: of the computation.
      partition: where activations live.
    """

    kind: BlockKind
    heads: int
    length: int
    kernel: KernelKind
    learned_empty_output: bool
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32
    partition: Partition = WHOLE

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B L D"],
        added_to_values: Float[Array, "B L D"] | None,
        relation: Relation,
        deterministic: bool = True,
    ) -> Float[Array, "B L D"]:
        """Attends with Q = K = LN(x) and V = LN(x + added_to_values)."""
        x = self.partition.constrain(x, "batch", None, None)
        hstu, dtype, width = self.kind == "hstu", self.dtype, x.shape[-1]
        dropout = nn.Dropout(self.dropout, deterministic=deterministic)
        name, epsilon = ("norm", 1e-6) if hstu else ("attention_norm", 1e-5)
        norm = nn.LayerNorm(epsilon=epsilon, dtype=dtype, name=name)
        normed = norm(x)
        values = normed if added_to_values is None else norm(x + added_to_values)
        if hstu:
            pointwise = PointwiseAttention(
                self.heads, self.length, self.kernel, dtype, self.partition, name="attention"
            )
            own_values = None if added_to_values is None else values
            return x + dropout(pointwise(normed, own_values, relation))
        empty = self.learned_empty_output
        attention = SoftmaxAttention(
            self.heads, self.kernel, empty, dtype, self.partition, name="attention"
        )
        x = x + dropout(attention(normed, values, relation))
        norm = nn.LayerNorm(epsilon=epsilon, dtype=dtype, name="mlp_norm")
        return x + dropout(
            Mlp((4 * width, width), False, dtype, self.partition, name="mlp")(norm(x))
        )
