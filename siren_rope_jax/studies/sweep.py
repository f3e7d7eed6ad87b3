"""A search for the best values of config keys, chosen on the validation split.

A trial is one training with its own values, in WORKDIR/<dataset>/<variant>/trial_<n>. Every variant
has the same number of trials, and trial n of all of them has the same values of the keys that they
share: none is tuned more than another. The test split is never looked at.
"""

import dataclasses
import itertools
import json
import math
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from siren_rope_jax.base.config import to_dict
from siren_rope_jax.base.errors import UserError, check
from siren_rope_jax.base.files import read_json, replacing, write_json
from siren_rope_jax.base.text import number
from siren_rope_jax.base.version import __version__
from siren_rope_jax.rotation.names import words
from siren_rope_jax.studies.ablation import Variant, experiment
from siren_rope_jax.studies.comparable import check_alike, config_keys, value_at
from siren_rope_jax.studies.datasets import Dataset, Log
from siren_rope_jax.studies.jobs import ERROR_FILE
from siren_rope_jax.studies.tables import table
from siren_rope_jax.training.experiment import ExperimentConfig, identity
from siren_rope_jax.training.interruption import ending_on_sigterm
from siren_rope_jax.training.kinds import KINDS
from siren_rope_jax.training.loop import fit
from siren_rope_jax.training.workdir import about_run

_TRIAL = "trial.json"
_SETTINGS = "settings.json"
_DRAWS = 20  # how many are drawn at most for every trial, to find values that are new
_NOT_SWEPT = ("seed", "variant", "kind", "data.path")


@dataclasses.dataclass(frozen=True)
class Range:
    """Which values of one config key are tried.

    Attributes:
      key: of the experiment's config, dotted.
      values: the choices, if there are any; without them a real number is drawn.
      low: the least value of a real number.
      high: the largest one.
      log: draws such a number uniformly by its logarithm.
    """

    key: str
    values: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    log: bool = False

    def __post_init__(self) -> None:
        check(self.key not in _NOT_SWEPT, "key", f"another one than {', '.join(_NOT_SWEPT)}")
        different = len({repr(value) for value in self.values}) == len(self.values)
        check(different, "values", f"given once each ({self.key!r})")
        bounds = (self.low, self.high)
        right = f"given for {self.key!r}, or else `low` and `high`, but not both"
        check(bool(self.values) == (bounds == (None, None)), "values", right)
        if self.low is None or self.high is None:
            check(bool(self.values), "low", f"given with `high` ({self.key!r})")
            check(not self.log, "log", f"left out: {self.key!r} has `values`")
        else:
            above = 0 if self.log else -np.inf
            right = f"below `high`, and above 0 with `log` ({self.key!r})"
            check(above < self.low < self.high, "low", right)

    def drawn(self, seed: int, trial: int) -> Any:
        """The value of a random trial; it depends on the key and these two numbers alone."""
        random = np.random.default_rng([seed, trial, zlib.crc32(self.key.encode())])
        if self.low is None or self.high is None:
            return self.values[random.integers(len(self.values))]
        low, high = (np.log([self.low, self.high])) if self.log else (self.low, self.high)
        value = random.uniform(low, high)
        return float(f"{np.exp(value) if self.log else value:.3g}")


