"""What the configs of MovieLens share: how to read the files of its releases, and their links."""

from typing import Any

from siren_rope_jax.base.errors import UserError, suggestion

_COLUMNS = ("user_id", "item_id", "rating", "timestamp")

FORMATS = {
    "u_data": {"pattern": "u*.data", "delimiter": "\t", "columns": _COLUMNS},
    "ratings_dat": {"pattern": "*.dat", "delimiter": "::", "columns": _COLUMNS},
    "ratings_csv": {"pattern": "*.csv", "rename": {"userId": "user_id", "movieId": "item_id"}},
    "inter": {"pattern": "*.inter"},
    "movies_dat": {
        "pattern": "movies.dat",
        "delimiter": "::",
        "columns": ("item_id", "title", "genres"),
    },
    "item": {"pattern": "*.item", "delimiter": "\t", "rename": {"class": "genres"}},
}
"""`PrepareConfig.formats` for the file names of GroupLens and RecBole."""

_CHECKSUMS = {  # as GroupLens publishes them beside the files
    "100k": "md5:0e33842e24a9c977be4e0107933c0723",
    "1m": "md5:c4d9eecfca2ab87c1945afe126590906",
    "20m": "md5:cd245b17a1ae2cc31bb14903e1204af3",
    "32m": "md5:d472be332d4daa821edc399621853b57",
    "latest_small": "",  # changes from time to time
}
_FILES = {"100k": "u.data", "1m": "ratings.dat"}


def _download(release: str) -> dict[str, str]:
    folder = f"ml-{release.replace('_', '-')}"
    return {
        "url": f"https://files.grouplens.org/datasets/movielens/{folder}.zip",
        "checksum": _CHECKSUMS[release],
        "member": f"{folder}/{_FILES.get(release, 'ratings.csv')}",
    }


RELEASES = {release: _download(release) for release in _CHECKSUMS}
"""`PrepareConfig.download` for each release."""


_GENRES = "regexp_split_to_array(nullif(genres, '(no genres listed)'), '[| ]')"
FEATURES = {"genres": _GENRES, "genre": f"list_extract({_GENRES}, 1)"}
"""Categorical features of films, by what is wanted: all genres of one, or the first."""


def common(name: str, wanted: str) -> dict[str, Any]:
    """Returns the values of `PrepareConfig` that do not depend on the use of the ratings.

    Args:
      name: of the data set, without its release.
      wanted: a release, one of `RELEASES`, which is added to the name; without one, files may be of
        any, and the download is 100K. Or one of `FEATURES`, which films then have, from a file of
        items. Or both, with a comma in between.

    Raises:
      UserError: there is no such release.
    """
    words = [word for word in wanted.split(",") if word]
    releases = [word for word in words if word not in FEATURES]
    release = releases[0] if releases else ""
    if len(releases) > 1 or (release and release not in RELEASES):
        tip = suggestion(releases[-1], [*RELEASES, *FEATURES])
        raise UserError("--config", f"there is no MovieLens release {releases[-1]!r}{tip}")
    return {
        "name": "_".join([name, *words]),
        "categorical": {word: FEATURES[word] for word in words if word in FEATURES},
        "user": "user_id",
        "item": "item_id",
        "time": "timestamp",
        "time_unit": "s",
        "formats": FORMATS,
        "download": RELEASES[release or "100k"],
        "source": "MovieLens, F. M. Harper and J. A. Konstan, doi:10.1145/2827872; GroupLens",
        "license": "research use; redistribution needs GroupLens' permission",
    }
