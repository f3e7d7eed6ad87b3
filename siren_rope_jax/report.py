"""One report of an ablation: report.md, report.json and pictures, from the runs' own files."""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from siren_rope_jax import bootstrap, plots
from siren_rope_jax.ablation import Ablation, Run
from siren_rope_jax.data.dataset import PreparedLog
from siren_rope_jax.data.schema import Schema
from siren_rope_jax.files import replacing, write_json
from siren_rope_jax.metrics import METRICS
from siren_rope_jax.report_text import markdown

IDEAL = "ideal"
RESAMPLES = {"resamples": 1000, "auc_resamples": 200}


def write_report(ablation: Ablation, workdir: Path, runs: Sequence[Run]) -> Path:
    """Writes report.md, report.json and the pictures of all finished runs into `workdir`.

    Args:
      ablation: what was compared.
      workdir: its directory.
      runs: all its runs; those that are not finished are listed as missing.
    """
    finished = [run for run in runs if run.is_finished()]
    machines = sorted({machine for run in finished if (machine := run.machine())})
    summary: dict[str, Any] = {
        "name": ablation.name,
        "baseline": ablation.baseline,
        "seeds": list(ablation.seeds),
        "machines": machines,
        "jobs": ablation.jobs,
        **RESAMPLES,
        "missing": [str(run.workdir.relative_to(workdir)) for run in runs if run not in finished],
        "datasets": {},
    }
    for dataset in ablation.datasets:
        own = [run for run in finished if run.dataset == dataset.name]
        if own:
            log = PreparedLog.open(own[0].log.path)
            tables = summarize(own, ablation.baseline) | {"data": describe(log)}
            places = {v: [r.workdir for r in rs] for v, rs in _by_variant(own).items()}
            pictures = plots.draw_models(workdir, f"{dataset.name}-", dataset.name, places)
            summary["datasets"][dataset.name] = tables | {"pictures": [p.name for p in pictures]}
    write_json(workdir / "report.json", summary)
    path = workdir / "report.md"
    with replacing(path) as temporary:
        temporary.write_text(markdown(summary), encoding="utf-8")
    return path


def describe(log: PreparedLog) -> dict[str, Any]:
    """What a reader must know of the data: its size and where time splits it."""
    schema: Schema = log.schema
    sizes = log.index.sum(axis=0)

    def date(seconds: int) -> str:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")

    return {
        "name": schema.name,
        "source": schema.source,
        "users": len(log.index),
        "items": schema.categorical[0].values,
        "events": {"all": int(sizes[0])}
        | {s: int(n) for s, n in zip(("train", "validation", "test"), sizes[1:], strict=True)},
        "start": date(schema.train_start),
        "train_end": date(schema.train_end),
        "validation_end": date(schema.validation_end),
        "end": date(schema.end),
    }


def summarize(runs: Sequence[Run], baseline: str) -> dict[str, Any]:
    """All numbers of one data set's finished runs.

    Returns:
      "split", "events", "baselines" (as in result.json) and "variants": name -> "seeds",
      "parameters", "train_seconds", "tasks": task -> metric -> {"mean", "sd", "values"};
      "difference" to the baseline variant over the seeds that both have: "seeds", and metric ->
      {"difference", "low", "high"}; "gap_closed" {"seeds", "mean", "sd", "values"}, the share of
      the distance between the baseline's NE and the ideal observer's, per seed that both have,
      where the log has the ideal observer; "slices": "seen" and "unseen" items -> {"ne", "auc",
      "count"}, means over seeds.

    Raises:
      UserError: runs that were evaluated on different events.
    """
    by_variant = _by_variant(runs)
    results = {v: [run.result() for run in own] for v, own in by_variant.items()}
    first = next(iter(results.values()))[0]
    tasks = list(first["tasks"])
    differences = _differences(by_variant, baseline, tasks)
    variants: dict[str, Any] = {}
    for variant, own in results.items():
        table: dict[str, Any] = {}
        for task in tasks:
            table[task] = {m: _spread(r["tasks"][task][m] for r in own) for m in METRICS}
            table[task]["difference"] = differences.get((variant, task))
            table[task]["gap_closed"] = _gap_closed(own, results.get(baseline, []), task)
            table[task]["slices"] = {
                name: {
                    m: _mean(r["slices"]["item"].get(name, {}).get(task, {}).get(m) for r in own)
                    for m in ("ne", "auc", "count")
                }
                for name in ("seen", "unseen")
            }
        variants[variant] = {
            "seeds": [r["seed"] for r in own],
            "parameters": own[0]["parameters"],
            "train_seconds": _spread(r["train_seconds"] for r in own),
            "tasks": table,
        }
    return {
        "split": first["split"],
        "events": first["events"],
        "baselines": first["baselines"],
        "variants": variants,
    }


def _by_variant(runs: Sequence[Run]) -> dict[str, list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.variant, []).append(run)
    return groups


def _differences(
    by_variant: Mapping[str, Sequence[Run]], baseline: str, tasks: Sequence[str]
) -> dict[tuple[str, str], dict[str, Any]]:
    """Every other variant minus the baseline, by (variant, task), over the seeds both have."""
    paths = {
        variant: {run.seed: run.workdir / "predictions.parquet" for run in runs}
        for variant, runs in by_variant.items()
    }
    reference = paths.get(baseline, {})

    @cache  # of the baseline, whose common seeds with the others are mostly the same
    def resampled(variant: str, task: str, seeds: tuple[int, ...]) -> Any:
        own = [paths[variant][seed] for seed in seeds]
        read = bootstrap.read_scores(own, task, reference=next(iter(reference.values())))
        return bootstrap.resample(read.labels, read.users, read.scores, **RESAMPLES)

    differences = {}
    for task in tasks:
        for variant in by_variant:
            seeds = tuple(seed for seed in paths[variant] if seed in reference)
            if variant == baseline or not seeds:
                continue
            ours, theirs = (resampled(v, task, seeds) for v in (variant, baseline))
            intervals = {m: bootstrap.difference(ours[m], theirs[m]) for m in ours}
            differences[variant, task] = {"seeds": list(seeds)} | {
                m: {k: _finite(v) for k, v in interval._asdict().items()}
                for m, interval in intervals.items()
            }
    return differences


def _gap_closed(
    own: Sequence[Mapping[str, Any]], baseline: Sequence[Mapping[str, Any]], task: str
) -> dict[str, Any] | None:
    """Share of the gap from the baseline's NE to the ideal observer's, seed by seed."""
    reference = {r["seed"]: r["tasks"][task]["ne"] for r in baseline}
    ideal = own[0]["baselines"].get(IDEAL, {}).get(task, {}).get("ne")
    shares = {}
    for r in own:
        ne, theirs = r["tasks"][task]["ne"], reference.get(r["seed"])
        if None not in (ne, theirs, ideal) and theirs > ideal:
            shares[r["seed"]] = (theirs - ne) / (theirs - ideal)
    return {"seeds": list(shares)} | _spread(shares.values()) if shares else None


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _mean(values: Iterable[float | None]) -> float | None:
    present = [v for v in values if v is not None]
    return float(np.mean(present)) if present else None


def _spread(values: Iterable[float | None]) -> dict[str, Any]:
    """Mean and sample standard deviation (None for a single value) over seeds."""
    values = list(values)
    present = np.array([v for v in values if v is not None], np.float64)
    return {
        "mean": float(present.mean()) if len(present) else None,
        "sd": float(present.std(ddof=1)) if len(present) > 1 else None,
        "values": values,
    }
