"""The rotation: norms, relative angles, dtypes, exact fixed angles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siren_rope_jax.rotation.rotate import (
    Rotation,
    SpaceRotation,
    exact_angle,
    interleaved_to_half_split,
    ladder,
)

HEADS, PLANES = 2, 4


def _random(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def test_ladder_is_e1() -> None:
    j, head_width, base = np.arange(PLANES), 2 * PLANES, 1e4
    np.testing.assert_allclose(ladder(PLANES, base), base ** (-2 * j / head_width), rtol=1e-12)


def test_rotation_preserves_norms_of_every_plane() -> None:
    x = _random(0, 3, HEADS, 2 * PLANES)
    rotated = Rotation.from_angles(_random(1, 3, 1, PLANES))(x)
    planes = lambda y: y.reshape(3, HEADS, 2, PLANES)  # noqa: E731
    norms = [jnp.linalg.norm(planes(y), axis=-2) for y in (x, rotated)]
    np.testing.assert_allclose(*norms, rtol=1e-5)


def test_products_see_only_differences_of_angles() -> None:
    """(E6): <R(a) q, R(b) k> = <q, R(b - a) k>, and a constant added to all changes nothing."""
    q, k = _random(0, 1, HEADS, 2 * PLANES), _random(1, 1, HEADS, 2 * PLANES)
    a, b = _random(2, 1, 1, PLANES), _random(3, 1, 1, PLANES)
    product = (Rotation.from_angles(a)(q) * Rotation.from_angles(b)(k)).sum(-1)
    relative = (q * Rotation.from_angles(b - a)(k)).sum(-1)
    shifted = (Rotation.from_angles(a + 0.7)(q) * Rotation.from_angles(b + 0.7)(k)).sum(-1)
    np.testing.assert_allclose(product, relative, atol=1e-5)
    np.testing.assert_allclose(product, shifted, atol=1e-5)


def test_rotations_in_space_are_those_of_three_components() -> None:
    """R_z(alpha) R_x(beta); alpha alone is relative as in a plane, beta is not beside it."""
    x, angle = _random(0, 1, 1, 2 * PLANES), _random(1, 1, 1, PLANES)
    turned, half = SpaceRotation.from_angles(angle)(x), PLANES // 2
    for j, (alpha, beta) in enumerate(zip(angle[0, 0, :half], angle[0, 0, half:], strict=True)):
        cz, sz, cx, sx = jnp.cos(alpha), jnp.sin(alpha), jnp.cos(beta), jnp.sin(beta)
        about_z = jnp.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
        about_x = jnp.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        block = np.array([j, j + half, j + PLANES])
        np.testing.assert_allclose(
            turned[0, 0, block], about_z @ about_x @ x[0, 0, block], atol=1e-5
        )
    np.testing.assert_array_equal(turned[..., -half:], x[..., -half:])

    def product(shift: jax.Array) -> jax.Array:
        q, k = (SpaceRotation.from_angles(_random(seed, 1, 1, PLANES) + shift) for seed in (2, 3))
        return (q(x) * k(_random(4, *x.shape))).sum()

    about_z, about_x = jnp.repeat(jnp.eye(2), half, axis=1)
    np.testing.assert_allclose(product(0.7 * about_z), product(0 * about_z), atol=1e-5)
    assert abs(product(0.7 * about_x) - product(0 * about_x)) > 0.1


def test_interleaved_layout_is_the_same_rotation() -> None:
    x, angle = _random(0, 1, 1, 2 * PLANES), _random(1, 1, 1, PLANES)
    order = interleaved_to_half_split(2 * PLANES)
    ours = Rotation.from_angles(angle)(x[..., order])
    a, b, c, s = x[..., 0::2], x[..., 1::2], jnp.cos(angle), jnp.sin(angle)
    interleaved = jnp.stack([a * c - b * s, a * s + b * c], axis=-1).reshape(x.shape)
    np.testing.assert_allclose(ours, interleaved[..., order], atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_rotation_keeps_dtype(dtype: jnp.dtype) -> None:
    x = _random(0, 3, HEADS, 2 * PLANES).astype(dtype)
    rotation = Rotation.from_angles(_random(1, 3, 1, PLANES))
    assert rotation(x).dtype == dtype
    assert rotation.cos.dtype == jnp.float32


@given(st.integers(-(2**31), 2**31 - 1), st.floats(1e-6, 1e4))
def test_exact_angle_holds_for_every_int32(steps: int, frequency: float) -> None:
    angle = exact_angle(jnp.asarray([steps], jnp.int32), np.asarray([frequency]))[0, 0]
    # The reference in integers: steps times a frequency of 2^-k turns would round in float64 too.
    exact = float(np.remainder(np.longdouble(steps) * np.longdouble(frequency), 2 * np.pi))
    error = np.angle(np.exp(1j * (float(angle) - exact)))
    rounding = abs(steps) * frequency * 1e-15  # of the frequency itself in float64
    assert abs(error) < 0.02 if abs(steps) > 2**24 else abs(error) < 2e-4 + rounding
