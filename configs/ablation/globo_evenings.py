"""News clicks on four evenings: the encodings at four origins, with intervals over articles.

    SIREN_ROPE_DATA=FOLDER siren-rope ablate --config=configs/ablation/globo_evenings.py \
        --workdir=runs/globo_evenings

FOLDER holds globo_news/. A few hundred articles get all that can be ranked well, so it is articles
that chance has drawn more than users: intervals resample them (`unit`), or hours with
--config.unit=hour. Each data set is one evening in Sao Paulo, 18:00 to midnight, after a training
that ends at 15:00 and a validation in between. Takes an hour and a half on two cores.
"""

from ml_collections import ConfigDict

EVENINGS = (2, 3, 4, 5)  # of October 2017, Monday to Thursday
VARIANTS = (
    "ordinal",
    "to_rope_split_dim",
    "hstu_bias",
    "siren_rope",
    "siren_rope_hstu_bias",
    "clock_and_lag_hstu_bias",
    "learned_clock",
    "learned_clock_hstu_bias",
)


def get_config() -> ConfigDict:
    """The variants, evenings and seeds."""
    return ConfigDict(
        {
            "name": "Encodings on four evenings of news",
            "variants": tuple({"name": name} for name in VARIANTS),
            "datasets": tuple(
                {
                    "name": f"october_{day}",
                    "base": "configs/globo_next.py",
                    "config": "configs/data/globo_next.py",
                    "input": "globo_news/clicks_hour_000-384.csv.gz",
                    "prepare": {
                        "split.train_end": f"2017-10-0{day}T15:00-03:00",
                        "split.validation_end": f"2017-10-0{day}T18:00-03:00",
                        "split.test_end": f"2017-10-0{day + 1}T00:00-03:00",
                    },
                }
                for day in EVENINGS
            ),
            "seeds": (0, 1, 2),
            "baseline": "ordinal",
            "champion": "learned_clock_hstu_bias",
            "unit": "item",
            "together": True,
            "jobs": 2,
        }
    )
