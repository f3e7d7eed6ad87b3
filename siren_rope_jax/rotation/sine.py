"""Sine and cosine in float32, as polynomials: the most frequent operation of a rotation.

XLA's own go to great lengths for huge arguments and cost as much as dozens of multiplications.
Angles are small. Both functions come from one reduction, and a derivative is the other function,
which is kept.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Minimax on [-pi/4, pi/4] (the coefficients of Cephes' sinf and cosf), in powers of the square.
_SIN = (-1.6666654611e-1, 8.3321608736e-3, -1.9515295891e-4)
_COS = (4.166664568298827e-2, -1.388731625493765e-3, 2.443315711809948e-5)
# pi / 2 in three parts, of which the first two have few bits: multiples of them are exact.
_HALF_PI = (1.5703125, 4.837512969970703125e-4, 7.54978995489188216e-8)


@jax.custom_jvp
def sin_cos(x: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """sin(x) and cos(x), float32: within 1.1e-7 of the truth up to |x| = 1e6.

    Beyond, it loses its meaning, as x does: its float32 neighbours are 0.06 apart there.
    """
    x = jnp.asarray(x, jnp.float32)
    turns = jnp.round(x * np.float32(2 / np.pi))
    rest = x
    for part in _HALF_PI:
        rest = rest - turns * np.float32(part)
    square = rest * rest
    sine = rest + rest * square * _polynomial(_SIN, square)
    cosine = 1 - np.float32(0.5) * square + square * square * _polynomial(_COS, square)
    quadrant = turns.astype(jnp.int32)
    swapped = (quadrant & 1) == 1
    s, c = jnp.where(swapped, cosine, sine), jnp.where(swapped, sine, cosine)
    return (
        jnp.where((quadrant & 2) == 2, -s, s),
        jnp.where(((quadrant + 1) & 2) == 2, -c, c),
    )


@sin_cos.defjvp
def _(primals, tangents):
    (x,), (dx,) = primals, tangents
    sine, cosine = sin_cos(x)
    return (sine, cosine), (cosine * dx, -sine * dx)


def sin(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The sine alone, as of `sin_cos`."""
    return sin_cos(x)[0]


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    value = jnp.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + np.float32(coefficient)
    return value
