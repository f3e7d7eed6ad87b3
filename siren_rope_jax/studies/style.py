"""The common style of all pictures: colours, figures, lines with deviations, legends.

Pictures are at most 9 inches wide if their panels allow it, so that their texts can be read where a
page shows them at 900 pixels.
"""

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from siren_rope_jax.rotation.names import words

WIDTH = 9.0  # inches
_NARROWEST = 2.2  # inches of a panel that can be read
_TITLE_LETTERS, _TITLE_LINE = 11, 0.19  # letters of a title in an inch, inches of a line of it
_MANY = 5  # the shades of more models would hide each other
# Okabe and Ito's palette for colour-blind readers, without its yellow, too pale for lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#555555", "#7A4B00")
BASELINE, BEST, *OTHERS = COLOURS
DASHES = ("-", "--", "-.", ":")
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


class Line(NamedTuple):
    """How a model's line looks, and its name in the legend; `shaded`: with a deviation."""

    label: str
    style: dict[str, Any]
    shaded: bool = True


def lines_of(
    models: Sequence[str], baseline: str = "", best: str = "", by: str = ""
) -> dict[str, Line]:
    """The lines of models: baseline and best have their own colours and are thicker.

    The others that share a colour differ in the dash. Many lines have no shades. `by` is the metric
    in which `best` is the best.
    """
    lines, others = {}, 0
    for name in models:
        roles = [
            role for role, own in (("baseline", baseline), (f"best {by}", best)) if own == name
        ]
        if roles or len(models) == 1:
            colour = BEST if name == best and name != baseline else BASELINE
            style = {"color": colour, "linestyle": "-", "linewidth": 2.4, "zorder": 3}
        else:
            dash = DASHES[others // len(OTHERS) % len(DASHES)]
            style = {"color": OTHERS[others % len(OTHERS)], "linestyle": dash, "linewidth": 1.4}
            others += 1
        lines[name] = Line(
            f"{words(name)} ({', '.join(roles)})" if roles else words(name),
            style,
            len(models) <= _MANY,
        )
    return lines


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

    `width` and `height` are those of a panel, in inches; many panels get narrower. By default, the
    rows of a column share their x axis, so that counts are below the points they explain. A title
    that is wider than the figure is broken, and the figure grows by its lines.
    """
    # Without pyplot, figures need no display and do not have to be closed.
    with matplotlib.rc_context(STYLE):
        inches = min(width * columns, max(WIDTH, _NARROWEST * columns))
        title = textwrap.fill(title, int(_TITLE_LETTERS * inches), break_on_hyphens=False)
        figure = Figure(figsize=(inches, height * rows + _TITLE_LINE * title.count("\n")))
        yield figure, figure.subplots(rows, columns, squeeze=False, sharex=sharex)
        figure.suptitle(title, fontsize=11)
        path.parent.mkdir(parents=True, exist_ok=True)
        _save(figure, path)


@contextmanager
def panel_grid(
    path: Path, title: str, count: int, aside: int, width: float, height: float
) -> Iterator[tuple[Figure, list[Axes]]]:
    """As `figure`, but so many axes, each with its own x axis, at most `aside` in a line."""
    lines = -(-count // aside)
    columns = -(-count // lines)
    with figure(path, title, lines, columns, width, height, sharex="none") as (picture, grid):
        for axes in grid.flat[count:]:
            axes.remove()
        yield picture, list(grid.flat[:count])


def _save(figure: Figure, path: Path) -> None:
    """Saves a PNG of 256 colours, which looks the same and is a third of the size.

    Pillow's default, a median cut, would change the colours of thin lines, which have few pixels.
    """
    picture = BytesIO()
    figure.savefig(picture, format="png")
    with Image.open(picture) as image:
        reduced = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
        reduced.save(path, format="png", optimize=True)


def band(axes: Axes, x: Any, seeds: np.ndarray, line: Line, marker: str = ".") -> None:
    """A line for the mean over seeds [S, X], with a shade of one standard deviation."""
    mean = np.mean(seeds, axis=0)
    axes.plot(x, mean, label=line.label, marker=marker, markersize=5, **line.style)
    if len(seeds) > 1 and line.shaded:
        deviation, colour = np.std(seeds, axis=0, ddof=1), line.style["color"]
        axes.fill_between(
            x, mean - deviation, mean + deviation, color=colour, alpha=0.2, linewidth=0
        )


def mark(axes: Axes, value: float | None, vertical: bool = False) -> None:
    """A dotted line at a metric's value for the base rate, if the axis nearly reaches it."""
    low, high = sorted(axes.get_xlim() if vertical else axes.get_ylim())
    reach = (high - low) / 2
    if value is not None and low - reach <= value <= high + reach:
        draw = axes.axvline if vertical else axes.axhline
        draw(value, label="no better than the base rate", color="black", linestyle=":", lw=1.3)


def legend_below(figure: Figure, least: int = 2, caption: Sequence[str] = ()) -> None:
    """One legend below the whole figure, if it has at least `least` entries.

    Above its entries stand the paragraphs of `caption`. The figure grows by its height.
    """
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if len(handles) >= least:
        inches = figure.get_figwidth()
        fitting = max(1, int(inches / (0.5 + 0.065 * max(map(len, handles)))))
        lines = -(-len(handles) // fitting)
        legend = figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside lower center",
            ncols=-(-len(handles) // lines),
            title="\n".join(textwrap.fill(text, int(16 * inches)) for text in caption) or None,
            title_fontsize=8,
            alignment="left",
        )
        pixels = legend.get_window_extent(FigureCanvasAgg(figure).get_renderer()).height
        figure.set_figheight(figure.get_figheight() + pixels / figure.dpi)
