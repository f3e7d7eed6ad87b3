"""MovieLens ratings, in any of the forms they come in.

    python experiments/prepare.py --config=configs/data/movielens.py \
        --input=ml-100k/u.data --output=runs/data/movielens

The file's name decides how it is read: `u.data` (100K), `ratings.dat` (1M, 10M), `ratings.csv`
(20M, 25M, latest), `*.inter` (RecBole's). A hundred thousand ratings take seconds.

Tasks: `like`, a rating of at least 4, and `love`, a rating of 5; the action is the rating itself.
About half of the ratings share their second with the user's last one: those keep the file's order.
Films rated less than five times in train share the row of unknown ids.
"""

from ml_collections import ConfigDict

from siren_rope_jax.data.prepare_config import config_dict

_COLUMNS = ("user_id", "item_id", "rating", "timestamp")


def get_config() -> ConfigDict:
    """Returns the config of `experiments/prepare.py`."""
    return config_dict(
        name="movielens",
        user="user_id",
        item="item_id",
        time="timestamp",
        time_unit="s",
        formats={
            "u_data": {"pattern": "u*.data", "delimiter": "\t", "columns": _COLUMNS},
            "ratings_dat": {"pattern": "*.dat", "delimiter": "::", "columns": _COLUMNS},
            "ratings_csv": {
                "pattern": "*.csv",
                "rename": {"userId": "user_id", "movieId": "item_id"},
            },
            "inter": {"pattern": "*.inter"},
        },
        actions={"rating": "rating"},
        tasks={"like": "rating >= 4", "love": "rating = 5"},
        min_count=5,
        source="MovieLens, F. M. Harper and J. A. Konstan, doi:10.1145/2827872; GroupLens",
        license="research use; redistribution needs GroupLens' permission",
    )
