"""The numbers of a comparison of variants on one data set: what report.json holds of it."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from siren_rope_jax.evaluation.evaluate import predictions_path
from siren_rope_jax.evaluation.slices import SLICES
from siren_rope_jax.metrics.bootstrap import Resampled
from siren_rope_jax.metrics.intervals import interval
from siren_rope_jax.studies.ablation import Run
from siren_rope_jax.studies.predictions import Unit, read_predictions
from siren_rope_jax.training.kinds import kind_of_result
from siren_rope_jax.training.kinds.kind import Kind, Metrics, validation_key
from siren_rope_jax.training.run_log import GATE

IDEAL = "ideal"
"""The baseline that no model can beat, where a log has one."""

Runs = Mapping[str, Sequence[Run]]  # by variant; at least one each
Results = Mapping[str, Mapping[int, Mapping[str, Any]]]  # result.json by variant and seed


def summarize(runs: Runs, baseline: str, champion: str, unit: Unit = "user") -> dict[str, Any]:
    """All numbers of one data set's finished runs; `unit` is what intervals resample.

    Returns:
      "rule", "targets": what the `Kind` says. "baselines": as in result.json. "counts": part ->
      what else was measured, such as the number of events. "variants": name -> "seeds",
      "parameters", "train_seconds", "gates" (as `gates_of`), the kind's `column`, and "parts": part
      -> as `Part.numbers`. "lengths": other tested length -> part -> variant -> "metrics",
      "difference" and "to_champion", as there.

    Raises:
      UserError: runs that were evaluated on different events, or a validation that is missing.
    """
    results = {variant: {run.seed: run.result() for run in own} for variant, own in runs.items()}
    first = _first(_first(results))
    kind = kind_of_result(first)
    parts = {
        name: Part(name, runs, results, baseline, champion, unit, kind)
        for name in kind.parts(first)
    }
    variants = {
        variant: {
            "seeds": list(own),
            "parameters": _first(own)["parameters"],
            "train_seconds": spread(r["train_seconds"] for r in own.values()),
            "gates": gates_of(runs[variant]),
            **({kind.column[0]: _first(own)[kind.column[0]]} if kind.column else {}),
            "parts": {name: part.numbers(variant) for name, part in parts.items()},
        }
        for variant, own in results.items()
    }
    measured = {name: kind.part(first[kind.measured], name) for name in parts}
    return {
        "rule": kind.rule(first),
        "targets": kind.targets(first["config"]),
        "baselines": first["baselines"],
        "counts": {
            name: {key: value for key, value in own.items() if key not in kind.metrics}
            for name, own in measured.items()
        },
        "variants": variants,
        "lengths": {
            length: {
                name: _at_length(length, name, runs, results, baseline, champion, unit)
                for name in parts
            }
            for length in sorted(
                {n for own in results.values() for r in own.values() for n in r.get("lengths", {})},
                key=int,
            )
        },
    }


def _at_length(
    length: str, name: str, runs: Runs, results: Results, baseline: str, champion: str, unit: Unit
) -> dict[str, Any]:
    """One part of what was measured in rows of another length, of the variants that reach it."""
    tested = {
        variant: {seed: r["lengths"][length] for seed, r in own.items()}
        for variant, own in results.items()
        if all(length in r.get("lengths", {}) for r in own.values())
    }
    kind = kind_of_result(_first(_first(results)))
    of_runs = {variant: runs[variant] for variant in tested}
    part = Part(name, of_runs, tested, baseline, champion, unit, kind, int(length))
    return {variant: part.compared(variant) for variant in tested}


class Part:
    """All variants, compared by one part of what was measured."""

    def __init__(
        self,
        name: str,
        runs: Runs,
        results: Results,
        baseline: str,
        champion: str,
        unit: Unit,
        kind: type[Kind],
        length: int | None = None,
    ) -> None:
        """Compares the variants with two of them, `baseline` and `champion`.

        The results are those of rows of another `length`, if one is given.
        """
        self._length = length
        self._name, self._baseline, self._champion = name, baseline, champion
        self._unit = unit
        self._runs = {variant: {run.seed: run for run in own} for variant, own in runs.items()}
        self._results, self._first = results, _first(_first(results))
        self._kind = kind
        self._compared = self._kind.applying(self._kind.compared, self._first, name)
        self._resampled = cache(self._resample)  # mostly for the variants that many are compared to

    def numbers(self, variant: str) -> dict[str, Any]:
        """The numbers of one variant.

        Returns:
          "metrics" and "validation" (of the parameters that were tested): metric -> as `spread`;
          "difference" and "to_champion": as `difference` to the baseline and the champion;
          "gap_closed": as `gap_closed`; "slices": slicing -> group -> metric, means over seeds.
        """
        kind, results = self._kind, self._results[variant].values()
        primary = kind.primary
        validations = [run.validation() for run in self._runs[variant].values()]
        slices: dict[str, Any] = {}
        for name, metrics in kind.slices.items():
            slices[name] = {}
            for group in SLICES[name].groups if metrics else ():
                own = [self._within(r["slices"][name].get(group, {})) for r in results]
                means = {m: spread(v.get(m) for v in own)["mean"] for m in ("count", *metrics)}
                slices[name][group] = means
        return {
            **self.compared(variant),
            "validation": {
                m: spread(v.get(validation_key(self._name, m)) for v in validations)
                for m in self._compared
            },
            "gap_closed": gap_closed(
                self._by_seed(primary, variant),
                self._by_seed(primary, self._baseline),
                self._within(self._first["baselines"].get(IDEAL, {})).get(primary),
                kind.metrics[primary].higher_is_better,
            ),
            "slices": slices,
        }

    def compared(self, variant: str) -> dict[str, Any]:
        """Of `numbers`, "metrics", "difference" and "to_champion"."""
        kind = self._kind
        measured = [self._within(r[kind.measured]) for r in self._results[variant].values()]
        return {
            "metrics": {
                m: spread(v[m] for v in measured)
                for m in kind.applying(list(kind.metrics), self._first, self._name)
            },
            "difference": self.difference(variant, self._baseline),
            "to_champion": self.difference(variant, self._champion),
        }

    def difference(self, variant: str, other: str) -> dict[str, Any] | None:
        """The metrics of one variant minus those of another, event by event and seed by seed.

        Returns:
          "seeds", those that both have, and metric -> "value", "low", "high", "p" as `Interval`.
          None where the two are the same variant or have no seed in common.

        Raises:
          UserError: they were evaluated on different events.
        """
        seeds = tuple(s for s in self._runs[variant] if s in self._runs.get(other, {}))
        if variant == other or not seeds:
            return None
        a, b = self._resampled(variant, seeds), self._resampled(other, seeds)
        numbers: dict[str, Any] = {"seeds": list(seeds)}
        for m in self._compared:
            values = interval(a[m], b[m])._asdict()
            numbers[m] = {k: v if np.isfinite(v) else None for k, v in values.items()}
        return numbers

    def _resample(self, variant: str, seeds: Sequence[int]) -> Mapping[str, Resampled]:
        runs = [*(self._runs[variant][seed] for seed in seeds), _first(_first(self._runs))]
        *paths, reference = (predictions_path(run.workdir, length=self._length) for run in runs)
        columns = self._kind.resampled(self._name, self._within(self._first[self._kind.measured]))
        return columns.resample(*read_predictions(paths, columns, reference, self._unit))

    def _within(self, measured: Mapping[str, Any]) -> Metrics:
        return self._kind.part(measured, self._name)

    def _by_seed(self, metric: str, variant: str) -> dict[int, float | None]:
        results = self._results.get(variant, {})
        return {s: self._within(r[self._kind.measured])[metric] for s, r in results.items()}


def _first(values: Mapping[Any, Any]) -> Any:
    return next(iter(values.values()))


def gap_closed(
    own: Mapping[int, float | None],
    baseline: Mapping[int, float | None],
    ideal: float | None,
    higher_is_better: bool,
) -> dict[str, Any] | None:
    """The share of the gap from the baseline to the ideal observer that a variant closes.

    `own` and `baseline` are the variant's and the baseline's metric by seed.

    Returns:
      "seeds", those that both have, and the shares as `spread`; None where there are none.
    """
    shares = {}
    for seed, value in own.items():
        theirs = baseline.get(seed)
        if value is not None and theirs is not None and ideal is not None:
            gap = ideal - theirs
            if gap > 0 if higher_is_better else gap < 0:
                shares[seed] = (value - theirs) / gap
    return {"seeds": list(shares)} | spread(shares.values()) if shares else None


def gates_of(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """The gate of every source that has one, of the parameters that were tested, as `spread`."""
    lines = [run.validation() for run in runs]
    names = {key.removeprefix(GATE): key for key in lines[0] if key.startswith(GATE)}
    return {name: spread(line.get(key) for line in lines) for name, key in names.items()}


def spread(values: Iterable[float | None]) -> dict[str, Any]:
    """The "mean", "sd" (sample standard deviation; None for a single value) and "values"."""
    values = list(values)
    present = np.array([v for v in values if v is not None], np.float64)
    return {
        "mean": float(present.mean()) if len(present) else None,
        "sd": float(present.std(ddof=1)) if len(present) > 1 else None,
        "values": values,
    }
