"""A comparison of retrievers: its numbers and their tables.

The functions are those of `report.Kind`. Every table names the protocol, what is ranked, and what
counts as a miss, since such numbers mean little without.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from siren_rope_jax.comparison.ablation import Run
from siren_rope_jax.comparison.bootstrap import Resampled
from siren_rope_jax.comparison.differences import Differences, common, mean, spread
from siren_rope_jax.comparison.retrieval_bootstrap import COMPARED, read_ranks, resample
from siren_rope_jax.comparison.tables import differences, fewer, number, plus_minus, table
from siren_rope_jax.evaluation.protocols import PROTOCOLS
from siren_rope_jax.evaluation.rank_metrics import RANK_METRICS
from siren_rope_jax.evaluation.retrieval_results import SLICE_METRICS, ranking_rule
from siren_rope_jax.evaluation.slices import POPULARITIES
from siren_rope_jax.experiment import RetrievalExperiment

OVERVIEW = ("nll", "hr@1", "hr@10", "ndcg@10", "mrr")
SLICES = {"revisit": ("new", "again"), "popularity": tuple(POPULARITIES)[1:]}  # "0": all misses
GLOSSARY = (
    "NLL: mean negative log-likelihood, in nats, of the item that came, among all that are ranked, "
    "over the events whose item is one of them (lower is better). HR@k: the share of events whose "
    "item is among the first k. NDCG@k: the mean of 1/log2(1 + rank) of those, 0 for the others. "
    "MRR: the mean of 1/rank. Query's time: whether the query knows the time of the request, which "
    "is that of the event to come, or only that of the last event. *popular*: by the number of "
    "training events; *revisit*: first by how often the user had the item before."
)


def summarize(
    by_variant: Mapping[str, Sequence[Run]], baseline: str, champion: str
) -> dict[str, Any]:
    """All numbers of one data set's finished runs.

    Returns:
      "filter_seen", "catalogue" and "baselines" (as in result.json), "ranking": "count" and
      "unranked", and "variants": name -> what `comparison.common` says, "query_time" (None where
      the model sees no time), "ranking": metric -> {"mean", "sd", "values"}; "difference" and
      "to_champion" as of `Differences.between` the baseline and the champion; "slices": slicing ->
      group -> metric, means over seeds.

    Raises:
      UserError: runs that were evaluated on different events.
    """
    results = {v: [run.result() for run in runs] for v, runs in by_variant.items()}
    first = next(iter(results.values()))[0]
    compare = Differences(by_variant, _resampled)
    variants = {}
    for variant, own in results.items():
        groups = [r["slices"] for r in own]
        variants[variant] = common(own) | {
            "query_time": _query_time(by_variant[variant][0]),
            "ranking": {m: spread(r["ranking"][m] for r in own) for m in RANK_METRICS},
            "difference": compare.between(variant, baseline),
            "to_champion": compare.between(variant, champion),
            "slices": {
                name: {
                    group: {
                        m: mean(g[name].get(group, {}).get(m) for g in groups)
                        for m in ("count", *SLICE_METRICS)
                    }
                    for group in members
                }
                for name, members in SLICES.items()
            },
        }
    return {
        "filter_seen": first["filter_seen"],
        "catalogue": first["catalogue"],
        "ranking": {key: first["ranking"][key] for key in ("count", "unranked")},
        "baselines": first["baselines"],
        "variants": variants,
    }


def section(data: Mapping[str, Any], baseline: str, champion: str, seeds: int) -> list[str]:
    """The tables of one data set."""
    rule = f"{PROTOCOLS[data['data']['protocol']].name}; {ranking_rule(data)}."
    note = ["", f"*{rule[0].upper()}{rule[1:]}*", ""]
    lines = ["### Overview", *note, *_metric_table(data, OVERVIEW, seeds)]
    for key, other in (("difference", baseline), ("to_champion", champion)):
        if other in data["variants"]:
            title = f"### Difference to {other}"
            lines += [title, *note, *_difference_table(data["variants"], key, other, seeds)]
    lines += ["### All cut-offs", *note, *_metric_table(data, RANK_METRICS, seeds)]
    titles = {"revisit": "New items and repeated ones", "popularity": "Training events of the item"}
    for name, title in titles.items():
        lines += [f"### {title}", *note, *_slice_table(data, name)]
    return lines


def _query_time(run: Run) -> str | None:
    assert isinstance(run.config, RetrievalExperiment)
    model = run.config.model
    return model.query_time if model.uses_time else None


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


def _slice_table(data: Mapping[str, Any], name: str) -> list[str]:
    """NDCG@10 and NLL of the groups that have events; in the head their share of all."""
    variants, total = data["variants"], data["ranking"]["count"]
    some = next(iter(variants.values()))["slices"][name]
    counts = {group: values["count"] for group, values in some.items() if values["count"]}
    header = ["variant"]
    header += [f"NDCG@10, {group} ({100 * n / total:.1f} %)" for group, n in counts.items()]
    header += [f"NLL, {group}" for group in counts]
    rows = []
    for variant, own in variants.items():
        groups = [own["slices"][name][group] for group in counts]
        rows.append([variant, *(number(g[m], 4) for m in ("ndcg@10", "nll") for g in groups)])
    return table(header, rows)
