"""One picture of all models of a comparison: a row for each, in groups and in words.

The last group is what can be had without a model: simple rules and known floors. Where a value is
so far away that it would hide the differences between models, its row has an arrow and the number.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from siren_rope_jax.rotation.names import grouped, words
from siren_rope_jax.studies.charts import Models, Panel, Result, lookup
from siren_rope_jax.studies.style import BASELINE, BEST, WIDTH, legend_below, mark, panel_grid

ASIDE = 4
"""Panels in a line."""
WITHOUT = "Without a model"
"""The group of what result.json calls baselines."""
_ROW = 0.2  # inches
_FAR = 1.0  # in ranges of the models
_OTHER = "#555555"

Differences = Mapping[str, Mapping[str, Any]]
"""Model -> part -> its difference to the baseline, as `Part.difference` in summary.py has it."""


class Row(NamedTuple):
    """A line of the picture: a model, a simple baseline, or the heading of a group."""

    text: str
    model: str = ""
    simple: str = ""


def rows_of(models: Sequence[str], simple: Sequence[str]) -> list[Row]:
    """The rows from top to bottom; a single model needs no heading."""
    rows = []
    for group, names in grouped(models).items():
        rows += [Row(group)] if len(models) > 1 else []
        rows += [Row(words(name), model=name) for name in names]
    return rows + ([Row(WITHOUT)] if simple else []) + [Row(name, simple=name) for name in simple]


def side_by_side(
    path: Path,
    models: Models,
    panels: Sequence[Panel],
    title: str,
    baseline: str = "",
    differences: Differences | None = None,
    explained: Mapping[str, str] | None = None,
) -> Path:
    """Metrics of every model: a dot for each seed, and a marker for their mean.

    The bar around the mean is the 95 % interval of the difference to the baseline: it reaches the
    baseline's line where the interval includes zero.

    Args:
      path: of the picture.
      models: name -> results.
      panels: one for each metric.
      title: of the picture.
      baseline: the model that the others are compared with; none if it is not one of them.
      differences: to the baseline, where they are known.
      explained: what the results' baselines are, by name.
    """
    simple = next(iter(models.values()))[0]["baselines"]
    rows = rows_of(list(models), list(simple))
    height = 0.9 + _ROW * len(rows)
    caption = [f"{name}: {meaning}" for name, meaning in (explained or {}).items()]
    with panel_grid(path, title, len(panels), ASIDE, WIDTH, height) as (picture, axes):
        for ax, panel in zip(axes, panels, strict=True):
            _draw_rows(ax, rows, baseline)
            _draw_models(ax, rows, models, panel, baseline, differences or {})
            _draw_simple(ax, rows, simple, panel.path[1:])
            mark(ax, panel.uninformed, vertical=True)
            ax.set(title=panel.title, xlabel=panel.label)
            ax.xaxis.set_major_locator(MaxNLocator(2 if len(panels) > 2 else 4))
            place = ax.get_subplotspec()
            ax.tick_params(axis="y", length=0, labelleft=bool(place and place.is_first_col()))
        legend_below(picture, least=1, caption=caption)
    return path


def _draw_rows(ax: Axes, rows: Sequence[Row], baseline: str) -> None:
    """The names beside the axis, a thin line from each to its values, and headings in bold."""
    ax.set_yticks(range(len(rows)), [row.text for row in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    for y, (row, label) in enumerate(zip(rows, ax.get_yticklabels(), strict=True)):
        if row.model or row.simple:
            ax.axhline(y, color="#E6E6E6", linewidth=0.8, zorder=0.5)
        else:
            ax.axhspan(y - 0.5, y + 0.5, color="#F0F0F0", zorder=0.4)
            label.set_fontweight("bold")
        if row.model and row.model == baseline:
            label.set_color(BASELINE)


def best_of(models: Mapping[str, Sequence[float]], higher_is_better: bool) -> str:
    """The model with the best mean; empty where there are not two to choose from."""
    means = {
        name: np.mean(seeds) * (1 if higher_is_better else -1) for name, seeds in models.items()
    }
    known = {name: mean for name, mean in means.items() if np.isfinite(mean)}
    return max(known, key=lambda name: known[name]) if len(known) > 1 else ""


def _draw_models(
    ax: Axes,
    rows: Sequence[Row],
    models: Models,
    panel: Panel,
    baseline: str,
    differences: Differences,
) -> None:
    values = {m: [lookup(run, panel.path) for run in runs] for m, runs in models.items()}
    best = best_of(values, panel.higher_is_better)
    *part, metric = panel.path[1:]
    for y, name in ((y, row.model) for y, row in enumerate(rows) if row.model):
        seeds, mean = values[name], float(np.mean(values[name]))
        colour, marker, role = _OTHER, "o", "other models" if len(models) > 1 else words(name)
        if name == best:
            colour, marker, role = BEST, "D", "the best"
        if name == baseline:
            colour, marker, role = BASELINE, "s", f"baseline: {words(name)}"
            ax.axvline(mean, color=colour, linewidth=1, linestyle="--", zorder=1)
        if len(seeds) > 1:
            ax.plot(seeds, [y] * len(seeds), "o", color=colour, ms=3, mew=0, alpha=0.5)
        own = ((differences.get(name) or {}).get("".join(part)) or {}).get(metric)
        if own and None not in (own["low"], own["high"]):
            reach = [[own["value"] - own["low"]], [own["high"] - own["value"]]]
            label = "95 % interval of the difference to the baseline"
            ax.errorbar(mean, y, xerr=reach, fmt="none", ecolor=colour, capsize=2.5, label=label)
        ax.plot(mean, y, marker, color=colour, markersize=6, label=role, zorder=3)


def _draw_simple(
    ax: Axes, rows: Sequence[Row], simple: Mapping[str, Result], path: Sequence[str]
) -> None:
    """Markers of the baselines near the models' values; arrows and numbers for the others."""
    low, high = ax.dataLim.intervalx
    if not high > low:
        low, high = -np.inf, np.inf  # beside a single value all are near
    reach = _FAR * (high - low)
    for y, name in ((y, row.simple) for y, row in enumerate(rows) if row.simple):
        value = lookup(simple[name], path)
        if low - reach <= value <= high + reach:
            ax.plot(value, y, "d", color=_OTHER, markerfacecolor="white", label="without a model")
        elif not np.isnan(value):
            left = value < low
            ax.text(
                0.02 if left else 0.98,
                y,
                f"← {value:.3f}" if left else f"{value:.3f} →",
                transform=ax.get_yaxis_transform(),
                ha="left" if left else "right",
                va="center",
                fontsize=8,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
            )
