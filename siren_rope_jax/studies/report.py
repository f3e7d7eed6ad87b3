"""One report of an ablation: report.md, report.json and pictures, from the runs' own files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from siren_rope_jax.base.files import replacing, write_json
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.data.schema import SPLITS
from siren_rope_jax.metrics.bootstrap import RESAMPLES
from siren_rope_jax.rotation.names import in_order, words
from siren_rope_jax.studies.ablation import Ablation, Run
from siren_rope_jax.studies.gap_map import draw_gap_map
from siren_rope_jax.studies.jobs import Train, execute, train_and_evaluate
from siren_rope_jax.studies.plots import draw_models
from siren_rope_jax.studies.section import Section
from siren_rope_jax.studies.summary import Runs, summarize
from siren_rope_jax.studies.together import together
from siren_rope_jax.training.kinds import KINDS, kind_of

MAP = "all-gap.png"
"""The picture of all data sets that know their best prediction."""


def run_and_report(
    ablation: Ablation, workdir: Path, runs: Sequence[Run], train: Train = train_and_evaluate
) -> list[str]:
    """Trains the runs that are not finished, and reports all that are, also when interrupted.

    Returns:
      one message per failed run. Where no run is finished, what was reported before stays.
    """
    try:
        return execute(runs, ablation.jobs, train)
    finally:
        if any(run.is_finished() for run in runs):
            write_report(ablation, workdir, runs)


def write_report(ablation: Ablation, workdir: Path, runs: Sequence[Run]) -> Path:
    """Writes report.md, report.json and pictures of the finished runs; lists the missing ones."""
    finished = [run for run in runs if run.is_finished()]
    machines = sorted({machine for run in finished if (machine := run.machine())})
    summary: dict[str, Any] = {
        "name": ablation.name,
        "baseline": ablation.baseline,
        "champion": ablation.champion,
        "seeds": list(ablation.seeds),
        "machines": machines,
        "jobs": ablation.jobs,
        "unit": ablation.unit,
        "resamples": RESAMPLES,
        "missing": [str(run.workdir.relative_to(workdir)) for run in runs if run not in finished],
        "datasets": {},
    }
    by_variant: dict[str, dict[str, list[Run]]] = {}
    for run in finished:
        by_variant.setdefault(run.dataset, {}).setdefault(run.variant, []).append(run)
    for dataset in (d.name for d in ablation.datasets if d.name in by_variant):
        summary["datasets"][dataset] = _dataset(ablation, workdir, dataset, by_variant[dataset])
    summary["together"] = (
        together(list(summary["datasets"].values())) if ablation.together else None
    )
    title = f"{ablation.name}: share of the gap to the best prediction that is closed"
    if summary["together"] and draw_gap_map(workdir / MAP, title, summary["datasets"]):
        summary["together"]["pictures"] = [MAP]
    write_json(workdir / "report.json", summary)
    path = workdir / "report.md"
    with replacing(path) as temporary:
        temporary.write_text(markdown(summary), encoding="utf-8")
    return path


def _dataset(ablation: Ablation, workdir: Path, name: str, runs: Runs) -> dict[str, Any]:
    """The numbers of one data set, and its pictures."""
    runs = {variant: runs[variant] for variant in in_order(runs)}
    some = next(iter(runs.values()))[0]
    first, data = some.result(), some.config.data
    numbers = summarize(runs, ablation.baseline, ablation.champion, ablation.unit)
    pictures = draw_models(
        workdir,
        f"{name}-",
        name,
        {variant: [run.workdir for run in own] for variant, own in runs.items()},
        ablation.baseline,
        ablation.lines,
        differences={
            variant: {part: of["difference"] for part, of in own["parts"].items()}
            for variant, own in numbers["variants"].items()
        },
    )
    # Where every event asks for the next one, the event itself is not among those that are seen.
    least = data.length - data.stride + kind_of(some.config).layout.places_saved
    log = PreparedLog.open(some.log.path)
    return {
        "kind": some.config.kind,
        "split": first["split"],
        "events": first["events"],
        "history": {"length": data.length, "stride": data.stride, "least": least},
        "data": describe(log),
        **KINDS[some.config.kind].facts(log.schema, first["config"]),
        "chosen": {v: dict(own[0].chosen) for v, own in runs.items() if own[0].chosen},
        **numbers,
        "pictures": [picture.name for picture in pictures],
    }


def describe(log: PreparedLog) -> dict[str, Any]:
    """What a reader must know of the data: its size and how it is split."""
    schema = log.schema
    sizes = map(int, log.index.sum(axis=0))

    def date(seconds: int) -> str:
        return str(np.datetime64(seconds, "s")).replace("T", " ")

    return {
        **{key: getattr(schema, key) for key in ("name", "source", "protocol", "has_utc_offset")},
        "users": len(log.index),
        "items": schema.categorical[0].values,
        "events": dict(zip(("all", *SPLITS), sizes, strict=True)),
        "start": date(schema.train_start),
        **{key: date(getattr(schema, key)) for key in ("train_end", "validation_end", "end")},
    }


def markdown(summary: Mapping[str, Any]) -> str:
    """The report as Markdown, from the numbers of report.json."""
    seeds, datasets, unit = summary["seeds"], summary["datasets"], summary["unit"]
    others = [words(name) for name in (summary["baseline"], summary["champion"]) if name]
    kinds = dict.fromkeys(data["kind"] for data in datasets.values())
    primary = [KINDS[kind].metrics[KINDS[kind].primary].label for kind in kinds]
    lines = [
        f"# {summary['name']}",
        "",
        f"Seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}. Each run on: "
        f"{'; or '.join(summary['machines']) or 'not recorded'}"
        f" ({summary['jobs']} {'run' if summary['jobs'] == 1 else 'runs'} at a time).",
        "",
        "Numbers are mean ± standard deviation over seeds; n is the number of seeds where some are "
        f"missing. Δ: difference to {' or '.join(others)}, on the same events and seed by seed, "
        f"with its 95 % interval of {unit}s and seeds together: standard error over {unit}s "
        f"({summary['resamples']} bootstrap resamples, seeds held fixed), and over seeds by "
        f"Student's t. With one seed, it is of {unit}s alone. Bold: certain among all differences "
        f"of the primary metric, {' or '.join(primary)}, in the table, with a 5 % risk of any "
        "error among them (Holm). Other metrics are never bold.",
        "",
    ]
    for kind in kinds:
        lines += [KINDS[kind].glossary, ""]
    if summary["missing"]:
        lines += [f"**Not finished:** {', '.join(summary['missing'])}.", ""]
    of_all = summary["baseline"], summary["champion"], len(seeds)
    if summary["together"]:
        lines += Section("all", summary["together"], *of_all).of_all_datasets()
    for name, data in datasets.items():
        lines += Section(name, data, *of_all).lines()
    return "\n".join(lines).rstrip() + "\n"
