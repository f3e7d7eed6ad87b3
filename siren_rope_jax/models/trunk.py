"""The trunk of every model: attention blocks over rotated events, described by one config."""

from dataclasses import dataclass, replace
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from siren_rope_jax.base.arrays import AnyArray
from siren_rope_jax.base.errors import UserError, check
from siren_rope_jax.models.batch import DataSpec
from siren_rope_jax.models.blocks import Block, BlockKind
from siren_rope_jax.models.kernels import KernelKind
from siren_rope_jax.models.partition import WHOLE, Partition
from siren_rope_jax.models.relation import Relation
from siren_rope_jax.rotation.biases import BiasKind, Events, LogitBias
from siren_rope_jax.rotation.encoding import LAST, TRUNK, AngleEncoding
from siren_rope_jax.rotation.sources import AngleSource, Signals, check_sources
from siren_rope_jax.rotation.time import TimeFeature

MOST = 1 << 16
"""Units of a layer: more are a mistake, and would not end in a message."""


@dataclass(frozen=True, kw_only=True)
class TrunkConfig:
    """Sizes and choices of a trunk.

    Attributes:
      encoding: the rotation's angle sources by name.
      biases: on the logits of every attention, beside the rotation.
      block: `softmax`: pre-norm attention and feed-forward part, as SASRec's but for a wider
        feed-forward part with SiLU, and keys and values that are normed as the queries are;
        `hstu`: pointwise attention with gating (HSTU).
      attention: how attentions are computed; all ways have the same result (`kernels.py`).
      width: D.
      heads, layers: of the trunk; an attention after it has as many heads.
      input_time_features: time features joined to those of the events ("time in the embedding").
      dropout: rate on every residual branch.
      dtype: of the computation; angles and parameters stay float32.
    """

    encoding: dict[str, AngleSource]
    biases: tuple[BiasKind, ...] = ()
    block: BlockKind = "softmax"
    attention: KernelKind = "auto"
    width: int = 64
    heads: int = 2
    layers: int = 2
    input_time_features: tuple[TimeFeature, ...] = ()
    dropout: float = 0.0
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        for key, most in (("width", MOST), ("heads", MOST), ("layers", 1_000)):
            check(1 <= getattr(self, key) <= most, key, f"from 1 to {most:,}")
        check(0 <= self.dropout < 1, "dropout", "in [0, 1)")
        if self.width % (2 * self.heads):
            raise UserError(
                "width",
                f"{self.width} over {self.heads} heads: the head width must be a whole, even "
                "number, because rotation turns pairs of components",
            )
        check_sources(self.encoding, self.heads, self.planes, None, "encoding")

    @property
    def planes(self) -> int:
        """Of a head: half of its width."""
        return self.width // self.heads // 2

    @property
    def uses_time(self) -> bool:
        """Whether the trunk sees any time: in the rotation, a bias or the embedding."""
        return (
            bool(self.input_time_features)
            or any(kind != "position" for kind in self.biases)
            or any(source.uses_time for source in self.encoding.values())
        )


class Trunk(nn.Module):
    """Blocks of attention over the events of a row, and what relates these events.

    Attributes:
      config: its sizes and choices.
      data: what it must know of the data.
      strict: whether an event does not see itself.
      has_last: whether one more attention follows the trunk, with angles and a bias of its own.
      partition: where activations live.
    """

    config: TrunkConfig
    data: DataSpec
    strict: bool
    has_last: bool
    partition: Partition = WHOLE

    def setup(self) -> None:
        c, attentions = self.config, (TRUNK, LAST) if self.has_last else (TRUNK,)
        sizes = self.data.categories
        check_sources(c.encoding, c.heads, c.planes, sizes, "config.model.encoding")
        self.encoding = AngleEncoding(
            c.encoding, c.heads, c.planes, self.data.scale, sizes, attentions
        )
        self.blocks = [self._block(i) for i in range(c.layers)]
        if c.biases:
            self.block_biases = [self._bias(i) for i in range(c.layers)]
            if self.has_last:
                self.last_bias = self._bias(c.layers)

    def _block(self, i: int) -> Block:
        c, length, dtype = self.config, self.data.context_length, jnp.dtype(self.config.dtype)
        return Block(
            c.block,
            c.heads,
            length,
            c.attention,
            self.strict,
            c.dropout,
            dtype,
            self.partition,
            name=f"block_{i}",
        )

    def _bias(self, i: int) -> LogitBias:
        c = self.config
        return LogitBias(c.biases, c.heads, self.data.context_length, name=f"bias_{i}")

    def relations(
        self, segment: Int[AnyArray, "B L"], signals: Signals, request: Signals | None = None
    ) -> dict[str, Relation]:
        """How the events of a row are related, for the trunk and the attention that follows it.

        Args:
          segment: as in a batch; 0 is padding.
          signals: of the events.
          request: what queries are made by, where that is not their own event's.
        """
        place = jnp.arange(segment.shape[-1])
        keys = Events(jnp.asarray(segment), place, signals.position, signals.time)
        queries = keys if request is None else replace(keys, time=request.time)
        relations = {
            name: Relation(rotation, queries, keys, strict=self.strict, aligned=True)
            for name, rotation in self.encoding.rotations(signals, request).items()
        }
        if self.has_last and self.config.biases:
            relations[LAST] = replace(relations[LAST], bias=self.last_bias())
        return relations

    def __call__(
        self,
        x: Float[Array, "B L D"],
        relation: Relation,
        *,
        added_to_values: Float[Array, "B L D"] | None = None,
        deterministic: bool = True,
    ) -> Float[Array, "B L D"]:
        """Applies all blocks.

        Args:
          x: tokens.
          relation: of the trunk, from `relations`.
          added_to_values: what is added to x where values are made of it; None: nothing.
          deterministic: False: with dropout.
        """
        for i, block in enumerate(self.blocks):
            if self.config.biases:
                relation = replace(relation, bias=self.block_biases[i]())
            x = block(x, added_to_values, relation, deterministic)
        return x
