"""The next-item model: from a user's events and the time of a request to a query over all items.

The embedding that an item has as an event is also the one it is retrieved by (tied). A list is
requested at a known time, so a query may be turned by *that* time while the keys keep those of
their events: `query_time = request`. The item that follows the request is never an input.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from siren_rope_jax.base.errors import check
from siren_rope_jax.models.attention import RepeatAttention, causal_mask
from siren_rope_jax.models.batch import Inputs, NextItemBatch
from siren_rope_jax.models.blocks import BlockKind, HstuBlock, SoftmaxBlock
from siren_rope_jax.models.repeat import Repeat
from siren_rope_jax.rotation.biases import BiasKind, LogitBias
from siren_rope_jax.rotation.encoding import AngleEncoding, Signals
from siren_rope_jax.rotation.sources import AngleSource, check_encoding
from siren_rope_jax.rotation.time import Time, TimeFeature, time_features


@dataclass(frozen=True)
class RetrieverConfig:
    """Sizes and choices of the next-item model.

    Attributes:
      encoding: the rotation's angle sources by name.
      biases: on the logits of every attention, beside the rotation.
      query_time: whose time a query has, in whatever way the model uses times (rotation, bias,
        embedding): that of the `request`, or of the last `event` before it.
      block: `softmax`: pre-norm attention and feed-forward part, as SASRec's but for a wider
        feed-forward part with SiLU, and keys and values that are normed as the queries are;
        `hstu`: pointwise attention with gating (HSTU).
      width: D, also of the items' embeddings.
      heads, layers: of the trunk.
      feature_width: of the tables of categorical features besides the item.
      repeat: adds a way to name an item of the history again (`repeat.py`): a last attention with
        its own angles.
      learned_positions: adds a learned vector per position to the tokens.
      input_time_features: features of the event's time, and where `query_time` is the request's of
        that one too, added to the tokens ("time in the embedding").
      normalize: whether queries and items have length 1, so that scores are cosines.
      temperature: scores are divided by it.
      dropout: rate on tokens and residual branches.
      dtype: of the computation; angles and scores stay float32 and parameters too.
    """

    encoding: dict[str, AngleSource]
    biases: tuple[BiasKind, ...] = ()
    query_time: Literal["request", "event"] = "request"
    block: BlockKind = "softmax"
    width: int = 64
    heads: int = 2
    layers: int = 2
    feature_width: int = 16
    repeat: bool = False
    learned_positions: bool = False
    input_time_features: tuple[TimeFeature, ...] = ()
    normalize: bool = False
    temperature: float = 1.0
    dropout: float = 0.0
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        for key in ("width", "heads", "layers", "feature_width"):
            check(getattr(self, key) >= 1, f"model.{key}", "at least 1")
        check(0 <= self.dropout < 1, "model.dropout", "in [0, 1)")
        check(self.temperature > 0, "model.temperature", "above 0")
        check_encoding(self.encoding, self.width, self.heads)

    @property
    def uses_time(self) -> bool:
        """Whether the model sees any time: in the rotation, a bias or the embedding."""
        return (
            bool(self.input_time_features)
            or any(kind != "position" for kind in self.biases)
            or any(source.uses_time for source in self.encoding.values())
        )


def _item_init(key: Array, shape: tuple[int, int], dtype: DTypeLike) -> Array:
    """Row 0, the unknown item, starts (and, where training has none, stays) at zero."""
    return (jax.random.normal(key, shape, dtype) * 0.02).at[0].set(0.0)


class Retrieved(NamedTuple):
    """What a model says of a batch.

    Attributes:
      query: of all slots; those of padding hold no meaning.
      table: what queries are compared with; row 0 is the unknown item, no candidate.
      repeat: of every slot; its items are [B, 1, L], those of the row (see `per_slot`). None:
        probabilities are the softmax of the inner products.
    """

    query: Float[Array, "B L D"]
    table: Float[Array, "V D"]
    repeat: Repeat | None


class Retriever(nn.Module):
    """Queries and items whose inner products are the scores.

    The query of slot i is made of the events up to i and of the time of the request that follows
    it; of that request's item, and of all that is later, it knows nothing.
    """

    config: RetrieverConfig
    inputs: Inputs

    def setup(self) -> None:
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        (_, items), *others = self.inputs.categories.items()
        self.items = nn.Embed(items, c.width, dtype=dtype, embedding_init=_item_init)
        self.feature_tables = [
            nn.Embed(rows, c.feature_width, dtype=dtype, name=f"embed_{name}")
            for name, rows in others
        ]
        self.features = nn.Dense(c.width, use_bias=False, dtype=dtype)
        if c.learned_positions:
            init = nn.initializers.normal(0.02)
            length = self.inputs.context_length
            self.positions = nn.Embed(length, c.width, dtype=dtype, embedding_init=init)
        self.token_dropout = nn.Dropout(c.dropout)
        self.encoding = AngleEncoding(
            c.encoding,
            heads=c.heads,
            planes=c.width // c.heads // 2,
            layers=c.layers,
            scale=self.inputs.scale,
            category_sizes=self.inputs.categories,
            context_length=self.inputs.context_length,
            final=c.repeat,
        )
        if c.biases:
            self.logit_biases = [
                LogitBias(c.biases, c.heads, self.inputs.context_length, name=f"bias_{i}")
                for i in range(c.layers + c.repeat)
            ]
        self.blocks = [self._block(i) for i in range(c.layers)]
        self.output_norm = nn.LayerNorm(epsilon=1e-5, dtype=dtype)
        if c.repeat:
            self.repeat_attention = RepeatAttention(c.heads, dtype)
            self.explore = nn.Dense(1, dtype=dtype)

    def _block(self, i: int) -> SoftmaxBlock | HstuBlock:
        c, dtype, name = self.config, jnp.dtype(self.config.dtype), f"block_{i}"
        if c.block == "hstu":
            return HstuBlock(c.heads, c.dropout, dtype, name=name)
        return SoftmaxBlock(c.heads, empty=False, dropout=c.dropout, dtype=dtype, name=name)

    def __call__(self, batch: NextItemBatch, *, deterministic: bool = True) -> Retrieved:
        """The queries of all slots, and all that they are compared with."""
        query_time = self.query_time(batch)
        mask = causal_mask(batch.segment)
        x = self.token_dropout(self.tokens(batch), deterministic=deterministic)
        rotations = self.encoding.rotations(*self.signals(batch))
        biases: list[Array | None] = [None] * len(rotations)
        if self.config.biases:
            biases = [bias(batch.position, query_time, batch.time) for bias in self.logit_biases]
        for block, rotation, bias in zip(self.blocks, rotations, biases, strict=False):
            x = block(x, rotation, mask, bias=bias, deterministic=deterministic)
        x = self.output_norm(x)
        repeat = None
        if self.config.repeat:
            weight_BxLxL = self.repeat_attention(x, rotations[-1], mask, biases[-1])
            logit_BxL = self.explore(x)[..., 0].astype(jnp.float32)
            item_Bx1xL = batch.categorical[:, None, :, 0]
            share_BxLx1 = nn.sigmoid(-logit_BxL)[..., None]
            repeat = Repeat(item_Bx1xL, share_BxLx1 * weight_BxLxL, nn.sigmoid(logit_BxL))
        return Retrieved(self.scaled(x) / self.config.temperature, self.item_vectors(), repeat)

    def item_vectors(self) -> Float[Array, "V D"]:
        """What queries are compared with."""
        return self.scaled(self.items.embedding.astype(self.config.dtype))

    def scaled(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        """To length 1 if so configured."""
        if not self.config.normalize:
            return x
        square = jnp.square(x.astype(jnp.float32)).sum(axis=-1, keepdims=True)
        return (x * jax.lax.rsqrt(jnp.maximum(square, 1e-12))).astype(x.dtype)

    def query_time(self, batch: NextItemBatch) -> Time:
        """The time a query has."""
        return batch.request_time if self.config.query_time == "request" else batch.time

    def tokens(self, batch: NextItemBatch) -> Float[Array, "B L D"]:
        """The events as the trunk's input."""
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        x = self.items(batch.categorical[..., 0]) * math.sqrt(c.width)
        parts = [t(batch.categorical[..., i + 1]) for i, t in enumerate(self.feature_tables)]
        if batch.dense.shape[-1]:
            parts.append(jnp.asarray(batch.dense, dtype))
        if c.input_time_features:
            times = [batch.time] + [batch.request_time] * (c.query_time == "request")
            for time in times:
                parts.append(time_features(time, c.input_time_features, self.inputs.scale, dtype))
        if parts:
            x = x + self.features(jnp.concatenate(parts, axis=-1))
        if c.learned_positions:
            x = x + self.positions(batch.position)
        return x

    def signals(self, batch: NextItemBatch) -> tuple[Signals, Signals | None]:
        """What turns the keys, and the queries where that is something else."""
        names = self.inputs.categories
        categories = {name: batch.categorical[..., i] for i, name in enumerate(names)}
        keys = Signals(batch.position, batch.time, categories)
        if self.config.query_time == "event":
            return keys, None
        return keys, Signals(batch.position, batch.request_time, categories)
