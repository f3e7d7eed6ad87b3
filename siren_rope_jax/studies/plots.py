"""All pictures of a run or of a comparison, from the runs' own files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from siren_rope_jax.base.files import name_for_split, read_json
from siren_rope_jax.evaluation.evaluate import predictions_path
from siren_rope_jax.evaluation.slices import SLICES
from siren_rope_jax.metrics.bootstrap import ProbabilityColumns
from siren_rope_jax.studies import charts
from siren_rope_jax.studies.charts import Panel, Result
from siren_rope_jax.training.kinds import kind_of_result
from siren_rope_jax.training.kinds.kind import Kind, titled, validation_key
from siren_rope_jax.training.run_log import read_metrics


def draw_run(workdir: Path, split: str = "test") -> list[Path]:
    """All pictures of one run on a split, into its plots/, or plots_<split>/ if not of the test."""
    result = read_json(workdir / name_for_split("result.json", split))
    directory = workdir / name_for_split("plots", split)
    pictures = []
    if probabilities := _probabilities(kind_of_result(result), result):
        predictions = pd.read_parquet(predictions_path(workdir, split))
        run = f"{result['variant']}, seed {result['seed']}"
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
) -> list[Path]:
    """All pictures that compare models (or show one), as DIRECTORY/STEM<what>.png.

    Args:
      directory: where to.
      stem: what the files' names begin with.
      name: the data set's, for titles.
      models: name -> work directories of its runs, which are finished.
      baseline: the model that differences are taken to; none if it is not one of them.
      lines: the models to show where each is a line; if empty, or if none of them is there, all.
      split: of the results.
    """
    file = name_for_split("result.json", split)
    results = {model: [read_json(run / file) for run in runs] for model, runs in models.items()}
    lined = {model: runs for model, runs in results.items() if model in lines} or results
    logs = {m: [read_metrics(run) for run in models[m]] for m in lined}
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
        within = (part, metric) if part else (metric,)
        return Panel(titled(part, own.label), own.axis, (kind.measured, *within))

    def validation(part: str, metric: str) -> Panel:
        title = f"validation, {titled(part, kind.metrics[metric].label)}"
        path = "validation", validation_key(part, metric)
        return Panel(title, kind.metrics[metric].axis, path)

    grid = [[panel(part, metric) for metric in kind.compared] for part in parts]
    chief = [panel(part, metric) for part in parts for metric in kind.chief]
    curves = [validation(part, metric) for part in parts for metric in kind.chief]
    pictures: list[Path | None] = [
        charts.side_by_side(path("models"), results, grid, title("models and baselines"))
    ]
    for key in kind.slices:
        if SLICES[key].is_scale and SLICES[key].groups:
            what = title(f"by {SLICES[key].what}")
            pictures.append(charts.by_group(path(key), lined, chief, key, what, baseline))
    if "day" in kind.slices and (probabilities := _probabilities(kind, first)):
        what = title("calibration by day")
        pictures.append(charts.calibration_by_day(path("day"), lined, list(probabilities), what))
    curves.insert(0, Panel("training", "loss (nats)", ("train", "loss")))
    what = f"{name}: learning curves {of_seeds}"
    pictures.append(charts.over_training(path("learning"), logs, curves, what))
    keys = {key for runs in logs.values() for run in runs for line in run for key in line}
    gates = [
        Panel(f"source {key.removeprefix('gate/')!r}", "gate (mean)", ("validation", key))
        for key in sorted(keys)
        if "gate/" in key
    ]
    what = f"{name}: gates over training {of_seeds}"
    pictures.append(charts.over_training(path("gates"), logs, gates, what))
    return [picture for picture in pictures if picture]


def _probabilities(kind: type[Kind], result: Result) -> dict[str, ProbabilityColumns]:
    """The parts of a result whose predictions are probabilities."""
    columns = {part: kind.resampled(part) for part in kind.parts(result)}
    return {part: own for part, own in columns.items() if isinstance(own, ProbabilityColumns)}
