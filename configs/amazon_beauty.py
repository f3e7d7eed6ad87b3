"""Retrieving the next product of Amazon's reviews of beauty products.

    siren-rope prepare --config=configs/data/amazon_beauty.py \
        --input=$SIREN_ROPE_DATA/amazon_beauty_5core/Beauty_item_org_rank.txt \
        --output=runs/data/amazon_beauty
    siren-rope train --config=configs/amazon_beauty.py:siren_rope \
        --workdir=runs/amazon_beauty

The part after the colon is a variant (`retrieval_variant` in siren_rope_jax/rotation/variants.py).
Nobody reviews a product twice, so products that the user has reviewed are not candidates. Users
have nine reviews on average, so one layer is enough, with a dropout of one half. With
configs/ablation/retrieval.py, which trains for 12 epochs at twice this learning rate, a run takes
four to five minutes on a core, and the test NDCG@10 of every variant is from .018 to .019.

configs/peer/amazon_beauty.py compares this model with another library's SASRec under leave-one-out;
there learned_positions has .050.
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
                "path": "runs/data/amazon_beauty",
                "length": 50,
                "stride": 5,
                "batch_size": 8,
            },
            "model": {"layers": 1, "heads": 1, "dropout": 0.5, **retrieval_variant(name)},
            "training": {"epochs": 25.0, "patience": 4},
            "filter_seen": True,
            "criterion": "ndcg@10",
        },
    )
