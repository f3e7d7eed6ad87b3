"""Do the encodings hold in rows longer than those of their training? On the check-ins.

    SIREN_ROPE_DATA=FOLDER siren-rope ablate --config=configs/ablation/lengths.py \
        --workdir=runs/lengths

Rows of 50 check-ins in training, and in the test of 50, 100 and 200. FOLDER holds foursquare_nyc/.
Takes a quarter of an hour on two cores.
"""

from ml_collections import ConfigDict

VARIANTS = (
    "ordinal",
    "hstu_bias",
    "to_rope_day_week",
    "siren_rope",
    "clock_and_lag_hstu_bias",
    "learned_clock_hstu_bias",
)


def get_config() -> ConfigDict:
    """The variants and seeds."""
    return ConfigDict(
        {
            "name": "Encodings in rows longer than those of training",
            "variants": tuple({"name": name} for name in VARIANTS),
            "datasets": (
                {
                    "name": "foursquare_nyc",
                    "base": "configs/foursquare_nyc.py",
                    "config": "configs/data/foursquare_nyc.py",
                    "input": "foursquare_nyc/NYC.npy",
                    "overrides": {
                        "data.length": 50,
                        "data.stride": 5,
                        "data.batch_size": 16,
                        "data.tested_lengths": (100, 200),
                    },
                },
            ),
            "seeds": (0, 1, 2),
            "baseline": "ordinal",
            "champion": "learned_clock_hstu_bias",
            "jobs": 2,
        }
    )
