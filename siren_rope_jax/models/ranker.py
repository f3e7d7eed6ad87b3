"""The ranking model: every event's engagement labels from earlier events, in one causal pass.

After "Beyond Interleaving" (arXiv 2603.10369) and the SIREN-RoPE demo (docs/method.md): items
and actions are not interleaved; actions enter through the attention's values ("mixed value
pooling") and through one last attention ("late fusion"). The interleaved form is an option.
"""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from siren_rope_jax.base.arrays import AnyArray
from siren_rope_jax.base.errors import UserError, check
from siren_rope_jax.models.attention import SoftmaxAttention
from siren_rope_jax.models.batch import DataSpec, RankingBatch, signals_of, with_unknown
from siren_rope_jax.models.blocks import Mlp
from siren_rope_jax.models.cache import Cached
from siren_rope_jax.models.partition import WHOLE, Partition, dense
from siren_rope_jax.models.tables import Table, embedding_of
from siren_rope_jax.models.tasks import Ordinal, outputs_of
from siren_rope_jax.models.trunk import MOST, Trunk, TrunkConfig
from siren_rope_jax.rotation.encoding import LAST, TRUNK
from siren_rope_jax.rotation.signals import Signals
from siren_rope_jax.rotation.time import TimeFeature, time_features

REQUEST_FEATURES: tuple[TimeFeature, ...] = ("day", "week")
"""What the head knows of the request's time, in every variant."""


@dataclass(frozen=True, kw_only=True)
class RankerConfig(TrunkConfig):
    """Sizes and choices of the ranking model, beside those of its trunk.

    Attributes:
      embedding_width: of every categorical feature's table.
      head_widths: hidden layers of the head; `dropout` is also applied to its input.
      mixed_value: the values of the trunk's attentions are made of the tokens of items and of the
        embeddings of their actions, not of the items alone.
      late_fusion: one last attention, whose queries and keys are made of items and whose values of
        actions, feeds the head.
      interleaved: items and actions as separate tokens [e_1, a_1, e_2, ...]; needs mixed_value and
        late_fusion to be False.
    """

    heads: int = 4
    embedding_width: int = 32
    head_widths: tuple[int, ...] = (512, 256)
    mixed_value: bool = True
    late_fusion: bool = True
    interleaved: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check(1 <= self.embedding_width <= MOST, "embedding_width", f"from 1 to {MOST:,}")
        right = f"widths from 1 to {MOST:,}"
        check(all(1 <= width <= MOST for width in self.head_widths), "head_widths", right)
        if self.interleaved and (self.mixed_value or self.late_fusion):
            raise UserError(
                "interleaved",
                "actions are tokens of their own there; set mixed_value and late_fusion to False",
            )


