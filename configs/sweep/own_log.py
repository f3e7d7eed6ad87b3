"""Which settings suit your own log? A search for ranking it, or for its next items.

    siren-rope sweep --config=configs/sweep/own_log.py:table,runs/data/mine --workdir=runs/sweep

The part after the colon is the experiment's config, `table` for a ranking or `next_item`, and the
directory of a prepared log (configs/data/table.py). The variants are those of
configs/ablation/table.py. Each has its learning rate and its dropout tuned, TO-RoPE its unit of
time, and those with a network the frequency and the width of its sine branch as well.
docs/ablate.md says how to go on.
"""

import math
from typing import Any

from ml_collections import ConfigDict

from siren_rope_jax.base.config import load_config_file
from siren_rope_jax.base.times import DAY, HOUR, WEEK

UNITS = (600.0, float(HOUR), DAY / (2 * math.pi), float(DAY), WEEK / (2 * math.pi), float(WEEK))


def _network(place: str) -> tuple[dict[str, Any], ...]:
    """What is tried with the network in a place of the config."""
    return (
        {"key": f"{place}.omega_0", "low": 3.0, "high": 30.0, "log": True},
        {"key": f"{place}.width", "values": (32, 64, 128)},
    )


# What is tried with a variant beside what is tried with all.
RANGES = {
    "to_rope": ({"key": "model.encoding.time.ladder.unit", "values": UNITS},),
    "siren_rope": _network("model.encoding.time.network"),
    "siren_rope_day_week": _network("model.encoding.time.network"),
    "learned_clock_hstu_bias": _network("model.encoding.clock.network"),
    "trend_hstu_bias": _network("model.input_time_network"),
    "clock_lag_trend": _network("model.input_time_network"),
}


def get_config(what: str = "table,runs/data/mine") -> ConfigDict:
    """The ranges, for an experiment on the prepared log in a directory."""
    base, _, log = what.partition(",")
    compared = load_config_file(f"configs/ablation/{base}.py", {}, log)
    return ConfigDict(
        {
            "name": "Settings for your own log",
            "variants": tuple(
                {**variant, "ranges": RANGES.get(variant["name"], ())}
                for variant in compared.variants
            ),
            "datasets": compared.datasets,
            "ranges": (
                {"key": "optimizer.learning_rate", "low": 3e-4, "high": 1e-2, "log": True},
                {"key": "model.dropout", "values": (0.0, 0.1, 0.2, 0.4)},
            ),
            "trials": 8,
            "seed": 0,
            "training_seed": 0,
            "jobs": 2,
        }
    )
