"""Every encoding on the built-in feed: how much of the gap to the ideal observer does it close?

    siren-rope ablate --config=configs/ablation/synthetic.py --workdir=runs/ablation

Takes about 35 minutes on two cores. Expected result: networks of cyclic features close about two
thirds of the gap, ladders of the day and the week five sixths, and other ladders and learned
frequencies about a tenth.
"""

from ml_collections import ConfigDict

VARIANTS = (
    "none",
    "ordinal",
    "time_in_embedding",
    "time_ladder",
    "to_rope",
    "to_rope_hours",
    "to_rope_split_dim",
    "to_rope_split_head",
    "to_rope_day_week",
    "linear",
    "time2vec",
    "semantic",
    "siren_only",
    "dnn_only",
    "siren_rope",
    "siren_rope_split_dim",
    "siren_rope_day_week",
    "siren_rope_raw",
)
LINES = (
    "ordinal",
    "time_in_embedding",
    "to_rope",
    "to_rope_day_week",
    "time2vec",
    "dnn_only",
    "siren_rope",
    "siren_rope_day_week",
)


def get_config() -> ConfigDict:
    """The variants, data sets and seeds."""
    return ConfigDict(
        {
            "name": "Encodings on the built-in feed",
            "variants": tuple({"name": name} for name in VARIANTS),
            "datasets": (
                {
                    "name": "synthetic",
                    "base": "configs/synthetic.py",
                    "config": "configs/data/synthetic.py",
                },
            ),
            "seeds": (0, 1, 2),
            "baseline": "ordinal",
            "champion": "siren_rope",
            "lines": LINES,
            "jobs": 4,
        }
    )
