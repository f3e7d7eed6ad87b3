"""Globo.com news clicks (October 2017), for retrieval: which article is clicked next?

    siren-rope prepare --config=configs/data/globo_next.py \
        --input=$SIREN_ROPE_DATA/globo_news/clicks_hour_000-384.csv.gz \
        --output=runs/data/globo_next

Three million clicks take about half a minute and 1 GiB on two cores.

The file is that of configs/data/globo.py. The publisher sets the time of the last click of every
session to exactly 30 s after the one before, so it is made up: the task `timed` is 1 for all other
clicks, and only these may be targets of a model (a third of all clicks are last ones). The last
clicks stay in the histories.

The catalogue is every article in train. Articles are read for hours to days: with the default
split, at 80 and 90 % of the events, 79 % of the test clicks are on articles that are not in train,
and the rest on old ones. So train ends at 96 % and validation at 98 %, four and a half hours later,
as for a model that is trained several times a day; then it is 27 % of the test clicks. Local time
is that of Sao Paulo for everyone, as in configs/data/globo.py.
"""

from ml_collections import ConfigDict

from siren_rope_jax.prepare.config import config_dict


def get_config() -> ConfigDict:
    """Returns the config of `siren-rope prepare`."""
    return config_dict(
        name="globo_next",
        user="user_id",
        item="click_article_id",
        time="click_timestamp",
        time_unit="ms",
        time_zone="America/Sao_Paulo",
        tasks={
            "timed": "lead(row) OVER (PARTITION BY user_id, session_id "
            "ORDER BY click_timestamp, row) IS NOT NULL"
        },
        min_count=1,
        split={"train_fraction": 0.96, "validation_fraction": 0.02},
        source="Globo.com news portal user interactions, G. Moreira et al., arXiv:1904.10367",
        license="academic use only, not commercial; cite arXiv:1904.10367",
    )
