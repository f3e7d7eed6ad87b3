"""MovieLens ratings, in any of their file formats.

    siren-rope prepare --config=configs/data/movielens.py \
        --input=ml-100k/u.data --output=runs/data/movielens

The file's name decides how it is read: `u.data` (100K), `ratings.dat` (1M, 10M), `ratings.csv`
(20M, 25M, 32M, latest), `*.inter` (RecBole). A hundred thousand ratings take seconds.

--download instead of --input downloads a release from GroupLens, https://grouplens.org, which
--config=configs/data/movielens.py:RELEASE names: `100k` (the default), `1m`, `20m`, `32m` or
`latest_small`.

Films have genres with a file that says them, `movies.csv` (20M, 25M, 32M, latest) or `*.item`
(RecBole), which the archive has beside the ratings: `--config=configs/data/movielens.py:genres
--items=ml-latest-small/movies.csv` with the input `ml-latest-small/ratings.csv`.

With a release as well, write `latest_small,genres`. The `movies.dat` of 10M is read, too; that of
1M is no UTF-8, so convert it first: `iconv -f latin1 -t utf8`.

The tasks are `like`, a rating of at least 4, and `love`, a rating of 5; the action is the rating
itself. About half of the ratings have the same second as the user's previous one and keep the order
of the file. Films with fewer than five ratings in train share the embedding of unknown ids.
"""

from ml_collections import ConfigDict

from siren_rope_jax.prepare import movielens
from siren_rope_jax.prepare.config import config_dict


def get_config(wanted: str = "") -> ConfigDict:
    """Returns the config of `siren-rope prepare` for what is `wanted` of `movielens.common`."""
    return config_dict(
        **movielens.common("movielens", wanted),
        actions={"rating": "rating"},
        tasks={"like": "rating >= 4", "love": "rating = 5"},
        min_count=5,
    )
