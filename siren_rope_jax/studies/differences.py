"""Numbers of a comparison of variants that are alike for every kind of model."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from siren_rope_jax.studies.ablation import Run
from siren_rope_jax.studies.bootstrap import Resampled, difference, seed_deviation

Resample = Callable[[Sequence[Path], Path], Mapping[str, Resampled]]


class Differences:
    """Differences between variants, by paired bootstrap over the seeds that both have."""

    def __init__(self, by_variant: Mapping[str, Sequence[Run]], resample: Resample) -> None:
        """Compares variants.

        Args:
          by_variant: their finished runs.
          resample: metrics on resamples from the predictions of one variant's runs, checked
            against those of another run.
        """
        self._paths = {
            variant: {run.seed: run.workdir / "predictions.parquet" for run in runs}
            for variant, runs in by_variant.items()
        }
        reference = next(path for own in self._paths.values() for path in own.values())

        @cache  # of the other, whose common seeds with the variants are mostly the same
        def resampled(variant: str, seeds: tuple[int, ...]) -> Mapping[str, Resampled]:
            return resample([self._paths[variant][seed] for seed in seeds], reference)

        self._resampled = resampled

    def between(self, variant: str, other: str) -> dict[str, Any] | None:
        """The variant minus another: "seeds", and metric -> "difference", "low", "high", "sd".

        The interval from low to high says how the users drawn move the difference, its standard
        deviation over the seeds (None of a single one) how the seeds do. None where it is itself,
        or they have no seed in common.
        """
        theirs = self._paths.get(other, {})
        seeds = tuple(seed for seed in self._paths[variant] if seed in theirs)
        if variant == other or not seeds:
            return None
        a, b = self._resampled(variant, seeds), self._resampled(other, seeds)
        numbers = {
            m: difference(a[m], b[m])._asdict() | {"sd": seed_deviation(a[m], b[m])} for m in a
        }
        return {"seeds": list(seeds)} | {
            m: {k: _finite(v) for k, v in values.items()} for m, values in numbers.items()
        }


def common(results: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What stands in the table whatever was measured, from the results of a variant's runs."""
    results = list(results)
    return {
        "seeds": [r["seed"] for r in results],
        "parameters": results[0]["parameters"],
        "train_seconds": spread(r["train_seconds"] for r in results),
    }


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that are there."""
    present = [v for v in values if v is not None]
    return float(np.mean(present)) if present else None


def spread(values: Iterable[float | None]) -> dict[str, Any]:
    """Mean and sample standard deviation (None for a single value) over seeds."""
    values = list(values)
    present = np.array([v for v in values if v is not None], np.float64)
    return {
        "mean": float(present.mean()) if len(present) else None,
        "sd": float(present.std(ddof=1)) if len(present) > 1 else None,
        "values": values,
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
