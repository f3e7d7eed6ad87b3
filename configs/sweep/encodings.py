"""Every encoding at its best, on one log: what is tried with each of them on validation.

    SIREN_ROPE_DATA=FOLDER siren-rope sweep \
        --config=configs/sweep/encodings.py:foursquare_nyc --workdir=runs/encodings/sweep

The part after the colon is one of the logs of configs/ablation/encodings.py, which compares the
variants with what this finds. Each variant has `TRIALS` trials with one seed: two or three learning
rates, and others of what it depends on most, such as TO-RoPE's unit of time, in 2 pi of which its
first plane turns once. Of several data sets of a log the first one is swept.
"""

import math
from typing import Any

from ml_collections import ConfigDict

from siren_rope_jax.base.config import load_config_file
from siren_rope_jax.base.times import DAY, HOUR, WEEK

TEN_MINUTES = 600
UNITS = (DAY, HOUR, TEN_MINUTES, DAY / (2 * math.pi), WEEK / (2 * math.pi))
TRIALS = 6

# The learning rate of most trials, and another one.
RATES = {"synthetic": (1.5e-3, 3e-3), "foursquare_nyc": (4e-3, 2e-3)}
OF_OTHERS = (2e-3, 4e-3)

_ENCODING = "model.encoding"
_RATE_KEY = "optimizer.learning_rate"
# Where a variant has its network.
_NETWORKS = {
    "siren_rope": f"{_ENCODING}.time.network",
    "learned_clock": f"{_ENCODING}.clock.network",
    "time_in_embedding_network": "model.input_time_network",
    "trend": "model.input_time_network",
}


def settings(variant: str, rates: tuple[float, float]) -> tuple[dict[str, Any], ...]:
    """What is tried with a variant; `TRIALS` of them."""
    usual, other, high = ({_RATE_KEY: rate} for rate in (*rates, 2 * max(rates)))
    if variant.startswith("to_rope"):
        pairs = [(usual, float(unit)) for unit in UNITS] + [(other, DAY / (2 * math.pi))]
        return tuple(some | {f"{_ENCODING}.time.ladder.unit": unit} for some, unit in pairs)
    for name, place in _NETWORKS.items():
        if variant.startswith(name):
            sizes = [(usual, 10, 64), (other, 10, 64), (usual, 5, 64), (usual, 20, 64)]
            sizes += [(usual, 10, 128), (high, 10, 64)]
            return tuple(
                some | {f"{place}.omega_0": float(omega), f"{place}.width": width}
                for some, omega, width in sizes
            )
    key, first, second = f"{_ENCODING}.order.ladder.base", 1e4, 1e2
    if variant.startswith("clock_"):
        key = f"{_ENCODING}.lag.ladder.base"
        first, second = 90 * DAY / TEN_MINUTES, 10 * DAY / TEN_MINUTES
    middle = {_RATE_KEY: math.sqrt(rates[0] * rates[1])}
    pairs = [(usual, first), (other, first), (middle, first), (usual, second), (other, second)]
    pairs += [(high, first)]
    return tuple(some | {key: base} for some, base in pairs)


def get_config(log: str = "foursquare_nyc") -> ConfigDict:
    """The variants and their settings on one log."""
    compared = load_config_file("configs/ablation/encodings.py", {}, log)
    rates = RATES.get(log, OF_OTHERS)
    variants = tuple(
        {**variant, "settings": settings(variant["name"], rates)} for variant in compared.variants
    )
    return ConfigDict(
        {
            "name": f"Encodings at their best on {log}",
            "variants": variants,
            "datasets": compared.datasets[:1],
            "trials": 0,
            "jobs": 2,
        }
    )
