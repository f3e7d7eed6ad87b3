"""What an ablation compares: variants x seeds x data sets, planned as runs from one config.

Every run has a directory of its own, WORKDIR/<dataset>/<variant>/seed_<s>. A run whose result is
there and was made from the same config and data is finished. `jobs.py` trains the others,
`report.py` compares.
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from siren_rope_jax import __version__
from siren_rope_jax.base.config import from_config_dict, load_config_file, to_dict
from siren_rope_jax.base.errors import UserError, suggestion
from siren_rope_jax.base.files import read_json, write_json
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.data.schema import FORMAT_VERSION
from siren_rope_jax.prepare.make import make_log, read_config
from siren_rope_jax.prepare.readers import find_files
from siren_rope_jax.studies.comparable import CONFIG_KEYS, check_alike
from siren_rope_jax.training.experiment import (
    ExperimentConfig,
    identity,
    read_experiment,
    without_execution,
)
from siren_rope_jax.training.run_log import read_metrics
from siren_rope_jax.training.workdir import trained_with


@dataclasses.dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
      name: in the table, and of its directory.
      argument: what `get_config` of the experiment's config file is called with, as after the
        colon in --config=FILE:ARGUMENT; empty: the name.
      overrides: of the experiment's config, by dotted key, such as {"model.layers": 4}.
    """

    name: str
    argument: str = ""
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One data set: a prepared log, or how to make it.

    Attributes:
      name: in the report, and of its directory.
      base: path of the experiment's config file.
      prepared: directory of a prepared log; empty: it is prepared once, to WORKDIR/data/<name>.
      config: path of the data config to prepare it with.
      input: the raw log, relative to the folder in SIREN_ROPE_DATA; none for a synthetic feed.
      prepare: overrides of the data config, by dotted key.
      overrides: of the experiment's config on this data set, by dotted key.
    """

    name: str
    base: str
    prepared: str = ""
    config: str = ""
    input: str = ""
    prepare: dict[str, Any] = dataclasses.field(default_factory=dict)
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if bool(self.prepared) == bool(self.config):
            raise UserError(
                f"data set {self.name!r}: give either `prepared` (the directory of a prepared log) "
                "or `config` (a data config to prepare it with)"
            )


@dataclasses.dataclass(frozen=True)
class Ablation:
    """What to compare.

    Attributes:
      name: the report's title.
      variants: the rows, in the order of the table.
      datasets: a table each.
      seeds: of training, the same for every variant.
      baseline: name of the variant that the others are compared with.
      champion: name of another one that they are compared with too, in tables of their own; empty:
        none.
      lines: names of the variants that pictures with a line for each show; none: all.
      jobs: runs at a time; each gets its share of the CPU cores.
    """

    name: str
    variants: tuple[Variant, ...]
    datasets: tuple[Dataset, ...]
    seeds: tuple[int, ...]
    baseline: str
    champion: str = ""
    lines: tuple[str, ...] = ()
    jobs: int = 1

    def __post_init__(self) -> None:
        names = [v.name for v in self.variants]
        lists: dict[str, list[Any]] = {
            "variants": names,
            "datasets": [d.name for d in self.datasets],
            "seeds": list(self.seeds),
        }
        for what, values in lists.items():
            if not values:
                raise UserError(f"config.{what}: is empty")
            double = next((v for v in values if values.count(v) > 1), None)
            if double is not None:
                raise UserError(f"config.{what}: {double!r} stands there twice")
        chosen = [("baseline", self.baseline), *(("lines", name) for name in self.lines)]
        if self.champion:
            chosen.append(("champion", self.champion))
        for key, name in chosen:
            if name not in names:
                raise UserError(f"config.{key}: {name!r} is no variant{suggestion(name, names)}")
        if self.champion == self.baseline:
            raise UserError(f"config.champion: {self.champion!r} is the baseline already")
        if self.jobs < 1:
            raise UserError(f"config.jobs: must be at least 1, got {self.jobs}")

    def only(self, names: Sequence[str]) -> "Ablation":
        """The same with some of the variants, in the order of the table.

        Args:
          names: of these, the baseline's among them; the champion's only if it is compared with.

        Raises:
          UserError: an unknown name, or no baseline.
        """
        known = [v.name for v in self.variants]
        for name in names:
            if name not in known:
                raise UserError(f"--variants: {name!r} is no variant{suggestion(name, known)}")
        if self.baseline not in names:
            raise UserError(f"--variants: {self.baseline!r}, the baseline, must be among them")
        return dataclasses.replace(
            self,
            variants=tuple(v for v in self.variants if v.name in names),
            champion=self.champion if self.champion in names else "",
            lines=tuple(name for name in self.lines if name in names),
        )


@dataclasses.dataclass(frozen=True)
class Log:
    """Where the prepared log of a data set is, or will be; shared by all its runs."""

    path: Path

    @cached_property
    def fingerprint(self) -> str:
        """As `PreparedLog`'s; read once."""
        return PreparedLog.open(self.path).fingerprint


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run: a variant on a data set with a seed."""

    dataset: str
    variant: str
    seed: int
    workdir: Path
    log: Log
    config: ExperimentConfig

    def is_finished(self) -> bool:
        """Whether it was trained to its end, with this config on this log, and tested since.

        What another version of this package trained or measured is not taken over.

        Raises:
          UserError: as `result`, or the prepared log is gone.
        """
        names = ("predictions.parquet", "result.json", "data.json")
        if not all((self.workdir / name).is_file() for name in names):
            return False
        result = self.result()
        if not result.get("training_ended"):
            return False
        if {result["version"], trained_with(self.workdir)} != {__version__}:
            return False
        if without_execution(result["config"]) != identity(self.config):
            return False
        return read_json(self.workdir / "data.json")["fingerprint"] == self.log.fingerprint

    def result(self) -> dict[str, Any]:
        """The content of result.json.

        Raises:
          UserError: it is not JSON.
        """
        return read_json(self.workdir / "result.json")

    def validation(self) -> dict[str, Any]:
        """What metrics.jsonl says of the validation that chose the parameters.

        Raises:
          UserError: it says nothing of it, or as `result`.
        """
        step = self.result()["step"]
        for line in read_metrics(self.workdir):
            if line["kind"] == "validation" and line["step"] == step:
                return line
        path = self.workdir / "metrics.jsonl"
        raise UserError(f"{path} has no validation of step {step}, whose parameters were tested")

    def machine(self) -> str:
        """On what the run was trained; empty where that was not recorded."""
        path = self.workdir / "machine.json"
        return read_json(path)["machine"] if path.is_file() else ""


def plan(ablation: Ablation, workdir: Path) -> list[Run]:
    """All runs, checked before the first one starts: seed by seed, so that early reports are fair.

    Raises:
      UserError: an unknown key or a wrong value in the base config or an override, or variants of
        one data set that cannot be compared.
    """
    runs = []
    for dataset in ablation.datasets:
        log = Log(Path(dataset.prepared or workdir / "data" / dataset.name))
        for seed in ablation.seeds:
            for variant in ablation.variants:
                own = {"variant": variant.name, "data.path": str(log.path), "seed": seed}
                overrides = {**dataset.overrides, **variant.overrides, **own}
                values = load_config_file(dataset.base, overrides, variant.argument or variant.name)
                config = read_experiment(values)
                place = workdir / dataset.name / variant.name / f"seed_{seed}"
                runs.append(Run(dataset.name, variant.name, seed, place, log, config))
        of_variant = {
            f"variant {run.variant!r}": {"config": to_dict(run.config)}
            for run in runs
            if run.dataset == dataset.name
        }
        check_alike(of_variant, CONFIG_KEYS, f"data set {dataset.name!r}: ")
    return runs


def prepare_logs(ablation: Ablation, workdir: Path) -> None:
    """Prepares the logs that are not there yet, as WORKDIR/data/<dataset>.

    Beside each, <dataset>.json records what it was made from, once it is complete. All are checked
    before the first one is made.

    Raises:
      UserError: SIREN_ROPE_DATA or an `input` is needed and not there, as `make_log`, or something
        is there already that was not made from this config.
    """
    todo = []
    for dataset in ablation.datasets:
        if dataset.prepared:
            continue
        config = load_config_file(dataset.config, dataset.prepare)
        try:
            values = to_dict(read_config(config, dataset.input or None))
        except UserError as error:
            raise UserError(f"data set {dataset.name!r}: {error}") from error
        made_from = {"input": dataset.input, "config": values, "format_version": FORMAT_VERSION}
        made_from = json.loads(json.dumps(made_from))
        output, record = (workdir / "data" / f"{dataset.name}{end}" for end in ("", ".json"))
        if output.exists() and any(output.iterdir()):
            if not record.is_file() or read_json(record) != made_from:
                raise UserError(
                    f"{output} is there already and was not prepared from this config, or by an "
                    "earlier version; remove it, or choose another --workdir"
                )
        else:
            source = _real_log(dataset) if dataset.input else None
            todo.append((config, source, output, record, made_from))
    for config, source, output, record, made_from in todo:
        record.unlink(missing_ok=True)  # of an earlier log, gone since
        make_log(config, source, output)
        write_json(record, made_from)


def _real_log(dataset: Dataset) -> Path:
    where = (
        f"set SIREN_ROPE_DATA to the folder that holds {dataset.input} (the head of "
        f"{dataset.config} says where it is from)"
    )
    folder = os.environ.get("SIREN_ROPE_DATA", "")
    if not folder:
        raise UserError(f"data set {dataset.name!r}: {where}")
    path = Path(folder) / dataset.input
    try:
        find_files(path)
    except UserError as error:
        raise UserError(f"data set {dataset.name!r}: {error}; {where}") from error
    return path


def load_ablation(config: ConfigDict) -> Ablation:
    """Reads an ablation's ConfigDict.

    Raises:
      UserError: an unknown key or a wrong value.
    """
    return from_config_dict(Ablation, config)
