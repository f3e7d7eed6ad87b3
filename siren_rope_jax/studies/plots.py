"""All pictures of a run or of a comparison, from the runs' own files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from siren_rope_jax.base.files import name_for_split, read_json
from siren_rope_jax.evaluation.baselines.families import FAMILIES
from siren_rope_jax.evaluation.evaluate import predictions_path
from siren_rope_jax.evaluation.slices import SLICES
from siren_rope_jax.metrics.bootstrap import ProbabilityColumns
from siren_rope_jax.rotation.names import grouped, in_order, words
from siren_rope_jax.studies import charts, curves
from siren_rope_jax.studies.charts import Panel, Result
from siren_rope_jax.studies.comparison import ASIDE, Differences, best_of, side_by_side
from siren_rope_jax.studies.style import lines_of
from siren_rope_jax.training.kinds import kind_of_result
from siren_rope_jax.training.kinds.kind import Kind, titled, validation_key
from siren_rope_jax.training.run_log import read_metrics

_MANY = 8  # lines that can be told apart
_MANY_ROWS = 20  # of models, which two lines of panels would make too high a picture


def draw_run(workdir: Path, split: str = "test") -> list[Path]:
    """All pictures of one run on a split, into its plots/, or plots_<split>/ if not of the test."""
    result = read_json(workdir / name_for_split("result.json", split))
    directory = workdir / name_for_split("plots", split)
    pictures = []
    if probabilities := _probabilities(kind_of_result(result), result):
        predictions = pd.read_parquet(predictions_path(workdir, split))
        run = f"{words(result['variant'])}, seed {result['seed']}"
        title = f"{result['dataset']}, {split} split: reliability of {run}"
        path = directory / "reliability.png"
        pictures = [charts.reliability(path, predictions, probabilities, title)]
    models = {result["variant"]: [workdir]}
    return [*pictures, *draw_models(directory, "", result["dataset"], models, split=split)]


def draw_models(
    directory: Path,
    stem: str,
    name: str,
    models: Mapping[str, Sequence[Path]],
    baseline: str = "",
    lines: Sequence[str] = (),
    split: str = "test",
    differences: Differences | None = None,
) -> list[Path]:
    """All pictures that compare models (or show one), as DIRECTORY/STEM<what>.png.

    What has too few events, or a single point in time, makes no picture.

    Args:
      directory: where to.
      stem: what the files' names begin with.
      name: the data set's, for titles.
      models: name -> work directories of its runs, which are finished.
      baseline: the model that differences are taken to; none if it is not one of them.
      lines: the models to show where each is a line; if empty, or if none of them is there, all
        or, of more than 8, the baseline and the best of each group.
      split: of the results.
      differences: to the baseline, where they are known.
    """
    file = name_for_split("result.json", split)
    results = {m: [read_json(run / file) for run in models[m]] for m in in_order(models)}
    first = next(iter(results.values()))[0]
    kind, parts = kind_of_result(first), kind_of_result(first).parts(first)
    seeds = max(map(len, models.values()))
    of_seeds = f"({seeds} {'seeds' if seeds > 1 else 'seed'})"

    def title(what: str) -> str:
        return f"{name}, {split} split: {what} {of_seeds}"

    def path(what: str) -> Path:
        return directory / f"{stem}{what}.png"

    def panel(part: str, metric: str) -> Panel:
        own = kind.metrics[metric]
        within = (kind.measured, part, metric) if part else (kind.measured, metric)
        label = titled(part, own.label)
        return Panel(label, own.axis, within, own.higher_is_better, own.uninformed)

    def validation(part: str, metric: str) -> Panel:
        own = panel(part, metric)
        where = "validation", validation_key(part, metric)
        return own._replace(title=f"validation, {own.title}", path=where)

    primary = [panel(part, kind.primary) for part in parts]
    lined = {model: results[model] for model in _lined(results, lines, baseline, primary)}
    logs = {model: [read_metrics(run) for run in models[model]] for model in lined}
    by = kind.metrics[kind.primary].label
    looks = lines_of(list(lined), baseline, _best(lined, primary), by)
    # Of very many rows and panels, the primary metric stays: tables have the others.
    many = len(results) > _MANY_ROWS and len(kind.compared) * len(parts) > ASIDE
    metrics = kind.compared[: 1 if many else None]
    compared = [
        panel(part, metric)
        for metric in metrics
        for part in parts
        if kind.applying([metric], first, part)
    ]
    explained = FAMILIES[kind.baselines].explained(first["baselines"])
    what = title("models and baselines")
    pictures: list[Path | None] = [
        side_by_side(path("models"), results, compared, what, baseline, differences, explained)
    ]
    chief = [panel(part, metric) for part in parts for metric in kind.chief]
    for key in kind.slices:
        if SLICES[key].is_scale and SLICES[key].groups:
            what = title(f"by {SLICES[key].what}")
            pictures.append(charts.by_group(path(key), lined, chief, looks, key, what, baseline))
    if "day" in kind.slices and (probabilities := list(_probabilities(kind, first))):
        what = title("calibration by day")
        pictures.append(charts.calibration_by_day(path("day"), lined, probabilities, looks, what))
    measured = [validation(part, metric) for part in parts for metric in kind.chief]
    shown = [Panel("training", "loss (nats)", ("train", "loss")), *measured]
    what = f"{name}: learning curves {of_seeds}"
    pictures.append(curves.learning(path("learning"), logs, shown, looks, what))
    starts = {model: _starts(runs[0]["config"]) for model, runs in lined.items()}
    what = f"{name}: gates over training {of_seeds}"
    pictures.append(curves.gates(path("gates"), logs, starts, looks, what))
    return [picture for picture in pictures if picture]


def _lined(
    results: Mapping[str, Sequence[Result]],
    chosen: Sequence[str],
    baseline: str,
    primary: Sequence[Panel],
) -> list[str]:
    """The models that have lines: the chosen or, of many, the baseline and the best by group."""
    some = [model for model in results if model in chosen]
    if some or len(results) <= _MANY:
        return some or list(results)
    best = {
        _best({name: results[name] for name in names}, primary) or names[0]
        for names in grouped(results).values()
    }
    return [model for model in results if model == baseline or model in best]


def _best(results: Mapping[str, Sequence[Result]], primary: Sequence[Panel]) -> str:
    """The model with the best mean over seeds and parts; empty where there are not two."""
    values = {
        model: [charts.lookup(run, panel.path) for run in runs for panel in primary]
        for model, runs in results.items()
    }
    return best_of(values, primary[0].higher_is_better)


def _starts(config: Mapping[str, Any]) -> dict[str, float]:
    """Source -> the value at which its gate starts."""
    sources = config.get("model", {}).get("encoding", {})
    return {name: source["gate"]["init"] for name, source in sources.items() if source.get("gate")}


def _probabilities(kind: type[Kind], result: Result) -> dict[str, ProbabilityColumns]:
    """The parts of a result whose predictions are probabilities."""
    measured = {part: kind.part(result[kind.measured], part) for part in kind.parts(result)}
    columns = {part: kind.resampled(part, own) for part, own in measured.items()}
    return {part: own for part, own in columns.items() if isinstance(own, ProbabilityColumns)}
