"""The next-item model: from a user's events and the time of a request to a query over all items.

The embedding that an item has as an event is also the one it is retrieved by (tied). A list is
requested at a known time, so a query may be turned by *that* time while the keys keep those of
their events: `query_time = request`. The item that follows the request is never an input.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from siren_rope_jax.base.arrays import AnyArray
from siren_rope_jax.base.errors import check
from siren_rope_jax.models.attention import RepeatAttention
from siren_rope_jax.models.batch import (
    DataSpec,
    NextItemBatch,
    request_signals_of,
    signals_of,
    with_unknown,
)
from siren_rope_jax.models.cache import Cached, remembered
from siren_rope_jax.models.division import Rows
from siren_rope_jax.models.partition import WHOLE, Partition, dense
from siren_rope_jax.models.repeat import Repeat
from siren_rope_jax.models.tables import Table, embedding_of, lookup
from siren_rope_jax.models.trunk import MOST, Trunk, TrunkConfig
from siren_rope_jax.rotation.encoding import LAST, TRUNK
from siren_rope_jax.rotation.signals import Signals


@dataclass(frozen=True, kw_only=True)
class RetrieverConfig(TrunkConfig):
    """Sizes and choices of the next-item model, beside those of its trunk.

    `width` is also that of the items' embeddings, and `dropout` is also applied to the tokens.

    Attributes:
      query_time: whose time a query has, wherever the model uses times (rotation, bias, embedding):
        that of the `request`, or of the last `event` before it.
      feature_width: of the tables of categorical features besides the item.
      item_features: categorical features that an item always has, such as its maker. An item is the
        sum of its own embedding and theirs then, as an event and as a candidate, and items that
        training never has are candidates by their features and the unknown row. Their embeddings
        and the features of all items are whole on every device.
      repeat: adds a way to name an item of the history again (`repeat.py`): a last attention with
        its own angles.
      learned_positions: adds a learned vector per position to the tokens.
      normalize: whether queries and items have length 1, so that scores are cosines.
      temperature: scores are divided by it.
    """

    query_time: Literal["request", "event"] = "request"
    feature_width: int = 16
    item_features: tuple[str, ...] = ()
    repeat: bool = False
    learned_positions: bool = False
    normalize: bool = False
    temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check(1 <= self.feature_width <= MOST, "feature_width", f"from 1 to {MOST:,}")
        check(self.temperature > 0, "temperature", "above 0")


_SMALL = nn.initializers.normal(0.02)
"""Of all that a token is the sum of, so that nothing drowns its item before training."""


def _item_init(key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Row 0, the unknown item, starts at zero and stays there if training never has it."""
    return _SMALL(key, shape, dtype).at[0, 0].set(0.0)


class Retrieved(NamedTuple):
    """What a model says of a batch.

    Attributes:
      query: of all slots; those of padding are meaningless.
      table: what queries are compared with: one row per item. Row 0 is the unknown item, which is
        not a candidate, and rows beyond the last item only pad the table.
      repeat: what may come again; None: probabilities are the softmax of the inner products.
    """

    query: Float[Array, "B L D"]
    table: Rows
    repeat: Repeat | None


