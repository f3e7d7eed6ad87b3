"""Amazon reviews of beauty products (5-core, 2002 to 2014): which product is reviewed next?

    siren-rope prepare --config=configs/data/amazon_beauty.py \
        --input=$SIREN_ROPE_DATA/amazon_beauty_5core/Beauty_item_org_rank.txt \
        --output=runs/data/amazon_beauty

198,502 reviews of 12,101 products by 22,363 users take two seconds. Published results use
leave-one-out: --config.split.kind=leave_one_out. The files are in the repository KingGugu/TiCoSeRec
on GitHub and have the form that configs/data/yelp.py describes: --input names that of the items,
and `Beauty_time_org_rank.txt` beside it has the times.

Times are whole days, 00:00 UTC: the hour has no meaning, and reviews of one day keep the order of
the file. They are the times of reviews, not of purchases.
"""

from ml_collections import ConfigDict

from siren_rope_jax.prepare.config import SEQUENCES, config_dict


def get_config() -> ConfigDict:
    """Returns the config of `siren-rope prepare`."""
    return config_dict(
        name="amazon_beauty",
        user="user",
        item="item",
        time="time",
        time_unit="s",
        formats=SEQUENCES,
        min_count=1,
        source="Amazon reviews 2014, J. McAuley et al., doi:10.1145/2766462.2767755",
        license="not stated by the publisher, who asks for citation",
    )
