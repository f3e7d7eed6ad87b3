"""Retrieving the next business of Yelp's reviews.

    siren-rope prepare --config=configs/data/yelp.py \
        --input=$SIREN_ROPE_DATA/yelp_5core/Yelp-A_item_org_rank.txt --output=runs/data/yelp
    siren-rope train --config=configs/yelp.py:siren_rope --workdir=runs/yelp

The part after the colon is a variant (`retrieval_variant` in siren_rope_jax/rotation/variants.py).
The loss is sampled, because there are 20,000 businesses; the log-Q correction makes it an estimate
of the NLL over all of them. One review in 27 is of a business that the user has reviewed before.
These are few but easy, so the model can name one again (`model.repeat`). A run takes about two
minutes on a core; the test NDCG@10 of every variant is about .03.
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
            "data": {"path": "runs/data/yelp", "length": 50, "stride": 5, "batch_size": 16},
            "model": {"dropout": 0.3, "repeat": True, **retrieval_variant(name)},
            "loss": {"kind": "sampled_softmax", "sampler": "in_batch"},
            "optimizer": {"learning_rate": 2e-3},
            "training": {"epochs": 6.0, "evaluations_per_epoch": 1, "patience": 3},
        },
    )
