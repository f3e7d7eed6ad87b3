"""Do rotations that do not commute gain anything over the same angles in planes?

    SIREN_ROPE_DATA=FOLDER siren-rope ablate --config=configs/ablation/in_space.py \
        --workdir=runs/in_space

The clock turns blocks of three components about one axis, lag and order about another, or they all
turn planes of their own. FOLDER holds foursquare_nyc/; the other log is the built-in feed. Takes a
quarter of an hour on two cores.
"""

from ml_collections import ConfigDict

VARIANTS = ("ordinal", "learned_clock", "learned_clock_in_space")


def get_config() -> ConfigDict:
    """The variants, data sets and seeds."""
    return ConfigDict(
        {
            "name": "Rotations in space and in planes",
            "variants": tuple({"name": name} for name in VARIANTS),
            "datasets": (
                {
                    "name": "foursquare_nyc",
                    "base": "configs/foursquare_nyc.py",
                    "config": "configs/data/foursquare_nyc.py",
                    "input": "foursquare_nyc/NYC.npy",
                },
                {
                    "name": "synthetic",
                    "base": "configs/synthetic.py",
                    "config": "configs/data/synthetic.py",
                },
            ),
            "seeds": (0, 1, 2),
            "baseline": "ordinal",
            "champion": "learned_clock",
            "jobs": 2,
        }
    )
