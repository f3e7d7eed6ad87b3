"""Two layers of every model in a form that compiles well; the mathematics is Flax's and JAX's."""

from typing import Any

import flax.linen as nn
import jax
from flax.linen import linear
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Float


class Dense(nn.Module):
    """x W + b, computed on [N, D] whatever the leading dimensions are.

    XLA's gradient of a product with several leading dimensions takes up to twice the time on CPUs.

    Attributes:
      features: E.
      use_bias: whether b is added.
      dtype: of the computation; None: that of x and the parameters, which are float32.
      kernel_init: of W [D, E].
      precision: of the product, as in `jax.lax.dot_general`.
    """

    features: int
    use_bias: bool = True
    dtype: Any = None
    kernel_init: Any = linear.default_kernel_init
    precision: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... E"]:
        """Applies the layer."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        bias = None
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
        rows, kernel, bias = promote_dtype(
            x.reshape(-1, x.shape[-1]), kernel, bias, dtype=self.dtype
        )
        y = jax.lax.dot_general(rows, kernel, (((1,), (0,)), ((), ())), self.precision)
        y = y if bias is None else y + bias
        return y.reshape(*x.shape[:-1], self.features)


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
