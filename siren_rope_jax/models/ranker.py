"""The ranking model: every event's engagement labels from earlier events, in one causal pass.

After "Beyond Interleaving" (arXiv 2603.10369) and the SIREN-RoPE demo (docs/method.md): items
and actions are not interleaved; actions enter through the attention's values ("mixed value
pooling") and through one last attention ("late fusion"). The interleaved form is an option.
"""

from dataclasses import dataclass
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from siren_rope_jax.base.arrays import AnyArray
from siren_rope_jax.base.errors import UserError, check
from siren_rope_jax.models.attention import RotaryAttention, interleaved_mask, strictly_causal_mask
from siren_rope_jax.models.batch import Batch, Inputs
from siren_rope_jax.models.blocks import Mlp, SoftmaxBlock
from siren_rope_jax.rotation.encoding import AngleEncoding, Signals
from siren_rope_jax.rotation.rotate import QueryKeyRotation, Rotation
from siren_rope_jax.rotation.sources import AngleSource, check_encoding
from siren_rope_jax.rotation.time import TimeFeature, time_features


@dataclass(frozen=True)
class RankerConfig:
    """Sizes and choices of the ranking model.

    Attributes:
      encoding: the rotation's angle sources by name.
      width: D.
      heads, layers: of the trunk; the last attention has as many heads.
      embedding_width: of every categorical feature's table.
      head_widths: hidden layers of the head.
      mixed_value: the values of the trunk's attentions are LN(x + a) instead of LN(x).
      late_fusion: one last attention with Q = K = x, V = a feeds the head.
      interleaved: items and actions as separate tokens [e_1, a_1, e_2, ...]; excludes both above.
      final_network: late fusion's attention has its own f_phi.
      input_time_features: time features joined to the item's features ("time in the embedding").
      head_time_features: cyclic features of the request's time given to the head.
      softmax_scale: None: 1 / sqrt(head width).
      residual_scale: factor on every residual branch.
      dropout: rate on every residual branch and on the head's input.
      dtype: of the computation; angles stay float32 and parameters too.
    """

    encoding: dict[str, AngleSource]
    width: int = 64
    heads: int = 4
    layers: int = 2
    embedding_width: int = 32
    head_widths: tuple[int, ...] = (512, 256)
    mixed_value: bool = True
    late_fusion: bool = True
    interleaved: bool = False
    final_network: bool = True
    input_time_features: tuple[TimeFeature, ...] = ()
    head_time_features: tuple[TimeFeature, ...] = ("day", "week")
    softmax_scale: float | None = None
    residual_scale: float = 1.0
    dropout: float = 0.0
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        for key in ("width", "heads", "layers", "embedding_width"):
            check(getattr(self, key) >= 1, f"model.{key}", "at least 1")
        check(0 <= self.dropout < 1, "model.dropout", "in [0, 1)")
        check_encoding(self.encoding, self.width, self.heads)
        if self.interleaved and (self.mixed_value or self.late_fusion):
            raise UserError(
                "model.interleaved: actions are tokens of their own there; set model.mixed_value "
                "and model.late_fusion to False"
            )

    @property
    def uses_time(self) -> bool:
        """Whether the trunk sees the events' times, in the rotation or in the embedding."""
        return bool(self.input_time_features) or any(s.uses_time for s in self.encoding.values())


class Ranker(nn.Module):
    """Logits of every task for every event of a batch.

    Event i's features and time are inputs of its own logits; its actions, and anything later, are
    not (strict causality).
    """

    config: RankerConfig
    inputs: Inputs

    def setup(self) -> None:
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        self.tables = [
            nn.Embed(rows, c.embedding_width, dtype=dtype, name=f"embed_{name}")
            for name, rows in self.inputs.categories.items()
        ]
        self.item = nn.Dense(c.width, dtype=dtype)
        self.item_norm = nn.LayerNorm(epsilon=1e-5, dtype=dtype)
        self.action = Mlp((64, 64, c.width), relu_last=True, dtype=dtype)
        self.encoding = AngleEncoding(
            c.encoding,
            heads=c.heads,
            planes=c.width // c.heads // 2,
            layers=c.layers,
            scale=self.inputs.scale,
            category_sizes=self.inputs.categories,
            context_length=self.inputs.context_length,
            final=c.late_fusion,
            final_network=c.final_network,
        )
        self.blocks = [
            SoftmaxBlock(
                c.heads,
                softmax_scale=c.softmax_scale,
                residual_scale=c.residual_scale,
                dropout=c.dropout,
                dtype=dtype,
                name=f"block_{i}",
            )
            for i in range(c.layers)
        ]
        if c.late_fusion:
            self.fusion = RotaryAttention(c.heads, c.softmax_scale, dtype=dtype)
        self.head_dropout = nn.Dropout(c.dropout)
        self.head = Mlp((*c.head_widths, len(self.inputs.tasks)), dtype=dtype)

    def __call__(self, batch: Batch, *, deterministic: bool = True) -> Float[Array, "B L T"]:
        """Returns logits, float32; rows of padding hold no meaning."""
        c = self.config
        x, actions = self.tokens(batch)
        rotations = self.encoding.rotations(self.signals(batch))
        if c.interleaved:
            fused = [self._interleaved(x, actions, rotations, batch.segment, deterministic)]
        else:
            mask = strictly_causal_mask(batch.segment)
            values = actions if c.mixed_value else None
            for block, rotation in zip(self.blocks, rotations, strict=False):
                x = block(x, rotation, mask, value_extra=values, deterministic=deterministic)
            fused = [x]
            if c.late_fusion:
                fused.append(self.fusion(x, actions, rotations[-1], mask))
        request = time_features(batch.time, c.head_time_features, self.inputs.scale)
        fused += [request.astype(x.dtype), jnp.asarray(batch.context, x.dtype)]
        hidden = self.head_dropout(jnp.concatenate(fused, axis=-1), deterministic=deterministic)
        return self.head(hidden).astype(jnp.float32)

    def tokens(self, batch: Batch) -> tuple[Float[Array, "B L D"], Float[Array, "B L D"]]:
        """The item tokens and the action embeddings of the events."""
        parts = [table(batch.categorical[..., i]) for i, table in enumerate(self.tables)]
        parts.append(jnp.asarray(batch.dense))
        if self.config.input_time_features:
            names = self.config.input_time_features
            parts.append(time_features(batch.time, names, self.inputs.scale))
        features = jnp.concatenate([p.astype(self.config.dtype) for p in parts], axis=-1)
        return self.item_norm(nn.relu(self.item(features))), self.action(jnp.asarray(batch.actions))

    def signals(self, batch: Batch) -> Signals:
        """What drives the rotation of a batch."""
        names = self.inputs.categories
        categories = {name: batch.categorical[..., i] for i, name in enumerate(names)}
        return Signals(batch.position, batch.time, categories)

    def _interleaved(
        self,
        x: Array,
        actions: Array,
        rotations: list[QueryKeyRotation],
        segment: AnyArray,
        deterministic: bool,
    ) -> Float[Array, "B L D"]:
        """The trunk over 2L tokens; an item and its action share position and time."""
        length = x.shape[-2]
        tokens, mask = jnp.concatenate([x, actions], axis=-2), interleaved_mask(segment)
        for block, rotation in zip(self.blocks, rotations, strict=True):
            parts = (jnp.concatenate([p, p], axis=-3) for p in (rotation.key.cos, rotation.key.sin))
            twice = Rotation(*parts)
            both = QueryKeyRotation(twice, twice)
            tokens = block(tokens, both, mask, deterministic=deterministic)
        return tokens[..., :length, :]
