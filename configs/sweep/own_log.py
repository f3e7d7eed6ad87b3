"""Which settings suit your own log? A search for ranking it, or for its next items.

    siren-rope sweep --config=configs/sweep/own_log.py:table,runs/data/mine --workdir=runs/sweep

The part after the colon is the experiment's config, `table` for a ranking or `next_item`, and the
directory of a prepared log (configs/data/table.py). Every variant has its learning rate and its
dropout tuned, TO-RoPE its unit of time, and those with a network the frequency and the width of its
sine branch as well. docs/ablate.md says how to go on.
"""

import math
from pathlib import PurePosixPath
from typing import Any

from ml_collections import ConfigDict

MINUTE, HOUR, DAY, WEEK = 60.0, 3600.0, 86_400.0, 604_800.0
UNITS = (10 * MINUTE, HOUR, DAY / (2 * math.pi), DAY, WEEK / (2 * math.pi), WEEK)


def _network(place: str) -> tuple[dict[str, Any], ...]:
    """What is tried with the network in a place of the config."""
    return (
        {"key": f"{place}.omega_0", "low": 3.0, "high": 30.0, "log": True},
        {"key": f"{place}.width", "values": (32, 64, 128)},
    )


VARIANTS = (
    {"name": "ordinal"},
    {"name": "hstu_bias"},
    {"name": "to_rope", "ranges": ({"key": "model.encoding.time.ladder.unit", "values": UNITS},)},
    {"name": "siren_rope", "ranges": _network("model.encoding.time.network")},
    {"name": "clock_and_lag_hstu_bias"},
    {"name": "learned_clock_hstu_bias", "ranges": _network("model.encoding.clock.network")},
    {"name": "clock_lag_trend", "ranges": _network("model.input_time_network")},
)


def get_config(what: str = "table,runs/data/mine") -> ConfigDict:
    """The ranges, for an experiment on the prepared log in a directory."""
    base, _, log = what.partition(",")
    return ConfigDict(
        {
            "name": "Settings for your own log",
            "variants": VARIANTS,
            "datasets": (
                {"name": PurePosixPath(log).name, "base": f"configs/{base}.py", "prepared": log},
            ),
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
