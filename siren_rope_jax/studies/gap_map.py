"""One picture of several logs with known best predictions: which encoding finds how much where?"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps

from siren_rope_jax.rotation.names import words
from siren_rope_jax.studies.style import figure

_ROW, _COLUMN = 0.34, 0.95  # inches
_NAMES, _HEADINGS = 2.6, 1.1  # inches for the names of variants and data sets


def draw_gap_map(path: Path, title: str, datasets: Mapping[str, Mapping[str, Any]]) -> Path | None:
    """The share of the gap to the best prediction that variants close, as a mean over tasks.

    Args:
      path: of the picture.
      title: of it.
      datasets: what report.json holds of each, by name.

    Returns:
      None, without a picture, if fewer than two data sets know their best prediction.
    """
    shares = {name: shares_closed(data) for name, data in datasets.items()}
    shares = {name: of for name, of in shares.items() if of}
    if len(shares) < 2:
        return None
    variants = list(dict.fromkeys(variant for of in shares.values() for variant in of))
    values = np.array([[of.get(v, np.nan) for of in shares.values()] for v in variants])
    width, height = _NAMES + _COLUMN * len(shares), _HEADINGS + _ROW * len(variants)
    with figure(path, title, 1, 1, width, height) as (picture, axes):
        ax = axes[0, 0]
        colours = colormaps["RdYlBu"]
        ax.imshow(100 * values, cmap=colours, vmin=-100, vmax=100, aspect="auto")
        ax.set_yticks(range(len(variants)), [words(v) for v in variants])
        heads = [name.replace("_", "\n") for name in shares]
        ax.set_xticks(range(len(heads)), heads)
        ax.xaxis.tick_top()
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
        best = np.nanmax(values, axis=0)
        for (y, x), value in np.ndenumerate(values):
            if np.isfinite(value):
                weight = "bold" if value == best[x] else "normal"
                ax.text(x, y, f"{100 * value:.0f}", ha="center", va="center", weight=weight)
        picture.supxlabel("percent of the gap, best of a column in bold", fontsize=8)
    return path


def shares_closed(data: Mapping[str, Any]) -> dict[str, float]:
    """Variant -> mean over tasks of the share of the gap that it closes, where that is known."""
    found = {}
    for variant, own in data["variants"].items():
        closed = [part["gap_closed"] for part in own["parts"].values()]
        means = [of["mean"] for of in closed if of and of["mean"] is not None]
        if means and len(means) == len(closed):
            found[variant] = float(np.mean(means))
    return found
