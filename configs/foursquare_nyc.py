"""Retrieving the next venue of Foursquare's check-ins in New York.

    siren-rope prepare --config=configs/data/foursquare_nyc.py \
        --input=$SIREN_ROPE_DATA/foursquare_nyc/NYC.npy --output=runs/data/foursquare_nyc
    siren-rope train --config=configs/foursquare_nyc.py:siren_rope \
        --workdir=runs/foursquare_nyc

The part after the colon is a variant (`retrieval_variant` in siren_rope_jax/rotation/variants.py).
Four of five check-ins are at a venue where the user has been before, so the model can name one
again (`model.repeat`). A run takes about a minute and a half on two cores; the test NDCG@10 of
siren_rope is about .515, that of ordinal .449.
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
                "path": "runs/data/foursquare_nyc",
                "length": 100,
                "stride": 10,
                "batch_size": 8,
            },
            "model": {
                "width": 64,
                "heads": 2,
                "layers": 2,
                "dropout": 0.3,
                "repeat": True,
                **retrieval_variant(name),
            },
            "optimizer": {"learning_rate": 2e-3},
            "training": {"epochs": 6.0, "evaluations_per_epoch": 1, "patience": 3},
        },
    )
