"""The rotation itself: the RoPE ladder (E1) and the real-valued rotation of q and k (E3).

Plane layout: *half-split*. Plane j of a head of width K = 2P is the pair of components (j, j + P),
which keeps the two halves contiguous. The interleaved layout (2j, 2j + 1) of the paper's texts is
the same rotation after `interleaved_to_half_split`.

Dimension letters, here and wherever a module does not list its own: B batch, L length in events, H
heads, K head width, P = K / 2 planes, D model width, F features, A actions, T tasks, N events of a
log or split.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import flax.struct
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.rotation.sine import sin_cos, within_a_turn


def ladder(planes: int, base: float) -> np.ndarray:
    """(E1): theta_j = base^(-j / planes), j = 0..planes-1, in radians per step; float64 [P]."""
    return base ** (-np.arange(planes) / planes)


def exact_angle(
    steps: Int[Array | np.ndarray, "..."], frequencies: np.ndarray
) -> Float[Array, "... P"]:
    """Integer steps times constant frequencies, modulo 2 pi, without float32's loss at large steps.

    The steps are cut into 8-bit digits, and the frequency of each digit is reduced modulo 2 pi in
    float64 beforehand, which is exact because digits are integers. The angle is right to about
    1e-4 rad below 2^24 steps and to 2e-2 rad for every other int32, even where
    `float32(steps) * frequency` would be off by whole turns.
    """
    angle = jnp.zeros((*steps.shape, len(frequencies)), jnp.float32)
    for shift in (0, 8, 16):
        digit = (
            steps >> shift if shift == 16 else (steps >> shift) & 0xFF
        )  # the last keeps the sign
        turn = np.remainder(frequencies * 2.0**shift + math.pi, math.tau) - math.pi
        part = digit[..., None].astype(jnp.float32) * turn.astype(np.float32)
        angle = angle + within_a_turn(part)
    return angle


@flax.struct.dataclass
class Rotation:
    """cos and sin of the angles of every plane, float32, broadcastable to [..., L, H, P].

    Or weighted sums of those of several rotations, which change the lengths of vectors too.
    Computed once per forward pass and shared by all layers that use the same angles.
    """

    cos: Float[Array, "... L #H P"]
    sin: Float[Array, "... L #H P"]

    @classmethod
    def from_angles(cls, angles: Float[Array, "... L #H P"]) -> "Rotation":
        """From angles in radians, float32."""
        sine, cosine = sin_cos(angles)
        return cls(cosine, sine)

    @classmethod
    def sum_of(cls, rotations: Sequence["Rotation"], weights: Sequence[float]) -> "Rotation":
        """Turns a copy of a vector by each, and adds the copies with these weights."""
        pairs, zero = list(zip(rotations, weights, strict=True)), jnp.zeros(())
        cos, sin = (w * r.cos for r, w in pairs), (w * r.sin for r, w in pairs)
        return cls(sum(cos, start=zero), sum(sin, start=zero))

    def __call__(self, x: Float[Array, "... L H K"]) -> Float[Array, "... L H K"]:
        """(E3): rotates every plane of queries or keys; computed in float32, dtype kept.

        Raises:
          UserError: their shape does not fit the angles, or they are not floating.
        """
        self._check(x)
        a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
        rotated = [a * self.cos - b * self.sin, a * self.sin + b * self.cos]
        return jnp.concatenate(rotated, axis=-1).astype(x.dtype)

    def _check(self, x: Array) -> None:
        *batch, length, heads, planes = self.cos.shape
        fits = x.ndim >= 3 and x.shape[-3] == length and x.shape[-1] == 2 * planes
        fits = fits and heads in (1, x.shape[-2]) and _broadcasts(batch, x.shape[:-3])
        if not fits or not jnp.issubdtype(x.dtype, jnp.floating):
            count = "heads" if heads == 1 else heads
            expected = f"[..., {length}, {count}, {2 * planes}], the length before the heads"
            raise UserError("queries or keys", f"must be {expected}, not {x.dtype}{[*x.shape]}")


@flax.struct.dataclass
class SpaceRotation(Rotation):
    """Rotations of blocks of three components, which do not commute: R_z(alpha) R_x(beta).

    Of the angles of P planes, the first half are alpha and the second half beta, so there are P / 2
    blocks; block j is the components j, j + P / 2 and j + P of a head, and the last P / 2
    components are not turned. Unlike (E6), a logit depends on both events' beta, not on their
    difference alone.
    """

    def __call__(self, x: Float[Array, "... L H K"]) -> Float[Array, "... L H K"]:
        """Rotates every block of queries or keys; otherwise as `Rotation`."""
        self._check(x)
        a, b, c, still = jnp.split(x.astype(jnp.float32), 4, axis=-1)
        (cos_z, cos_x), (sin_z, sin_x) = (jnp.split(y, 2, axis=-1) for y in (self.cos, self.sin))
        b, c = b * cos_x - c * sin_x, b * sin_x + c * cos_x
        a, b = a * cos_z - b * sin_z, a * sin_z + b * cos_z
        return jnp.concatenate([a, b, c, still], axis=-1).astype(x.dtype)


class QueryKeyRotation(NamedTuple):
    """The rotations of an attention's queries and keys.

    They are the same object where a query has the time of its own event, and differ where it has
    the later time of a request.
    """

    query: Rotation
    key: Rotation

    def __call__(
        self, q: Float[Array, "... L H K"], k: Float[Array, "... L H K"]
    ) -> tuple[Float[Array, "... L H K"], Float[Array, "... L H K"]]:
        """Rotates queries and keys; their dtypes are kept. Either can be rotated alone."""
        return self.query(q), self.key(k)


def _broadcasts(shape: Sequence[int], to: Sequence[int]) -> bool:
    """Whether an array of this shape broadcasts to another one without changing that."""
    try:
        return jnp.broadcast_shapes(tuple(shape), tuple(to)) == tuple(to)
    except ValueError:
        return False


def interleaved_to_half_split(head_width: int) -> np.ndarray:
    """Permutation p with `half_split = interleaved[..., p]` along a head's components, int [K]."""
    return np.arange(head_width).reshape(-1, 2).T.reshape(-1)
