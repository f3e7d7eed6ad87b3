"""Steam reviews (2010 to 2018): which game is reviewed next?

    python experiments/prepare.py --config=configs/data/steam.py \
        --download --output=runs/data/steam

fetches https://cseweb.ucsd.edu/~wckang/steam_reviews.json.gz (1.3 GB, 7.8
million reviews of 2.6 million users on 32,000 games); --input names one that is there already. In
spite of its name a line is no JSON but a Python dict, of which user, game and date are read, with
`ast.literal_eval`: that takes about seven minutes.

Times are whole days: the hour says nothing, and reviews of one day keep the file's order. A user is
a `username`, as in the tables published since SASRec. Two reviews of the same game by the same user
on one day count once. Those tables keep users and games of at least five reviews:
`--config.core=5`.
"""

from ml_collections import ConfigDict

from siren_rope_jax.prepare.config import config_dict


def get_config() -> ConfigDict:
    """Returns the config of `experiments/prepare.py`."""
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
