"""Ranking KuaiRand's short videos: clicks, likes, follows, long views and contributions.

    siren-rope prepare --config=configs/data/kuairand.py \
        --input='KuaiRand-Pure/data/log_standard_*.csv' --output=runs/data/kuairand
    siren-rope train --config=configs/kuairand.py:siren_rope --workdir=runs/kuairand

The part after the colon is a variant (`ranking_variant` in siren_rope_jax/rotation/variants.py).
With `--config.categorical.tab=0`, `prepare` puts one value in place of the tab (where in the app a
video was shown), which hides it from models. Nobody has tuned these values on the whole log yet.
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
            "data": {"path": "runs/data/kuairand", "length": 128, "stride": 16, "batch_size": 64},
            "model": {
                "width": 64,
                "heads": 2,
                "layers": 2,
                "embedding_width": 32,
                "head_widths": (128,),
                "dropout": 0.2,
                **ranking_variant(name),
            },
            "optimizer": {"learning_rate": 1e-3, "weight_decay": 0.01},
            "training": {"epochs": 5.0, "evaluations_per_epoch": 2, "patience": 4},
        },
    )
