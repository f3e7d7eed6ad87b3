"""Amazon Reviews 2023, one category: which product is reviewed next?

    siren-rope prepare --config=configs/data/amazon_reviews_2023.py:Video_Games \
        --download --output=runs/data/amazon_reviews_2023

downloads the benchmark's 5-core ratings of that category. The default is Video_Games: 815,000
ratings of 26,000 products by 95,000 users. With --input instead, from
https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/,

    benchmark/5core/rating_only/CATEGORY.csv.gz    user_id,parent_asin,rating,timestamp; or 0core
    raw/review_categories/CATEGORY.jsonl.gz        all reviews; only these four keys are read

The categories are listed at https://amazon-reviews-2023.github.io. Published results use
leave-one-out: --config.split.kind=leave_one_out.

Times are exact, in milliseconds. The benchmark keeps only a user's first review of a product. The
raw file has repeated ones, of which only those that are identical in all four keys are dropped.
`parent_asin`, the item, stands for all colours and sizes of a product.
"""

from ml_collections import ConfigDict

from siren_rope_jax.prepare.config import config_dict

_COLUMNS = ("user_id", "parent_asin", "rating", "timestamp")
_BENCHMARK = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/benchmark"
_SHA256 = {  # not stated by the publisher, but by others who downloaded the file
    "Video_Games": "a2bde5f3b945960d161538c200dd87845e6ee471b46da96410dde61613c6901c",
}


def get_config(category: str = "Video_Games") -> ConfigDict:
    """Returns the config of `siren-rope prepare` for a category, as the publisher spells it."""
    return config_dict(
        name=f"amazon_reviews_2023_{category}",
        user="user_id",
        item="parent_asin",
        time="timestamp",
        time_unit="ms",
        formats={
            "ratings": {"pattern": "*.csv"},
            "reviews": {"pattern": "*.jsonl", "columns": _COLUMNS},
        },
        min_count=1,
        download={
            "url": f"{_BENCHMARK}/5core/rating_only/{category}.csv.gz",
            "checksum": f"sha256:{_SHA256[category]}" if category in _SHA256 else "",
        },
        source=f"Amazon Reviews 2023, {category}, Y. Hou et al., arXiv:2403.03952",
        license="not stated by the publisher, who asks for citation",
    )
