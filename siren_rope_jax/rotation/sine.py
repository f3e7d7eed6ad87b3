"""Sine and cosine in float32, as polynomials: the most frequent operation of a rotation.

XLA's own go to great lengths for huge arguments: on CPUs they cost ten times as much. Here both
functions come from one polynomial, and a derivative is the other function, which is kept.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from siren_rope_jax.base.arrays import AnyArray

# tan(x) / x on [-pi/4, pi/4], in powers of the square (minimax; the coefficients of Cephes' tanf).
_TAN = (
    1.0,
    3.33331568548e-1,
    1.33387994085e-1,
    5.34112807005e-2,
    2.44301354525e-2,
    3.11992232697e-3,
    9.38540185543e-3,
)
# pi in three parts, of which the first two have few bits: multiples of them are exact.
_PI = (3.140625, 9.67502593994140625e-4, 1.509957990978376432e-7)


@jax.custom_jvp
def sin_cos(x: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """sin(x) and cos(x), float32: within 3e-7 of the truth up to |x| = 1e5.

    Beyond, they lose their meaning, as x does: its float32 neighbours are 0.01 apart there.
    """
    turns, rest = _reduced(jnp.asarray(x, jnp.float32), 1)
    half = np.float32(0.5) * rest
    tangent = half * _polynomial(_TAN, half * half)
    square = tangent * tangent
    sign = 1 - 2 * (turns.astype(jnp.int32) & 1).astype(jnp.float32)
    # The division comes last: what XLA finds expensive it does not compute again in every operation
    # that uses the result, as it does with cheaper forms (a quarter of a training step on CPUs).
    return sign * 2 * tangent / (1 + square), sign * (1 - square) / (1 + square)


@sin_cos.defjvp
def _(primals, tangents):
    (x,), (dx,) = primals, tangents
    sine, cosine = sin_cos(x)
    return (sine, cosine), (cosine * dx, -sine * dx)


def sin(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The sine alone, as of `sin_cos`."""
    return sin_cos(x)[0]


def within_a_turn(x: Float[AnyArray, "..."]) -> Float[Array, "..."]:
    """x modulo 2 pi, float32, between -pi and pi."""
    return _reduced(jnp.asarray(x), 2)[1]


def _reduced(x: Array, halves: int) -> tuple[Array, Array]:
    """The nearest whole number of so many half turns, and what is left of x."""
    turns = jnp.round(x * np.float32(1 / np.pi / halves))
    for part in _PI:
        x = x - turns * np.float32(part * halves)
    return turns, x


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    value = jnp.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + np.float32(coefficient)
    return value
