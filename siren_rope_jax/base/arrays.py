"""The type of an array, wherever it is."""

import numpy as np
from jaxtyping import Array

AnyArray = Array | np.ndarray
"""On the device, or still on the host."""
