"""Pictures of rankers: those of `charts` with NE and AUC per task, and calibration.

`draw_run` and `draw_models` are those of `plots.Kind`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

from siren_rope_jax.metrics.binary import calibration, calibration_error
from siren_rope_jax.studies import charts
from siren_rope_jax.studies.charts import (
    Album,
    Curve,
    Metrics,
    Models,
    Panel,
    Result,
    leaves,
    time_label,
)
from siren_rope_jax.studies.style import COLOURS, band, colour, figure, legend_below


def draw_run(directory: Path, result: Result, predictions: pd.DataFrame) -> list[Path]:
    """Calibration: a picture of one run alone."""
    run = f"{result['variant']}, seed {result['seed']}"
    title = f"{result['dataset']}, {result['split']} split: reliability of {run}"
    return [reliability(directory / "reliability.png", predictions, list(result["tasks"]), title)]


def draw_models(
    album: Album,
    models: Models,
    lined: Models,
    logs: Mapping[str, Sequence[Metrics]],
    baseline: str,
) -> list[Path | None]:
    """Pictures that compare models, or show one."""
    tasks = list(next(iter(models.values()))[0]["tasks"])
    ne = [Panel(t, "normalised entropy (lower is better)", ("tasks", t, "ne")) for t in tasks]
    auc = [Panel(t, "AUC (higher is better)", ("tasks", t, "auc")) for t in tasks]
    within = [panel._replace(label="NE (own base rate)") for panel in ne]
    curves = [Curve(f"validation, {t}", "normalised entropy", f"ne/{t}") for t in tasks]
    file, title = album.path, album.title
    hours = charts.by_hour(models), title("by hour of day"), baseline
    gaps = charts.BY_GAP, title("by time since the last event"), baseline
    return [
        charts.side_by_side(file("ne"), models, ne, title("models and baselines")),
        charts.side_by_side(file("auc"), models, auc, title("ranking")),
        charts.by_group(file("hour"), lined, within, *hours),
        charts.by_group(file("gap"), lined, within, *gaps),
        by_day(file("day"), lined, tasks, title("calibration by day")),
        charts.learning_curves(file("learning"), logs, curves, title("learning curves", True)),
    ]


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


def by_day(path: Path, models: Models, tasks: Sequence[str], title: str) -> Path:
    """Calibration by day: the observed rate against every model's mean score."""
    with figure(path, title, 1, len(tasks), 3.8, 3.0) as (picture, axes):
        for ax, task in zip(axes[0], tasks, strict=True):
            runs = [run for runs in models.values() for run in runs]
            days = sorted({day for run in runs for day in run["slices"]["day"]})
            x = np.array(days, "datetime64[D]")
            rate = leaves(runs[:1], "day", days, (task, "rate"))[0]
            ax.plot(x, rate, color="black", marker="o", markersize=3, label="observed rate")
            for i, (name, own) in enumerate(models.items()):
                mean = leaves(own, "day", days, (task, "mean_score"))
                band(ax, x, mean, f"mean score, {name}", colour(i) | {"marker": "."})
            ax.set(title=task, xlabel=time_label(models, "day"), ylabel="rate, mean score")
            locator = AutoDateLocator(maxticks=6)
            ax.xaxis.set_major_locator(locator)
            ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        legend_below(picture)
    return path
