"""MovieLens ratings, in any of the forms they come in.

    python experiments/prepare.py --config=configs/data/movielens.py \
        --input=ml-100k/u.data --output=runs/data/movielens

The file's name decides how it is read: `u.data` (100K), `ratings.dat` (1M, 10M), `ratings.csv`
(20M, 25M, 32M, latest), `*.inter` (RecBole's). A hundred thousand ratings take seconds.

`--download` in place of --input fetches a release from GroupLens, https://grouplens.org: with
--config=configs/data/movielens.py:1m the one called 1m; of `100k` (if none is named), `1m`, `20m`,
`32m` and `latest_small`.

Tasks: `like`, a rating of at least 4, and `love`, a rating of 5; the action is the rating itself.
About half of the ratings share their second with the user's last one: those keep the file's order.
Films rated less than five times in train share the row of unknown ids.
"""

from ml_collections import ConfigDict

from siren_rope_jax.prepare import movielens
from siren_rope_jax.prepare.config import config_dict


def get_config(release: str = "") -> ConfigDict:
    """Returns the config of `experiments/prepare.py`, for one of `movielens.RELEASES`."""
    return config_dict(
        **movielens.common("movielens", release),
        actions={"rating": "rating"},
        tasks={"like": "rating >= 4", "love": "rating = 5"},
        min_count=5,
    )
