"""RecTools' SASRec and ours on MovieLens-100K, with a leave-one-out split.

    siren-rope prepare --config=configs/data/movielens_next.py \
        --config.split.kind=leave_one_out \
        --input=$SIREN_ROPE_DATA/movielens_100k/ml-100k.inter --output=runs/data/movielens_loo
    siren-rope train --config=configs/movielens_next.py:learned_positions \
        --config.data.path=runs/data/movielens_loo --workdir=runs/movielens_loo
    siren-rope compare-peer --config=configs/peer/movielens_next.py \
        --python=peer/bin/python --workdir=runs/movielens_peer --ours=runs/movielens_loo

peer/ is a virtual environment with RecTools: see siren-rope compare-peer --help. The peer's
settings had the best validation NDCG@10 among dropout 0.1 and 0.3, width 64 and 128, and one and
two heads, when trained on the last 201 films of every user.
"""

from ml_collections import ConfigDict

from siren_rope_jax.base.config import complete
from siren_rope_jax.studies.peer import PeerConfig


def get_config() -> ConfigDict:
    """The peer and its log."""
    return complete(
        PeerConfig,
        {
            "log": "runs/data/movielens_loo",
            "model": {
                "n_blocks": 2,
                "n_heads": 1,
                "n_factors": 64,
                "dropout_rate": 0.3,
                "session_max_len": 200,
                "batch_size": 16,
            },
            "epochs": 40,
            "patience": 8,
        },
    )
