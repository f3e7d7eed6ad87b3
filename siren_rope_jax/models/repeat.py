"""Repeating an item of the history, as an alternative to the softmax (RepeatNet, Ren 2019).

An attention over the history says which of its items may come again. The loss asks it for one item
of each slot, an evaluation for all items of a few slots; so its weights, which are as many as the
square of the length, are never all there.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from siren_rope_jax.base.arrays import AnyArray
from siren_rope_jax.models import kernels, request_attention
from siren_rope_jax.models.division import scan_positions
from siren_rope_jax.models.partition import WHOLE, Partition
from siren_rope_jax.models.relation import Relation

_GATHERED_ELEMENTS = 2**22
"""Of the keys that `Repeat.mixtures` has at once."""


@flax.struct.dataclass
class RepeatedTarget:
    """Per position, what the repeats of a history say of one item, the target.

    Attributes:
      repeated: the probability of naming the target again.
      explore: the probability of using the softmax over all items instead.
      known: the probability of using it or of naming any known item again.
    """

    repeated: Float[AnyArray, "*S"]
    explore: Float[AnyArray, "*S"]
    known: Float[AnyArray, "*S"]

    def nll(self, softmax_nll: Float[Array, "*S"]) -> Float[Array, "*S"]:
        """The target's NLL under the mixture, given its NLL under the softmax alone."""
        explored = floored_log(self.explore) - softmax_nll
        return floored_log(self.known) - jnp.logaddexp(floored_log(self.repeated), explored)


@flax.struct.dataclass
class Mixture:
    """Per position, a mixture of the softmax over all items with weights on the items of a history.

    Attributes:
      item: the L items of the history, in which an item may occur several times. 0 is the unknown
        item, which is not a candidate: the mixture is normalised over the others.
      weight: the probability of repeating each of them.
      explore: the probability of using the softmax instead; with the weights it sums to 1.
    """

    item: Int[AnyArray, "N L"]
    weight: Float[AnyArray, "N L"]
    explore: Float[AnyArray, " N"]

    def log_known(self) -> Float[Array, " N"]:
        """The log of the mixture's total probability of known items, before normalisation."""
        return floored_log(jnp.where(self.item > 0, self.weight, 0.0).sum(axis=-1) + self.explore)


@flax.struct.dataclass
class Repeat:
    """What a model says of repeats in a batch: its last attention, before it is computed.

    Attributes:
      item: of every event; with a cache, of those there.
      query, key: rotated, float32; with a cache, the keys there.
      own: items and keys of the queries' own events, which requests to a cache see besides.
      relation: of queries and keys.
      explore_logit: of the probability that the next item comes from the softmax.
      kernel: how the attention is computed for the targets.
      partition: where arrays live.
    """

    item: Int[AnyArray, "B L"]
    query: Float[Array, "B L H K"]
    key: Float[Array, "B L H K"]
    own: tuple[Int[AnyArray, "B L"], Float[Array, "B L H K"]]
    relation: Relation
    explore_logit: Float[Array, "B L"]
    kernel: kernels.KernelKind = flax.struct.field(pytree_node=False, default="auto")
    partition: Partition = flax.struct.field(pytree_node=False, default=WHOLE)

    @property
    def explore(self) -> Float[Array, "B L"]:
        """The probability of using the softmax over all items."""
        return nn.sigmoid(self.explore_logit)

    @property
    def share(self) -> Float[Array, "B L"]:
        """The probability of naming an item again: what `explore` leaves."""
        return nn.sigmoid(-self.explore_logit)

    def of_targets(self, target_BxL: Int[AnyArray, "B L"]) -> RepeatedTarget:
        """What is said of one item at every slot."""
        qk, tags = (self.query, self.key), (target_BxL, self.item)
        weight_BxLx2 = kernels.weight_of_tags(self.kernel, self.partition, qk, tags, self.relation)
        repeated_BxL, known_BxL = (self.share * weight_BxLx2[..., i] for i in range(2))
        return RepeatedTarget(repeated_BxL, self.explore, known_BxL + self.explore)

    def mixtures(self, slots: tuple[Int[AnyArray, " N"], Int[AnyArray, " N"]]) -> Mixture:
        """What is said of all items at some slots (rows, places)."""
        row_N, place_N = map(jnp.asarray, slots)
        shape = jnp.shape(self.item)
        queries, keys = jax.tree.map(
            lambda x: jnp.broadcast_to(x, shape), (self.relation.queries, self.relation.keys)
        )

        def weights(_: None, columns: tuple[Array, ...]) -> tuple[None, Array]:
            row, place = columns
            relation = dataclasses.replace(
                self.relation,
                queries=jax.tree.map(lambda x: x[row, place][:, None], queries),
                keys=jax.tree.map(lambda x: x[row], keys),
            )
            q = self.query[row, place][:, None]
            return None, kernels.softmax_weights(q, self.key[row], relation).mean(axis=1)[:, 0]

        at_once = max(_GATHERED_ELEMENTS // int(np.prod(self.key.shape[1:])), 1)
        weight_NxL = scan_positions(weights, None, at_once, row_N, place_N)[1]
        weight_NxL *= self.share[row_N, place_N][:, None]
        return Mixture(jnp.asarray(self.item)[row_N], weight_NxL, self.explore[row_N, place_N])

    def of_requests(self) -> Mixture:
        """What is said of all items by the requests to a cache, those of one history after others'.

        Its positions are N * Q.
        """
        item_NxQ, key = self.own
        cached_NxHxQxC, own_NxHxQ, _ = request_attention.softmax_weights(
            self.query, self.key, key, self.relation
        )
        whole = jnp.concatenate([cached_NxHxQxC, own_NxHxQ[..., None]], axis=-1).mean(axis=1)
        shape = (*jnp.shape(item_NxQ), jnp.shape(self.item)[1])
        item = jnp.broadcast_to(jnp.asarray(self.item)[:, None], shape)
        item = jnp.concatenate([item, jnp.asarray(item_NxQ)[..., None]], axis=-1)
        weight, explore = whole * self.share[..., None], self.explore
        return Mixture(
            item.reshape(-1, item.shape[-1]),
            weight.reshape(-1, weight.shape[-1]),
            explore.reshape(-1),
        )

    def weights(self) -> Float[Array, "B L L"]:
        """The weights of all slots on all items, in memory that grows with the square of L."""
        weight_BxLxL = kernels.softmax_weights(self.query, self.key, self.relation).mean(axis=1)
        return self.share[..., None] * weight_BxLxL


def floored_log(x: Any) -> Array:
    """log(x), with x no less than the smallest normal float32: finite at 0, with its gradient."""
    return jnp.log(jnp.maximum(x, float(np.finfo(np.float32).tiny)))
