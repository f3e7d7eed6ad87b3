"""The trunk of every model: attention blocks over rotated events, described by one config."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from siren_rope_jax.base.arrays import AnyArray
from siren_rope_jax.base.errors import UserError, check, suggestion
from siren_rope_jax.models.batch import DataSpec
from siren_rope_jax.models.blocks import Block, BlockKind
from siren_rope_jax.models.cache import CACHE, Cached, remembered
from siren_rope_jax.models.input_signals import InputSignals
from siren_rope_jax.models.kernels import KernelKind
from siren_rope_jax.models.partition import WHOLE, Partition
from siren_rope_jax.models.relation import Relation
from siren_rope_jax.rotation.biases import BiasKind, Events, LogitBias
from siren_rope_jax.rotation.encoding import LAST, TRUNK, AngleEncoding
from siren_rope_jax.rotation.maps import TimeNetwork
from siren_rope_jax.rotation.signals import Signals
from siren_rope_jax.rotation.sources import AngleSource, check_sources
from siren_rope_jax.rotation.time import TimeFeature

Rematerialisation = Literal["none", "dots", "all"]

MOST = 1 << 16
"""Units of a layer: more are a mistake, and would not end in a message."""


@dataclass(frozen=True, kw_only=True)
class TrunkConfig:
    """Sizes and choices of a trunk.

    Attributes:
      encoding: the rotation's angle sources by name.
      rotation: what the angles turn: `planes`, pairs of components (E3), or `space`, blocks of
        three components by rotations that do not commute (`SpaceRotation`).
      biases: on the logits of every attention, beside the rotation. `position`: a number for every
        difference of indices (HSTU); `time_buckets`: one for every bucket of elapsed time, whose
        limits grow geometrically (HSTU); `time_power`, `time_exponential`, `time_retention`:
        functions of elapsed time (FuXi-beta, -gamma, -Linear); `time_relation`: the query times a
        vector for the bucket of elapsed time (TiSASRec).
      block: `softmax`: pre-norm attention and feed-forward part, as SASRec's but for a wider
        feed-forward part with SiLU, and keys and values that are normed as the queries are;
        `hstu`: pointwise attention with gating (HSTU).
      attention: how attentions are computed; all ways have the same result (`kernels.py`). `dense`:
        all logits at once; `blocked`: in blocks of queries; `splash`: a kernel of TPUs for softmax
        blocks without `biases`, and `blocked` for others; `auto`: what suits device and length.
      width: components of a token (D), over all heads.
      heads: of every attention.
      layers: blocks of the trunk.
      input_time_features: time features joined to those of the events ("time in the embedding").
      input_time_network: a network whose outputs, as many as `width`, are joined in the same way.
      input_counts: other integer signals of the events whose embeddings are joined in the same way.
      dropout: rate on every residual branch.
      unknown_rate: share of the ids of events, of every categorical feature, that training takes
        for unknown. So the row of unknown values learns from all of them, not from the rare ones
        alone, what to make of a value that comes up after training.
      dtype: of the computation; angles and parameters stay float32.
      remat: what the gradient computes again instead of keeping it: `none`; `dots`: all of a block
        but its matrix products with parameters; `all`: all but a block's input.
      scan_layers: whether the blocks are one loop over stacked parameters, which is compiled in the
        time of one block. The parameters have another layout then.
    """

    encoding: dict[str, AngleSource]
    rotation: Literal["planes", "space"] = "planes"
    biases: tuple[BiasKind, ...] = ()
    block: BlockKind = "softmax"
    attention: KernelKind = "auto"
    width: int = 64
    heads: int = 2
    layers: int = 2
    input_time_features: tuple[TimeFeature, ...] = ()
    input_time_network: TimeNetwork | None = None
    input_counts: tuple[str, ...] = ()
    dropout: float = 0.0
    unknown_rate: float = 0.02
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Rematerialisation = "none"
    scan_layers: bool = False

    def __post_init__(self) -> None:
        for key, most in (("width", MOST), ("heads", MOST), ("layers", 1_000)):
            check(1 <= getattr(self, key) <= most, key, f"from 1 to {most:,}")
        for key in ("dropout", "unknown_rate"):
            check(0 <= getattr(self, key) < 1, key, "in [0, 1)")
        if self.width % (2 * self.heads):
            raise UserError(
                "width",
                f"{self.width} over {self.heads} heads: the head width must be a whole, even "
                "number, because rotation turns pairs of components",
            )
        if self.rotation == "space" and self.planes % 2:
            raise UserError(
                "rotation",
                f"space needs a head width that is a multiple of 4, not {2 * self.planes}",
            )
        weighted = [name for name, source in self.encoding.items() if source.weight is not None]
        if self.rotation == "space" and weighted:
            problem = f"must be planes where sources ({', '.join(weighted)}) have weights"
            raise UserError("rotation", problem)
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
            or self.input_time_network is not None
            or any(kind != "position" for kind in self.biases)
            or any(source.uses_time for source in self.encoding.values())
        )


def _rematerialised(block: type[Block], remat: Rematerialisation, in_loop: bool) -> Any:
    if remat == "none":
        return block
    policies = jax.checkpoint_policies
    policy = policies.checkpoint_dots_with_no_batch_dims if remat == "dots" else None
    return nn.remat(block, policy=policy, static_argnums=(4,), prevent_cse=not in_loop)


_LATER = np.int32(2**30)
"""The place of a request, after all places of a cache."""


class _Layer(nn.Module):
    """One step of a loop over blocks.

    Attributes:
      block: makes the block.
      bias: makes its logit bias; None: there is none.
    """

    block: Callable[..., Block]
    bias: Callable[..., LogitBias] | None

    @nn.compact
    def __call__(
        self, x: Array, added_to_values: Array | None, relation: Relation, deterministic: bool
    ) -> tuple[Array, None]:
        if self.bias is not None:
            relation = replace(relation, bias=self.bias(name="bias_each")())
        return self.block(name="block")(x, added_to_values, relation, deterministic), None


def _stacked(layers: int) -> Any:
    """`_Layer` as a loop, whose parameters have a first dimension of layers."""
    return nn.scan(
        _Layer,
        variable_axes={"params": 0, CACHE: 1},
        split_rngs={"params": True, "dropout": True},
        in_axes=nn.broadcast,
        length=layers,
        metadata_params={nn.PARTITION_NAME: None},
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
        sizes = self.data.categories | self.data.counts
        check_sources(c.encoding, c.heads, c.planes, sizes, "config.model.encoding")
        for name, source in c.encoding.items():
            for category in set(source.categories) & set(self.data.lists):
                raise UserError(
                    f"config.model.encoding.{name}.category",
                    f"{category!r} is a list of values, and an angle needs one; name another "
                    "feature, or prepare the log with its first value as one of its own",
                )
        for name in c.input_counts:
            if name not in self.data.counts:
                known = suggestion(name, self.data.counts) or "; it has none"
                raise UserError(
                    "config.model.input_counts", f"the log has no signal {name!r}{known}"
                )
        self.input_signals = InputSignals(
            c.input_time_features,
            c.input_time_network,
            {name: self.data.counts[name] for name in c.input_counts},
            c.width,
            self.data.scale,
        )
        self.encoding = AngleEncoding(
            c.encoding,
            c.heads,
            c.planes,
            self.data.scale,
            sizes,
            attentions,
            in_space=c.rotation == "space",
        )
        length, dtype = self.data.context_length, jnp.dtype(c.dtype)
        block = partial(
            _rematerialised(Block, c.remat, c.scan_layers),
            c.block,
            c.heads,
            length,
            c.attention,
            self.strict,
            c.dropout,
            dtype,
            self.partition,
        )
        bias = partial(LogitBias, c.biases, c.heads, length, 2 * c.planes)
        if c.scan_layers:
            self.layers = _stacked(c.layers)(block, bias if c.biases else None, name="layers")
        else:
            self.blocks = [block(name=f"block_{i}") for i in range(c.layers)]
        if c.biases and not c.scan_layers:
            self.block_biases = [bias(name=f"bias_{i}") for i in range(c.layers)]
        if c.biases and self.has_last:
            self.last_bias = bias(name=f"bias_{c.layers}")

    def relations(
        self,
        segment: Int[AnyArray, "B L"],
        signals: Signals,
        request: Signals | None = None,
        cached: Cached | None = None,
    ) -> dict[str, Relation]:
        """How the events of a row are related, for the trunk and the attention that follows it.

        Args:
          segment: as in a batch; 0 is padding.
          signals: of the events.
          request: what queries are made by, where that is not their own event's.
          cached: how a cache is used; None: there is none.
        """
        segment, place = jnp.asarray(segment), jnp.arange(segment.shape[-1])
        if cached is not None:
            place = jnp.asarray(_LATER if cached.requests else cached.places)
        if cached is not None or self.is_mutable_collection(CACHE):
            place = jnp.broadcast_to(place, segment.shape)
        events = Events(segment, place, signals.position, signals.time)
        queries = events if request is None else replace(events, time=request.time)
        keys = remembered(self, cached, "events", events)
        relations = {
            name: Relation(
                rotation,
                queries,
                keys,
                strict=self.strict,
                aligned=cached is None,
                cached=cached,
                own=events,
            )
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
        if self.config.scan_layers:
            return self.layers(x, added_to_values, relation, deterministic)[0]
        for i, block in enumerate(self.blocks):
            if self.config.biases:
                relation = replace(relation, bias=self.block_biases[i]())
            x = block(x, added_to_values, relation, deterministic)
        return x
