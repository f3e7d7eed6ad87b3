"""Every encoding at its best, on one log: what is tried with each of them on validation.

    SIREN_ROPE_DATA=FOLDER siren-rope sweep \
        --config=configs/sweep/encodings.py:foursquare_nyc --workdir=runs/encodings/sweep

The part after the colon is one of the `LOGS` below. Each variant has `TRIALS` trials with one seed:
the log's own settings, and others of what it depends on most, such as TO-RoPE's unit of time, in
2 pi of which its first plane turns once. configs/ablation/encodings.py compares the variants with
what this finds.
"""

import math
from typing import Any

from ml_collections import ConfigDict

from siren_rope_jax.base.errors import UserError, suggestion

MINUTE, HOUR, DAY, WEEK = 60.0, 3_600.0, 86_400.0, 604_800.0
UNITS = (DAY, HOUR, 10 * MINUTE, DAY / (2 * math.pi), WEEK / (2 * math.pi))
TRIALS = len(UNITS)

# Raw files, and what differs from the log's own experiment.
LOGS: dict[str, dict[str, Any]] = {
    "foursquare_nyc": {"input": "foursquare_nyc/NYC.npy"},
    "globo_next": {"input": "globo_news/clicks_hour_000-384.csv.gz"},
    "yelp": {"input": "yelp_5core/Yelp-A_item_org_rank.txt"},
    "movielens_next": {"input": "movielens_100k/ml-100k.inter"},
    "amazon_beauty": {
        "input": "amazon_beauty_5core/Beauty_item_org_rank.txt",
        "overrides": {"training.epochs": 12.0, "optimizer.learning_rate": 2e-3},
    },
    "synthetic": {},
}
RATES = {"synthetic": 1.5e-3}
RATE = 2e-3  # of all other logs

BUCKETS = {"model.biases": ("time_buckets",)}
HARMONICS = {f"model.encoding.{clock}.clock.harmonics": 2 for clock in ("day", "week")}
# Rows of the table: name, variant that it is made of, what is added to that.
CONTESTANTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("ordinal", "ordinal", {}),
    ("to_rope_split_dim", "to_rope_split_dim", {}),
    ("to_rope_split_dim_hstu_bias", "to_rope_split_dim", BUCKETS),
    ("hstu_bias", "hstu_bias", {}),
    ("relation_bias", "relation_bias", {}),
    ("time_in_embedding_network_hstu_bias", "time_in_embedding_network", BUCKETS),
    ("siren_rope", "siren_rope", {}),
    ("siren_rope_hstu_bias", "siren_rope_hstu_bias", {}),
    ("clock_and_lag_harmonics_hstu_bias", "clock_and_lag_harmonics", BUCKETS),
    ("clock_and_lag_warped_hstu_bias", "clock_and_lag_warped", BUCKETS),
    ("clock_and_lag_warped_harmonics_hstu_bias", "clock_and_lag_warped", BUCKETS | HARMONICS),
)

_ENCODING = "model.encoding"
_RATE_KEY = "optimizer.learning_rate"
# Which planes turn by the day, the week, the lag and the order: the ends of their ranges.
_SHARES = ((0.25, 0.375, 0.75), (0.375, 0.5, 0.75), (0.125, 0.25, 0.75), (0.25, 0.375, 0.5))


def settings(variant: str, rate: float) -> tuple[dict[str, Any], ...]:
    """What is tried with a variant, the log's own settings first; `TRIALS` of them."""
    usual, twice = {_RATE_KEY: rate}, {_RATE_KEY: 2 * rate}
    if variant.startswith("to_rope"):
        return tuple({f"{_ENCODING}.time.ladder.unit": unit} for unit in UNITS)
    if variant.startswith("clock_and_lag"):
        ends = [_planes(shares, "warped" in variant) for shares in _SHARES]
        return (*(usual | planes for planes in ends), twice | ends[0])
    if variant.startswith(("siren_rope", "time_in_embedding_network")):
        place = "model.input_time_network"
        if variant.startswith("siren_rope"):
            place = f"{_ENCODING}.time.network"
        sizes = [(usual, 10, 64), (twice, 10, 64), (usual, 5, 64), (usual, 20, 64)]
        sizes += [(usual, 10, 128)]
        return tuple(
            some | {f"{place}.omega_0": float(omega), f"{place}.width": width}
            for some, omega, width in sizes
        )
    key = f"{_ENCODING}.order.ladder.base"
    more = {_RATE_KEY: 1.4 * rate} | {key: 1e4}
    return (*(some | {key: base} for base in (1e4, 1e2) for some in (usual, twice)), more)


def _planes(ends: tuple[float, float, float], warped: bool) -> dict[str, Any]:
    day, week, lag = ends
    ranges = {"day": (0.0, day), "week": (day, week), "lag": (week, lag), "order": (lag, 1.0)}
    if warped:
        ranges["warp"] = (0.0, week)
    return {f"{_ENCODING}.{source}.planes": planes for source, planes in ranges.items()}


def get_config(log: str = "foursquare_nyc") -> ConfigDict:
    """The variants and their settings on one of `LOGS`."""
    if log not in LOGS:
        raise UserError("--config", f"{log!r} is not a log{suggestion(log, LOGS)}")
    dataset = {"name": log, "base": f"configs/{log}.py", "config": f"configs/data/{log}.py"}
    rate = RATES.get(log, RATE)
    variants = [
        {
            "name": name,
            "argument": variant,
            "overrides": added,
            "settings": settings(variant, rate),
        }
        for name, variant, added in CONTESTANTS
    ]
    return ConfigDict(
        {
            "name": f"Encodings at their best on {log}",
            "variants": tuple(variants),
            "datasets": (dataset | LOGS[log],),
            "trials": 0,
            "jobs": 2,
        }
    )
