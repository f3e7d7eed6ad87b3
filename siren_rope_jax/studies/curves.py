"""Pictures of a training: its losses and validations over the steps, and how its gates move.

`models` maps a model's name to the lines of metrics.jsonl of its runs, one for each seed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from siren_rope_jax.studies.charts import Panel
from siren_rope_jax.studies.style import Line, band, legend_below, mark, panel_grid
from siren_rope_jax.training.run_log import GATE

LEAST_SPAN = 0.5  # of an axis of gates, which begins at 0 or below
_ASIDE = 3  # panels in a line
_SQUASHED = 2.0  # a whole range so many times as wide hides what happens in the later one

Metrics = Sequence[Mapping[str, Any]]  # the lines of a metrics.jsonl
Logs = Mapping[str, Sequence[Metrics]]
Starts = Mapping[str, Mapping[str, float]]
"""Model -> source -> the value at which its gate starts."""


def learning(
    path: Path, models: Logs, panels: Sequence[Panel], lines: Mapping[str, Line], title: str
) -> Path | None:
    """Losses and validations over optimizer steps, as far as there are at least two of them.

    Returns:
      None, without writing a file, if there are not two of anything.
    """
    series = {p: {m: _series(runs, *p.path) for m, runs in models.items()} for p in panels}
    drawn = [p for p in panels if any(len(frame) > 1 for frame in series[p].values())]
    if not drawn:
        return None
    single = any(len(frame) == 1 for p in panels if p not in drawn for frame in series[p].values())
    caption = ["What was measured only once makes no curve and is not drawn."] if single else []
    with panel_grid(path, title, len(drawn), _ASIDE, 4.5, 3.0) as (picture, axes):
        for ax, panel in zip(axes, drawn, strict=True):
            frames = {m: frame for m, frame in series[panel].items() if len(frame)}
            training = panel.path[0] == "train"
            if training:
                frames = {m: _smooth(_without_rest(frame)) for m, frame in frames.items()}
            for name, frame in frames.items():
                marker = "" if training else "."
                band(ax, frame.index, frame.to_numpy().T, lines[name], marker)
            ax.set(title=panel.title, ylabel=panel.label, xlabel="optimizer step")
            _fit_after_the_start(ax, list(frames.values()))
            mark(ax, panel.uninformed)
        legend_below(picture, least=1, caption=caption)
    return path


def gates(
    path: Path, models: Logs, starts: Starts, lines: Mapping[str, Line], title: str
) -> Path | None:
    """The mean of every source's gate over optimizer steps, from its start on.

    Axes hold 0, where a source is off, and are never narrower than `LEAST_SPAN`, so that a gate
    that hardly moves looks like one.

    Returns:
      None, without writing a file, if no model has gates.
    """
    keys = sorted({key for runs in models.values() for r in runs for line in r for key in line})
    keys = [key for key in keys if key.startswith(GATE)]
    if not keys:
        return None
    with panel_grid(path, title, len(keys), _ASIDE, 4.5, 3.0) as (picture, axes):
        for ax, key in zip(axes, keys, strict=True):
            source = key.removeprefix(GATE)
            low, high = 0.0, LEAST_SPAN
            for name, runs in models.items():
                frame = _series(runs, "validation", key)
                if not len(frame):
                    continue
                start = starts.get(name, {}).get(source, np.nan)
                if not np.isnan(start):
                    frame.loc[0] = start
                    ax.axhline(start, color="#777777", linestyle=":", linewidth=1, label="start")
                frame = frame.sort_index()
                band(ax, frame.index, frame.to_numpy().T, lines[name])
                low, high = min(low, frame.min(axis=None)), max(high, frame.max(axis=None))
            margin = 0.05 * (high - low)
            ax.set_ylim(low - margin, high + margin)
            ax.set(title=f"gate of {source!r}", ylabel="mean over planes (0: off)")
            ax.set_xlabel("optimizer step")
        legend_below(picture, least=1)
    return path


def _series(runs: Sequence[Metrics], kind: str, key: str) -> pd.DataFrame:
    """One key of the metrics, by step (those that all runs have) and run."""
    each = [{m["step"]: m[key] for m in run if m.get("kind") == kind and key in m} for run in runs]
    columns = [pd.Series(values, dtype=np.float64) for values in each]
    return pd.concat(columns, axis="columns", join="inner").sort_index()


def _without_rest(losses: pd.DataFrame) -> pd.DataFrame:
    """Without the last loss if it is the mean of far fewer steps than the others."""
    widths = np.diff(losses.index.to_numpy())
    return losses.iloc[:-1] if len(widths) > 1 and 2 * widths[-1] < widths[-2] else losses


def _smooth(losses: pd.DataFrame) -> pd.DataFrame:
    """A centred running mean over about 1 % of the losses, each of which is a mean itself."""
    return losses.rolling(2 * (len(losses) // 200) + 1, center=True, min_periods=1).mean()


def _fit_after_the_start(ax: Axes, frames: Sequence[pd.DataFrame]) -> None:
    """Fits the axis to what comes after the first tenth of the steps, if the start squashes it."""
    last = max(frame.index[-1] for frame in frames)
    late = pd.concat([frame[frame.index > max(last / 10, frame.index[0])] for frame in frames])
    low, high = late.min(axis=None), late.max(axis=None)
    whole = max(f.max(axis=None) for f in frames) - min(f.min(axis=None) for f in frames)
    if len(late) > 2 and whole > _SQUASHED * (high - low) > 0:
        margin = 0.1 * (high - low)
        ax.set_ylim(low - margin, high + margin)
        ax.set_xlabel("optimizer step\n(first values off the axis)")
