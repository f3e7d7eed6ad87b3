"""How much models lose by standing still: a table and pictures of streamed runs.

Intervals are of users and seeds together (`metrics/intervals.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.files import read_json, replacing
from siren_rope_jax.base.times import DAY, HOUR
from siren_rope_jax.evaluation.baselines.families import FAMILIES
from siren_rope_jax.metrics.bootstrap import Resampled
from siren_rope_jax.metrics.intervals import interval
from siren_rope_jax.rotation.names import words
from siren_rope_jax.studies.comparable import check_alike
from siren_rope_jax.studies.predictions import read_predictions
from siren_rope_jax.studies.stream import FROZEN
from siren_rope_jax.studies.streamed import FOLDER, RESULT
from siren_rope_jax.studies.style import COLOURS, figure, legend_below, lines_of
from siren_rope_jax.studies.tables import table
from siren_rope_jax.training.experiment import without_execution
from siren_rope_jax.training.kinds import KINDS
from siren_rope_jax.training.kinds.kind import Kind, titled

_PRESENT = "0"
_GREYS = ("#777777", "#111111")
_DASHES = ((0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (10, 4)), (0, (1, 4)))
_ALIKE = ("version", "fingerprint", "stream", "config.kind")


@dataclass(frozen=True)
class Streams:
    """The streamed runs of one log, by variant.

    Attributes:
      folders: of each variant's seeds.
      results: the content of stream.json in each of them.
    """

    folders: Mapping[str, Sequence[Path]]
    results: Mapping[str, Sequence[Mapping[str, Any]]]

    @staticmethod
    def below(workdirs: Sequence[Path]) -> "Streams":
        """Those of these runs.

        Raises:
          UserError: they differ in what was asked about, or in how they were streamed; or variants
            have other seeds, or runs of one variant differ in more than their seed.
        """
        folders = [workdir / FOLDER for workdir in workdirs]
        results = {str(folder): read_json(folder / RESULT) for folder in folders}
        some = KINDS[next(iter(results.values()))["config"]["kind"]]
        decisive = [f"config.{key}" for key in some.decisive]
        check_alike(results, [*_ALIKE, *decisive])
        by_variant: dict[str, dict[int, Path]] = {}
        for folder in folders:
            of_variant = by_variant.setdefault(results[str(folder)]["variant"], {})
            if (seed := results[str(folder)]["seed"]) in of_variant:
                twice = f"and {of_variant[seed].parent} are of the same variant and seed"
                raise UserError(folder.parent, f"{twice}; name a directory with one of them")
            of_variant[seed] = folder
        first = next(iter(by_variant))
        for variant, of_variant in by_variant.items():
            same = {
                str(f): without_execution(results[str(f)]["config"]) for f in of_variant.values()
            }
            check_alike(same, [key for key in next(iter(same.values())) if key != "seed"])
            if of_variant.keys() != by_variant[first].keys():
                seeds = f"{sorted(of_variant)} of {variant}, {sorted(by_variant[first])} of {first}"
                raise UserError("seeds", f"are {seeds}; all variants need the same")
        ordered = {v: [own[seed] for seed in sorted(own)] for v, own in by_variant.items()}
        return Streams(ordered, {v: [results[str(f)] for f in own] for v, own in ordered.items()})

    @property
    def some(self) -> Mapping[str, Any]:
        """One of the results."""
        return self.results[next(iter(self.folders))][0]

    @property
    def kind(self) -> type[Kind]:
        """Of experiment."""
        return KINDS[self.some["config"]["kind"]]

    @property
    def metric(self) -> str:
        """The primary one of the kind."""
        return self.kind.primary

    @property
    def states(self) -> list[str]:
        """Of every model, from the present to the frozen one."""
        return list(self.some["states"])

    def baseline(self, name: str, part: str) -> Resampled:
        """The same of a simple baseline, which is equal for all runs."""
        return self._resampled([next(iter(self.folders.values()))[0] / f"{name}.parquet"], part)

    def state(self, variant: str, state: str, part: str) -> Resampled:
        """The primary metric of a state of a variant, on the data and on resampled users."""
        return self._resampled([f / f"{state}.parquet" for f in self.folders[variant]], part)

    def _resampled(self, paths: Sequence[Path], part: str) -> Resampled:
        measured = self.kind.part(_as_result(self)[self.kind.measured], part)
        columns = self.kind.resampled(part, measured)
        reference = next(iter(self.folders.values()))[0] / f"{_PRESENT}.parquet"
        users, values = read_predictions(paths, columns, reference)
        with np.errstate(invalid="ignore"):  # a rule may hold what came for impossible: NLL inf
            return columns.resample(users, values)[self.metric]


def reach(value: Resampled, than: Resampled | None = None) -> tuple[float, float]:
    """A metric, or its difference to another one, and half the width of its 95 % interval."""
    found = interval(value, than)
    return found.value, (found.high - found.low) / 2


def write_staleness(streams: Streams, folder: Path) -> list[Path]:
    """Writes staleness.md and its pictures; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "staleness.md"
    lines = [*_introduction(streams), ""]
    pictures = []
    for part in streams.kind.parts(_as_result(streams)):
        values = {
            variant: {state: streams.state(variant, state, part) for state in streams.states}
            for variant in streams.folders
        }
        simple = {name: streams.baseline(name, part) for name in streams.some["baselines"]}
        lines += _tables(streams, part, values, simple)
        end = f"-{part}.png" if part else ".png"
        pictures += [
            _by_age(streams, part, values, simple, folder / f"staleness{end}"),
            _over_time(streams, part, folder / f"stream{end}"),
        ]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return [path, *pictures]


