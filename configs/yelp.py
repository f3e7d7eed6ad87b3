"""Retrieving the next business of Yelp's reviews.

    python experiments/prepare.py --config=configs/data/yelp.py \
        --input=$SIREN_ROPE_DATA/yelp_5core/Yelp-A_item_org_rank.txt --output=runs/data/yelp
    python experiments/train.py --config=configs/yelp.py:siren_rope --workdir=runs/yelp

The part after the colon is a variant (`retrieval_variant` in siren_rope_jax/variants.py). The loss
is sampled, for 20,000 businesses; their log-Q correction keeps the NLL one over all of them.
"""

from ml_collections import ConfigDict

from siren_rope_jax.config import complete
from siren_rope_jax.experiment import RetrievalExperiment
from siren_rope_jax.variants import retrieval_variant


def get_config(name: str = "siren_rope") -> ConfigDict:
    """The experiment, with the model of the named variant."""
    return complete(
        RetrievalExperiment,
        {
            "variant": name,
            "data": {"path": "runs/data/yelp", "length": 50, "stride": 25, "batch_size": 16},
            "model": {"dropout": 0.3, **retrieval_variant(name)},
            "loss": {"kind": "sampled_softmax", "sampler": "in_batch"},
            "optimizer": {"learning_rate": 2e-3},
            "training": {"epochs": 6.0, "evaluations_per_epoch": 1, "patience": 3},
        },
    )
