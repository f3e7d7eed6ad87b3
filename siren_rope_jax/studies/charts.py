"""Plots for every kind of model: learning curves, metrics by group and by model, gates.

Every plotting function writes one PNG and returns its path. `models` maps a model's name to the
runs of its training seeds. With several seeds, a line is the mean over them, and the shade or bar
around it is one standard deviation either way.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from siren_rope_jax.evaluation.slices import SLICES
from siren_rope_jax.studies.style import LINES, band, colour, figure, legend_below

FEW = 50  # with fewer events, the metric of a group is too noisy to draw
_FAR = 1.5  # a baseline further away, in ranges of the models, would hide their differences
_MANY = 5  # the shades of more models would hide each other

Metrics = Sequence[Mapping[str, Any]]  # the lines of a metrics.jsonl
Result = Mapping[str, Any]  # a result.json
Models = Mapping[str, Sequence[Result]]


class Panel(NamedTuple):
    """One metric in a picture of several.

    Attributes:
      title: of the panel.
      label: of the metric's axis.
      path: keys of the metric in a result. Without the first key, it is also the path within each
        of the result's baselines and groups, which have a "count" beside the metric. Of a learning
        curve, the single key in metrics.jsonl.
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
) -> np.ndarray:
    """One number of every run and group, [S, G]; NaN if it is missing."""
    parts = [run["slices"][slicing] for run in runs]
    return np.array([[lookup(part, [g, *path]) for g in groups] for part in parts], np.float64)


def learning_curves(
    path: Path, models: Mapping[str, Sequence[Metrics]], curves: Sequence[Panel], title: str
) -> Path | None:
    """Training loss and validation metrics over optimizer steps.

    Returns:
      None, without writing a file, if no run has training metrics.
    """
    if not any(run for runs in models.values() for run in runs):
        return None
    with figure(path, title, 1, 1 + len(curves), 3.6, 3.2) as (picture, axes):
        for i, (name, runs) in enumerate(models.items()):
            steps, loss = _series(runs, "train", "loss")
            if len(steps):
                band(axes[0, 0], steps, _smooth(loss), name, colour(i))
            for ax, curve in zip(axes[0, 1:], curves, strict=True):
                _validations(ax, runs, curve.path[-1], name, i)
        axes[0, 0].set(title="training", ylabel="loss (nats)")
        for ax, curve in zip(axes[0, 1:], curves, strict=True):
            ax.set(title=curve.title, ylabel=curve.label)
        for ax in axes[0]:
            ax.set_xlabel("optimizer step")
        legend_below(picture)
    return path


def gates(path: Path, models: Mapping[str, Sequence[Metrics]], title: str) -> Path | None:
    """The learned gates over optimizer steps: every "gate/..." value of the validations.

    Returns:
      None, without writing a file, if no model has a gate.
    """
    lines = [line for runs in models.values() for run in runs for line in run]
    names = sorted({key for line in lines for key in line if "gate/" in key})
    if not names:
        return None
    with figure(path, title, 1, len(names), 3.6, 3.0) as (picture, axes):
        for ax, key in zip(axes[0], names, strict=True):
            for i, (name, runs) in enumerate(models.items()):
                _validations(ax, runs, key, name, i)
            source = key.removeprefix("gate/")
            ax.set(title=f"source {source!r}", xlabel="optimizer step", ylabel="gate (mean)")
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
      None, without writing a file, if fewer than two groups have events.
    """
    some = next(iter(models.values()))
    groups = _span(SLICES[slicing].groups, some[0]["slices"][slicing])
    if len(groups) < 2:
        return None
    x = np.arange(len(groups))
    compared = baseline in models and len(models) > 1
    styles = {m: colour(i) | {"marker": ".", "markersize": "4"} for i, m in enumerate(models)}
    with figure(path, title, 2 + compared, len(panels), 3.8, 2.3) as (picture, axes):
        for column, panel in zip(axes.T, panels, strict=True):
            own = panel.path[1:]
            counts = leaves(some[:1], slicing, groups, [*own[:-1], "count"])[0]
            values = {name: leaves(r, slicing, groups, own) for name, r in models.items()}
            rows = [values, _changes(values, models, baseline)] if compared else [values]
            for ax, lines in zip(column, rows, strict=False):
                for name, seeds in lines.items():
                    seeds[:, ~(counts >= FEW)] = np.nan
                    shown = seeds if len(models) <= _MANY else seeds.mean(axis=0, keepdims=True)
                    band(ax, x, shown, name, styles[name])
            column[0].set(title=panel.title, ylabel=panel.label)
            if compared:
                column[1].axhline(0, linewidth=1, color=styles[baseline]["color"])
                column[1].set_ylabel(f"difference to {baseline}")
            column[-1].bar(x, np.nan_to_num(counts), color="#BBBBBB")
            axis = SLICES[slicing].title(some[0]["has_utc_offset"])
            column[-1].set(xlabel=axis, ylabel="events")
            _name_groups(column[-1], groups)
        legend_below(picture)
    return path


def _span(groups: Sequence[str], present: Collection[str]) -> Sequence[str]:
    """The groups from the first to the last that is present."""
    at = [i for i, group in enumerate(groups) if group in present]
    return groups[at[0] : at[-1] + 1] if at else ()


def _changes(
    values: Mapping[str, np.ndarray], models: Models, baseline: str
) -> dict[str, np.ndarray]:
    """Values [S, G] of the other models minus the baseline's, for the seeds that both have."""
    theirs = dict(zip((run["seed"] for run in models[baseline]), values[baseline], strict=True))
    pairs = {
        name: [
            own - theirs[run["seed"]]
            for run, own in zip(models[name], values[name], strict=True)
            if run["seed"] in theirs
        ]
        for name in models
        if name != baseline
    }
    return {name: np.stack(rows) for name, rows in pairs.items() if rows}


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


def _name_groups(ax: Axes, groups: Sequence[str]) -> None:
    x = np.arange(len(groups))
    if len(groups) > 12:
        ax.set_xticks(x[::3], groups[::3])
    else:
        ax.set_xticks(x, groups, rotation=40)


def _validations(ax: Axes, runs: Sequence[Metrics], key: str, name: str, index: int) -> None:
    steps, values = _series(runs, "validation", key)
    if len(steps):
        band(ax, steps, values, name, colour(index) | {"marker": ".", "markersize": "4"})


def _series(runs: Sequence[Metrics], kind: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps that all runs have, and the values [S, X] of one key at these steps."""
    each = [{m["step"]: m[key] for m in run if m.get("kind") == kind and key in m} for run in runs]
    steps = sorted(set.intersection(*(set(values) for values in each))) if each else []
    return np.array(steps), np.array([[values[s] for s in steps] for values in each], float)


def _smooth(values: np.ndarray) -> np.ndarray:
    """Centred running mean over about 1 % of the last axis, for noisy training losses."""
    half = values.shape[-1] // 100 // 2
    if half == 0:
        return values
    total = np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=-1)
    at = np.arange(values.shape[-1])
    low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, values.shape[-1])
    return (total[:, high] - total[:, low]) / (high - low)
