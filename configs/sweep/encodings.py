"""Every encoding at its best, on one log: what is tried with each of them on validation.

    SIREN_ROPE_DATA=FOLDER siren-rope sweep \
        --config=configs/sweep/encodings.py:foursquare_nyc --workdir=runs/encodings/sweep

The part after the colon is one of the `LOGS` below. Each variant has `TRIALS` trials with one seed:
its usual settings, and others of what it depends on most, such as TO-RoPE's unit of time, in 2 pi
of which its first plane turns once. configs/ablation/encodings.py compares the variants with
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
# The usual learning rate, and another one.
RATES = {"synthetic": (1.5e-3, 3e-3), "foursquare_nyc": (4e-3, 2e-3)}
OF_OTHERS = (2e-3, 4e-3)

BUCKETS = {"model.biases": ("time_buckets",)}
# Rows of the table: name, variant that it is made of, what is added to that.
CONTESTANTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("ordinal", "ordinal", {}),
    ("to_rope_split_dim", "to_rope_split_dim", {}),
    ("to_rope_split_dim_hstu_bias", "to_rope_split_dim", BUCKETS),
    ("rote", "rote", {}),
    ("hstu_bias", "hstu_bias", {}),
    ("relation_bias", "relation_bias", {}),
    ("time_in_embedding_network_hstu_bias", "time_in_embedding_network", BUCKETS),
    ("siren_rope", "siren_rope", {}),
    ("siren_rope_hstu_bias", "siren_rope_hstu_bias", {}),
    ("clock_and_lag_hstu_bias", "clock_and_lag_hstu_bias", {}),
    ("learned_clock", "learned_clock", {}),
    ("learned_clock_hstu_bias", "learned_clock_hstu_bias", {}),
)

_ENCODING = "model.encoding"
_RATE_KEY = "optimizer.learning_rate"
# Where a variant has its network.
_NETWORKS = {
    "siren_rope": f"{_ENCODING}.time.network",
    "learned_clock": f"{_ENCODING}.clock.network",
    "time_in_embedding_network": "model.input_time_network",
}


def settings(variant: str, rates: tuple[float, float]) -> tuple[dict[str, Any], ...]:
    """What is tried with a variant, its usual settings first; `TRIALS` of them."""
    usual, other = ({_RATE_KEY: rate} for rate in rates)
    if variant.startswith("to_rope"):
        return tuple(usual | {f"{_ENCODING}.time.ladder.unit": unit} for unit in UNITS)
    for name, place in _NETWORKS.items():
        if variant.startswith(name):
            sizes = [(usual, 10, 64), (other, 10, 64), (usual, 5, 64), (usual, 20, 64)]
            sizes += [(usual, 10, 128)]
            return tuple(
                some | {f"{place}.omega_0": float(omega), f"{place}.width": width}
                for some, omega, width in sizes
            )
    key, first, second = f"{_ENCODING}.order.ladder.base", 1e4, 1e2
    if variant.startswith("clock_and_lag"):
        key = f"{_ENCODING}.lag.ladder.base"
        first, second = 90 * DAY / (10 * MINUTE), 10 * DAY / (10 * MINUTE)
    middle = {_RATE_KEY: math.sqrt(rates[0] * rates[1])}
    pairs = [(usual, first), (other, first), (middle, first), (usual, second), (other, second)]
    return tuple(some | {key: base} for some, base in pairs)


def get_config(log: str = "foursquare_nyc") -> ConfigDict:
    """The variants and their settings on one of `LOGS`."""
    if log not in LOGS:
        raise UserError("--config", f"{log!r} is not a log{suggestion(log, LOGS)}")
    dataset = {"name": log, "base": f"configs/{log}.py", "config": f"configs/data/{log}.py"}
    rates = RATES.get(log, OF_OTHERS)
    variants = [
        {
            "name": name,
            "argument": variant,
            "overrides": added,
            "settings": settings(variant, rates),
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
