"""Globo.com news clicks (October 2017): how long is an article read?

    siren-rope prepare --config=configs/data/globo.py \
        --input=$SIREN_ROPE_DATA/globo_news/clicks_hour_000-384.csv.gz --output=runs/data/globo

Three million clicks take about half a minute and 1 GiB on two cores.

There are no likes. The tasks are about the dwell, the time to the next click of the session:
`dwell60`, at least 60 s (about 78 % of the labels), and `long_dwell`, at least 180 s (about half).
The publisher sets the time of the last click of every session to exactly 30 s after the one before.
As that time is made up, neither of these two clicks has a label or a dwell, which leaves about
890,000 labelled clicks. Features use neither the stated size of a session nor anything else that
reveals its end.

Articles are read for hours to days, so most of those in test do not occur in train. What is known
of an article at the request replaces its id: its age since its first click, and its clicks so far,
both from strictly earlier clicks only.

Local time is that of Sao Paulo for everyone: UTC-3, and UTC-2 from 2017-10-15. Most users are in
Brazil, part of which has no daylight saving time, so it is approximate.
"""

from ml_collections import ConfigDict

from siren_rope_jax.prepare.config import config_dict

_IN_SESSION = "PARTITION BY user_id, session_id ORDER BY click_timestamp"


def get_config() -> ConfigDict:
    """Returns the config of `siren-rope prepare`."""
    return config_dict(
        name="globo",
        user="user_id",
        item="click_article_id",
        time="click_timestamp",
        time_unit="ms",
        time_zone="America/Sao_Paulo",
        derived={
            "clicks_left": f"count(*) OVER ({_IN_SESSION}, row "
            "ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING)",
            "next_click": f"lead(click_timestamp) OVER ({_IN_SESSION}, row)",
            "dwell": "CASE WHEN clicks_left >= 2 THEN (next_click - click_timestamp) / 1000.0 END",
            "first_seen": "min(click_timestamp) OVER (PARTITION BY click_article_id)",
            "clicks_before": "rank() OVER (PARTITION BY click_article_id "
            "ORDER BY click_timestamp) - 1",
        },
        categorical={
            "environment": "click_environment",
            "device_group": "click_deviceGroup",
            "os": "click_os",
            "country": "click_country",
            "region": "click_region",
            "referrer_type": "click_referrer_type",
        },
        dense={
            "log_age": "ln(1 + (click_timestamp - first_seen) / 1000.0)",
            "log_clicks": "ln(1 + clicks_before)",
        },
        actions={"log_dwell": "ln(1 + dwell)"},
        tasks={"dwell60": "dwell >= 60", "long_dwell": "dwell >= 180"},
        min_count=5,
        source="Globo.com news portal user interactions, G. Moreira et al., arXiv:1904.10367",
        license="academic use only, not commercial; cite arXiv:1904.10367",
    )
