"""Amazon's reviews of books (1996 to 2014), as HSTU prepares them: which book is reviewed next?

    siren-rope prepare --config=configs/data/amazon_books.py --download \
        --output=runs/data/amazon_books

or --input=ratings_Books.csv, a file without a header (22.5 million ratings; some minutes on two
cores). As in HSTU's repository, ratings of books and of users with fewer than five are left out,
both counted once, and the test is each user's last review (leave-one-out).

Times are whole days, 00:00 UTC: the hour has no meaning, and reviews of one day keep the order of
the file.
"""

from ml_collections import ConfigDict

from siren_rope_jax.prepare.config import config_dict

_COUNTS = " AND ".join(f"count(*) OVER (PARTITION BY {key}) >= 5" for key in ("item", "user"))


def get_config() -> ConfigDict:
    """Returns the config of `siren-rope prepare`."""
    return config_dict(
        name="amazon_books",
        user="user_id",
        item="book",
        time="timestamp",
        time_unit="s",
        where=_COUNTS,
        formats={
            "ratings": {
                "pattern": "*.csv",
                "columns": ("user_id", "book", "rating", "timestamp"),
            }
        },
        min_count=1,
        split={"kind": "leave_one_out"},
        download={
            "url": "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/"
            "ratings_Books.csv"
        },
        source="Amazon reviews 2014, J. McAuley et al., doi:10.1145/2766462.2767755",
        license="not stated by the publisher, who asks for citation",
    )
