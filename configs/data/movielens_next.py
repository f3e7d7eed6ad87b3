"""MovieLens ratings as a sequence of films, for retrieval: which one is rated next?

    siren-rope prepare --config=configs/data/movielens_next.py \
        --input=ml-100k/u.data --output=runs/data/movielens_next

Files, releases and --download are those of configs/data/movielens.py, as in
--config=configs/data/movielens_next.py:1m. A hundred thousand ratings take seconds, 20 million some
minutes. Published results use leave-one-out: --config.split.kind=leave_one_out.

With --config=configs/data/movielens_next.py:genres and a file of films as --items, these have
genres, by which a model can know new ones (docs/fresh.md). With :genre they have the first one
alone.

There are no tasks: it only matters that a film was rated, not how. The catalogue is every film in
train. The time of a rating is when it was entered, not when the film was watched, and many are
entered together: about half of them have the same second as the user's previous one. These keep the
order of the file, which in some releases is that of the films' ids.
"""

from ml_collections import ConfigDict

from siren_rope_jax.prepare import movielens
from siren_rope_jax.prepare.config import config_dict


def get_config(wanted: str = "") -> ConfigDict:
    """Returns the config of `siren-rope prepare` for what is `wanted` of `movielens.common`."""
    return config_dict(**movielens.common("movielens_next", wanted), min_count=1)
