"""Repeating an item of the history, as an alternative to the softmax (RepeatNet, Ren 2019)."""

import dataclasses

import flax.struct
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from siren_rope_jax.base.arrays import AnyArray


@flax.struct.dataclass
class Repeat:
    """Per position, a mixture of the softmax over all items with weights on the items of a history.

    Attributes:
      item: the L items of the history, in which an item may occur several times. 0 is the unknown
        item, which is not a candidate: the mixture is normalised over the others. A model returns
        [B, 1, L], the same items for all positions of a row.
      weight: the probability of repeating each of them.
      explore: the probability of using the softmax instead; with the weights it sums to 1.
    """

    item: Int[AnyArray, "*#S L"]
    weight: Float[AnyArray, "*S L"]
    explore: Float[AnyArray, "*S"]

    def log_known(self) -> Float[Array, "*S"]:
        """The log of the mixture's total probability of known items, before normalisation."""
        return floored_log(jnp.where(self.item > 0, self.weight, 0.0).sum(axis=-1) + self.explore)

    def mixed_nll(
        self, target: Int[Array, "*S"], softmax_nll: Float[Array, "*S"]
    ) -> Float[Array, "*S"]:
        """The target's NLL under the mixture, given its NLL under the softmax alone."""
        repeated = jnp.where(self.item == target[..., None], self.weight, 0.0).sum(axis=-1)
        explored = floored_log(self.explore) - softmax_nll
        return self.log_known() - jnp.logaddexp(floored_log(repeated), explored)


def per_slot(repeat: Repeat | None) -> Repeat | None:
    """The same with the items broadcast to every position, so that all arrays can be sliced alike.

    Use it under `jit`, where the broadcast items are never materialised.
    """
    if repeat is None:
        return None
    item = jnp.broadcast_to(repeat.item, repeat.weight.shape)
    return dataclasses.replace(repeat, item=item)


def floored_log(x: AnyArray) -> Array:
    """log(x), with x no less than the smallest normal float32: finite at 0, with its gradient."""
    return jnp.log(jnp.maximum(x, float(np.finfo(np.float32).tiny)))
