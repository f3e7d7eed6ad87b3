"""The runs of an ablation: variants x data sets x seeds, planned from one config.

Every run has its own directory, WORKDIR/<dataset>/<variant>/seed_<s>. A run is finished if its
directory holds a result of this version of the package from the same config and data. `jobs.py`
trains the others, and `report.py` compares the finished ones.
"""

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from siren_rope_jax.base.config import load_config_file, to_dict
from siren_rope_jax.base.errors import UserError, check, suggestion
from siren_rope_jax.base.files import file_digest, locked, read_json
from siren_rope_jax.base.version import __version__
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.prepare.make import make_log, read_config
from siren_rope_jax.prepare.readers import find_files
from siren_rope_jax.studies.comparable import Unfinished, check_alike, config_keys, finished_run
from siren_rope_jax.training.experiment import ExperimentConfig, identity, without_execution
from siren_rope_jax.training.kinds import KINDS, read_experiment
from siren_rope_jax.training.run_log import read_metrics


@dataclasses.dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
      name: in the table, and the name of its directory.
      argument: of `get_config` in the experiment's config file, like the part after the colon in
        --config=FILE:ARGUMENT; if empty, the name.
      overrides: for the experiment's config, by dotted key, such as {"model.layers": 4}.
    """

    name: str
    argument: str = ""
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One data set: a prepared log, or how to make it.

    Attributes:
      name: in the report, and the name of its directory.
      base: path of the experiment's config file.
      prepared: directory of a prepared log, or its URL in a store; if empty, the log is prepared
        once, in WORKDIR/data/<name>.
      config: path of the data config to prepare it with.
      input: the raw log, relative to the folder in SIREN_ROPE_DATA; empty for a synthetic feed.
      items: a file of one row for each of its items, relative to the same folder; empty for none.
      prepare: overrides for the data config, by dotted key.
      overrides: for the experiment's config on this data set, by dotted key.
    """

    name: str
    base: str
    prepared: str = ""
    config: str = ""
    input: str = ""
    items: str = ""
    prepare: dict[str, Any] = dataclasses.field(default_factory=dict)
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check(
            bool(self.prepared) != bool(self.config),
            "prepared",
            "the directory of a prepared log, or else `config` must be a data config to prepare "
            f"one with, but not both (data set {self.name!r})",
        )


