"""Metrics of ranked items: NLL, MRR, hit rate and NDCG at several lengths of the list.

Every event has one relevant item, the one that followed, so all metrics follow from its rank (1 is
best; 0: no list can show it, as one outside the catalogue: a miss) and its NLL. Everything runs on
the host in float64. N is the number of events.
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
"""In the order of every table. ndcg@1 is hr@1."""


def per_event(
    rank: Int[np.ndarray, " N"], nll: Float[np.ndarray, " N"]
) -> dict[str, Float[np.ndarray, " N"]]:
    """What every event contributes: a metric is the mean of its values.

    "nll" is NaN where there is no rank, and its mean is over the others.
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
    """All metrics of these events.

    Args:
      rank: as `ranks.rank_targets` returns it.
      nll: in nats.

    Returns:
      `RANK_METRICS` (None where undefined: no events; for "nll" also no ranked ones, or one whose
      NLL is not finite), "count" (all events) and "unranked" (those without a rank, which count as
      misses).
    """
    values: dict[str, float | int | None] = {}
    for name, value in per_event(rank, nll).items():
        if name == "nll":
            value = value[rank > 0]
        mean = float(value.mean()) if value.size else np.nan
        values[name] = mean if np.isfinite(mean) else None
    return {**values, "count": len(rank), "unranked": int(np.sum(rank == 0))}
