"""Plots: numbers over training, metrics by group and by model, calibration of probabilities.

Every plotting function writes one PNG and returns its path. `models` maps a model's name to the
runs of its training seeds. With several seeds, a line is the mean over them, and the shade or bar
around it is one standard deviation either way.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter
from matplotlib.ticker import MaxNLocator

from siren_rope_jax.evaluation.slices import SLICES
from siren_rope_jax.metrics.binary import calibration, calibration_error
from siren_rope_jax.metrics.bootstrap import ProbabilityColumns
from siren_rope_jax.studies.style import COLOURS, LINES, band, colour, figure, legend_below
from siren_rope_jax.training.kinds.kind import titled

FEW = 50  # with fewer events, the metric of a group is too noisy to draw
_FAR = 1.5  # a baseline further away, in ranges of the models, would hide their differences
_MANY = 5  # the shades of more models would hide each other
_MARKED = {"marker": ".", "markersize": "4"}

Metrics = Sequence[Mapping[str, Any]]  # the lines of a metrics.jsonl
Result = Mapping[str, Any]  # a result.json
Models = Mapping[str, Sequence[Result]]


class Panel(NamedTuple):
    """One metric in a picture of several.

    Attributes:
      title: of the panel.
      label: of the metric's axis.
      path: keys of the metric in a result. Without the first key, it is also the path within each
        of the result's baselines and groups, which have a "count" beside the metric. Of a curve
        over training, the "kind" of its lines in metrics.jsonl and the key in them.
    """

    title: str
    label: str
    path: tuple[str, ...]


def lookup(numbers: Mapping[str, Any], path: Sequence[str]) -> float:
    """A number in nested dicts; NaN if it is missing or None."""
    value: Any = numbers
    for key in path:
        value = (value or {}).get(key)
    return np.nan if value is None else value


def leaves(
    runs: Sequence[Result], slicing: str, groups: Sequence[str], path: Sequence[str]
) -> pd.DataFrame:
    """One number by seed and group; NaN if it is missing."""
    rows = {
        run["seed"]: [lookup(run["slices"][slicing], [group, *path]) for group in groups]
        for run in runs
    }
    return pd.DataFrame.from_dict(rows, "index", np.float64, list(groups))


def over_training(
    path: Path, models: Mapping[str, Sequence[Metrics]], curves: Sequence[Panel], title: str
) -> Path | None:
    """Numbers of metrics.jsonl over optimizer steps; those of the training are smoothed.

    Returns:
      None, without writing a file, if there are no curves or no run has metrics.
    """
    if not curves or not any(run for runs in models.values() for run in runs):
        return None
    with figure(path, title, 1, len(curves), 3.6, 3.2) as (picture, axes):
        for ax, curve in zip(axes[0], curves, strict=True):
            kind, key = curve.path
            for i, (name, runs) in enumerate(models.items()):
                values, style = _series(runs, kind, key), colour(i) | _MARKED
                if kind == "train":  # noisy: a centred running mean over about 1 % of the steps
                    width, style = 2 * (len(values) // 200) + 1, colour(i)
                    values = values.rolling(width, center=True, min_periods=1).mean()
                if len(values):
                    band(ax, values.index, values.to_numpy().T, name, style)
            ax.set(title=curve.title, ylabel=curve.label, xlabel="optimizer step")
        legend_below(picture, least=1)
    return path


def by_group(
    path: Path,
    models: Models,
    panels: Sequence[Panel],
    slicing: str,
    title: str,
    baseline: str = "",
) -> Path | None:
    """Metrics by group, of groups with at least 50 events, above the number of events.

    The axis goes from the first to the last group of `SLICES[slicing]` that has events. If
    `baseline` names one of several models, a middle row shows the differences to it, taken seed by
    seed. With more than 5 models, lines have no shades.

    Returns:
      None, without writing a file, if fewer than two groups have so many events.
    """
    some = next(iter(models.values()))[0]
    groups, present = SLICES[slicing].groups, some["slices"][slicing]
    at = [i for i, group in enumerate(groups) if group in present]
    groups = groups[at[0] : at[-1] + 1] if at else ()
    counts = [leaves([some], slicing, groups, [*p.path[1:-1], "count"]).iloc[0] for p in panels]
    if all(np.sum(count >= FEW) < 2 for count in counts):
        return None
    x = np.arange(len(groups))
    compared = baseline in models and len(models) > 1
    styles = {m: colour(i) | _MARKED for i, m in enumerate(models)}
    with figure(path, title, 2 + compared, len(panels), 3.8, 2.3) as (picture, axes):
        for column, panel, count in zip(axes.T, panels, counts, strict=True):
            values = {m: leaves(r, slicing, groups, panel.path[1:]) for m, r in models.items()}
            rows = [values, _changes(values, baseline)] if compared else [values]
            for ax, lines in zip(column, rows, strict=False):
                for name, frame in lines.items():
                    seeds = np.where(count >= FEW, frame, np.nan)
                    shown = seeds if len(models) <= _MANY else seeds.mean(axis=0, keepdims=True)
                    band(ax, x, shown, name, styles[name])
            column[0].set(title=panel.title, ylabel=panel.label)
            if compared:
                column[1].axhline(0, linewidth=1, color=styles[baseline]["color"])
                column[1].set_ylabel(f"difference to {baseline}")
            column[-1].bar(x, count.fillna(0), color="#BBBBBB")
            axis = SLICES[slicing].title(some["has_utc_offset"])
            column[-1].set(xlabel=axis, ylabel="events")
            if len(groups) > 12:
                column[-1].set_xticks(x[::3], groups[::3])
            else:
                column[-1].set_xticks(x, groups, rotation=40)
        legend_below(picture)
    return path


def _changes(values: Mapping[str, pd.DataFrame], baseline: str) -> dict[str, pd.DataFrame]:
    """The other models' values minus the baseline's, for the seeds that both have."""
    changes = {}
    for name, own in values.items():
        own, theirs = own.align(values[baseline], join="inner")
        if name != baseline and len(own):
            changes[name] = own - theirs
    return changes


def side_by_side(path: Path, models: Models, grid: Sequence[Sequence[Panel]], title: str) -> Path:
    """Metrics of every model: dots for seeds, a diamond and a bar for mean and deviation.

    The results' baselines are coloured vertical lines, or, if they are so far away that they would
    hide the differences between models, numbers below the axis.
    """
    shape = len(grid), len(grid[0])
    height = 1.5 + 0.28 * len(models)
    floors = next(iter(models.values()))[0]["baselines"]
    with figure(path, title, *shape, 3.6, height, sharex="none") as (picture, axes):
        for ax, panel in zip(axes.flat, [panel for row in grid for panel in row], strict=True):
            values = [np.array([lookup(r, panel.path) for r in runs]) for runs in models.values()]
            for i, seeds in enumerate(values):
                ax.plot(seeds, np.full(len(seeds), i), "o", color="black", markersize=3, alpha=0.4)
                deviation = np.std(seeds, ddof=1) if len(seeds) > 1 else 0.0
                ax.errorbar(
                    seeds.mean(), i, xerr=deviation, fmt="D", color="black", markersize=5, capsize=3
                )
            lines = {name: lookup(floor, panel.path[1:]) for name, floor in floors.items()}
            far = _draw_baselines(ax, lines, np.concatenate(values))
            ax.set(title=panel.title, xlabel="\n".join([panel.label, *far]))
            ax.xaxis.set_major_locator(MaxNLocator(5))
            ax.set_yticks(range(len(models)), list(models) if ax in axes[:, 0] else [])
            ax.set_ylim(len(models) - 0.4, -0.6)
            ax.grid(axis="y", visible=False)
        legend_below(picture, least=1)
    return path


def _draw_baselines(ax: Axes, baselines: Mapping[str, float], models: np.ndarray) -> list[str]:
    """Draws the baselines near the models' values; returns the others as text."""
    low, high = np.nanmin(models, initial=np.inf), np.nanmax(models, initial=-np.inf)
    if not high > low:
        low, high = -np.inf, np.inf  # a single value: every baseline counts as near
    reach = _FAR * (high - low)
    left, right = [], []
    for j, (name, value) in enumerate(baselines.items()):
        if value < low - reach:
            left.append(f"{name} {value:.3f}")
        elif value > high + reach:
            right.append(f"{name} {value:.3f}")
        elif not np.isnan(value):
            ax.axvline(value, label=name, zorder=1, **LINES[j % len(LINES)])
    far = [f"← {', '.join(left)}"] if left else []
    return far + ([f"{', '.join(right)} →"] if right else [])