def _as_result(streams: Streams) -> dict[str, Any]:
    """As a result.json, of which a kind tells the parts."""
    return {streams.kind.measured: streams.some["states"][_PRESENT]}


def _introduction(streams: Streams) -> list[str]:
    some, seeds = streams.some, max(map(len, streams.folders.values()))
    every, label = some["stream"]["every"] / HOUR, streams.kind.metrics[streams.metric].label
    return [
        f"# {some['dataset']}: models that go on learning",
        "",
        f"{some['events']:,} events of the test split, in slices of {every:g} h: each is asked "
        "about before it is learned. *Present*: the model has learned all slices before; *n h "
        "old*: the model as it was so long before the slice began; *frozen*: the model as it was "
        f"trained. {label}, mean over {seeds} seed{'s' * (seeds > 1)} ± half of the 95 % interval "
        "of users and seeds together. Candidates are all items of the log, also those that nobody "
        "has had yet; a loss with negatives among all items has these among them, too.",
    ]


def _names(streams: Streams) -> list[str]:
    """Of the states, in words."""
    hours = streams.some["stream"]["every"] / HOUR
    named = {_PRESENT: "present", FROZEN: FROZEN}
    return [named.get(s) or f"{int(s) * hours:g} h old" for s in streams.states]


def _tables(
    streams: Streams,
    part: str,
    values: Mapping[str, Mapping[str, Resampled]],
    simple: Mapping[str, Resampled],
) -> list[str]:
    """The metric of every state, and the differences of the present ones."""
    named = {variant: f"{words(variant)} (`{variant}`)" for variant in values}
    rows = [[named[v], *(_text(reach(of)) for of in own.values())] for v, own in values.items()]
    blank = [""] * (len(streams.states) - 1)
    rows += [[f"*{name}*", _text(reach(of)), *blank] for name, of in simple.items()]
    first, differences = next(iter(values)), []
    for variant, by_state in values.items():
        present = by_state[_PRESENT]
        others = [by_state[FROZEN], *simple.values(), values[first][_PRESENT]]
        cells = [_text(reach(present, other), sign="+") for other in others]
        differences.append([named[variant], *cells[:-1], "" if variant == first else cells[-1]])
    header = ["present model less", "frozen", *(f"*{name}*" for name in simple), words(first)]
    states = table([part or "model", *_names(streams)], rows)
    return [*states, *table(header, differences)]


