"""The gradient of a batch, all at once or slice by slice."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Loss = Callable[[Any, Any, Array, Any], tuple[Array, Array]]
"""(params, batch, key, statistics) -> the mean over the labels that count, and their number."""


def loss_and_gradient(
    loss_of: Loss, slices: int
) -> Callable[[Any, Any, Array, Any], tuple[Float[Array, ""], Any]]:
    """The mean loss of a batch and its gradient, from the slices of the batch in turn.

    A slice holds every so many rows of the batch, the same ones on every mesh. The result is that
    of the whole batch, up to the order of sums, where the loss of a label does not depend on the
    others; each slice draws its own dropout and negatives.

    Args:
      loss_of: of a batch or a slice of it.
      slices: how many; their memory is needed one after the other.
    """

    def mean(params: Any, batch: Any, key: Array, statistics: Any) -> tuple[Array, Array]:
        return loss_of(params, batch, key, statistics)

    whole = jax.value_and_grad(mean, has_aux=True)
    if slices == 1:

        def at_once(*arguments: Any) -> tuple[Array, Any]:
            (loss, _), gradient = whole(*arguments)
            return loss, gradient

        return at_once

    def weighed(params: Any, batch: Any, key: Array, statistics: Any) -> tuple[Array, Array]:
        loss, count = loss_of(params, batch, key, statistics)
        return loss * count, count

    summed = jax.value_and_grad(weighed, has_aux=True)

    def in_turn(params: Any, batch: Any, key: Array, statistics: Any) -> tuple[Array, Any]:
        def add(total: Any, of_slice: Any) -> tuple[Any, None]:
            number, rows = of_slice
            of_rows = summed(params, rows, jax.random.fold_in(key, number), statistics)
            return jax.tree.map(jnp.add, total, of_rows), None

        zero = jnp.zeros((), jnp.float32)
        start = ((zero, zero), jax.tree.map(jnp.zeros_like, params))
        rows = jax.tree.map(lambda x: _sliced(x, slices), batch)
        ((loss, count), gradient), _ = jax.lax.scan(add, start, (jnp.arange(slices), rows))
        count = jnp.maximum(count, 1)
        return loss / count, jax.tree.map(lambda x: x / count, gradient)

    return in_turn


def by_slices(function: Callable[[Any, Array], Any], slices: int) -> Callable[[Any, Array], Any]:
    """(batch, key) -> what `function` returns of every slice and its key, as above, stacked."""
    if slices == 1:
        return function

    def of_all(batch: Any, key: Array) -> Any:
        rows = jax.tree.map(lambda x: _sliced(x, slices), batch)

        def of_slice(numbered: Any) -> Any:  # not by vmap: under it, some keys draw otherwise
            number, rows = numbered
            return function(rows, jax.random.fold_in(key, number))

        return jax.lax.map(of_slice, (jnp.arange(slices), rows))

    return of_all


def _sliced(x: Array, slices: int) -> Array:
    """[rows, ...] -> [slices, rows / slices, ...]: the rows of every device are divided alike."""
    return x.reshape(len(x) // slices, slices, *x.shape[1:]).swapaxes(0, 1)
