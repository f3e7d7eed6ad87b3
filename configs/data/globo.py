"""Globo.com news clicks (October 2017): how long is an article read?

    python experiments/prepare.py --config=configs/data/globo.py \
        --input=$SIREN_ROPE_DATA/globo_news/clicks_hour_000-384.csv.gz --output=runs/data/globo

Three million clicks take about half a minute and 1 GiB on two cores.

There are no likes. A task is dwell, the time to the next click of the session: `dwell60`, at least
60 s (about 78 % of the labels), and `long_dwell`, at least 180 s (about half). The publisher stamps
the last click of every session exactly 30 s after the one before it. That time is made up, so
neither of the two has a label or a dwell, which leaves about 890,000 labelled clicks. The file also
states the size of each session; it and whatever else tells that a session is over is no feature.

Articles live hours to days, so most of those in test were not seen in train. What is known of an
article at the request stands in for its id: its age since its first click, and its clicks so far,
both of strictly earlier clicks only.

Local time is Sao Paulo's for everyone: UTC-3, from 2017-10-15 on UTC-2. Most users are in Brazil,
part of which has no summer time, so it is approximate.
"""

from ml_collections import ConfigDict

from siren_rope_jax.prepare.config import config_dict

_IN_SESSION = "PARTITION BY user_id, session_id ORDER BY click_timestamp"


def get_config() -> ConfigDict:
    """Returns the config of `experiments/prepare.py`."""
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
