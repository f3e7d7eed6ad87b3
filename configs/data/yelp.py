"""Yelp reviews of 2019 (5-core): which business is reviewed next?

    siren-rope prepare --config=configs/data/yelp.py \
        --input=$SIREN_ROPE_DATA/yelp_5core/Yelp-A_item_org_rank.txt --output=runs/data/yelp

316,354 reviews of 20,033 businesses by 30,431 users take three seconds. The files are in the
repository KingGugu/TiCoSeRec on GitHub. They have one user per line, oldest events first: the one
that --input names has `user item item ...`, and `Yelp-A_time_org_rank.txt` beside it
`user time time ...` in Unix seconds. Yelp, the publisher of the original, offers no direct link.

Times are UTC. Users live in several North American time zones; it is not known who lives in which.
"""

from ml_collections import ConfigDict

from siren_rope_jax.prepare.config import SEQUENCES, config_dict


def get_config() -> ConfigDict:
    """Returns the config of `siren-rope prepare`."""
    return config_dict(
        name="yelp",
        user="user",
        item="item",
        time="time",
        time_unit="s",
        formats=SEQUENCES,
        min_count=1,
        source="Yelp Open Dataset, as prepared for TiCoSeRec, Y. Dang et al., arXiv:2212.08262",
        license="Yelp's dataset terms: academic use, no redistribution",
    )
