"""Pictures of runs: learning curves, calibration, metrics by time, models side by side, gates.

Every function writes one PNG and returns its path. Runs come as `models`: name -> the runs of its
training seeds. With several seeds, lines are means and the shades or bars around them +- one
standard deviation.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

from siren_rope_jax.metrics import calibration, calibration_error
from siren_rope_jax.plot_style import COLOURS, LINES, band, colour, figure, legend_below
from siren_rope_jax.slices import FIRST_EVENT, GAPS

METRIC_NAMES = {
    "ne": "normalised entropy (lower is better)",
    "auc": "AUC (higher is better)",
    "gauc": "AUC per user (higher is better)",
    "ece": "expected calibration error (lower is better)",
}

FEW = 50  # a group of fewer events has too noisy an NE to draw

Metrics = Sequence[Mapping[str, Any]]  # the lines of a metrics.jsonl
Result = Mapping[str, Any]  # a result.json


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The objects of a metrics.jsonl, in order."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def _series(runs: Sequence[Metrics], kind: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values [S, X] of one key at the steps that all runs have."""
    each = [{m["step"]: m[key] for m in run if m.get("kind") == kind and key in m} for run in runs]
    steps = sorted(set.intersection(*(set(values) for values in each))) if each else []
    return np.array(steps), np.array([[values[s] for s in steps] for values in each], float)


def _smooth(values: np.ndarray, points: int = 100) -> np.ndarray:
    """Centred running mean over about a hundredth of the last axis, for noisy training losses."""
    half = values.shape[-1] // points // 2
    if half == 0:
        return values
    total = np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=-1)
    at = np.arange(values.shape[-1])
    low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, values.shape[-1])
    return (total[:, high] - total[:, low]) / (high - low)


def learning_curves(
    path: Path, models: Mapping[str, Sequence[Metrics]], tasks: Sequence[str], title: str
) -> Path:
    """Training loss and validation NE per task over optimizer steps."""
    with figure(path, title, 1, 1 + len(tasks), 3.6, 3.2) as (picture, axes):
        for i, (name, runs) in enumerate(models.items()):
            steps, loss = _series(runs, "train", "loss")
            if len(steps):
                band(axes[0, 0], steps, _smooth(loss), name, colour(i))
            for ax, task in zip(axes[0, 1:], tasks, strict=True):
                steps, ne = _series(runs, "validation", f"ne/{task}")
                if len(steps):
                    band(ax, steps, ne, name, colour(i) | {"marker": ".", "markersize": "4"})
        axes[0, 0].set(title="training", ylabel="loss (nats)")
        for ax, task in zip(axes[0, 1:], tasks, strict=True):
            ax.set(title=f"validation, {task}", ylabel="normalised entropy")
        for ax in axes[0]:
            ax.set_xlabel("optimizer step")
        legend_below(picture)
    return path


def reliability(path: Path, predictions: pd.DataFrame, tasks: Sequence[str], title: str) -> Path:
    """Observed rate against mean score in 20 equal-count bins, over a histogram of the scores.

    Bars around the points are 95 % intervals of the observed rate (normal approximation).
    """
    with figure(path, title, 2, len(tasks), 3.4, 2.2) as (_, axes):
        for (top, bottom), task in zip(axes.T, tasks, strict=True):
            own = predictions[predictions[task].notna()]
            labels = own[task].to_numpy(np.int64)
            scores = own[f"{task}_score"].to_numpy(np.float64)
            bins = calibration(labels, scores)
            error = 1.96 * np.sqrt(bins.rate * (1 - bins.rate) / bins.events)
            limit = min(1.0, 1.08 * float(np.max([*(bins.rate + error), *bins.score, 0.01])))
            top.plot([0, 1], [0, 1], color="#999999", linestyle=":", linewidth=1)
            top.errorbar(
                bins.score, bins.rate, error, fmt="o", markersize=3.5, linewidth=1, color=COLOURS[0]
            )
            top.set(xlim=(0, limit), ylim=(0, limit), ylabel="observed rate")
            top.set_title(f"{task}: calibration error {calibration_error(labels, scores):.4f}")
            bottom.hist(scores, bins=np.linspace(0, limit, 41), color=COLOURS[0])
            bottom.set(xlim=(0, limit), xlabel="predicted probability", ylabel="events")
    return path


