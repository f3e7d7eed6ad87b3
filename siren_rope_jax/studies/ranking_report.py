"""A comparison of rankers: its numbers and their tables. The functions are those of `report.Kind`.

Beside NE, AUC, GAUC and ECE of every task: how much of the gap from the baseline to the ideal
observer is closed, where the log has one, and known and unknown items apart.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from siren_rope_jax.base.text import number
from siren_rope_jax.metrics.binary import CALIBRATION_BINS, METRICS
from siren_rope_jax.studies.ablation import Run
from siren_rope_jax.studies.bootstrap import Resampled
from siren_rope_jax.studies.differences import Differences, common, mean, spread
from siren_rope_jax.studies.ranking_bootstrap import AUC_RESAMPLES, read_scores, resample
from siren_rope_jax.studies.tables import differences, fewer, plus_minus, table

IDEAL = "ideal"
COMPARED = ("ne", "auc")
GLOSSARY = (
    "NE: mean log loss over the entropy of the evaluated labels' base rate (lower is better). "
    "GAUC: AUC per user, weighted by events. ECE: expected calibration error, "
    f"{CALIBRATION_BINS} bins of equal count. Intervals of AUC are of {AUC_RESAMPLES} resamples."
)


def summarize(
    by_variant: Mapping[str, Sequence[Run]], baseline: str, champion: str
) -> dict[str, Any]:
    """All numbers of one data set's finished runs.

    Returns:
      "baselines" (as in result.json) and "variants": name -> what `differences.common` says, and
      "tasks": task -> metric -> {"mean", "sd", "values"}; "difference" and "to_champion" as of
      `Differences.between` the baseline and the champion; "gap_closed" {"seeds", "mean", "sd",
      "values"}, the share of the distance between the baseline's NE and the ideal observer's, per
      seed that both have, where the log has the ideal observer; "slices": "known" and
      "unknown" items -> {"ne", "auc", "count"}, means over seeds.

    Raises:
      UserError: runs that were evaluated on different events.
    """
    results = {v: [run.result() for run in runs] for v, runs in by_variant.items()}
    first = next(iter(results.values()))[0]
    tasks = list(first["tasks"])
    compare = {task: Differences(by_variant, partial(_resampled, task)) for task in tasks}
    variants: dict[str, Any] = {}
    for variant, own in results.items():
        numbers: dict[str, Any] = {}
        for task in tasks:
            numbers[task] = {m: spread(r["tasks"][task][m] for r in own) for m in METRICS}
            numbers[task]["difference"] = compare[task].between(variant, baseline)
            numbers[task]["to_champion"] = compare[task].between(variant, champion)
            numbers[task]["gap_closed"] = _gap_closed(own, results.get(baseline, []), task)
            numbers[task]["slices"] = {
                name: {
                    m: mean(r["slices"]["item"].get(name, {}).get(task, {}).get(m) for r in own)
                    for m in ("ne", "auc", "count")
                }
                for name in ("known", "unknown")
            }
        variants[variant] = common(own) | {"tasks": numbers}
    return {"baselines": first["baselines"], "variants": variants}


def section(data: Mapping[str, Any], baseline: str, champion: str, seeds: int) -> list[str]:
    """The tables of one data set."""
    tasks = list(next(iter(data["variants"].values()))["tasks"])
    lines = _overview(data, baseline, seeds)
    for task in tasks:
        lines += _task_table(task, data, baseline, seeds)
    return [*lines, *_champion_table(data, champion, seeds), *_slice_table(data["variants"])]


def _resampled(task: str, paths: Sequence[Path], reference: Path) -> Mapping[str, Resampled]:
    read = read_scores(paths, task, reference)
    return resample(read.labels, read.users, read.scores)


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
    return {"seeds": list(shares)} | spread(shares.values()) if shares else None


def _overview(data: Mapping[str, Any], baseline: str, seeds: int) -> list[str]:
    """NE of every task side by side, with the share of the gap closed, or else the difference."""
    variants = data["variants"]
    tasks = list(next(iter(variants.values()))["tasks"])
    gap = any(own["tasks"][task]["gap_closed"] for own in variants.values() for task in tasks)
    rows = []
    for name, own in variants.items():
        values = [own["tasks"][task] for task in tasks]
        row = [name + fewer(own, seeds), *(plus_minus(v["ne"], 4) for v in values)]
        for v in values:
            delta, closed = v["difference"], v["gap_closed"]
            if gap:
                row.append(plus_minus(closed, 1, " %", 100) + fewer(closed, seeds))
            else:
                row += differences(delta, ("ne",), seeds)
        rows.append(row)
    what = f"of the gap from {baseline} to ideal closed" if gap else f"Δ NE to {baseline}"
    header = ["variant", *(f"{task}: NE" for task in tasks), *(f"{task}: {what}" for task in tasks)]
    return ["### Overview", "", *table(header, rows)]


def _task_table(task: str, data: Mapping[str, Any], baseline: str, seeds: int) -> list[str]:
    variants = data["variants"]
    gap = any(own["tasks"][task]["gap_closed"] for own in variants.values())
    counts = data["baselines"]["user_rate"][task]  # which every result has
    of = f" ({counts['count']:,} events, {counts['positives']:,} positive)"
    header = ["variant", "NE", "AUC", "GAUC", "ECE", "Δ NE", "Δ AUC"]
    rows = []
    for name, own in variants.items():
        values = own["tasks"][task]
        row = [name + fewer(own, seeds), *(plus_minus(values[m], 4) for m in METRICS)]
        row += differences(values["difference"], COMPARED, seeds)
        closed = values["gap_closed"]
        rows.append(row + [plus_minus(closed, 1, " %", 100) + fewer(closed, seeds)] * gap)
    for name, tasks in data["baselines"].items():
        if task in tasks:
            row = [f"*{name}*", *(number(tasks[task][m], 4) for m in METRICS), "", ""]
            rows.append(row + [""] * gap)
    if gap:
        header.append(f"gap from {baseline} to ideal closed")
    return [f"### {task}{of}", "", *table(header, rows)]


def _champion_table(data: Mapping[str, Any], champion: str, seeds: int) -> list[str]:
    """The differences of all variants to the champion, where there is one."""
    variants = data["variants"]
    if champion not in variants:
        return []
    tasks = list(variants[champion]["tasks"])
    header = ["variant", *(f"{task}: Δ {m.upper()}" for task in tasks for m in COMPARED)]
    rows = []
    for name, own in variants.items():
        if name != champion:
            cells = (differences(own["tasks"][t]["to_champion"], COMPARED, seeds) for t in tasks)
            rows.append([name + fewer(own, seeds), *(cell for part in cells for cell in part)])
    return [f"### Difference to {champion}", "", *table(header, rows)]


def _slice_table(variants: Mapping[str, Any]) -> list[str]:
    """NE and AUC of known and unknown items apart, where there are both."""
    rows = []
    for task in next(iter(variants.values()))["tasks"]:
        for name, own in variants.items():
            known, unknown = (own["tasks"][task]["slices"][s] for s in ("known", "unknown"))
            if known["count"] and unknown["count"]:
                numbers = [number(part[m], 4) for part in (known, unknown) for m in COMPARED]
                share = unknown["count"] / (known["count"] + unknown["count"])
                rows.append([task, name, *numbers, f"{100 * share:.1f} %"])
    groups = ("NE known", "AUC known", "NE unknown", "AUC unknown", "unknown: share of events")
    title = "### Known items, and those too rare in training, or absent, to have an embedding"
    return [title, "", *table(["task", "variant", *groups], rows)] if rows else []
