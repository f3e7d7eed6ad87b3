"""MovieLens ratings as a sequence of films, for retrieval: which one is rated next?

    python experiments/prepare.py --config=configs/data/movielens_next.py \
        --input=ml-100k/u.data --output=runs/data/movielens_next

The files, releases and --download are those of configs/data/movielens.py, such as
--config=configs/data/movielens_next.py:1m; a hundred thousand ratings take seconds, 20 million
some minutes. Published tables leave one out: --config.split.kind=leave_one_out.

There are no tasks: that a film was rated is all that counts, whatever the rating, and every film
that train has seen can be found. A rating's time is when it was entered, not when the film was
seen, and many are entered in one go: about half of them share their second with the user's last
one. Those keep the file's order, which in some releases is that of the films' ids.
"""

from ml_collections import ConfigDict

from siren_rope_jax.prepare import movielens
from siren_rope_jax.prepare.config import config_dict


def get_config(release: str = "") -> ConfigDict:
    """Returns the config of `experiments/prepare.py`, for one of `movielens.RELEASES`."""
    return config_dict(**movielens.common("movielens_next", release), min_count=1)
