"""The differences of variants as means over several data sets, such as the days of a log.

A mean over n data sets counts each alike. The squares of their standard errors add up, those over
users and those over seeds apart, and the roots are divided by n: what they were evaluated on is
taken to be independent, as days are with other hours and items.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from siren_rope_jax.metrics.intervals import UNKNOWN, of_errors
from siren_rope_jax.training.kinds import KINDS

_KEYS = ("difference", "to_champion")


def together(datasets: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What report.json holds of all data sets together, from what it holds of each.

    Returns:
      "kind", "datasets" (how many), "counts" (the parts that all have) and "variants", each with
      the kind's column and "parts": part -> "metrics", whose names alone matter, "difference" and
      "to_champion", as each data set has them. None where there are not two, or of several kinds.
    """
    kinds = {data["kind"] for data in datasets}
    if len(datasets) < 2 or len(kinds) > 1:
        return None
    first, *others = datasets
    parts = [p for p in first["counts"] if all(p in data["counts"] for data in others)]
    names = [v for v in first["variants"] if all(v in data["variants"] for data in others)]
    variants: dict[str, dict[str, Any]] = {}
    column = (KINDS[first["kind"]].column or ())[:1]
    for name in names:
        own = [data["variants"][name] for data in datasets]
        variants[name] = {key: own[0][key] for key in ("seeds", *column)}
        variants[name]["parts"] = {
            part: {"metrics": own[0]["parts"][part]["metrics"]}
            | {key: _mean([one["parts"][part][key] for one in own]) for key in _KEYS}
            for part in parts
        }
    counts: dict[str, dict[str, Any]] = {part: {} for part in parts}
    return {"kind": kinds.pop(), "datasets": len(datasets), "counts": counts, "variants": variants}


def _mean(differences: Sequence[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """Of differences on several data sets; None where one of them has none."""
    some = [of for of in differences if of]
    if not some or len(some) < len(differences):
        return None
    metrics = [m for m in some[0] if m != "seeds" and all(m in of for of in some)]
    seeds = [seed for seed in some[0]["seeds"] if all(seed in of["seeds"] for of in some)]
    least = min(len(of["seeds"]) for of in some)
    means = {m: _mean_interval([of[m] for of in some], least) for m in metrics}
    return {"seeds": seeds} | means


def _mean_interval(
    intervals: Sequence[Mapping[str, float | None]], seeds: int
) -> dict[str, float | None]:
    """Of one metric; None where it is undefined because it is for one of the data sets."""
    value, of_users, of_seeds = (
        np.array([of[key] for of in intervals], float) for key in ("value", "of_users", "of_seeds")
    )
    users, trained = (float(np.linalg.norm(e)) / len(value) for e in (of_users, of_seeds))
    mean = UNKNOWN._replace(value=float(value.mean()))
    if np.isfinite(users + trained):
        mean = of_errors(mean.value, users, trained, seeds)
    return {key: x if np.isfinite(x) else None for key, x in mean._asdict().items()}
