"""Every encoding at its best, on one log: what is tried with each of them on validation.

    SIREN_ROPE_DATA=FOLDER siren-rope sweep \
        --config=configs/sweep/encodings.py:foursquare_nyc --workdir=runs/encodings/sweep

The part after the colon is one of the `LOGS` below. Each variant has `TRIALS` trials with one seed:
the log's own settings, and others of what it depends on most, such as TO-RoPE's unit of time, in
which its first plane turns once in 2 pi units. The learning rates are the log's own, half and twice
of it. configs/ablation/encodings.py compares the variants with what this finds.
"""

import math
from typing import Any

from ml_collections import ConfigDict

from siren_rope_jax.base.errors import UserError, suggestion

MINUTE, HOUR, DAY, WEEK = 60.0, 3_600.0, 86_400.0, 604_800.0
UNITS = (10 * MINUTE, HOUR, DAY / (2 * math.pi), DAY, WEEK / (2 * math.pi), WEEK)
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
# Rows of the table: name, variant that it is made of, what is added to that.
CONTESTANTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("ordinal", "ordinal", {}),
    ("to_rope", "to_rope", {}),
    ("to_rope_split_dim", "to_rope_split_dim", {}),
    ("to_rope_split_dim_hstu_bias", "to_rope_split_dim", BUCKETS),
    ("hstu_bias", "hstu_bias", {}),
    ("fuxi_linear_bias", "fuxi_linear_bias", {}),
    ("relation_bias", "relation_bias", {}),
    ("time_in_embedding_network", "time_in_embedding_network", {}),
    ("time_in_embedding_network_hstu_bias", "time_in_embedding_network", BUCKETS),
    ("siren_rope", "siren_rope", {}),
    ("siren_rope_hstu_bias", "siren_rope_hstu_bias", {}),
    ("clock_and_lag", "clock_and_lag", {}),
    ("clock_and_lag_hstu_bias", "clock_and_lag_hstu_bias", {}),
    ("clock_and_lag_harmonics_hstu_bias", "clock_and_lag_harmonics", BUCKETS),
    ("clock_and_lag_warped_hstu_bias", "clock_and_lag_warped", BUCKETS),
)

_ENCODING = "model.encoding"
_RATE_KEY = "optimizer.learning_rate"
# Which planes turn by the day, the week, the lag and the order: the ends of their ranges.
_SHARES = ((0.25, 0.375, 0.75), (0.375, 0.5, 0.75), (0.125, 0.25, 0.75), (0.25, 0.375, 0.5))


def settings(variant: str, rate: float) -> tuple[dict[str, Any], ...]:
    """What is tried with a variant, the log's own settings first; `TRIALS` of them."""
    rates = [{_RATE_KEY: factor * rate} for factor in (1, 0.5, 2)]
    if variant.startswith("to_rope"):
        units = sorted(UNITS, key=lambda unit: unit != DAY)
        return tuple({f"{_ENCODING}.time.ladder.unit": unit} for unit in units)
    if variant.startswith("clock_and_lag"):
        warped = "warped" in variant
        shares = [dict[str, Any](rates[0] | _planes(ends, warped)) for ends in _SHARES]
        return tuple(shares + [some | _planes(_SHARES[0], warped) for some in rates[1:]])
    if variant.startswith(("siren_rope", "time_in_embedding_network")):
        place = "model.input_time_network"
        if variant.startswith("siren_rope"):
            place = f"{_ENCODING}.time.network"
        own = [{"omega_0": 10.0, "width": 64}] * 3
        own += [{"omega_0": 5.0, "width": 64}, {"omega_0": 20.0, "width": 64}]
        own += [{"omega_0": 10.0, "width": 128}]
        pairs = zip(rates + rates[:1] * 3, own, strict=True)
        return tuple(
            some | {f"{place}.{key}": value for key, value in network.items()}
            for some, network in pairs
        )
    places = [{f"{_ENCODING}.order.ladder.base": base} for base in (1e4, 1e2)]
    return tuple(some | place for place in places for some in rates)


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
