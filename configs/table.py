"""Ranking on any prepared log: a small model that trains in minutes on a laptop.

    siren-rope prepare --config=configs/data/table.py --input=FILE \
        --output=runs/data/mine \
        --config.user=... --config.item=... --config.time=... --config.tasks='like=rating >= 4'
    siren-rope train --config=configs/table.py:siren_rope \
        --config.data.path=runs/data/mine --workdir=runs/mine

The part after the colon is a variant (`ranking_variant` in siren_rope_jax/rotation/variants.py).
For a large log raise model.width, model.layers, data.length and data.batch_size; for a small one
model.dropout (docs/own-log.md, "A small log or a large one").
configs/ablation/table.py compares the main variants (docs/ablate.md).
"""

from ml_collections import ConfigDict

from siren_rope_jax.base.config import complete
from siren_rope_jax.rotation.variants import ranking_variant
from siren_rope_jax.training.kinds.ranking import RankingExperiment


def get_config(name: str = "siren_rope") -> ConfigDict:
    """The experiment, with the model of the named variant."""
    return complete(
        RankingExperiment,
        {
            "variant": name,
            "data": {"path": "runs/data/mine", "length": 64, "stride": 8, "batch_size": 8},
            "model": {
                "width": 64,
                "heads": 2,
                "layers": 2,
                "embedding_width": 32,
                "head_widths": (128,),
                "dropout": 0.1,
                **ranking_variant(name),
            },
            "optimizer": {"learning_rate": 1e-3, "weight_decay": 0.01},
            "training": {"epochs": 10.0, "evaluations_per_epoch": 1, "patience": 3},
        },
    )
