"""HSTU (arXiv 2402.17152) on any prepared log: its block, its biases and its loss.

    python experiments/train.py --config=configs/hstu.py \
        --config.data.path=runs/data/mine --workdir=runs/hstu

Its biases for order and time stand beside learned positions and no rotation; its loss is a sampled
softmax of cosines over a temperature of 0.05, with 128 uniform negatives. The part after the colon,
such as `:siren_rope`, puts another variant in the place of its biases and positions. Sizes,
optimiser and length of training are this package's, for minutes rather than hours; so are layer
norms with parameters, and dropout after a block's last projection instead of before.

Items that the user has had are no candidates (`filter_seen`), which fits ratings and reviews. In a
log whose items come again, such as check-ins, every repeat would count as a miss: there add
--config.filter_seen=False.
"""

from ml_collections import ConfigDict

from siren_rope_jax.base.config import complete
from siren_rope_jax.rotation.variants import retrieval_variant
from siren_rope_jax.training.kinds.retrieval import RetrievalExperiment


def get_config(name: str = "hstu_bias_only") -> ConfigDict:
    """The experiment, with the encoding of the named variant."""
    return complete(
        RetrievalExperiment,
        {
            "variant": name,
            "data": {"path": "runs/data/mine", "length": 200, "stride": 20, "batch_size": 32},
            "model": {
                "block": "hstu",
                "normalize": True,
                "temperature": 0.05,
                "learned_positions": name == "hstu_bias_only",
                "dropout": 0.2,
                **retrieval_variant(name),
            },
            "loss": {"kind": "sampled_softmax", "negatives": 128, "log_q": False},
            "filter_seen": True,
            "criterion": "ndcg@10",
            "optimizer": {"learning_rate": 1e-3},
            "training": {"epochs": 20.0, "evaluations_per_epoch": 1, "patience": 3},
        },
    )
