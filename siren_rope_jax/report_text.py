"""The Markdown of an ablation's report, from the numbers of its report.json."""

from collections.abc import Mapping, Sequence
from typing import Any

from siren_rope_jax.metrics import CALIBRATION_BINS, METRICS


def markdown(summary: Mapping[str, Any]) -> str:
    """The report as Markdown, from the numbers of report.json."""
    seeds = ", ".join(map(str, summary["seeds"]))
    baseline = summary["baseline"]
    lines = [
        f"# {summary['name']}",
        "",
        f"Seeds {seeds}. Each run on: {'; or '.join(summary['machines']) or 'not recorded'}"
        f" ({summary['jobs']} {'run' if summary['jobs'] == 1 else 'runs'} at a time).",
        "",
        "Protocol: one global time split. A model is trained on the events before the first date, "
        "stopped early on those between the two, and tested on the rest; every earlier event of "
        "the user is history.",
        "",
        "Numbers are mean ± standard deviation over seeds, n of them where not all. NE: mean log "
        "loss over the entropy of the evaluated labels' base rate (lower is better). GAUC: AUC per "
        "user, weighted by events. ECE: expected calibration error, "
        f"{CALIBRATION_BINS} bins of equal count. Δ: difference to {baseline}, mean over the "
        "seeds of both, with its 95 % interval by paired bootstrap over users on the same events "
        f"({summary['resamples']} resamples, {summary['auc_resamples']} for AUC), bold where it "
        "excludes zero; it says how the users drawn move the result, the standard deviation how "
        "the seeds do.",
        "",
    ]
    if summary["missing"]:
        lines += [f"**Not finished:** {', '.join(summary['missing'])}.", ""]
    for name, data in summary["datasets"].items():
        lines += _dataset_section(name, data, baseline, len(summary["seeds"]))
    return "\n".join(lines).rstrip() + "\n"


def _dataset_section(name: str, data: Mapping[str, Any], baseline: str, seeds: int) -> list[str]:
    about = data["data"]
    events = about["events"]
    lines = [
        f"## {name}: {data['split']} split",
        "",
        f"{about['users']:,} users, {about['items']:,} items, {events['all']:,} events: "
        f"{events['train']:,} train, {events['validation']:,} validation, {events['test']:,} test. "
        f"From {about['start']} to {about['end']} UTC; validation from {about['train_end']}, test "
        f"from {about['validation_end']}. {about['source']}".rstrip(),
        "",
    ]
    variants = data["variants"]
    lines += _overview(data, baseline, seeds)
    for task in next(iter(variants.values()))["tasks"]:
        lines += _task_table(task, data, baseline, seeds)
    lines += _table(
        ["variant", "parameters", "training time"],
        [
            [v, f"{own['parameters']:,}", _pm(own["train_seconds"], 0, " s")]
            for v, own in variants.items()
        ],
    )
    lines += _slice_tables(variants)
    pictures = [(p.removesuffix(".png").replace("-", ", "), p) for p in data["pictures"]]
    return [*lines, *(f"![{text}]({p})\n" for text, p in pictures)]


def _overview(data: Mapping[str, Any], baseline: str, seeds: int) -> list[str]:
    """NE of every task side by side, with the share of the gap closed, or else the difference."""
    variants = data["variants"]
    tasks = list(next(iter(variants.values()))["tasks"])
    gap = any(own["tasks"][task]["gap_closed"] for own in variants.values() for task in tasks)
    rows = []
    for name, own in variants.items():
        values = [own["tasks"][task] for task in tasks]
        row = [name + _fewer(own, seeds), *(_pm(v["ne"], 4) for v in values)]
        for v in values:
            delta, closed = v["difference"], v["gap_closed"]
            if gap:
                row.append(_pm(closed, 1, " %", 100) + _fewer(closed, seeds))
            else:
                row.append(_interval(delta["ne"]) + _fewer(delta, seeds) if delta else "")
        rows.append(row)
    what = f"of the gap from {baseline} to ideal closed" if gap else f"Δ NE to {baseline}"
    header = ["variant", *(f"{task}: NE" for task in tasks), *(f"{task}: {what}" for task in tasks)]
    return ["### Overview", "", *_table(header, rows)]


def _task_table(task: str, data: Mapping[str, Any], baseline: str, seeds: int) -> list[str]:
    variants = data["variants"]
    gap = any(own["tasks"][task]["gap_closed"] for own in variants.values())
    counts = data["baselines"]["user_rate"][task]  # which every result has
    of = f" ({counts['count']:,} events, {counts['positives']:,} positive)"
    header = ["variant", "NE", "AUC", "GAUC", "ECE", "Δ NE", "Δ AUC"]
    rows = []
    for name, own in variants.items():
        values = own["tasks"][task]
        delta, closed = values["difference"], values["gap_closed"]
        row = [name + _fewer(own, seeds), *(_pm(values[m], 4) for m in METRICS)]
        few = _fewer(delta, seeds)
        row += [_interval(delta[m]) + few for m in ("ne", "auc")] if delta else ["", ""]
        rows.append([*row, *([_pm(closed, 1, " %", 100) + _fewer(closed, seeds)] if gap else [])])
    for name, tasks in data["baselines"].items():
        if task in tasks:
            row = [f"*{name}*", *(_number(tasks[task][m], 4) for m in METRICS), "", ""]
            rows.append([*row, *([""] if gap else [])])
    if gap:
        header.append(f"gap from {baseline} to ideal closed")
    return [f"### {task}{of}", "", *_table(header, rows)]


def _slice_tables(variants: Mapping[str, Any]) -> list[str]:
    """NE and AUC of seen and unseen items apart, where there are both."""
    tasks = next(iter(variants.values()))["tasks"]
    rows = []
    for task in tasks:
        for name, own in variants.items():
            seen, unseen = (own["tasks"][task]["slices"][s] for s in ("seen", "unseen"))
            if seen["count"] and unseen["count"]:
                numbers = [_number(part[m], 4) for part in (seen, unseen) for m in ("ne", "auc")]
                share = unseen["count"] / (seen["count"] + unseen["count"])
                rows.append([task, name, *numbers, f"{100 * share:.1f} %"])
    header = ["task", "variant", "NE seen", "AUC seen", "NE unseen", "AUC unseen", "unseen events"]
    return ["### Seen and unseen items", "", *_table(header, rows)] if rows else []


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [list(header), ["---", *["---:"] * (len(header) - 1)], *map(list, rows)]
    return [*(f"| {' | '.join(row)} |" for row in cells), ""]


def _fewer(of: Mapping[str, Any] | None, planned: int) -> str:
    """How many seeds something is made of, where those are not all."""
    return f" (n = {len(of['seeds'])})" if of and len(of["seeds"]) < planned else ""


def _number(value: float | None, digits: int, factor: float = 1) -> str:
    return "–" if value is None else f"{value * factor:.{digits}f}"


def _pm(spread: Mapping[str, Any] | None, digits: int, unit: str = "", factor: float = 1) -> str:
    if spread is None or spread["mean"] is None:
        return "–"
    text = _number(spread["mean"], digits, factor)
    if spread["sd"] is not None:
        text += f" ± {_number(spread['sd'], digits, factor)}"
    return text + unit


def _interval(delta: Mapping[str, float | None]) -> str:
    difference, low, high = delta["difference"], delta["low"], delta["high"]
    if difference is None:
        return "–"
    if low is None or high is None:
        return f"{difference:+.4f}"
    text = f"{difference:+.4f} [{low:+.4f}, {high:+.4f}]"
    return f"**{text}**" if low > 0 or high < 0 else text
