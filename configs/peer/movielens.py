"""RecTools' SASRec on MovieLens-100K, leaving one out."""

from ml_collections import ConfigDict

from siren_rope_jax.comparison.peer import PeerConfig
from siren_rope_jax.config import complete


def get_config() -> ConfigDict:
    """The peer, and its log."""
    return complete(
        PeerConfig,
        {
            "log": "runs/data/movielens_loo",
            "model": {
                "n_blocks": 2,
                "n_heads": 1,
                "n_factors": 64,
                "dropout_rate": 0.1,
                "session_max_len": 200,
            },
        },
    )
