"""Pictures that are alike for every kind of model: learning, by group, side by side, gates.

Every function writes one PNG and returns its path. Runs come as `models`: name -> the runs of its
training seeds. With several seeds, lines are means and the shades or bars around them +- one
standard deviation.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from siren_rope_jax.evaluation.slices import FIRST_EVENT, GAPS
from siren_rope_jax.studies.style import LINES, band, colour, figure, legend_below

FEW = 50  # a group of fewer events has too noisy a metric to draw
_FAR = 1.5  # a baseline so many times the models' range away would hide their differences
_MANY = 5  # shades of more models hide each other

Metrics = Sequence[Mapping[str, Any]]  # the lines of a metrics.jsonl
Result = Mapping[str, Any]  # a result.json
Models = Mapping[str, Sequence[Result]]


class Album(NamedTuple):
    """Where the pictures of one data set go, and their headings.

    Attributes:
      directory: of the files.
      stem: what their names begin with.
      dataset: its name.
      split: that was evaluated.
      seeds: most training seeds of a model.
    """

    directory: Path
    stem: str
    dataset: str
    split: str
    seeds: int

    def path(self, what: str) -> Path:
        """The file of one picture."""
        return self.directory / f"{self.stem}{what}.png"

    def title(self, what: str, of_training: bool = False) -> str:
        """The heading of a picture of the evaluation, or of the training."""
        where = self.dataset if of_training else f"{self.dataset}, {self.split} split"
        return f"{where}: {what} ({self.seeds} {'seeds' if self.seeds > 1 else 'seed'})"


class Panel(NamedTuple):
    """One of the metrics that a picture shows beside each other.

    Attributes:
      title: above it.
      label: of the metric's axis.
      path: keys of the metric in a result. Without the first one they lead to it in each of the
        result's baselines and groups too, and beside it there is a "count".
    """

    title: str
    label: str
    path: tuple[str, ...]


class Curve(NamedTuple):
    """A metric of the validations, by its key in metrics.jsonl."""

    title: str
    label: str
    key: str


class Slicing(NamedTuple):
    """A way to group events.

    Attributes:
      name: in a result's slices.
      groups: in order.
      label: of their axis.
    """

    name: str
    groups: Sequence[str]
    label: str


def by_hour(models: Models) -> Slicing:
    """By hour of day."""
    return Slicing("hour", [str(hour) for hour in range(24)], time_label(models, "hour of day"))


BY_GAP = Slicing("gap", [*(name for name, _ in GAPS), FIRST_EVENT], "time since the last event")


def time_label(models: Models, what: str) -> str:
    """An axis of hours or days: local ones, or those of UTC where the log has no offsets."""
    local = next(iter(models.values()))[0]["has_utc_offset"]
    return f"local {what}" if local else f"{what} (UTC)"


def lookup(numbers: Mapping[str, Any], path: Sequence[str]) -> float:
    """A number in nested dicts; nan where there is none."""
    value: Any = numbers
    for key in path:
        value = (value or {}).get(key)
    return np.nan if value is None else value


def leaves(
    runs: Sequence[Result], slicing: str, groups: Sequence[str], path: Sequence[str]
) -> np.ndarray:
    """One number of every run and group [S, G]; nan where there is none."""
    parts = [run["slices"][slicing] for run in runs]
    return np.array([[lookup(part, [g, *path]) for g in groups] for part in parts], np.float64)


def learning_curves(
    path: Path, models: Mapping[str, Sequence[Metrics]], curves: Sequence[Curve], title: str
) -> Path | None:
    """Training loss and metrics of the validations over optimizer steps.

    Returns:
      None, and writes nothing, when nothing is known of any run's training.
    """
    if not any(run for runs in models.values() for run in runs):
        return None
    with figure(path, title, 1, 1 + len(curves), 3.6, 3.2) as (picture, axes):
        for i, (name, runs) in enumerate(models.items()):
            steps, loss = _series(runs, "train", "loss")
            if len(steps):
                band(axes[0, 0], steps, _smooth(loss), name, colour(i))
            for ax, curve in zip(axes[0, 1:], curves, strict=True):
                _validations(ax, runs, curve.key, name, i)
        axes[0, 0].set(title="training", ylabel="loss (nats)")
        for ax, curve in zip(axes[0, 1:], curves, strict=True):
            ax.set(title=curve.title, ylabel=curve.label)
        for ax in axes[0]:
            ax.set_xlabel("optimizer step")
        legend_below(picture)
    return path


def gates(path: Path, models: Mapping[str, Sequence[Metrics]], title: str) -> Path | None:
    """What the learned gates do over training: every "gate/..." value of the validations.

    Returns:
      None, and writes nothing, when no model has a gate.
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


def tells_apart(models: Models, slicing: Slicing) -> bool:
    """Whether the events are of more than one group; of whole days' times there is one hour."""
    some = next(iter(models.values()))[0]["slices"][slicing.name]
    return sum(group in some for group in slicing.groups) > 1


def by_group(
    path: Path,
    models: Models,
    panels: Sequence[Panel],
    slicing: Slicing,
    title: str,
    baseline: str = "",
) -> Path:
    """Metrics by group, where there are 50 events, over the numbers of events.

    With the name of a baseline among several models, the differences to it stand between, taken
    seed by seed. The lines of more than 5 models have no shades.
    """
    x, groups = np.arange(len(slicing.groups)), slicing.groups
    some = next(iter(models.values()))
    compared = baseline in models and len(models) > 1
    styles = {m: colour(i) | {"marker": ".", "markersize": "4"} for i, m in enumerate(models)}
    with figure(path, title, 2 + compared, len(panels), 3.8, 2.3) as (picture, axes):
        for column, panel in zip(axes.T, panels, strict=True):
            own = panel.path[1:]
            counts = leaves(some[:1], slicing.name, groups, [*own[:-1], "count"])[0]
            values = {name: leaves(r, slicing.name, groups, own) for name, r in models.items()}
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
            column[-1].set(xlabel=slicing.label, ylabel="events")
            _name_groups(column[-1], groups)
        legend_below(picture)
    return path


def _changes(
    values: Mapping[str, np.ndarray], models: Models, baseline: str
) -> dict[str, np.ndarray]:
    """Values [S, G] of the other models minus the baseline's, of the seeds that both have."""
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


def side_by_side(path: Path, models: Models, panels: Sequence[Panel], title: str) -> Path:
    """Metrics of every model (dots: seeds; mark and bar: mean and deviation).

    The baselines of the results stand as coloured vertical lines, or, where they are so far away
    that they would hide how the models differ, as numbers below.
    """
    height = 1.5 + 0.28 * len(models)
    floors = next(iter(models.values()))[0]["baselines"]
    with figure(path, title, 1, len(panels), 3.6, height) as (picture, axes):
        for ax, panel in zip(axes[0], panels, strict=True):
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
            ax.set_yticks(range(len(models)), list(models) if ax is axes[0, 0] else [])
            ax.set_ylim(len(models) - 0.4, -0.6)
            ax.grid(axis="y", visible=False)
        legend_below(picture, least=1)
    return path


def _draw_baselines(ax: Axes, baselines: Mapping[str, float], models: np.ndarray) -> list[str]:
    """Draws what is near the models' values; returns in words what is not."""
    low, high = np.nanmin(models, initial=np.inf), np.nanmax(models, initial=-np.inf)
    if not high > low:
        low, high = -np.inf, np.inf  # one model alone: everything is near
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
