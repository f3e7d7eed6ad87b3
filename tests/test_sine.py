"""Sine, cosine and layers: what they replace, to the last digits of float32, with its gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siren_rope_jax.rotation.layers import Dense, silu
from siren_rope_jax.rotation.sine import sin, sin_cos


@pytest.mark.parametrize("largest", [1.0, 100.0, 8_192.0, 1e5])
def test_sine_and_cosine_are_as_exact_as_float32(largest: float) -> None:
    x = np.random.default_rng(0).uniform(-largest, largest, 100_000).astype(np.float32)
    x[:3] = 0.0, np.pi / 2, -np.pi
    sine, cosine = jax.jit(sin_cos)(x)
    np.testing.assert_allclose(sine, np.sin(x.astype(np.float64)), atol=3e-7)
    np.testing.assert_allclose(cosine, np.cos(x.astype(np.float64)), atol=3e-7)


def test_each_is_the_others_derivative_at_any_order() -> None:
    x = jnp.linspace(-9, 9, 50)
    by_forward = jax.jvp(sin, (x,), (jnp.ones_like(x),))[1]
    by_reverse = jax.vmap(jax.grad(sin))(x)
    twice = jax.vmap(jax.grad(jax.grad(sin)))(x)
    np.testing.assert_allclose(by_forward, jnp.cos(x), atol=1e-6)
    np.testing.assert_allclose(by_reverse, jnp.cos(x), atol=1e-6)
    np.testing.assert_allclose(twice, -jnp.sin(x), atol=1e-6)


def test_silu_is_jaxs() -> None:
    x = jnp.linspace(-20, 20, 101)
    np.testing.assert_allclose(silu(x), jax.nn.silu(x), rtol=1e-6)
    slopes, expected = (jax.vmap(jax.grad(f))(x) for f in (silu, jax.nn.silu))
    np.testing.assert_allclose(slopes, expected, atol=1e-6)


def test_dense_is_flaxs_with_the_same_parameters() -> None:
    x = jax.random.normal(jax.random.key(0), (2, 3, 5))
    ours, theirs = Dense(4, name="d"), nn.Dense(4, name="d")
    params = theirs.init(jax.random.key(1), x)
    own = ours.init(jax.random.key(1), x)
    for a, b in zip(jax.tree.leaves(own), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(ours.apply(params, x), theirs.apply(params, x), rtol=1e-6)
