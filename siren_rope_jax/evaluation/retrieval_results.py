"""What is measured of a retriever: where it ranks the item that came, beside baselines, in slices.

The functions are those of `evaluate.Kind`.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from siren_rope_jax.base.config import from_config_dict
from siren_rope_jax.base.text import number
from siren_rope_jax.evaluation import slices
from siren_rope_jax.evaluation.evaluated import Evaluated
from siren_rope_jax.metrics.ranks import metrics_of_ranks
from siren_rope_jax.evaluation.baselines.popularity import simple_rankings, time_of_day
from siren_rope_jax.models.retriever import RetrieverConfig

SLICE_METRICS = ("nll", "mrr", "hr@10", "ndcg@10")
_SHOWN = ("nll", "hr@1", "hr@10", "ndcg@10", "mrr")


def columns(evaluated: Evaluated) -> dict[str, pa.Array]:
    """The target's rank and NLL, null where it has none, or the model learns no probabilities."""
    _, rank, nll = evaluated.scored
    return {
        "rank": pa.array(rank.astype(np.int32), mask=rank == 0),
        "nll": pa.array(nll.astype(np.float32), mask=np.isnan(nll)),
    }


def measure(evaluated: Evaluated, config: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of the targets' ranks.

    Beside the model's stand those of `simple_rankings` on the same events, and of `slices` of the
    events: by hour of day and by time since the user's last event (both of the request), by the
    number of the user's earlier events, by the item's number of training events, and by whether the
    user had the item before.

    Returns:
      "filter_seen", "query_time" (None: the model sees no time), "catalogue" (how many items are
      ranked: those seen often enough in training), "ranking", "baselines", "slices".
    """
    log, everything, events = evaluated.log, evaluated.everything, evaluated.events
    _, rank, nll = evaluated.scored
    item = log.schema.categorical[0]
    counts = log.vocabulary(item.name)["train_count"].to_numpy()
    baselines = simple_rankings(
        everything.user,
        everything.rows[f"categorical/{item.name}"],
        everything.rows["time"],
        time_of_day(everything),
        counts[: item.known],
        events.event,
        config["filter_seen"],
    )
    groups = {
        "hour": slices.by_hour(events),
        "gap": slices.by_gap(events, everything),
        "history": slices.by_history(events, everything),
        "popularity": slices.by_popularity(item, events, counts),
        "revisit": slices.by_revisit(item, events, everything),
    }
    return {
        "filter_seen": config["filter_seen"],
        "query_time": _query_time(config["model"]),
        "catalogue": item.known,
        "ranking": metrics_of_ranks(rank, nll),
        "baselines": {name: metrics_of_ranks(*ranks) for name, ranks in baselines.items()},
        "slices": {
            name: {group: slice_metrics(rank[rows], nll[rows]) for group, rows in members.items()}
            for name, members in groups.items()
        },
    }


def _query_time(model: Mapping[str, Any]) -> str | None:
    """Whose time a model's queries have."""
    # A foreign model, which has no encoding of ours, says itself.
    if "encoding" in model and not from_config_dict(RetrieverConfig, model).uses_time:
        return None
    return model["query_time"]


def slice_metrics(
    rank: Int[np.ndarray, " N"], nll: Float[np.ndarray, " N"]
) -> dict[str, float | int | None]:
    """The main metrics to six digits, and the number of events."""
    values = metrics_of_ranks(rank, nll)
    rounded = {m: None if (v := values[m]) is None else round(v, 6) for m in SLICE_METRICS}
    return {"count": values["count"], **rounded}


def lines(outcome: Mapping[str, Any]) -> list[str]:
    """The protocol and the metrics for the terminal."""
    rows = {outcome["variant"]: outcome["ranking"], **outcome["baselines"]}
    width = max(map(len, rows))
    text = [rule_of_ranks(outcome), "  " + " " * width + "".join(f"{m.upper():>9}" for m in _SHOWN)]
    for name, values in rows.items():
        cells = (f"{number(values[m], 4):>9}" for m in _SHOWN)
        text.append(f"  {name:{width}}{''.join(cells)}")
    return text


def rule_of_ranks(numbers: Mapping[str, Any]) -> str:
    """What was ranked against what, from a result's numbers."""
    metrics = numbers["ranking"]
    repeats = "may come again"
    misses = "an item outside the catalogue (seen too rarely in training, or never)"
    if numbers["filter_seen"]:
        repeats, misses = "are left out", f"{misses} or one had before"
    events = f"{metrics['unranked']:,} of {metrics['count']:,} {numbers['split']} events"
    return (
        f"full ranking over the catalogue of {numbers['catalogue']:,} items, ties against the "
        f"model; items a user had before {repeats}; {events} have {misses} and count as misses; "
        f"blind guessing has an NLL of {math.log(numbers['catalogue']):.2f}"
    )


def headline(outcome: Mapping[str, Any]) -> str:
    """NLL and NDCG@10."""
    values = outcome["ranking"]
    return f"NLL {number(values['nll'], 4)}, NDCG@10 {number(values['ndcg@10'], 4)}"