class Retriever(nn.Module):
    """Queries and items whose inner products are the scores.

    The query of slot i is made of the events up to i and of the time of the request that follows
    it; of that request's item, and of all that is later, it knows nothing.
    """

    config: RetrieverConfig
    data: DataSpec
    partition: Partition = WHOLE

    def setup(self) -> None:
        c, dtype, on = self.config, jnp.dtype(self.config.dtype), self.partition
        _, *others = self.data.categories.values()
        self.items = Table(self.data.items, c.width, dtype, on, _item_init)
        self.feature_tables = [
            Table(rows, c.feature_width, dtype, on, name=name)
            for name, rows in zip(self.table_names[1:], others, strict=True)
        ]
        self.item_features = [
            nn.Embed(
                self.data.categories[name],
                c.width,
                dtype=dtype,
                embedding_init=_SMALL,
                name=f"item_{name}",
            )
            for name in c.item_features
        ]
        self.features = dense(
            c.width, None, "width", use_bias=False, dtype=dtype, partition=on, init=_SMALL
        )
        if c.learned_positions:
            length = self.data.context_length
            self.positions = nn.Embed(length, c.width, dtype=dtype, embedding_init=_SMALL)
        self.token_dropout = nn.Dropout(c.dropout)
        self.trunk = Trunk(c, self.data, False, c.repeat, on)
        nn.share_scope(self, self.trunk)  # the trunk's parameters stand beside the head's
        self.output_norm = nn.LayerNorm(epsilon=1e-5, dtype=dtype)
        if c.repeat:
            self.repeat_attention = RepeatAttention(c.heads, dtype, on)
            self.explore = dense(1, "width", None, dtype=dtype, partition=on)

    @property
    def table_names(self) -> list[str]:
        """Of the modules of the categories' tables, in the batch's order."""
        return ["items", *(f"embed_{name}" for name in list(self.data.categories)[1:])]

    @property
    def row_modules(self) -> dict[str, str]:
        """The modules with a row for every value of a category, and that category."""
        tables = dict(zip(self.table_names, self.data.categories, strict=True))
        return tables | {f"item_{name}": name for name in self.config.item_features}

    def __call__(
        self, batch: NextItemBatch, *, cached: Cached | None = None, deterministic: bool = True
    ) -> Retrieved:
        """The queries of all slots, and all that they are compared with.

        Args:
          batch: events; with `cached`, those of a history each.
          cached: how a cache of earlier events is used. A request is the last event of a history
            with the time of the request.
          deterministic: False: with dropout.
        """
        request, item = None, jnp.asarray(batch.categorical[..., 0])  # which may be named again
        if self.data.item_features is not None:
            own = jnp.where(item < self.data.trained_items, item, 0)
            ids = jnp.concatenate([own[..., None], batch.categorical[..., 1:]], axis=-1)
            batch = replace(batch, categorical=ids)
        if self.config.unknown_rate and not deterministic:
            batch = with_unknown(batch, self.config.unknown_rate, self.make_rng("dropout"))
        signals = signals_of(batch, self.data)
        if self.config.query_time == "request":
            request = request_signals_of(batch, self.data)
        relations = self.trunk.relations(batch.segment, signals, request, cached)
        x = self.token_dropout(
            self.tokens(batch, item, signals, request), deterministic=deterministic
        )
        x = self.output_norm(self.trunk(x, relations[TRUNK], deterministic=deterministic))
        repeat = None
        if self.config.repeat:
            q, own = self.repeat_attention(x, relations[LAST])
            items, key = remembered(self, cached, "repeat", (item, own))
            repeat = Repeat(
                item=items,
                query=q,
                key=key,
                own=(item, own),
                relation=replace(relations[LAST], rotation=None),
                explore_logit=self.explore(x)[..., 0].astype(jnp.float32),
                kernel=self.config.attention,
                partition=self.partition,
            )
        query = self.scaled(x) / self.config.temperature
        return Retrieved(query, self.item_rows(deterministic), repeat)

    def item_rows(self, deterministic: bool = True) -> Rows:
        """What queries are compared with.

        Args:
          deterministic: False: with dropout, which here takes some items for others that have the
            same features, but are unknown.
        """
        rows = self.items.content()
        values = rows.values.astype(self.config.dtype)
        if self.data.item_features is not None:
            shape = values.shape[:-1]
            ids = jnp.arange(math.prod(shape)).reshape(shape) if rows.ids is None else rows.ids
            has_own = ids < self.data.trained_items
            if self.config.unknown_rate and not deterministic:
                rate = self.config.unknown_rate
                has_own &= ~jax.random.bernoulli(self.make_rng("dropout"), rate, shape)
            unknown = lookup(rows, jnp.zeros(1, jnp.int32), self.partition, values.dtype)[0]
            values = jnp.where(has_own[..., None], values, unknown) + self.of_features(ids)
        return replace(rows, values=self.scaled(values))

    def of_features(self, items: Int[Array, "..."]) -> Float[Array, "... D"]:
        """The sum of the embeddings of what items always have."""
        assert self.data.item_features is not None
        features = jnp.asarray(self.data.item_features.ids)
        ids = features[jnp.clip(items, 0, len(features) - 1)]
        by_feature = self.data.by_feature(ids, self.config.item_features)
        parts = [
            embedding_of(table, by_feature[name], name in self.data.lists)
            for name, table in zip(by_feature, self.item_features, strict=True)
        ]
        return sum(parts[1:], start=parts[0])

    def scaled(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        """To length 1 if so configured."""
        if not self.config.normalize:
            return x
        square = jnp.square(x.astype(jnp.float32)).sum(axis=-1, keepdims=True)
        return (x * jax.lax.rsqrt(jnp.maximum(square, 1e-12))).astype(x.dtype)

    def tokens(
        self,
        batch: NextItemBatch,
        item: Int[AnyArray, "B L"],
        signals: Signals,
        request: Signals | None,
    ) -> Float[Array, "B L D"]:
        """The events as the trunk's input.

        Args:
          batch: events, some of whose ids may be taken for unknown.
          item: the ids of their items.
          signals: of the events.
          request: those of the requests that follow; None: a query knows none.
        """
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        x = self.items(batch.categorical[..., 0])
        if self.data.item_features is not None:
            x = x + self.of_features(jnp.asarray(item))
        x = x * math.sqrt(c.width)
        _, *others = self.data.by_feature(batch.categorical).items()
        parts = [
            embedding_of(table, ids, name in self.data.lists)
            for (name, ids), table in zip(others, self.feature_tables, strict=True)
        ]
        if batch.dense.shape[-1]:
            parts.append(jnp.asarray(batch.dense, dtype))
        known = (signals,) if request is None else (signals, request)
        parts += [part.astype(dtype) for part in self.trunk.input_signals(*known)]
        if parts:
            x = x + self.features(jnp.concatenate(parts, axis=-1))
        if c.learned_positions:
            x = x + self.positions(batch.position)
        return x
