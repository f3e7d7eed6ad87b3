"""Amazon reviews of beauty products (5-core, 2002 to 2014): which product is reviewed next?

    python experiments/prepare.py --config=configs/data/amazon_beauty.py \
        --input=$SIREN_ROPE_DATA/amazon_beauty_5core/Beauty_item_org_rank.txt \
        --output=runs/data/amazon_beauty

198,502 reviews of 22,363 users on 12,101 products take two seconds. Published tables leave one
out: --config.split.kind=leave_one_out. The files, from the repository KingGugu/TiCoSeRec on GitHub,
are as in configs/data/yelp.py: a user a line, items in the file that --input names, Unix seconds in
`Beauty_time_org_rank.txt` beside it.

Times are whole days, 00:00 UTC: the hour says nothing, and reviews of one day keep the file's
order. They are the times of reviews, not of purchases.
"""

from ml_collections import ConfigDict

from siren_rope_jax.prepare.config import config_dict


def get_config() -> ConfigDict:
    """Returns the config of `experiments/prepare.py`."""
    return config_dict(
        name="amazon_beauty",
        user="user",
        item="item",
        time="time",
        time_unit="s",
        formats={
            "rank": {
                "pattern": "*_item_*.txt",
                "kind": "sequences",
                "columns": ("user", "item", "time"),
                "companion": ("_item_", "_time_"),
            }
        },
        min_count=1,
        source="Amazon reviews 2014, J. McAuley et al., doi:10.1145/2766462.2767755",
        license="not stated by the publisher, who asks for citation",
    )
