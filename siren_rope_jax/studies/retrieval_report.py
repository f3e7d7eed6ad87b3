"""A comparison of retrievers: its numbers and their tables.

The functions are those of `report.Kind`. Every table names the protocol, what is ranked, and what
counts as a miss, since such numbers mean little without.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from siren_rope_jax.base.text import number
from siren_rope_jax.evaluation.protocols import PROTOCOLS
from siren_rope_jax.evaluation.slices import FIRST_EVENT, GAPS, HISTORIES, POPULARITIES
from siren_rope_jax.evaluation.retrieval_results import SLICE_METRICS, rule_of_ranks
from siren_rope_jax.metrics.ranks import RANK_METRICS
from siren_rope_jax.evaluation.baselines.popularity import MEANINGS, baseline_names
from siren_rope_jax.studies.ablation import Run
from siren_rope_jax.studies.bootstrap import Resampled
from siren_rope_jax.studies.differences import Differences, common, mean, spread
from siren_rope_jax.studies.retrieval_bootstrap import COMPARED, read_ranks, resample
from siren_rope_jax.studies.tables import differences, fewer, plus_minus, table

OVERVIEW = ("nll", "hr@1", "hr@10", "ndcg@10", "mrr")
GLOSSARY = (
    "NLL: mean negative log-likelihood, in nats, of the item that came, among all of the catalogue "
    "(those that a filter leaves out of the ranking included), over the events whose item has a "
    "rank (lower is better). HR@k: the share of events whose item is among the first k. NDCG@k: "
    "the mean of 1/log2(1 + rank) of those, 0 for the others. MRR: the mean of 1/rank. Query's "
    "time: whether the query knows the time of the request, which is that of the event to come, or "
    "only that of the last event."
)


_OF_VALIDATION = (
    "*The same ranking of the validation split's events, which come before the test's, by the "
    "parameters that were tested; it chose them.*"
)


class SliceTable(NamedTuple):
    """A table of groups of events.

    Attributes:
      title: above it.
      groups: their names in a result, in order; those without events are left out.
      metrics: of each group.
    """

    title: str
    groups: tuple[str, ...]
    metrics: tuple[str, ...]


SLICES = {
    "hour": SliceTable(
        "Hour of day of the request, local where the log has UTC offsets",
        tuple(map(str, range(24))),
        ("ndcg@10",),
    ),
    "gap": SliceTable(
        "Time since the user's last event",
        (*(name for name, _ in GAPS), FIRST_EVENT),
        ("ndcg@10",),
    ),
    "history": SliceTable("Earlier events of the user", tuple(HISTORIES)[1:], ("ndcg@10",)),
    "revisit": SliceTable("New items and repeated ones", ("new", "again"), ("ndcg@10", "nll")),
    "popularity": SliceTable(
        "Training events of the item",
        tuple(POPULARITIES)[1:],  # "0": all misses
        ("ndcg@10", "nll"),
    ),
}


def summarize(
    by_variant: Mapping[str, Sequence[Run]], baseline: str, champion: str
) -> dict[str, Any]:
    """All numbers of one data set's finished runs.

    Returns:
      "filter_seen" and "catalogue" (as in result.json), "target_task" (of the data config),
      "ranking": "count" and "unranked", "baselines" in the order of `MEANINGS`, and "variants":
      name -> what `differences.common` says, "query_time" (None where the model sees no time),
      "ranking" and "validation" (of the parameters that were tested): metric -> {"mean", "sd",
      "values"}; "difference" and "to_champion" as of
      `Differences.between` the baseline and the champion; "slices": slicing -> group -> metric,
      means over seeds.
    """
    results = {v: [run.result() for run in runs] for v, runs in by_variant.items()}
    first = next(iter(results.values()))[0]
    compare = Differences(by_variant, _resampled)
    variants = {}
    for variant, own in results.items():
        groups = [r["slices"] for r in own]
        validations = [run.validation() for run in by_variant[variant]]
        variants[variant] = common(own) | {
            "query_time": own[0]["query_time"],
            "ranking": {m: spread(r["ranking"][m] for r in own) for m in RANK_METRICS},
            "validation": {m: spread(v.get(m) for v in validations) for m in COMPARED},
            "difference": compare.between(variant, baseline),
            "to_champion": compare.between(variant, champion),
            "slices": {
                name: {
                    group: {
                        m: mean(g[name].get(group, {}).get(m) for g in groups)
                        for m in ("count", *SLICE_METRICS)
                    }
                    for group in slicing.groups
                }
                for name, slicing in SLICES.items()
            },
        }
    return {
        "filter_seen": first["filter_seen"],
        "target_task": first["config"]["data"]["target_task"],
        "catalogue": first["catalogue"],
        "ranking": {key: first["ranking"][key] for key in ("count", "unranked")},
        "baselines": {
            name: first["baselines"][name] for name in baseline_names(first["filter_seen"])
        },
        "variants": variants,
    }


def section(data: Mapping[str, Any], baseline: str, champion: str, seeds: int) -> list[str]:
    """The tables of one data set."""
    rule = f"{PROTOCOLS[data['data']['protocol']].name}; {rule_of_ranks(data)}."
    note = ["", f"*{rule[0].upper()}{rule[1:]}*", ""]
    lines = [_targets(data), "", _rules_of_baselines(data), ""]
    lines += ["### Overview", *note, *_metric_table(data, OVERVIEW, seeds)]
    for key, other in (("difference", baseline), ("to_champion", champion)):
        if other in data["variants"]:
            title = f"### Difference to {other}"
            lines += [title, *note, *_difference_table(data["variants"], key, other, seeds)]
    lines += ["### All cut-offs", *note, *_metric_table(data, RANK_METRICS, seeds)]
    lines += ["### Validation", "", _OF_VALIDATION, "", *_validation_table(data, seeds)]
    for name, slicing in SLICES.items():
        if rows := _slice_table(data, name):
            lines += [f"### {slicing.title}", *note, *rows]
    return lines


def _targets(data: Mapping[str, Any]) -> str:
    """Why fewer events are asked for than the split has."""
    count, size = data["ranking"]["count"], data["data"]["events"][data["split"]]
    text = f"Targets: {count:,} of the split's {size:,} events. A user's first event is none"
    if task := data["target_task"]:
        text += f", and no event is that is not a positive of {task} (`data.target_task`)"
    return text + "."


def _rules_of_baselines(data: Mapping[str, Any]) -> str:
    rules = "; ".join(f"*{name}* {MEANINGS[name]}" for name in data["baselines"])
    return f"Baselines rank the items: {rules}."


def _resampled(paths: Sequence[Path], reference: Path) -> Mapping[str, Resampled]:
    return resample(read_ranks(paths, reference))


def _metric_table(data: Mapping[str, Any], metrics: Sequence[str], seeds: int) -> list[str]:
    rows = []
    for name, own in data["variants"].items():
        values = (plus_minus(own["ranking"][m], 4) for m in metrics)
        rows.append([name + fewer(own, seeds), own["query_time"] or "–", *values])
    for name, floor in data["baselines"].items():
        rows.append([f"*{name}*", "", *(number(floor[m], 4) for m in metrics)])
    return table(["variant", "query's time", *(m.upper() for m in metrics)], rows)


def _difference_table(variants: Mapping[str, Any], key: str, other: str, seeds: int) -> list[str]:
    rows = [
        [
            name + fewer(own, seeds),
            own["query_time"] or "–",
            *differences(own[key], COMPARED, seeds),
        ]
        for name, own in variants.items()
        if name != other
    ]
    return table(["variant", "query's time", *(f"Δ {m.upper()}" for m in COMPARED)], rows)


def _validation_table(data: Mapping[str, Any], seeds: int) -> list[str]:
    rows = [
        [name + fewer(own, seeds), *(plus_minus(own["validation"][m], 4) for m in COMPARED)]
        for name, own in data["variants"].items()
    ]
    return table(["variant", *(m.upper() for m in COMPARED)], rows)


def _slice_table(data: Mapping[str, Any], name: str) -> list[str]:
    """The metrics of the groups that have events; with the first one their share of all.

    Empty where all events are of one group, as those of whole days are of one hour.
    """
    variants, total, metrics = data["variants"], data["ranking"]["count"], SLICES[name].metrics
    some = next(iter(variants.values()))["slices"][name]
    counts = {group: values["count"] for group, values in some.items() if values["count"]}
    if len(counts) < 2:
        return []
    first, *others = (metric.upper() for metric in metrics)
    header = ["variant", *(f"{first}, {g} ({100 * n / total:.1f} %)" for g, n in counts.items())]
    header += [f"{metric}, {group}" for metric in others for group in counts]
    rows = []
    for variant, own in variants.items():
        groups = [own["slices"][name][group] for group in counts]
        rows.append([variant, *(number(g[m], 4) for m in metrics for g in groups)])
    return table(header, rows)
