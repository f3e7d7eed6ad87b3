"""How alike any two values of a count, such as two columns, are to a trained rotation."""

from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.times import NO_TIME
from siren_rope_jax.rotation.signals import Signals
from siren_rope_jax.rotation.time import Time
from siren_rope_jax.studies.analysis import angles_of
from siren_rope_jax.studies.style import figure
from siren_rope_jax.training.trained import TrainedRun

_MOST = 48
"""Values of a count that are shown."""


def uses_counts(run: TrainedRun) -> bool:
    """Whether a count turns anything in a model."""
    counts = run.model.data.counts
    sources = run.config.model.encoding.values()
    return any({*of.counts, *of.categories} & {*counts} for of in sources)


def count_kernels(run: TrainedRun) -> dict[str, Float[np.ndarray, "W W"]]:
    """The mean cosine between two values of each count that turns the trunk, by name.

    All else is alike: the index is the same, and the other counts have their median. Values are
    those from 0 that all but a hundredth of the validation's events stay below, at most 48.

    Raises:
      UserError: as `angles_of`; or no count turns the model.
    """
    data, theta = run.model.data, angles_of(run, "trunk")
    rows = run.log.events("validation").rows
    middle = {name: int(np.median(rows[f"count/{name}"])) for name in data.counts}
    kernels = {}
    for name in data.counts:
        values = np.arange(min(int(np.quantile(rows[f"count/{name}"], 0.99)) + 1, _MOST))
        zeros = np.zeros(len(values), np.int32)
        counts = {n: np.full(len(values), m, np.int32) for n, m in middle.items()}
        counts[name] = values.astype(np.int32)
        clipped = {n: np.minimum(of, data.counts[n] - 1) for n, of in counts.items()}
        categories = dict.fromkeys(data.categories, zeros) | clipped
        time = Time.from_seconds(np.full(len(values), NO_TIME))
        angles = np.asarray(theta(Signals(jnp.asarray(zeros), time, categories, counts)))
        kernel = np.cos(angles[:, None] - angles).mean(axis=-1)
        if kernel.min() < 1 - 1e-5:
            kernels[name] = kernel
    if not kernels:
        known = ", ".join(data.counts)
        raise UserError("--workdir", f"none of the log's counts ({known}) turns this model")
    return kernels


def draw_kernels(path: Path, kernels: Mapping[str, Float[np.ndarray, "W W"]], title: str) -> Path:
    """A panel for each count: the mean cosine between two of its values."""
    with figure(path, title, 1, len(kernels), 3.0, 3.0) as (picture, axes):
        for ax, (name, kernel) in zip(axes[0], kernels.items(), strict=True):
            image = ax.imshow(
                kernel, origin="lower", cmap="viridis", interpolation="nearest", vmin=-1, vmax=1
            )
            ax.set(title=f"mean cos between\ntwo values of {name}", xlabel=name, ylabel=name)
            ax.grid(False)
        picture.colorbar(image, ax=axes[0, -1], shrink=0.8)
    return path