def _text(of: tuple[float, float], sign: str = "") -> str:
    return "–" if np.isnan(of[0]) else f"{of[0]:{sign}.4f} ± {of[1]:.4f}"


def _by_age(
    streams: Streams,
    part: str,
    values: Mapping[str, Mapping[str, Resampled]],
    simple: Mapping[str, Resampled],
    path: Path,
) -> Path:
    """The metric on the same events by the time since a model has last learned, on average."""
    hours = streams.some["stream"]["every"] / HOUR
    ages = [state for state in streams.states if state != FROZEN]
    x = [(int(age) + 0.5) * hours for age in ages]
    metric = streams.kind.metrics[streams.metric]
    what = titled(part, "the same events, asked of models of different age")
    title = f"{streams.some['dataset']}: {what}"
    with figure(path, title, 1, 1, 6.4, 4.0) as (picture, axes):
        ax = axes[0, 0]
        lines = lines_of(list(values))
        for variant, by_state in values.items():
            mean, half = np.transpose([reach(by_state[age]) for age in ages])
            line = lines[variant]
            ax.errorbar(x, mean, half, label=line.label, capsize=3, marker="o", **line.style)
        for i, (name, of) in enumerate(simple.items()):
            ax.axhline(reach(of)[0], label=f"{name} (baseline)", **_of_baseline(i))
        ax.set(xlabel="hours since the model has last learned", ylabel=metric.axis)
        ax.set_title(metric.label)
        legend_below(picture, least=1)
    return path


def _of_baseline(number: int) -> dict[str, Any]:
    """How the line of a simple baseline looks: grey, with a dash of its own."""
    turn, dash = divmod(number, len(_DASHES))
    return {"color": _GREYS[turn % len(_GREYS)], "linestyle": _DASHES[dash], "linewidth": 1.2}


def _over_time(streams: Streams, part: str, path: Path) -> Path:
    """The metric in periods of six hours or more, of present and frozen models."""
    kind, metric = streams.kind, streams.kind.metrics[streams.metric]
    title = f"{streams.some['dataset']}: {titled(part, 'over the time after training')}"
    with figure(path, title, 1, 1, 8.0, 4.0) as (picture, axes):
        ax = axes[0, 0]
        for i, (variant, results) in enumerate(streams.results.items()):
            for state, dash in ((_PRESENT, "-"), (FROZEN, ":")):
                name = f"{words(variant)}, {'present' if state == _PRESENT else FROZEN}"
                x, y = _periods(kind, results, state, part, streams.metric)
                ax.plot(x, y, dash, color=COLOURS[i % len(COLOURS)], label=name, marker=".")
        simple = list(streams.some["baselines"])
        for name in FAMILIES[kind.baselines].adaptive:
            x, y = _periods(kind, [streams.some], name, part, streams.metric)
            ax.plot(x, y, label=f"{name} (baseline)", **_of_baseline(simple.index(name)))
        ax.set(ylabel=metric.axis, title=metric.label)
        ax.xaxis.axis_date()
        picture.autofmt_xdate(rotation=30)
        legend_below(picture, least=1)
    return path


def _periods(
    kind: type[Kind], results: Sequence[Mapping[str, Any]], state: str, part: str, metric: str
) -> tuple[np.ndarray, np.ndarray]:
    """Days since 1970 of the middle of periods, and the mean of a metric over seeds."""
    by_begin: dict[int, list[float]] = {}
    for result in results:
        for period in result["periods"]:
            measured = kind.part(period["states"][state], part)
            if measured and measured.get(metric) is not None:
                by_begin.setdefault(period["begin"], []).append(measured[metric])
    half = max(results[0]["stream"]["every"], 6 * HOUR) / 2
    x = (np.array(list(by_begin)) + half) / DAY
    return x, np.array([np.mean(values) for values in by_begin.values()])
