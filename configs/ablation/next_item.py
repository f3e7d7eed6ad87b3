"""Which encoding finds the next item best on your own log? The main ones, three seeds each.

    siren-rope ablate --config=configs/ablation/next_item.py:runs/data/mine \
        --workdir=runs/mine_ablation

The part after the colon is the directory of a prepared log (configs/data/table.py). The models are
those of configs/next_item.py; docs/ablate.md says how to change them, or the variants.
"""

from pathlib import PurePosixPath

from ml_collections import ConfigDict

VARIANTS = (
    "ordinal",
    "time_in_embedding_cyclic",
    "to_rope",
    "to_rope_day_week",
    "hstu_bias",
    "trend_hstu_bias",
    "siren_rope",
    "siren_rope_day_week",
    "clock_and_lag_hstu_bias",
    "learned_clock_hstu_bias",
    "clock_lag_trend",
)


def get_config(log: str = "runs/data/mine") -> ConfigDict:
    """The variants and seeds on the prepared log in the directory `log`."""
    return ConfigDict(
        {
            "name": "Encodings for the next item of your own log",
            "variants": tuple({"name": name} for name in VARIANTS),
            "datasets": (
                {"name": PurePosixPath(log).name, "base": "configs/next_item.py", "prepared": log},
            ),
            "seeds": (0, 1, 2),
            "baseline": "ordinal",
            "champion": "siren_rope",
            "jobs": 2,
        }
    )
