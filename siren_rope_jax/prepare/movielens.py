"""What the configs of MovieLens share: how to read the files of its releases, and their links."""

from typing import Any

from siren_rope_jax.base.errors import UserError, suggestion

_COLUMNS = ("user_id", "item_id", "rating", "timestamp")

FORMATS = {
    "u_data": {"pattern": "u*.data", "delimiter": "\t", "columns": _COLUMNS},
    "ratings_dat": {"pattern": "*.dat", "delimiter": "::", "columns": _COLUMNS},
    "ratings_csv": {"pattern": "*.csv", "rename": {"userId": "user_id", "movieId": "item_id"}},
    "inter": {"pattern": "*.inter"},
}
"""`PrepareConfig.formats` for the file names of GroupLens and RecBole."""

_URL = "https://files.grouplens.org/datasets/movielens"

RELEASES = {  # the checksums are those that GroupLens publishes beside the files
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
    "latest_small": {  # changes from time to time, so it has no checksum
        "url": f"{_URL}/ml-latest-small.zip",
        "checksum": "",
        "member": "ml-latest-small/ratings.csv",
    },
}
"""`PrepareConfig.download` for each release."""


def common(name: str, release: str) -> dict[str, Any]:
    """Returns the values of `PrepareConfig` that do not depend on the use of the ratings.

    Args:
      name: the data set's name, to which that of the release is added.
      release: one of `RELEASES`; "" for any of them, with the download of 100K.

    Raises:
      UserError: there is no such release.
    """
    if release and release not in RELEASES:
        tip = suggestion(release, RELEASES)
        raise UserError("--config", f"there is no MovieLens release {release!r}{tip}")
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