@dataclasses.dataclass(frozen=True)
class SweptVariant(Variant):
    """A variant, and what is tried with it alone.

    Attributes:
      ranges: of keys that other variants do not have, or with other values.
      settings: values of several keys at once, each tried with every combination of the ranges;
        for keys that make sense together only.
    """

    ranges: tuple[Range, ...] = ()
    settings: tuple[dict[str, Any], ...] = ()

    def __post_init__(self) -> None:
        for key in itertools.chain(*self.settings):
            right = f"without {key}, which is the same in all trials"
            check(key not in _NOT_SWEPT, "settings", right)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What to search.

    Attributes:
      name: the report's title.
      variants: each is tuned by itself.
      datasets: each is searched by itself.
      ranges: what is tried with every variant.
      trials: per variant and data set, the same number for all; the first has the values of the
        config, the others random ones (Bergstra & Bengio 2012). A sweep of fewer trials can go on
        with more. 0: every combination of the `values`.
      seed: of the random values.
      training_seed: of every training.
      jobs: number of trainings at a time; they share the CPU cores.
    """

    name: str
    variants: tuple[SweptVariant, ...]
    datasets: tuple[Dataset, ...]
    ranges: tuple[Range, ...] = ()
    trials: int = 0
    seed: int = 0
    training_seed: int = 0
    jobs: int = 1

    def __post_init__(self) -> None:
        for key in ("variants", "datasets"):
            names = [one.name for one in getattr(self, key)]
            check(bool(names), key, "a list that is not empty")
            check(len(set(names)) == len(names), key, f"a list without repetition, not {names}")
        check(self.trials >= 0 and self.jobs >= 1, "trials", "0 or more, with 1 job or more")
        sizes = {}
        for variant in self.variants:
            ranges = self.ranges_of(variant)
            check(bool(ranges or variant.settings), "ranges", f"given for {variant.name!r}")
            right = f"0, because {variant.name!r} has `settings`, all of which are tried"
            check(not (self.trials and variant.settings), "trials", right)
            for range_ in ranges if not self.trials else ():
                right = f"above 0: {range_.key!r} has no `values`, so there is no end of them"
                check(bool(range_.values), "trials", right)
            tried = [len(range_.values) for range_ in ranges] + [len(variant.settings) or 1]
            sizes[variant.name] = math.prod(tried)
        right = f"above 0, so that all variants have as many; of all combinations they have {sizes}"
        check(bool(self.trials) or len(set(sizes.values())) == 1, "trials", right)

    def ranges_of(self, variant: SweptVariant) -> list[Range]:
        """Those of all variants and its own, which win."""
        return list({range_.key: range_ for range_ in (*self.ranges, *variant.ranges)}.values())

    def values_of(self, variant: SweptVariant) -> Iterator[dict[str, Any]]:
        """The values of trial 0, 1, ... by key: all combinations, or random ones without an end."""
        ranges = self.ranges_of(variant)
        if self.trials:
            yield {}
            for n in itertools.count(1):
                yield {range_.key: range_.drawn(self.seed, n) for range_ in ranges}
        for settings in variant.settings or ({},):
            for values in itertools.product(*(range_.values for range_ in ranges)):
                own = {range_.key: value for range_, value in zip(ranges, values, strict=True)}
                yield own | settings

    def keys_of(self, variant: SweptVariant) -> list[str]:
        """The keys whose values differ between its trials."""
        keys = [range_.key for range_ in self.ranges_of(variant)]
        return list(dict.fromkeys(itertools.chain(keys, *variant.settings)))


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training with values of its own."""

    dataset: str
    variant: str
    number: int
    values: dict[str, Any]
    workdir: Path
    log: Log
    config: ExperimentConfig

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.dataset}/{self.variant}/trial_{self.number}"

    def is_finished(self) -> bool:
        """Whether this version trained it to the end with this config and log."""
        if not (self.workdir / _TRIAL).is_file():
            return False
        found = self.found()
        return (
            found["version"] == __version__
            and found["config"] == identity(self.config)
            and found["fingerprint"] == self.log.fingerprint
        )

    def found(self) -> dict[str, Any]:
        """The content of trial.json."""
        return read_json(self.workdir / _TRIAL)

    def headline(self) -> str:
        """What it found, on one line."""
        found = self.found()
        values = ", ".join(f"{key}={value}" for key, value in self.values.items())
        best = f"validation {found['criterion'].upper()} {number(found['value'], 4)}"
        return f"{best} with {values}"


def plan(sweep: Sweep, workdir: Path) -> list[Trial]:
    """All trials, checked before the first one starts; the first ones of all variants come first.

    Raises:
      UserError: an unknown key or a wrong value in the base config, an override or a range; or
        trials that cannot be compared.
    """
    return [trial for dataset in sweep.datasets for trial in _of_dataset(sweep, dataset, workdir)]