def _series(runs: Sequence[Metrics], kind: str, key: str) -> pd.DataFrame:
    """One key of the metrics, by step (those that all runs have) and run."""
    each = [{m["step"]: m[key] for m in run if m.get("kind") == kind and key in m} for run in runs]
    columns = [pd.Series(values, dtype=np.float64) for values in each]
    return pd.concat(columns, axis="columns", join="inner").sort_index()


def reliability(
    path: Path, predictions: pd.DataFrame, parts: Mapping[str, ProbabilityColumns], title: str
) -> Path:
    """Observed rate against mean score in 20 equal-count bins, over a histogram of the scores.

    Bars around the points are 95 % intervals of the observed rate (normal approximation).
    """
    with figure(path, title, 2, len(parts), 3.4, 2.2) as (_, axes):
        for (top, bottom), (part, columns) in zip(axes.T, parts.items(), strict=True):
            own = predictions[predictions[columns.label].notna()]
            labels = own[columns.label].to_numpy(np.int64)
            scores = own[columns.probability].to_numpy(np.float64)
            bins = calibration(labels, scores)
            error = 1.96 * np.sqrt(bins.rate * (1 - bins.rate) / bins.events)
            limit = min(1.0, 1.08 * float(np.max([*(bins.rate + error), *bins.score, 0.01])))
            top.plot([0, 1], [0, 1], color="#999999", linestyle=":", linewidth=1)
            top.errorbar(
                bins.score, bins.rate, error, fmt="o", markersize=3.5, linewidth=1, color=COLOURS[0]
            )
            top.set(xlim=(0, limit), ylim=(0, limit), ylabel="observed rate")
            ece = calibration_error(labels, scores)
            top.set_title(titled(part, f"calibration error {ece:.4f}"))
            bottom.hist(scores, bins=np.linspace(0, limit, 41), color=COLOURS[0])
            bottom.set(xlim=(0, limit), xlabel="predicted probability", ylabel="events")
    return path