def by_hour(
    path: Path, models: Mapping[str, Sequence[Result]], tasks: Sequence[str], title: str
) -> Path:
    """NE by hour of day, where there are 50 events, over the numbers of events."""
    hours = [str(hour) for hour in range(24)]
    return _by_slice(path, models, tasks, title, "hour", hours, time_label(models, "hour of day"))


def by_gap(
    path: Path, models: Mapping[str, Sequence[Result]], tasks: Sequence[str], title: str
) -> Path:
    """NE by time since the user's last event, where there are 50, over the numbers of events."""
    names = [*(name for name, _ in GAPS), FIRST_EVENT]
    return _by_slice(path, models, tasks, title, "gap", names, "time since the user's last event")


def time_label(models: Mapping[str, Sequence[Result]], what: str) -> str:
    """An axis of hours or days: local ones, or those of UTC where the log has no offsets."""
    local = next(iter(models.values()))[0]["has_utc_offset"]
    return f"local {what}" if local else f"{what} (UTC)"


def _by_slice(
    path: Path,
    models: Mapping[str, Sequence[Result]],
    tasks: Sequence[str],
    title: str,
    slicing: str,
    groups: Sequence[str],
    axis: str,
) -> Path:
    x = np.arange(len(groups))
    with figure(path, title, 2, len(tasks), 3.8, 2.3) as (picture, axes):
        for (top, bottom), task in zip(axes.T, tasks, strict=True):
            some = next(iter(models.values()))
            counts = np.nan_to_num(_leaves(some[:1], slicing, groups, task, "count")[0])
            for i, (name, runs) in enumerate(models.items()):
                values = _leaves(runs, slicing, groups, task, "ne")
                values[:, counts < FEW] = np.nan
                band(top, x, values, name, colour(i) | {"marker": ".", "markersize": "4"})
            bottom.bar(x, counts, color="#BBBBBB")
            top.set(title=task, ylabel="NE (own base rate)")
            bottom.set(xlabel=axis, ylabel="events")
            if slicing == "hour":
                bottom.set_xticks(x[::3], groups[::3])
            else:
                bottom.set_xticks(x, groups, rotation=40)
        legend_below(picture)
    return path


def _leaves(
    runs: Sequence[Result], slicing: str, groups: Sequence[str], task: str, key: str
) -> np.ndarray:
    """One number of every run and group [S, G]; nan where there is none."""
    parts = [run["slices"][slicing] for run in runs]
    values = [[part.get(g, {}).get(task, {}).get(key) for g in groups] for part in parts]
    return np.array(values, np.float64)  # None becomes nan


def by_day(
    path: Path, models: Mapping[str, Sequence[Result]], tasks: Sequence[str], title: str
) -> Path:
    """Calibration by day: the observed rate against every model's mean score."""
    with figure(path, title, 1, len(tasks), 3.8, 3.0) as (picture, axes):
        for ax, task in zip(axes[0], tasks, strict=True):
            runs = [run for runs in models.values() for run in runs]
            days = sorted({day for run in runs for day in run["slices"]["day"]})
            x = np.array(days, "datetime64[D]")
            rate = _leaves(runs[:1], "day", days, task, "rate")[0]
            ax.plot(x, rate, color="black", marker="o", markersize=3, label="observed rate")
            for i, (name, own) in enumerate(models.items()):
                mean = _leaves(own, "day", days, task, "mean_score")
                band(ax, x, mean, f"mean score, {name}", colour(i) | {"marker": "."})
            ax.set(title=task, xlabel=time_label(models, "day"), ylabel="rate, mean score")
            locator = AutoDateLocator(maxticks=6)
            ax.xaxis.set_major_locator(locator)
            ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        legend_below(picture)
    return path


