"""Which encoding do your data want? Built-in feeds of which each follows something else.

    siren-rope ablate --config=configs/ablation/feed_map.py --workdir=runs/feed_map

All feeds have the same events and, but for `nothing`, interests of the same variance: they follow
the clock smoothly (one cosine a day), sharply (four harmonics: a lunch hour, a commute), a cycle of
36 hours of which no feature knows, the time since the last events (a mood of six hours), or their
order alone (a mood of four events), or two of these by halves. The report has the share of the gap
between ordinal RoPE and the best possible prediction that each encoding closes, and a picture of
all. Takes about an hour on two cores.
"""

from typing import Any

from ml_collections import ConfigDict

WHOLE, HALF = 2.0, 2.0**0.5  # strengths: variances of 4 and 2
NONE = {"daily": 0.0, "weekly": 0.0, "drift": 0.0}
SHARP = {"harmonics": 4}
FEEDS: dict[str, dict[str, Any]] = {
    "nothing": {"constant": 1.0},
    "order": {"order": WHOLE},
    "recency": {"recency": WHOLE},
    "clock": {"daily": WHOLE},
    "sharp_clock": {"daily": WHOLE, **SHARP},
    "36_hours": {"hidden": WHOLE},
    "clock_recency": {"daily": HALF, "recency": HALF},
    "sharp_clock_recency": {"daily": HALF, "recency": HALF, **SHARP},
    "clock_order": {"daily": HALF, "order": HALF},
}
VARIANTS = (
    "ordinal",
    "to_rope_split_dim",
    "hstu_bias",
    "time_in_embedding",
    "siren_rope",
    "siren_rope_hstu_bias",
    "clock_and_lag_hstu_bias",
    "clock_lag_trend",
    "learned_clock_hstu_bias",
)


def get_config() -> ConfigDict:
    """The variants, feeds and seeds."""
    return ConfigDict(
        {
            "name": "Encodings on feeds that follow the clock, the lag or the order",
            "variants": tuple({"name": name} for name in VARIANTS),
            "datasets": tuple(
                {
                    "name": name,
                    "base": "configs/synthetic.py",
                    "config": "configs/data/synthetic.py",
                    "prepare": {"num_users": 8_000, **NONE, **feed},
                }
                for name, feed in FEEDS.items()
            ),
            "seeds": (0,),
            "baseline": "ordinal",
            "champion": "clock_lag_trend",
            "together": True,
            "jobs": 2,
        }
    )