def _of_dataset(sweep: Sweep, dataset: Dataset, workdir: Path) -> list[Trial]:
    """Its trials. A number is left out if its config would be an earlier one, of any variant."""
    log, trials = dataset.log(workdir), list[Trial]()
    seen: set[tuple[str, str]] = set()
    of_variants = zip(*map(sweep.values_of, sweep.variants), strict=False)
    most = _DRAWS * sweep.trials if sweep.trials else None
    for n, row in enumerate(itertools.islice(of_variants, most)):
        if sweep.trials and len(trials) == sweep.trials * len(sweep.variants):
            break
        some = []
        for variant, values in zip(sweep.variants, row, strict=True):
            config = experiment(variant, dataset, log, values | {"seed": sweep.training_seed})
            whole = to_dict(config)  # trial 0 names no values
            values = {key: value_at(whole, key) for key in sweep.keys_of(variant)}
            place = workdir / dataset.name / variant.name / f"trial_{n}"
            some.append(Trial(dataset.name, variant.name, n, values, place, log, config))
        alike = {(t.variant, json.dumps(identity(t.config), sort_keys=True)) for t in some}
        if not alike & seen:
            seen |= alike
            trials += some
    if (found := len(trials) // len(sweep.variants)) < sweep.trials:
        about = f"is {sweep.trials}, but there are only {found} different ones"
        raise UserError(
            "config.trials", f"{about} on {dataset.name}; lower it, or widen the ranges"
        )
    configs = {trial.name: {"config": to_dict(trial.config)} for trial in trials}
    check_alike(configs, (*config_keys(KINDS[trials[0].config.kind]), "config.criterion"))
    return trials


def claim(sweep: Sweep, workdir: Path) -> None:
    """Makes a directory this sweep's, which may go on there with more trials.

    Raises:
      UserError: it is that of another one.
    """
    free = ("name", "trials", "jobs")
    settings = {key: value for key, value in to_dict(sweep).items() if key not in free}
    settings["is_grid"] = not sweep.trials
    path = workdir / _SETTINGS
    if not path.exists():
        write_json(path, settings)
    elif read_json(path) != json.loads(json.dumps(settings)):
        raise UserError(workdir, "belongs to a sweep with other settings; choose another --workdir")


def train_trial(config: ExperimentConfig, workdir: Path) -> None:
    """Trains (or goes on training) a trial, and writes what its best validation was."""
    with ending_on_sigterm():
        progress = fit(config, workdir, longer=False)
    if not progress.ended:
        sys.exit(0)  # after SIGTERM, which all other trials get too
    criterion, higher_is_better = KINDS[config.kind](config).criterion
    found = {
        "criterion": criterion,
        "higher_is_better": higher_is_better,
        "value": progress.best * (-1 if higher_is_better else 1),
        "step": progress.best_step,
        "seconds": progress.seconds,
        "version": __version__,
        "fingerprint": about_run(workdir)["fingerprint"],
        "config": identity(config),
    }
    write_json(workdir / _TRIAL, found)


def write_report(sweep: Sweep, workdir: Path, trials: Sequence[Trial]) -> Path:
    """Writes sweep.md, sweep.json with all finished trials, and best.json for an ablation.

    best.json has the variants all of whose trials were tried; those that failed count.
    """
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    missing, failed = list[str](), list[str]()
    for trial in trials:
        if trial.is_finished():
            row = {"trial": trial.number, "values": trial.values} | trial.found()
            own = found.setdefault(trial.dataset, {}).setdefault(trial.variant, [])
            own.append({key: row[key] for key in row if key != "config"})
        else:
            ended = (trial.workdir / ERROR_FILE).exists()
            (failed if ended else missing).append(trial.name)
    best: dict[str, dict[str, Any]] = {}
    for dataset, variants in found.items():
        for variant, own in variants.items():
            sign = -1 if own[0]["higher_is_better"] else 1
            own.sort(key=lambda row: (sign * row["value"], row["trial"]))
            if not any(name.startswith(f"{dataset}/{variant}/") for name in missing):
                best.setdefault(dataset, {})[variant] = own[0]["values"]
    summary = {"sweep": to_dict(sweep), "found": found, "missing": missing, "failed": failed}
    write_json(workdir / "sweep.json", summary)
    write_json(workdir / "best.json", best)
    path = workdir / "sweep.md"
    with replacing(path) as temporary:
        temporary.write_text(markdown(sweep.name, summary), encoding="utf-8")
    return path


def markdown(title: str, summary: Mapping[str, Any]) -> str:
    """The report: for every data set and variant its trials, the best one first."""
    lines = [f"# {title}", ""]
    for dataset, variants in summary["found"].items():
        lines += [f"## {dataset}", ""]
        for variant, own in variants.items():
            label = own[0]["criterion"].upper()
            keys = list(dict.fromkeys(key for row in own for key in row["values"]))
            header = ["trial", *(f"`{key}`" for key in keys), f"validation {label}", "step", "s"]
            lines += [f"### {words(variant)} (`{variant}`)", ""]
            rows = [
                [
                    str(row["trial"]),
                    *(str(row["values"][key]) for key in keys),
                    number(row["value"], 4),
                    str(row["step"]),
                    number(row["seconds"], 0),
                ]
                for row in own
            ]
            lines += table(header, rows)
    if failed := summary["failed"]:
        lines += [f"Failed, as error.txt in their folders says: {', '.join(failed)}.", ""]
    if missing := summary["missing"]:
        lines += [f"**Not finished:** {', '.join(missing)}.", ""]
    lines += [
        "The best of several trials looks better on validation than it is. best.json has the best",
        "values of each variant whose trials are all done; `siren-rope ablate --chosen=best.json`",
        "compares the variants with them on the test split, with several seeds.",
    ]
    return "\n".join(lines) + "\n"
