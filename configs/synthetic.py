"""Ranking on the built-in feed.

    siren-rope prepare --config=configs/data/synthetic.py --output=runs/data/synthetic
    siren-rope train --config=configs/synthetic.py:siren_rope --workdir=runs/siren_rope

The part after the colon is a variant (`ranking_variant` in siren_rope_jax/rotation/variants.py). A
run takes one to two minutes on a core; the test NE (contribution, like, long_dwell) is about .77 /
.76 / .80 for siren_rope and .92 / .91 / .94 for ordinal.
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
            "seed": 0,
            "data": {
                "path": "runs/data/synthetic",
                "length": 50,
                "stride": 5,
                "batch_size": 64,
            },
            "model": {
                "width": 64,
                "heads": 2,
                "layers": 2,
                "embedding_width": 16,
                "head_widths": (128,),
                **ranking_variant(name, category="topic"),
            },
            "optimizer": {"learning_rate": 1.5e-3},
            "training": {"epochs": 3.0, "evaluations_per_epoch": 1},
        },
    )
