"""All pictures of a run or of a comparison, from the runs' own files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from siren_rope_jax.base.files import of_split, read_json
from siren_rope_jax.studies import charts, ranking_plots, retrieval_plots
from siren_rope_jax.studies.charts import Album, Metrics, Models, Result
from siren_rope_jax.training.run_log import read_metrics


class Kind(Protocol):
    """The pictures of one kind of model; a module is one."""

    def draw_run(self, directory: Path, result: Result, predictions: pd.DataFrame) -> list[Path]:
        """Those that make sense for one run alone."""

    def draw_models(
        self,
        album: Album,
        models: Models,
        lined: Models,
        logs: Mapping[str, Sequence[Metrics]],
        baseline: str,
    ) -> list[Path | None]:
        """Those that compare models, or show one; None for one that has nothing to show.

        Args:
          album: where to.
          models: all of them.
          lined: those that have a line where each has one.
          logs: their metrics.jsonl.
          baseline: as in `draw_models`.
        """


_KINDS: Mapping[str, Kind] = {"ranking": ranking_plots, "retrieval": retrieval_plots}


def draw_run(workdir: Path, split: str = "test") -> list[Path]:
    """All pictures of one run on a split, into its plots/, or plots_<split>/ if not of the test."""
    result, directory = _result(workdir, split), workdir / of_split("plots", split)
    predictions = pd.read_parquet(workdir / of_split("predictions.parquet", split))
    alone = _kind(result).draw_run(directory, result, predictions)
    models = {result["variant"]: [workdir]}
    return [*alone, *draw_models(directory, "", result["dataset"], models, split=split)]


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
      lines: the models to show where each is a line; none, or none of them there: all.
      split: of the results.
    """
    results = {model: [_result(run, split) for run in runs] for model, runs in models.items()}
    lined = {model: runs for model, runs in results.items() if model in lines} or results
    logs = {m: [read_metrics(run) for run in models[m]] for m in lined}
    first = next(iter(results.values()))[0]
    album = Album(directory, stem, name, split, max(map(len, models.values())))
    pictures = _kind(first).draw_models(album, results, lined, logs, baseline)
    title = album.title("gates over training", of_training=True)
    pictures.append(charts.gates(album.path("gates"), logs, title))
    return [picture for picture in pictures if picture]


def _result(workdir: Path, split: str) -> dict[str, Any]:
    return read_json(workdir / of_split("result.json", split))


def _kind(result: Result) -> Kind:
    return _KINDS[result["config"]["task"]]
