"""Which settings suit your own log? A search for the next item of it.

    siren-rope sweep --config=configs/sweep/next_item.py:runs/data/mine --workdir=runs/mine_sweep

The part after the colon is the directory of a prepared log (configs/data/table.py).
Every variant has its learning rate and its dropout tuned, TO-RoPE its unit of time, SIREN-RoPE the
frequency and the width of its sine network as well. docs/ablate.md says how to go on.
"""

import math
from pathlib import PurePosixPath

from ml_collections import ConfigDict

MINUTE, HOUR, DAY, WEEK = 60.0, 3600.0, 86_400.0, 604_800.0
UNITS = (10 * MINUTE, HOUR, DAY / (2 * math.pi), DAY, WEEK / (2 * math.pi), WEEK)

VARIANTS = (
    {"name": "ordinal"},
    {"name": "to_rope", "ranges": ({"key": "model.encoding.time.ladder.unit", "values": UNITS},)},
    {
        "name": "siren_rope",
        "ranges": (
            {"key": "model.encoding.time.network.omega_0", "low": 3.0, "high": 30.0, "log": True},
            {"key": "model.encoding.time.network.width", "values": (32, 64, 128)},
        ),
    },
)


def get_config(log: str = "runs/data/mine") -> ConfigDict:
    """The ranges, on the prepared log in the directory `log`."""
    return ConfigDict(
        {
            "name": "Settings for your own log",
            "variants": VARIANTS,
            "datasets": (
                {"name": PurePosixPath(log).name, "base": "configs/next_item.py", "prepared": log},
            ),
            "ranges": (
                {"key": "optimizer.learning_rate", "low": 3e-4, "high": 1e-2, "log": True},
                {"key": "model.dropout", "values": (0.0, 0.1, 0.2, 0.4)},
            ),
            "trials": 8,
            "jobs": 2,
        }
    )
