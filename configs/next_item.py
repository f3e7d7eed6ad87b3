"""Retrieving the next item of any prepared log: a small model that trains in minutes on a laptop.

    siren-rope prepare --config=configs/data/table.py --input=FILE \
        --output=runs/data/mine --config.min_count=1 \
        --config.user=... --config.item=... --config.time=...
    siren-rope train --config=configs/next_item.py:siren_rope \
        --config.data.path=runs/data/mine --workdir=runs/mine_next

The part after the colon is a variant (`retrieval_variant` in siren_rope_jax/rotation/variants.py).
Keep model.repeat if users come back to items (check-ins, music, shops); if they do not (films,
news), set it to False and filter_seen to True. With more than about 10,000 items
loss.kind=sampled_softmax is faster. For a large log raise model.width, model.layers, data.length
and data.batch_size. For a small one raise model.dropout; `siren-rope train` also prints the metrics
of simple rules, such as what the user had most often, which few thousand events rarely beat.
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
            "data": {"path": "runs/data/mine", "length": 100, "stride": 10, "batch_size": 8},
            "model": {"dropout": 0.2, "repeat": True, **retrieval_variant(name)},
            "optimizer": {"learning_rate": 1e-3},
            "training": {"epochs": 10.0, "evaluations_per_epoch": 1, "patience": 3},
        },
    )
