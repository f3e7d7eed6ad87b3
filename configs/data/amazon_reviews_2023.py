"""Amazon Reviews 2023, one category: which product is reviewed next?

    python experiments/prepare.py --config=configs/data/amazon_reviews_2023.py:Video_Games \
        --download --output=runs/data/amazon_reviews_2023

fetches the benchmark's ratings of that category, 5-core (Video_Games, the category if none is
named: 815,000 ratings of 95,000 users on 26,000 products). With --input instead:

    benchmark/5core/rating_only/CATEGORY.csv.gz    user_id,parent_asin,rating,timestamp; or 0core
    raw/review_categories/CATEGORY.jsonl.gz        all reviews, of which only these four are read

below https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/ (all categories are named at
https://amazon-reviews-2023.github.io). Published tables leave one out:
--config.split.kind=leave_one_out.

Times are in milliseconds, and exact. The benchmark keeps a user's first review of a product alone;
in the raw file there are repeats, of which only those identical in all four columns are dropped.
`parent_asin` stands for all colours and sizes of a product, and is the item.
"""

from ml_collections import ConfigDict

from siren_rope_jax.prepare.config import config_dict

_COLUMNS = ("user_id", "parent_asin", "rating", "timestamp")
_BENCHMARK = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/benchmark"
_SHA256 = {  # not the publisher's: what others state who fetched the file
    "Video_Games": "a2bde5f3b945960d161538c200dd87845e6ee471b46da96410dde61613c6901c",
}


def get_config(category: str = "Video_Games") -> ConfigDict:
    """Returns the config of `experiments/prepare.py`, for a category as the publisher spells it."""
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
