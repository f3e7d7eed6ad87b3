"""One report of an ablation: report.md, report.json and pictures, from the runs' own files."""

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from siren_rope_jax.base.files import replacing, write_json
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.evaluation.protocols import PROTOCOLS
from siren_rope_jax.evaluation.evaluate import train_and_evaluate
from siren_rope_jax.studies import plots, ranking_report, retrieval_report
from siren_rope_jax.studies.ablation import Ablation, Run
from siren_rope_jax.studies.bootstrap import RESAMPLES
from siren_rope_jax.studies.jobs import Train, execute
from siren_rope_jax.studies.tables import table


class Kind(Protocol):
    """What is told of a comparison of one kind of models; a module is one."""

    GLOSSARY: str

    def summarize(
        self, by_variant: Mapping[str, Sequence[Run]], baseline: str, champion: str
    ) -> dict[str, Any]:
        """All numbers of one data set's finished runs, "variants" among them."""

    def section(
        self, data: Mapping[str, Any], baseline: str, champion: str, seeds: int
    ) -> list[str]:
        """The Markdown of these numbers; `seeds` is how many there should be."""


_KINDS: Mapping[str, Kind] = {"ranking": ranking_report, "retrieval": retrieval_report}


def run_and_report(
    ablation: Ablation, workdir: Path, runs: Sequence[Run], train: Train = train_and_evaluate
) -> list[str]:
    """Trains the runs that are not finished, and reports all that are, also when interrupted.

    Returns:
      one message per failed run. Where no run is finished, what was reported before stays.
    """
    try:
        return execute(list(runs), ablation.jobs, train)
    finally:
        if any(run.is_finished() for run in runs):
            write_report(ablation, workdir, runs)


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
        "champion": ablation.champion,
        "seeds": list(ablation.seeds),
        "machines": machines,
        "jobs": ablation.jobs,
        "resamples": RESAMPLES,
        "missing": [str(run.workdir.relative_to(workdir)) for run in runs if run not in finished],
        "datasets": {},
    }
    for dataset in ablation.datasets:
        by_variant: dict[str, list[Run]] = {}
        for run in finished:
            if run.dataset == dataset.name:
                by_variant.setdefault(run.variant, []).append(run)
        if by_variant:
            summary["datasets"][dataset.name] = _dataset(
                ablation, workdir, dataset.name, by_variant
            )
    write_json(workdir / "report.json", summary)
    path = workdir / "report.md"
    with replacing(path) as temporary:
        temporary.write_text(markdown(summary), encoding="utf-8")
    return path


def _dataset(
    ablation: Ablation, workdir: Path, name: str, by_variant: Mapping[str, Sequence[Run]]
) -> dict[str, Any]:
    """The numbers of one data set, and its pictures."""
    some = next(iter(by_variant.values()))[0]
    first = some.result()
    task = first["config"]["task"]
    places = {variant: [run.workdir for run in own] for variant, own in by_variant.items()}
    pictures = plots.draw_models(
        workdir, f"{name}-", name, places, ablation.baseline, ablation.lines
    )
    return {
        "task": task,
        "split": first["split"],
        "events": first["events"],
        "history": {key: first["config"]["data"][key] for key in ("length", "stride")},
        "data": describe(PreparedLog.open(some.log.path)),
        **_KINDS[task].summarize(by_variant, ablation.baseline, ablation.champion),
        "pictures": [picture.name for picture in pictures],
    }


def describe(log: PreparedLog) -> dict[str, Any]:
    """What a reader must know of the data: its size and how it is split."""
    schema = log.schema
    sizes = log.index.sum(axis=0)

    def date(seconds: int) -> str:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")

    return {
        "name": schema.name,
        "source": schema.source,
        "protocol": schema.protocol,
        "users": len(log.index),
        "items": schema.categorical[0].values,
        "events": {"all": int(sizes[0])}
        | {s: int(n) for s, n in zip(("train", "validation", "test"), sizes[1:], strict=True)},
        "start": date(schema.train_start),
        "train_end": date(schema.train_end),
        "validation_end": date(schema.validation_end),
        "end": date(schema.end),
    }


def markdown(summary: Mapping[str, Any]) -> str:
    """The report as Markdown, from the numbers of report.json."""
    seeds = ", ".join(map(str, summary["seeds"]))
    others = [name for name in (summary["baseline"], summary["champion"]) if name]
    glossary = {
        data["task"]: _KINDS[data["task"]].GLOSSARY for data in summary["datasets"].values()
    }
    lines = [
        f"# {summary['name']}",
        "",
        f"Seeds {seeds}. Each run on: {'; or '.join(summary['machines']) or 'not recorded'}"
        f" ({summary['jobs']} {'run' if summary['jobs'] == 1 else 'runs'} at a time).",
        "",
        "Numbers are mean ± standard deviation over seeds, n of them where not all. "
        f"Δ: difference to {' or '.join(others)}, taken seed by seed: mean ± standard deviation "
        "over the seeds of both, which says how the seeds move it, and the 95 % interval of the "
        "mean by paired bootstrap over users on the same events, which says how the users drawn "
        f"do, the seeds held fixed ({summary['resamples']} resamples). Bold where this interval "
        "excludes zero and, of three seeds or more, the 95 % t-interval of the mean over the seeds "
        "does too; of fewer, bold says nothing of the seeds.",
        "",
        *(line for text in glossary.values() for line in (text, "")),
    ]
    if summary["missing"]:
        lines += [f"**Not finished:** {', '.join(summary['missing'])}.", ""]
    for name, data in summary["datasets"].items():
        lines += _section(name, data, summary)
    return "\n".join(lines).rstrip() + "\n"


def _history(data: Mapping[str, Any], task: str) -> str:
    length, least = data["length"], data["length"] - data["stride"]
    if task == "retrieval":  # the event itself is none of those that the model sees
        least += 1
    return (
        f"A model sees at most {length} events at once: an event's last {least} or more, where "
        "there are as many."
    )


def _section(name: str, data: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    about = data["data"]
    events, protocol = about["events"], PROTOCOLS[about["protocol"]]
    borders = ""
    if about["protocol"] == "time":
        borders = f"; validation from {about['train_end']}, test from {about['validation_end']}"
    lines = [
        f"## {name}: {data['split']} split",
        "",
        f"{about['users']:,} users, {about['items']:,} items, {events['all']:,} events: "
        f"{events['train']:,} train, {events['validation']:,} validation, {events['test']:,} test. "
        f"From {about['start']} to {about['end']} UTC{borders}. {about['source']}".rstrip(),
        "",
        f"Protocol: {protocol.name}. {protocol.meaning} {_history(data['history'], data['task'])}",
        "",
        *_KINDS[data["task"]].section(
            data, summary["baseline"], summary["champion"], len(summary["seeds"])
        ),
        "### Cost",
        "",
    ]
    # The shortest, because what else a machine does only lengthens some runs, and by far.
    lines += table(
        ["variant", "parameters", "training time, compilation included: shortest run"],
        [
            [v, f"{own['parameters']:,}", f"{min(own['train_seconds']['values']):.0f} s"]
            for v, own in data["variants"].items()
        ],
    )
    pictures = [(p.removesuffix(".png").replace("-", ", "), p) for p in data["pictures"]]
    return [*lines, *(f"![{text}]({p})\n" for text, p in pictures)]
