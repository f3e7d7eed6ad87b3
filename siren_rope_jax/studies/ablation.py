"""The runs of an ablation: variants x data sets x seeds, planned from one config.

Every run has its own directory, WORKDIR/<dataset>/<variant>/seed_<s>. A run is finished if its
directory holds a result of this version of the package from the same config and data. `jobs.py`
trains the others, and `report.py` compares the finished ones.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from siren_rope_jax.base.config import load_config_file, to_dict
from siren_rope_jax.base.errors import UserError, check, suggestion
from siren_rope_jax.base.files import read_json
from siren_rope_jax.base.version import __version__
from siren_rope_jax.evaluation.evaluate import headline
from siren_rope_jax.studies.comparable import Unfinished, check_alike, config_keys, finished_run
from siren_rope_jax.studies.datasets import Dataset, Log, naming
from siren_rope_jax.studies.predictions import Unit
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
      unit: what intervals resample. Where few items or hours have most of the events, as in news,
        it is their choice that chance has made, more than that of users.
      together: whether the report also has the differences as means over the data sets, for those
        that ask the same of other days or other users.
      jobs: number of runs at a time; they share the CPU cores.
    """

    name: str
    variants: tuple[Variant, ...]
    datasets: tuple[Dataset, ...]
    seeds: tuple[int, ...]
    baseline: str
    champion: str = ""
    lines: tuple[str, ...] = ()
    unit: Unit = "user"
    together: bool = False
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
            check_known(some, names, key)
        check(self.champion != self.baseline, "champion", f"another one than {self.baseline!r}")
        check(self.jobs >= 1, "jobs", "at least 1")

    def only(self, names: Sequence[str]) -> "Ablation":
        """The same ablation with some of its variants, among them the baseline.

        Raises:
          UserError: an unknown name, or the baseline is missing.
        """
        check_known(names, [variant.name for variant in self.variants], "--variants")
        if self.baseline not in names:
            raise UserError("--variants", f"must include the baseline, {self.baseline!r}")
        return dataclasses.replace(
            self,
            variants=tuple(v for v in self.variants if v.name in names),
            champion=self.champion if self.champion in names else "",
            lines=tuple(name for name in self.lines if name in names),
        )


def check_known(names: Iterable[str], variants: Sequence[str], about: str) -> None:
    """Refuses names that are not among those of a study's variants.

    Raises:
      UserError: about a key or a flag, with the nearest name that is known.
    """
    for name in names:
        if name not in variants:
            raise UserError(about, f"{name!r} is not a variant{suggestion(name, variants)}")


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run: a variant on a data set with a seed.

    Attributes:
      chosen: settings that a sweep has chosen, by dotted key.
    """

    dataset: str
    variant: str
    seed: int
    workdir: Path
    log: Log
    config: ExperimentConfig
    chosen: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.dataset}/{self.variant}/seed_{self.seed}"

    def headline(self) -> str:
        """What a finished run found, on one line."""
        return headline(self.result())

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
            and not {"epochs_before", "calibration"} & set(run)
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


def plan(ablation: Ablation, workdir: Path, chosen: str | None = None) -> list[Run]:
    """All runs, checked before the first one starts.

    Seeds are the outer loop, so that an early report has all variants.

    Args:
      ablation: what to compare.
      workdir: of the ablation.
      chosen: path of the best.json of a sweep (`sweep.py`): what it chose for a variant on a data
        set is set there.

    Raises:
      UserError: an unknown key or a wrong value in the base config or an override, `chosen` lacks a
        variant on a data set, or variants of one data set cannot be compared.
    """
    runs, choices = [], read_json(Path(chosen)) if chosen else None
    for dataset in ablation.datasets:
        log = dataset.log(workdir)
        tuned_on = dataset.tuned_on or dataset.name
        best = {v.name: _chosen(choices, tuned_on, v.name) for v in ablation.variants}
        configs: dict[str, dict[str, Any]] = {}
        for seed in ablation.seeds:
            for variant in ablation.variants:
                overrides = best[variant.name] | {"seed": seed}
                config = experiment(variant, dataset, log, overrides)
                configs[_about(variant, dataset)] = {"config": to_dict(config)}
                place = workdir / dataset.name / variant.name / f"seed_{seed}"
                runs.append(
                    Run(dataset.name, variant.name, seed, place, log, config, best[variant.name])
                )
        check_alike(configs, config_keys(KINDS[config.kind]))
    return runs


def experiment(
    variant: Variant, dataset: Dataset, log: Log, overrides: Mapping[str, Any]
) -> ExperimentConfig:
    """The experiment of a variant on a data set; `overrides` win over those of both.

    Raises:
      UserError: an unknown key or a wrong value in the base config or an override.
    """
    own = {"variant": variant.name, "data.path": log.path}
    overrides = {**dataset.overrides, **variant.overrides, **overrides, **own}
    with naming(_about(variant, dataset)):
        return read_experiment(
            load_config_file(dataset.base, overrides, variant.argument or variant.name)
        )


def _about(variant: Variant, dataset: Dataset) -> str:
    return f"variant {variant.name!r} on data set {dataset.name!r}"


def _chosen(choices: Mapping[str, Any] | None, dataset: str, variant: str) -> dict[str, Any]:
    """What a sweep chose for a variant on a data set: values by dotted key; {} without a sweep."""
    if choices is None:
        return {}
    of_dataset = choices.get(dataset)
    if not isinstance(of_dataset, dict):
        what = f"it has no choice for data set {dataset!r}{suggestion(dataset, choices)}"
        raise UserError("--chosen", f"{what}; name the best.json of a sweep over it")
    if not isinstance(chosen := of_dataset.get(variant), dict):
        known = suggestion(variant, of_dataset)
        what = f"it has no choice for {variant!r} on {dataset!r}{known}"
        remedy = "name those that were tuned in --variants, or sweep this one too, to the end"
        raise UserError("--chosen", f"{what}; {remedy}")
    return chosen