class Ranker(nn.Module):
    """The output of every task for every event of a batch: logits, or standardised values.

    Event i's features and time are inputs of its own output; its actions, and anything later, are
    not (strict causality).
    """

    config: RankerConfig
    data: DataSpec
    partition: Partition = WHOLE

    def setup(self) -> None:
        c, dtype, on = self.config, jnp.dtype(self.config.dtype), self.partition
        self.tables = [
            Table(rows, c.embedding_width, dtype, on, name=name)
            for name, rows in zip(self.table_names, self.data.categories.values(), strict=True)
        ]
        self.item = dense(c.width, None, "width", dtype=dtype, partition=on)
        self.item_norm = nn.LayerNorm(epsilon=1e-5, dtype=dtype)
        self.action = Mlp((64, 64, c.width), True, dtype, on)
        self.trunk = Trunk(c, self.data, not c.interleaved, c.late_fusion, on)
        nn.share_scope(self, self.trunk)  # the trunk's parameters stand beside the head's
        if c.late_fusion:
            self.fusion = SoftmaxAttention(c.heads, c.attention, dtype=dtype, partition=on)
        self.head_dropout = nn.Dropout(c.dropout)
        self.head = Mlp((*c.head_widths, len(self.data.tasks)), False, dtype, on)
        self.gaps = {
            task.name: self.param(f"gaps_{task.name}", task.first_gaps)
            for task in self.data.tasks
            if isinstance(task, Ordinal) and task.outputs > 1
        }

    @property
    def table_names(self) -> list[str]:
        """Of the modules of the categories' tables, in the batch's order."""
        return [f"embed_{name}" for name in self.data.categories]

    @property
    def row_modules(self) -> dict[str, str]:
        """The modules with a row for every value of a category, and that category."""
        return dict(zip(self.table_names, self.data.categories, strict=True))

    def __call__(
        self, batch: RankingBatch, *, cached: Cached | None = None, deterministic: bool = True
    ) -> Float[Array, "B L O"]:
        """Returns the output of all tasks, float32; that of padding is meaningless.

        Args:
          batch: events; with `cached`, those of a history each.
          cached: how a cache of earlier events is used. The candidates of a request know no action.
          deterministic: False: with dropout.
        """
        c = self.config
        if c.unknown_rate and not deterministic:
            batch = with_unknown(batch, c.unknown_rate, self.make_rng("dropout"))
        signals, segment = signals_of(batch, self.data), batch.segment
        x, actions = self.tokens(batch, signals)
        if c.interleaved:
            tokens = x
            if cached is None or not cached.requests:
                tokens, segment = _interleave(x, actions), _twice(segment)
                signals = jax.tree.map(_twice, signals)
                if cached is not None:
                    places = _interleaved_places(jnp.asarray(cached.places))
                    cached = Cached.for_events(places)
            relations = self.trunk.relations(segment, signals, cached=cached)
            tokens = self.trunk(tokens, relations[TRUNK], deterministic=deterministic)
            fused = [tokens[:, :: tokens.shape[1] // x.shape[1]]]
        else:
            relations = self.trunk.relations(segment, signals, cached=cached)
            values = actions if c.mixed_value else None
            x = self.trunk(x, relations[TRUNK], added_to_values=values, deterministic=deterministic)
            fused = [x]
            if c.late_fusion:
                fused.append(self.fusion(x, actions, relations[LAST]))
        request = time_features(batch.time, REQUEST_FEATURES, self.data.scale)
        fused += [request.astype(x.dtype), jnp.asarray(batch.context, x.dtype)]
        hidden = self.head_dropout(jnp.concatenate(fused, axis=-1), deterministic=deterministic)
        return outputs_of(self.data.tasks, self.head(hidden).astype(jnp.float32), self.gaps)

    def tokens(
        self, batch: RankingBatch, signals: Signals
    ) -> tuple[Float[Array, "B L D"], Float[Array, "B L D"]]:
        """The item tokens and the action embeddings of the events."""
        ids = self.data.by_feature(batch.categorical)
        parts = [
            embedding_of(table, ids[name], name in self.data.lists)
            for name, table in zip(ids, self.tables, strict=True)
        ]
        parts.append(jnp.asarray(batch.dense))
        parts += self.trunk.input_signals(signals)
        features = jnp.concatenate([p.astype(self.config.dtype) for p in parts], axis=-1)
        return self.item_norm(nn.relu(self.item(features))), self.action(jnp.asarray(batch.actions))


def _interleave(
    x: Float[Array, "B L D"], actions: Float[Array, "B L D"]
) -> Float[Array, "B 2*L D"]:
    """[e_1, a_1, e_2, a_2, ...]"""
    return jnp.stack([x, actions], axis=2).reshape(x.shape[0], -1, x.shape[-1])


def _interleaved_places(places: Int[Array, "N Q"]) -> Int[Array, "N 2*Q"]:
    """Those of an event and of its action, in a cache that has two for each event."""
    return _interleave(2 * places[..., None], 2 * places[..., None] + 1)[..., 0]


def _twice(x_BxL: AnyArray) -> Array:
    """An item and its action share segment, position and time."""
    return jnp.repeat(x_BxL, 2, axis=1)
