"""Two layers of every model in a form that compiles well; the mathematics is Flax's and JAX's."""

import flax.linen as nn
import jax
from jaxtyping import Array, Float


class Dense(nn.Dense):
    """Flax's `Dense`, computed on [N, D] whatever the leading dimensions are.

    XLA's gradient of a product with several leading dimensions takes up to twice the time on CPUs.
    """

    @nn.compact
    def __call__(self, inputs: Float[Array, "... D"]) -> Float[Array, "... E"]:
        """x W + b."""
        rows = inputs.reshape(-1, inputs.shape[-1])
        return super().__call__(rows).reshape(*inputs.shape[:-1], self.features)


@jax.custom_jvp
def silu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x sigmoid(x); the sigmoid is kept for the gradient instead of being computed again."""
    return x * jax.nn.sigmoid(x)


@silu.defjvp
def _(primals, tangents):
    (x,), (dx,) = primals, tangents
    sigmoid = jax.nn.sigmoid(x)
    y = x * sigmoid
    return y, (sigmoid + y * (1 - sigmoid)) * dx