def calibration_by_day(path: Path, models: Models, parts: Sequence[str], title: str) -> Path | None:
    """Calibration by day or longer period: the observed rate against every model's mean score.

    Returns:
      None, without writing a file, if no event has a time.
    """
    runs = [run for own in models.values() for run in own]
    days = sorted({day for run in runs for day in run["slices"]["day"]})
    if not days:
        return None
    x = np.array(days, "datetime64[D]")
    with figure(path, title, 1, len(parts), 3.8, 3.0) as (picture, axes):
        for ax, part in zip(axes[0], parts, strict=True):
            within = (part,) if part else ()
            rate = leaves(runs[:1], "day", days, (*within, "rate"))
            ax.plot(x, rate.iloc[0], color="black", marker="o", markersize=3, label="observed rate")
            for i, (name, own) in enumerate(models.items()):
                mean = leaves(own, "day", days, (*within, "mean_score")).to_numpy()
                band(ax, x, mean, f"mean score, {name}", colour(i) | {"marker": "."})
            axis = SLICES["day"].title(runs[0]["has_utc_offset"])
            ax.set(title=part, xlabel=axis, ylabel="rate, mean score")
            ax.set_xticks(x[:: -(-len(x) // 4)])  # at most 4 days, written in full
            ax.xaxis.set_major_formatter(DateFormatter("%Y-%m-%d"))
        legend_below(picture)
    return path