def models_side_by_side(
    path: Path,
    models: Mapping[str, Sequence[Result]],
    tasks: Sequence[str],
    title: str,
    metric: str = "ne",
) -> Path:
    """One metric of every model (dots: seeds; mark and bar: mean and deviation), per task.

    The baselines of the results stand as coloured vertical lines.
    """
    height = 1.5 + 0.28 * len(models)
    with figure(path, title, 1, len(tasks), 3.6, height) as (picture, axes):
        floors = next(iter(models.values()))[0]["baselines"]
        for ax, task in zip(axes[0], tasks, strict=True):
            for i, runs in enumerate(models.values()):
                values = np.array([_metric(run["tasks"], task, metric) for run in runs])
                at = np.full(len(values), i)
                ax.plot(values, at, "o", color="black", markersize=3, alpha=0.4)
                spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
                ax.errorbar(
                    values.mean(), i, xerr=spread, fmt="D", color="black", markersize=5, capsize=3
                )
            for j, (name, floor) in enumerate(floors.items()):
                value = _metric(floor, task, metric)
                if not np.isnan(value):
                    ax.axvline(value, label=name, zorder=1, **LINES[j % len(LINES)])
            ax.set(title=task, xlabel=METRIC_NAMES[metric])
            ax.set_yticks(range(len(models)), list(models) if ax is axes[0, 0] else [])
            ax.set_ylim(len(models) - 0.4, -0.6)
            ax.grid(axis="y", visible=False)
        legend_below(picture, least=1)
    return path


def _metric(tasks: Mapping[str, Any], task: str, metric: str) -> float:
    value = tasks.get(task, {}).get(metric)
    return np.nan if value is None else value


def gates(path: Path, models: Mapping[str, Sequence[Metrics]], title: str) -> Path | None:
    """What the learned gates do over training: every "gate/..." value of the validations.

    Returns:
      None, and writes nothing, when no model has a gate.
    """
    names = sorted(
        {
            key
            for runs in models.values()
            for run in runs
            for m in run
            for key in m
            if "gate/" in key
        }
    )
    if not names:
        return None
    with figure(path, title, 1, len(names), 3.6, 3.0) as (picture, axes):
        for ax, key in zip(axes[0], names, strict=True):
            for i, (name, runs) in enumerate(models.items()):
                steps, values = _series(runs, "validation", key)
                if len(steps):
                    band(ax, steps, values, name, colour(i) | {"marker": ".", "markersize": "4"})
            source = key.removeprefix("gate/")
            ax.set(title=f"source {source!r}", xlabel="optimizer step", ylabel="gate (mean)")
        legend_below(picture, least=1)
    return path


def draw_run(workdir: Path) -> list[Path]:
    """All pictures of one finished run, into its plots/."""
    result = json.loads((workdir / "result.json").read_text(encoding="utf-8"))
    name, variant, tasks = result["dataset"], result["variant"], list(result["tasks"])
    predictions = pd.read_parquet(workdir / "predictions.parquet")
    title = f"{name}, {result['split']} split: reliability of {variant}, seed {result['seed']}"
    path = reliability(workdir / "plots" / "reliability.png", predictions, tasks, title)
    return [path, *draw_models(workdir / "plots", "", name, {variant: [workdir]})]


def draw_models(
    directory: Path, stem: str, name: str, models: Mapping[str, Sequence[Path]]
) -> list[Path]:
    """All pictures that compare models (or show one), as DIRECTORY/STEM<what>.png.

    Args:
      directory: where to.
      stem: what the files' names begin with.
      name: the data set's, for titles.
      models: name -> work directories of its runs, which are finished.
    """
    results = {
        model: [json.loads((run / "result.json").read_text(encoding="utf-8")) for run in runs]
        for model, runs in models.items()
    }
    logs = {m: [read_metrics(run / "metrics.jsonl") for run in runs] for m, runs in models.items()}
    first = next(iter(results.values()))[0]
    tasks, where = list(first["tasks"]), f"{name}, {first['split']} split"
    seeds = max(len(runs) for runs in models.values())
    of = f"({seeds} seeds)" if seeds > 1 else "(1 seed)"

    def to(what: str) -> Path:
        return directory / f"{stem}{what}.png"

    pictures = [
        models_side_by_side(to("ne"), results, tasks, f"{where}: models and baselines {of}"),
        models_side_by_side(to("auc"), results, tasks, f"{where}: ranking {of}", "auc"),
        by_hour(to("hour"), results, tasks, f"{where}: by hour of day {of}"),
        by_gap(to("gap"), results, tasks, f"{where}: by time since the last event {of}"),
        by_day(to("day"), results, tasks, f"{where}: calibration by day {of}"),
        learning_curves(to("learning"), logs, tasks, f"{name}: learning curves {of}"),
        gates(to("gates"), logs, f"{name}: gates over training {of}"),
    ]
    return [picture for picture in pictures if picture]