@dataclasses.dataclass(frozen=True)
class Ablation:
    """What to compare.

    Attributes:
      name: the report's title.
      variants: the rows of every table; those that are named in the catalogue
        (`siren-rope variants`) come first, in its order.
      datasets: the data sets, each with its own tables.
      seeds: the training seeds, the same for every variant.
      baseline: name of the variant that the others are compared with.
      champion: name of a second such variant, with separate tables; empty for none.
      lines: names of the variants in line plots; empty for all or, of more than 8, for the
        baseline and the best of each group.
      jobs: number of runs at a time; they share the CPU cores.
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
        names = [variant.name for variant in self.variants]
        lists: dict[str, Sequence[Any]] = {
            "variants": names,
            "datasets": [dataset.name for dataset in self.datasets],
            "seeds": self.seeds,
        }
        for key, values in lists.items():
            check(len(values) > 0, key, "a list that is not empty")
            double = [value for value in values if values.count(value) > 1]
            check(not double, key, f"a list without repetition; {double[:1]} is repeated")
        chosen = {"baseline": [self.baseline], "lines": self.lines}
        chosen["champion"] = [self.champion] if self.champion else []
        for key, some in chosen.items():
            _check_known(some, names, key)
        check(self.champion != self.baseline, "champion", f"another one than {self.baseline!r}")
        check(self.jobs >= 1, "jobs", "at least 1")

    def only(self, names: Sequence[str]) -> "Ablation":
        """The same ablation with some of its variants, among them the baseline.

        Raises:
          UserError: an unknown name, or the baseline is missing.
        """
        _check_known(names, [variant.name for variant in self.variants], "--variants")
        if self.baseline not in names:
            raise UserError("--variants", f"must include the baseline, {self.baseline!r}")
        return dataclasses.replace(
            self,
            variants=tuple(v for v in self.variants if v.name in names),
            champion=self.champion if self.champion in names else "",
            lines=tuple(name for name in self.lines if name in names),
        )


def _check_known(names: Iterable[str], variants: Sequence[str], about: str) -> None:
    for name in names:
        if name not in variants:
            raise UserError(about, f"{name!r} is not a variant{suggestion(name, variants)}")


@dataclasses.dataclass(frozen=True)
class Log:
    """The prepared log of a data set, which may not exist yet; shared by all its runs."""

    path: str  # or the URL

    @cached_property
    def fingerprint(self) -> str:
        """The `PreparedLog.fingerprint`, read once."""
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
        """Whether this version trained and tested it to the end with this config and log.

        Raises:
          UserError: result.json is damaged, or the prepared log is missing.
        """
        try:
            run = finished_run(self.workdir)
        except Unfinished:
            return False
        return (
            {run["version"], run["log"].get("trained_with")} == {__version__}
            and without_execution(run["config"]) == identity(self.config)
            and run["log"]["fingerprint"] == self.log.fingerprint
            and "epochs_before" not in run
        )

    def result(self) -> dict[str, Any]:
        """The content of result.json."""
        return read_json(self.workdir / "result.json")

    def validation(self) -> dict[str, Any]:
        """The line of metrics.jsonl on the validation that chose the parameters."""
        step = self.result()["step"]
        for line in read_metrics(self.workdir):
            if line["kind"] == "validation" and line["step"] == step:
                return line
        path = self.workdir / "metrics.jsonl"
        raise UserError(path, f"has no validation of step {step}, whose parameters were tested")

    def machine(self) -> str:
        """The machine that trained the run; empty if it was not recorded."""
        path = self.workdir / "machine.json"
        return read_json(path)["machine"] if path.is_file() else ""


def plan(ablation: Ablation, workdir: Path) -> list[Run]:
    """All runs, checked before the first one starts.

    Seeds are the outer loop, so that an early report has all variants.

    Raises:
      UserError: an unknown key or a wrong value in the base config or an override, or variants of
        one data set that cannot be compared.
    """
    runs = []
    for dataset in ablation.datasets:
        log = Log(dataset.prepared or str(workdir / "data" / dataset.name))
        configs: dict[str, dict[str, Any]] = {}
        for seed in ablation.seeds:
            for variant in ablation.variants:
                name = f"variant {variant.name!r} on data set {dataset.name!r}"
                own = {"variant": variant.name, "data.path": log.path, "seed": seed}
                overrides = {**dataset.overrides, **variant.overrides, **own}
                argument = variant.argument or variant.name
                with _naming(name):
                    config = read_experiment(load_config_file(dataset.base, overrides, argument))
                configs[name] = {"config": to_dict(config)}
                place = workdir / dataset.name / variant.name / f"seed_{seed}"
                runs.append(Run(dataset.name, variant.name, seed, place, log, config))
        check_alike(configs, config_keys(KINDS[config.kind]))
    return runs


@contextmanager
def reserved(workdir: Path, wait: bool = False) -> Iterator[None]:
    """Keeps other ablations out of `workdir`, which is made if need be.

    Args:
      workdir: of the ablation.
      wait: for another one that runs there.

    Raises:
      UserError: another one runs there, or it cannot be made.
    """
    refusal = "another ablation runs in it; wait for it, or choose another --workdir"
    with locked(workdir, refusal, wait):
        yield


def prepare_logs(ablation: Ablation, workdir: Path) -> None:
    """Prepares the missing logs, as WORKDIR/data/<dataset>; all are checked before.

    Raises:
      UserError: SIREN_ROPE_DATA or an `input` is needed and missing, or a directory already holds
        something that was not made from this config; or as `make_log`.
    """
    todo = []
    for dataset in ablation.datasets:
        if dataset.prepared:
            continue
        with _naming(f"data set {dataset.name!r}"):
            config = load_config_file(dataset.config, dataset.prepare)
            files = dataset.input, dataset.items
            read = read_config(config, *(file or None for file in files))
            values = json.loads(json.dumps(to_dict(read)))
        output = workdir / "data" / dataset.name
        if not output.exists() or (output.is_dir() and not any(output.iterdir())):
            todo.append((config, *(_raw_file(dataset, x) for x in files), output))
        elif not _is_made_from(
            PreparedLog.open(output).report,
            values,
            digests=_digests(dataset.input),
            item_digests=_digests(dataset.items),
        ):
            raise UserError(
                output,
                "was prepared from another config, other files or by an earlier version; remove "
                "it, or choose another --workdir",
            )
    for config, source, items, output in todo:
        make_log(config, source, output, items=items)


def _is_made_from(
    report: Mapping[str, Any], config: Mapping[str, Any], **digests: list[str] | None
) -> bool:
    """Whether a log was made with this config from files of these digests; None: any files."""
    same = [of is None or report.get(key, []) == of for key, of in digests.items()]
    return report.get("config") == config and all(same)


def _digests(given: str) -> list[str] | None:
    """Those of files that a data set names, if any; None if they are no longer there."""
    if not given:
        return []
    folder = os.environ.get("SIREN_ROPE_DATA")
    try:
        return [file_digest(path) for path in find_files(Path(folder) / given)] if folder else None
    except UserError:
        return None


def _raw_file(dataset: Dataset, given: str) -> Path | None:
    """The input of a data set, or its file of items, which must be there; None if it has none."""
    if not given:
        return None
    hint = (
        f"set it to the folder that holds {given}, for data set {dataset.name!r} "
        f"({dataset.config} says where to get it)"
    )
    if not (folder := os.environ.get("SIREN_ROPE_DATA")):
        raise UserError("SIREN_ROPE_DATA", f"is not set; {hint}")
    try:
        find_files(Path(folder) / given)
    except UserError as error:
        raise UserError("SIREN_ROPE_DATA", f"{error}; {hint}") from error
    return Path(folder) / given


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Adds to a refusal which part of the ablation it concerns."""
    try:
        yield
    except UserError as error:
        raise UserError(error.about, f"{error.problem} ({what})") from error
