"""Retrieving the next article of Globo's news clicks.

    siren-rope prepare --config=configs/data/globo_next.py \
        --input=$SIREN_ROPE_DATA/globo_news/clicks_hour_000-384.csv.gz --output=runs/data/globo_next
    siren-rope train --config=configs/globo_next.py:siren_rope --workdir=runs/globo_next

The part after the colon is a variant (`retrieval_variant` in siren_rope_jax/rotation/variants.py).
The final click of a session is never a target, because its time is made up. A quarter of the test
clicks are on articles that do not occur in training, which no model of ids can find. A run takes
five to seven minutes on a core. The test NDCG@10 of siren_rope is about .025, of to_rope_split_dim
.028 and of ordinal .017; ranking by everybody's clicks of the last 24 hours, including those after
training, has .061.
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
                "path": "runs/data/globo_next",
                "length": 50,
                "stride": 5,
                "batch_size": 32,
                "target_task": "timed",
            },
            "model": {"dropout": 0.1, **retrieval_variant(name)},
            "loss": {"kind": "sampled_softmax", "sampler": "in_batch"},
            "optimizer": {"learning_rate": 2e-3},
            "training": {"epochs": 1.0},
        },
    )
