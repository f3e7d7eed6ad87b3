"""Every encoding at its best, on one log: the comparison after a sweep.

    SIREN_ROPE_DATA=FOLDER siren-rope ablate \
        --config=configs/ablation/encodings.py:foursquare_nyc --workdir=runs/encodings/ablation \
        --chosen=runs/encodings/sweep/best.json

The part after the colon is one of the logs of configs/sweep/encodings.py, which has the variants
and says how the sweep is started.
"""

from ml_collections import ConfigDict

from siren_rope_jax.base.config import load_config_file

OWN = ("name", "argument", "overrides")


def get_config(log: str = "foursquare_nyc") -> ConfigDict:
    """The variants of the sweep on one of its logs."""
    sweep = load_config_file("configs/sweep/encodings.py", {}, log)
    return ConfigDict(
        {
            "name": f"Encodings on {log}, each with the settings that are best on validation",
            "variants": tuple({key: variant[key] for key in OWN} for variant in sweep.variants),
            "datasets": sweep.datasets,
            "seeds": (0, 1, 2, 3, 4),
            "baseline": "ordinal",
            "champion": "learned_clock_hstu_bias",
            "jobs": 2,
        }
    )
