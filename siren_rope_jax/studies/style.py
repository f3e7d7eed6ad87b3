"""The common style of all pictures: colours, figures, lines with deviations, legends."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

# Okabe and Ito's palette for colour-blind readers, without its yellow, too pale for lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#555555", "#7A4B00")
DASHES = ("-", "--", "-.", ":")
LINES: tuple[dict[str, Any], ...] = tuple(
    {"color": c, "linestyle": d} for d in ("--", ":") for c in COLOURS
)
STYLE: dict[Any, Any] = {
    "figure.dpi": 120,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.03,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "text.parse_math": False,  # a name may hold dollar signs
}


def colour(index: int) -> dict[str, str]:
    """Colour and dash of the index-th model; models that share a colour differ in the dash."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": DASHES[index // len(COLOURS) % len(DASHES)],
    }


@contextmanager
def figure(
    path: Path,
    title: str,
    rows: int,
    columns: int,
    width: float,
    height: float,
    sharex: Literal["col", "none"] = "col",
) -> Iterator[tuple[Figure, np.ndarray]]:
    """A grid of axes [rows, columns] in the common style, saved to `path` on exit.

    By default, the rows of a column share their x axis, so that counts are below the points they
    explain.
    """
    # Without pyplot, figures need no display and do not have to be closed.
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width * columns, height * rows))
        yield figure, figure.subplots(rows, columns, squeeze=False, sharex=sharex)
        figure.suptitle(title, fontsize=11)
        path.parent.mkdir(parents=True, exist_ok=True)
        _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    """Saves a PNG of 256 colours, which looks the same and is a third of the size."""
    picture = BytesIO()
    figure.savefig(picture, format="png")
    with Image.open(picture) as image:
        image.convert("RGB").quantize(256).save(path, format="png", optimize=True)


def band(axes: Axes, x: Any, seeds: np.ndarray, label: str, style: Mapping[str, Any]) -> None:
    """A line for the mean over seeds [S, X], with a shade of one standard deviation."""
    mean = np.mean(seeds, axis=0)
    axes.plot(x, mean, label=label, **style)
    if len(seeds) > 1:
        deviation = np.std(seeds, axis=0, ddof=1)
        axes.fill_between(
            x, mean - deviation, mean + deviation, color=style["color"], alpha=0.2, linewidth=0
        )


def legend_below(figure: Figure, least: int = 2) -> None:
    """One legend below the whole figure, if it has at least `least` entries."""
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if len(handles) >= least:
        lines = -(-len(handles) // 4)
        columns = -(-len(handles) // lines)
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns)
