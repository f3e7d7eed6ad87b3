"""Mean and standard deviation of a stream of numbers."""

import numpy as np

from siren_rope_jax.data.schema import Dense


class Moments:
    """Mean and variance of a stream in float64, by the update of Chan et al., reproducibly.

    `count` numbers have been added so far; `mean` is theirs.
    """

    def __init__(self) -> None:
        self.count, self.mean, self._squares = 0, 0.0, 0.0

    def add(self, values: np.ndarray) -> None:
        """Adds a float32 array; NaN is left out."""
        values = values[~np.isnan(values)].astype(np.float64)
        if not len(values):
            return
        mean = values.mean()
        squares = ((values - mean) ** 2).sum()
        count = self.count + len(values)
        step = mean - self.mean
        self._squares += squares + step**2 * self.count * len(values) / count
        self.mean += step * len(values) / count
        self.count = count

    @property
    def std(self) -> float:
        """The standard deviation so far; 0 for constants."""
        std = (self._squares / max(self.count, 1)) ** 0.5
        # A deviation below the resolution of float32 is that of a constant column.
        return float(std) if std > 1e-7 * abs(self.mean) else 0.0

    def fitted(self, name: str) -> Dense:
        """Returns the column of this name with the mean and standard deviation so far."""
        return Dense(name, float(self.mean), self.std or 1.0)
