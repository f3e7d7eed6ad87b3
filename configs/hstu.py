"""HSTU (arXiv 2402.17152) on any prepared log: its block, its biases and its loss.

    siren-rope train --config=configs/hstu.py \
        --config.data.path=runs/data/mine --workdir=runs/hstu

As in HSTU, there are biases for order and time and learned positions, but no rotation; the loss is
a sampled softmax of cosines over a temperature of 0.05, with 128 uniform negatives. A variant after
a colon, such as configs/hstu.py:siren_rope, replaces these biases and positions. Unlike in HSTU,
sizes, optimiser and length of training are chosen for minutes rather than hours, layer norms have
parameters, and dropout comes after a block's last projection instead of before it.

Items that the user has had are not candidates (`filter_seen`), which fits ratings and reviews. In a
log with repeated items, such as check-ins, every repeat would count as a miss, so add
--config.filter_seen=False for it.
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
