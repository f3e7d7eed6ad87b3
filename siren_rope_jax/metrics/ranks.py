"""Metrics of ranked items: NLL, MRR, and hit rate and NDCG at several cut-offs.

Every event has one relevant item, the target, so all metrics follow from its NLL and its rank: 1 is
best, and 0 marks a target that cannot be ranked, for example one outside the catalogue, which
counts as a miss. Everything runs on the host in float64. N is the number of events.
"""

import numpy as np
from jaxtyping import Float, Int

CUTOFFS = (1, 5, 10, 50, 200)

RANK_METRICS = (
    "nll",
    "mrr",
    *(f"hr@{k}" for k in CUTOFFS),
    *(f"ndcg@{k}" for k in CUTOFFS),
)
"""In the order of every table. ndcg@1 equals hr@1."""

COMPARED = ("nll", "hr@10", "ndcg@10", "mrr")
"""The metrics by which models are compared, with intervals."""


def per_event(
    rank: Int[np.ndarray, " N"], nll: Float[np.ndarray, " N"]
) -> dict[str, Float[np.ndarray, " N"]]:
    """What every event contributes to each metric, which is the mean over the events.

    "nll" is NaN for events without a rank, which its mean leaves out.
    """
    ranked = rank > 0
    place = np.where(ranked, rank, 1).astype(np.float64)
    values = {
        "nll": np.where(ranked, np.asarray(nll, np.float64), np.nan),
        "mrr": np.where(ranked, 1 / place, 0.0),
    }
    for k in CUTOFFS:
        hit = ranked & (place <= k)
        values[f"hr@{k}"] = hit.astype(np.float64)
        values[f"ndcg@{k}"] = np.where(hit, 1 / np.log2(1 + place), 0.0)
    return {name: values[name] for name in RANK_METRICS}


def metrics_of_ranks(
    rank: Int[np.ndarray, " N"], nll: Float[np.ndarray, " N"]
) -> dict[str, float | int | None]:
    """All metrics of events with these ranks (0: the target has none) and NLLs in nats.

    Returns:
      `RANK_METRICS` (None where undefined: without events; "nll" also without ranked targets, or
      if one of them has an NLL that is not finite), "count" (all events) and "unranked" (those
      whose target has no rank).
    """
    values: dict[str, float | int | None] = {}
    for name, value in per_event(rank, nll).items():
        if name == "nll":
            value = value[rank > 0]
        mean = float(value.mean()) if value.size else np.nan
        values[name] = mean if np.isfinite(mean) else None
    return {**values, "count": len(rank), "unranked": int(np.sum(rank == 0))}
