"""Steam reviews (2010 to 2018): which game is reviewed next?

    siren-rope prepare --config=configs/data/steam.py \
        --download --output=runs/data/steam

downloads https://cseweb.ucsd.edu/~wckang/steam_reviews.json.gz (1.3 GB, 7.8 million reviews of
32,000 games by 2.6 million users); --input names one that is there already. In spite of the name of
the file, a line is not JSON but a Python dict, of which user, game and date are read with
`ast.literal_eval`: that takes about seven minutes.

Times are whole days: the hour has no meaning, and reviews of one day keep the order of the file. A
user is a `username`, as in the results published since SASRec. These also keep only users and games
with at least five reviews: --config.core=5. Two reviews of a game by a user on one day count once.
"""

from ml_collections import ConfigDict

from siren_rope_jax.prepare.config import config_dict


def get_config() -> ConfigDict:
    """Returns the config of `siren-rope prepare`."""
    return config_dict(
        name="steam",
        user="username",
        item="product_id",
        time="date",
        time_unit="iso",
        formats={
            "reviews": {
                "pattern": "*.json",
                "kind": "python_dicts",
                "columns": ("username", "product_id", "date"),
            }
        },
        min_count=1,
        download={"url": "https://cseweb.ucsd.edu/~wckang/steam_reviews.json.gz"},
        source="Steam video games, W.-C. Kang and J. McAuley, arXiv:1808.09781",
        license="not stated by the publisher, who asks for citation",
    )
