"""MovieLens ratings as they are, in any of their file formats: as stars, and as a number.

    siren-rope prepare --config=configs/data/movielens_stars.py \
        --input=ml-100k/u.data --output=runs/data/movielens_stars
    siren-rope train --config=configs/movielens.py:siren_rope \
        --config.data.path=runs/data/movielens_stars --workdir=runs/movielens_stars

Files and downloads are those of configs/data/movielens.py. There are two tasks, of which one is
enough for use: `stars` is ordinal, with a probability for each number of stars, and `rating` is
real-valued, learned by squared error. Leave one out by --config.regression.rating= or
--config.ordinal.stars= on the command line of `prepare`.
"""

from ml_collections import ConfigDict

from siren_rope_jax.prepare import movielens
from siren_rope_jax.prepare.config import config_dict


def get_config(release: str = "") -> ConfigDict:
    """Returns the config of `siren-rope prepare` for one of `movielens.RELEASES`, or any."""
    return config_dict(
        **movielens.common("movielens_stars", release),
        ordinal={"stars": "rating"},
        regression={"rating": "rating"},
        min_count=5,
    )
