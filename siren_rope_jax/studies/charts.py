"""Pictures of groups of events: metrics by group, and calibration of probabilities.

Every plotting function writes one PNG and returns its path. `models` maps a model's name to the
runs of its training seeds, and `lines` to how its line looks. With several seeds, a line is the
mean over them, and the shade around it is one standard deviation either way.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.dates import DateFormatter

from siren_rope_jax.evaluation.slices import SLICES
from siren_rope_jax.metrics.binary import calibration, calibration_error
from siren_rope_jax.metrics.bootstrap import ProbabilityColumns
from siren_rope_jax.rotation.names import words
from siren_rope_jax.studies.style import COLOURS, Line, band, figure, legend_below, mark

FEW = 50  # with fewer events, the metric of a group is too noisy to draw
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
      higher_is_better, uninformed: as `Metric` says.
    """

    title: str
    label: str
    path: tuple[str, ...]
    higher_is_better: bool = False
    uninformed: float | None = None


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


def by_group(
    path: Path,
    models: Models,
    panels: Sequence[Panel],
    lines: Mapping[str, Line],
    slicing: str,
    title: str,
    baseline: str = "",
) -> Path | None:
    """Metrics by group, of groups with at least 50 events, above the number of events.

    The axis goes from the first to the last group of `SLICES[slicing]` that has events. If
    `baseline` names one of several models, a middle row shows the differences to it, taken seed by
    seed.

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
    with figure(path, title, 2 + compared, len(panels), 3.8, 2.3) as (picture, axes):
        for column, panel, count in zip(axes.T, panels, counts, strict=True):
            values = {m: leaves(r, slicing, groups, panel.path[1:]) for m, r in models.items()}
            rows = [values, _changes(values, baseline)] if compared else [values]
            for ax, frames in zip(column, rows, strict=False):
                for name, frame in frames.items():
                    band(ax, x, np.where(count >= FEW, frame, np.nan), lines[name])
            column[0].set(title=panel.title, ylabel=panel.label)
            mark(column[0], panel.uninformed)
            if compared:
                column[1].axhline(0, linewidth=1, color=lines[baseline].style["color"])
                column[1].set_ylabel(f"difference to\n{words(baseline)}")
            column[-1].bar(x, count.fillna(0), color="#BBBBBB")
            axis = SLICES[slicing].title(some["has_utc_offset"])
            column[-1].set(xlabel=axis, ylabel="events")
            if len(groups) > 12:
                column[-1].set_xticks(x[::3], groups[::3])
            else:
                column[-1].set_xticks(x, groups, rotation=40, ha="right", rotation_mode="anchor")
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
            top.set_title(f"{part}\ncalibration error {ece:.4f}".strip())
            bottom.hist(scores, bins=np.linspace(0, limit, 41), color=COLOURS[0])
            bottom.set(xlim=(0, limit), xlabel="predicted probability", ylabel="events")
    return path


def calibration_by_day(
    path: Path, models: Models, parts: Sequence[str], lines: Mapping[str, Line], title: str
) -> Path | None:
    """Calibration by day or longer period: the observed rate against every model's mean score.

    Only days with at least 50 events are drawn.

    Returns:
      None, without writing a file, if fewer than two days have so many events.
    """
    runs = [run for own in models.values() for run in own]
    paths = [(part,) if part else () for part in parts]
    days = sorted({day for run in runs for day in run["slices"]["day"]})
    counts = [leaves(runs[:1], "day", days, (*within, "count")).iloc[0] for within in paths]
    days = [day for day in days if any(count[day] >= FEW for count in counts)]
    if len(days) < 2:
        return None
    x = np.array(days, "datetime64[D]")
    with figure(path, title, 1, len(parts), 3.8, 3.0) as (picture, axes):
        for ax, part, within, count in zip(axes[0], parts, paths, counts, strict=True):
            enough = count[days] >= FEW
            rate = leaves(runs[:1], "day", days, (*within, "rate")).where(enough, axis=1)
            ax.plot(x, rate.iloc[0], color="black", marker="o", markersize=3, label="observed rate")
            for name, own in models.items():
                mean = leaves(own, "day", days, (*within, "mean_score")).where(enough, axis=1)
                line = lines[name]._replace(label=f"mean score, {lines[name].label}")
                band(ax, x, mean.to_numpy(), line)
            axis = SLICES["day"].title(runs[0]["has_utc_offset"])
            ax.set(title=part, xlabel=axis, ylabel="rate, mean score")
            ax.set_xticks(x[:: -(-len(x) // 4)])  # at most 4 days, written in full
            ax.xaxis.set_major_formatter(DateFormatter("%Y-%m-%d"))
            ax.tick_params(axis="x", rotation=25)
        legend_below(picture)
    return path
