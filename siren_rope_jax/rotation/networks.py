"""The dual-branch network f_phi (E4): a SIREN, an MLP, and their sum.

All of it runs in float32 at the highest matmul precision, whatever the model's dtype: its outputs
are angles, and an error of an angle is an error of time.
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from siren_rope_jax.rotation.layers import Dense
from siren_rope_jax.rotation.sine import sin


def uniform(bound: float) -> Callable[..., Array]:
    """Initialiser U(-bound, bound)."""

    def init(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def _dense(features: int, name: str, kernel_init: Callable[..., Array]) -> Dense:
    return Dense(features, kernel_init=kernel_init, precision="highest", name=name)


class Siren(nn.Module):
    """f_sin: hidden layers sin(omega_0 (W x + b)), last layer linear.

    Initialised after Sitzmann et al. 2020: W of the first layer ~ U(-1/n, 1/n), of the others, the
    linear one included, U(-sqrt(6/n)/omega_0, sqrt(6/n)/omega_0), n = fan-in.

    Attributes:
      features: width of the output.
      width: units of each hidden layer.
      layers: number of hidden (sine) layers.
      omega_0: factor inside the sine, bias included; 8..15 is stable, 25 and above is not.
    """

    features: int
    width: int = 64
    layers: int = 2
    omega_0: float = 10.0

    @nn.compact
    def __call__(self, x: Float[Array, "... F"]) -> Float[Array, "... features"]:
        for i in range(self.layers):
            n = x.shape[-1]
            bound = 1 / n if i == 0 else math.sqrt(6 / n) / self.omega_0
            x = sin(self.omega_0 * _dense(self.width, f"sine_{i}", uniform(bound))(x))
        bound = math.sqrt(6 / x.shape[-1]) / self.omega_0
        return _dense(self.features, "linear", uniform(bound))(x)


class Dnn(nn.Module):
    """f_dnn: hidden layers with ReLU, last layer linear. Attributes as in `Siren`."""

    features: int
    width: int = 64
    layers: int = 2

    @nn.compact
    def __call__(self, x: Float[Array, "... F"]) -> Float[Array, "... features"]:
        for i in range(self.layers):
            x = nn.relu(_dense(self.width, f"relu_{i}", nn.initializers.he_uniform())(x))
        return _dense(self.features, "linear", nn.initializers.lecun_normal())(x)


class Time2Vec(nn.Module):
    """Time2Vec (Kazemi et al. 2019): [w_0 tau + b_0, sin(w_k tau + b_k)] of a scalar time tau."""

    features: int

    @nn.compact
    def __call__(self, tau: Float[Array, "..."]) -> Float[Array, "... features"]:
        w = self.param("frequency", nn.initializers.normal(1.0), (self.features,))
        b = self.param("phase", uniform(math.pi), (self.features,))
        angle = tau[..., None] * w + b
        return jnp.concatenate([angle[..., :1], sin(angle[..., 1:])], axis=-1)
