"""What all uses of the MovieLens ratings share: how its files are read, and where they are."""

from typing import Any

from siren_rope_jax.base.errors import UserError, suggestion

_COLUMNS = ("user_id", "item_id", "rating", "timestamp")

FORMATS = {
    "u_data": {"pattern": "u*.data", "delimiter": "\t", "columns": _COLUMNS},
    "ratings_dat": {"pattern": "*.dat", "delimiter": "::", "columns": _COLUMNS},
    "ratings_csv": {"pattern": "*.csv", "rename": {"userId": "user_id", "movieId": "item_id"}},
    "inter": {"pattern": "*.inter"},
}
"""Of `PrepareConfig`, by the names that GroupLens and RecBole give their files."""

_URL = "https://files.grouplens.org/datasets/movielens"

RELEASES = {  # the checksums are GroupLens' own, published beside the files
    "100k": {
        "url": f"{_URL}/ml-100k.zip",
        "checksum": "md5:0e33842e24a9c977be4e0107933c0723",
        "member": "ml-100k/u.data",
    },
    "1m": {
        "url": f"{_URL}/ml-1m.zip",
        "checksum": "md5:c4d9eecfca2ab87c1945afe126590906",
        "member": "ml-1m/ratings.dat",
    },
    "20m": {
        "url": f"{_URL}/ml-20m.zip",
        "checksum": "md5:cd245b17a1ae2cc31bb14903e1204af3",
        "member": "ml-20m/ratings.csv",
    },
    "32m": {
        "url": f"{_URL}/ml-32m.zip",
        "checksum": "md5:d472be332d4daa821edc399621853b57",
        "member": "ml-32m/ratings.csv",
    },
    "latest_small": {  # changes over the years
        "url": f"{_URL}/ml-latest-small.zip",
        "checksum": "",
        "member": "ml-latest-small/ratings.csv",
    },
}
"""The `Download` of each."""


def common(name: str, release: str) -> dict[str, Any]:
    """Returns what configs of MovieLens share.

    Args:
      name: the data set's; a release's name is added to it.
      release: one of `RELEASES`; "" for any file, where a download is of 100K.

    Raises:
      UserError: no such release.
    """
    if release and release not in RELEASES:
        raise UserError(f"no MovieLens release {release!r}{suggestion(release, RELEASES)}")
    return {
        "name": f"{name}_{release}" if release else name,
        "user": "user_id",
        "item": "item_id",
        "time": "timestamp",
        "time_unit": "s",
        "formats": FORMATS,
        "download": RELEASES[release or "100k"],
        "source": "MovieLens, F. M. Harper and J. A. Konstan, doi:10.1145/2827872; GroupLens",
        "license": "research use; redistribution needs GroupLens' permission",
    }
