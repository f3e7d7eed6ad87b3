"""The gradient of a batch slice by slice is that of the whole batch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siren_rope_jax.training.gradients import loss_and_gradient


def loss_of(params: Any, batch: Any, key: jax.Array, statistics: Any) -> tuple[Any, Any]:
    """A mean over the labels that count, which are more in some rows than in others."""
    del key
    error = (batch["x"] @ params["w"] + params["b"] - batch["y"]) ** 2 * statistics
    count = batch["counts"].sum()
    return (error * batch["counts"]).sum() / jnp.maximum(count, 1), count.astype(jnp.float32)


@pytest.mark.parametrize("slices", [2, 4, 12])
def test_slices_sum_to_the_whole(slices: int) -> None:
    rng = np.random.default_rng(0)
    batch = {
        "x": rng.normal(size=(24, 5)).astype(np.float32),
        "y": rng.normal(size=24).astype(np.float32),
        "counts": np.arange(24) % 7 < 3,
        "context": np.zeros((24, 0), np.float32),  # a log without such features
    }
    batch["counts"][::12] = False  # of twelve slices, one has no labels
    params = {"w": jnp.ones(5), "b": jnp.zeros(())}
    arguments = (params, batch, jax.random.key(0), jnp.float32(2))
    expected = loss_and_gradient(loss_of, 1)(*arguments)
    found = jax.jit(loss_and_gradient(loss_of, slices))(*arguments)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_batch_without_labels_has_a_loss_of_zero() -> None:
    batch = {"x": np.ones((4, 5), np.float32), "y": np.ones(4, np.float32), "counts": np.zeros(4)}
    params = {"w": jnp.ones(5), "b": jnp.zeros(())}
    loss, gradient = loss_and_gradient(loss_of, 2)(params, batch, jax.random.key(0), 1.0)
    assert loss == 0 and not any(np.any(x) for x in jax.tree.leaves(gradient))


def test_every_slice_draws_its_own_dropout() -> None:
    def drawn(params: Any, batch: Any, key: jax.Array, statistics: Any) -> tuple[Any, Any]:
        del batch, statistics
        return params * jax.random.normal(key), jnp.ones(())

    key = jax.random.key(3)
    loss, _ = loss_and_gradient(drawn, 2)(jnp.ones(()), {"x": np.ones(4)}, key, None)
    draws = [jax.random.normal(jax.random.fold_in(key, n)) for n in range(2)]
    assert draws[0] != draws[1]
    np.testing.assert_allclose(loss, sum(draws) / 2, rtol=1e-6)
