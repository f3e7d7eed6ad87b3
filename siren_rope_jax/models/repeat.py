"""Naming an item of the history again, beside the softmax over all items (RepeatNet, Ren 2019)."""

import dataclasses

import flax.struct
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from siren_rope_jax.base.arrays import AnyArray


@flax.struct.dataclass
class Repeat:
    """How the probability of an item is mixed of two shares, per position.

    Attributes:
      item: the L items of the history, each possibly several times; 0 is the unknown one, and
        what it is given is shared out by all in proportion. Positions may share them: of a
        model they are [B, 1, L].
      weight: the probability given to each of them.
      explore: the share of the softmax over all items; with the weights it sums to 1.
    """

    item: Int[AnyArray, "*#S L"]
    weight: Float[AnyArray, "*S L"]
    explore: Float[AnyArray, "*S"]

    def log_known(self) -> Float[Array, "*S"]:
        """The log of all that known items are given."""
        return floored_log(jnp.where(self.item > 0, self.weight, 0.0).sum(axis=-1) + self.explore)

    def mixed_nll(
        self, target: Int[Array, "*S"], softmax_nll: Float[Array, "*S"]
    ) -> Float[Array, "*S"]:
        """-log of a target's probability in the mixture, given that of the softmax alone."""
        again = jnp.where(self.item == target[..., None], self.weight, 0.0).sum(axis=-1)
        return self.log_known() - jnp.logaddexp(
            floored_log(again), floored_log(self.explore) - softmax_nll
        )


def per_slot(repeat: Repeat | None) -> Repeat | None:
    """The same with items of its own for every position, so that all arrays are cut alike.

    For use under `jit`, which reads the shared ones and never holds those it returns.
    """
    if repeat is None:
        return None
    item = jnp.broadcast_to(repeat.item, repeat.weight.shape)
    return dataclasses.replace(repeat, item=item)


def floored_log(x: AnyArray) -> Array:
    """log(x) of at least the least normal float32: finite at 0, and so is its gradient."""
    return jnp.log(jnp.maximum(x, float(np.finfo(np.float32).tiny)))
