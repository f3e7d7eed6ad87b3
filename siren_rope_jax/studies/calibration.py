"""Pictures of predicted probabilities: whether they are as high as the observed rates."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

from siren_rope_jax.evaluation.slices import SLICES
from siren_rope_jax.metrics.binary import calibration, calibration_error
from siren_rope_jax.metrics.bootstrap import ProbabilityColumns
from siren_rope_jax.studies.charts import Models, leaves
from siren_rope_jax.studies.style import COLOURS, band, colour, figure, legend_below
from siren_rope_jax.training.kinds.kind import titled


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


def by_day(path: Path, models: Models, parts: Sequence[str], title: str) -> Path:
    """Calibration by day: the observed rate against every model's mean score."""
    runs = [run for own in models.values() for run in own]
    days = sorted({day for run in runs for day in run["slices"]["day"]})
    x = np.array(days, "datetime64[D]")
    with figure(path, title, 1, len(parts), 3.8, 3.0) as (picture, axes):
        for ax, part in zip(axes[0], parts, strict=True):
            within = (part,) if part else ()
            rate = leaves(runs[:1], "day", days, (*within, "rate"))[0]
            ax.plot(x, rate, color="black", marker="o", markersize=3, label="observed rate")
            for i, (name, own) in enumerate(models.items()):
                mean = leaves(own, "day", days, (*within, "mean_score"))
                band(ax, x, mean, f"mean score, {name}", colour(i) | {"marker": "."})
            axis = SLICES["day"].title(runs[0]["has_utc_offset"])
            ax.set(title=part, xlabel=axis, ylabel="rate, mean score")
            locator = AutoDateLocator(maxticks=6)
            ax.xaxis.set_major_locator(locator)
            ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        legend_below(picture)
    return path
