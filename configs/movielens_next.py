"""Retrieving the next film of MovieLens-100K's ratings.

    siren-rope prepare --config=configs/data/movielens_next.py \
        --input=$SIREN_ROPE_DATA/movielens_100k/ml-100k.inter --output=runs/data/movielens_next
    siren-rope train --config=configs/movielens_next.py:siren_rope \
        --workdir=runs/movielens_next

The part after the colon is a variant (`retrieval_variant` in siren_rope_jax/rotation/variants.py).
Nobody rates a film twice, so films that the user has rated are not candidates. A run takes about
two minutes on a core; the test NDCG@10 of siren_rope is about .103, that of ordinal .098.

configs/peer/movielens_next.py compares this model with another library's SASRec, under
leave-one-out.
"""

from ml_collections import ConfigDict

from siren_rope_jax.base.config import complete
from siren_rope_jax.rotation.variants import retrieval_variant
from siren_rope_jax.training.kinds.retrieval import RetrievalExperiment


def get_config(name: str = "siren_rope") -> ConfigDict:
    """The experiment, with the model of the named variant."""
    return complete(
        RetrievalExperiment,
        {
            "variant": name,
            "data": {
                "path": "runs/data/movielens_next",
                "length": 200,
                "stride": 20,
                "batch_size": 8,
            },
            "model": {"dropout": 0.2, **retrieval_variant(name)},
            "optimizer": {"learning_rate": 2e-3},
            "training": {"epochs": 20.0, "patience": 4},
            "filter_seen": True,
            "criterion": "ndcg@10",
        },
    )
