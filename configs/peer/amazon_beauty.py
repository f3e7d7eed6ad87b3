"""RecTools' SASRec and ours on Amazon's reviews of beauty products, with a leave-one-out split.

    siren-rope prepare --config=configs/data/amazon_beauty.py \
        --config.split.kind=leave_one_out \
        --input=$SIREN_ROPE_DATA/amazon_beauty_5core/Beauty_item_org_rank.txt \
        --output=runs/data/amazon_beauty_loo
    siren-rope train --config=configs/amazon_beauty.py:learned_positions \
        --config.data.path=runs/data/amazon_beauty_loo --workdir=runs/amazon_beauty_loo
    siren-rope compare-peer --config=configs/peer/amazon_beauty.py \
        --python=peer/bin/python --workdir=runs/amazon_beauty_peer --ours=runs/amazon_beauty_loo

peer/ is a virtual environment with RecTools: see siren-rope compare-peer --help. To train ours with
the peer's loss, add --config.loss.kind=sampled_softmax --config.loss.negatives=64
--config.loss.log_q=False and choose another --workdir. The peer's full softmax, which holds the
scores of all items at once, takes minutes per epoch on two cores and was not trained to the end.
"""

from ml_collections import ConfigDict

from siren_rope_jax.base.config import complete
from siren_rope_jax.studies.peer import PeerConfig


def get_config() -> ConfigDict:
    """The peer and its log."""
    return complete(
        PeerConfig,
        {
            "log": "runs/data/amazon_beauty_loo",
            "model": {
                "n_blocks": 1,
                "n_heads": 1,
                "n_factors": 64,
                "dropout_rate": 0.5,
                "session_max_len": 50,
                "loss": "sampled_softmax",
                "n_negatives": 64,
                "batch_size": 64,
            },
            "epochs": 60,
            "patience": 6,
        },
    )
