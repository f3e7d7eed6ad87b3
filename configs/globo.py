"""Ranking Globo's news clicks by dwell: at least 60 s, at least 180 s.

    siren-rope prepare --config=configs/data/globo.py \
        --input=$SIREN_ROPE_DATA/globo_news/clicks_hour_000-384.csv.gz --output=runs/data/globo
    siren-rope train --config=configs/globo.py:siren_rope --workdir=runs/globo

The part after the colon is a variant (`ranking_variant` in siren_rope_jax/rotation/variants.py).
There is one epoch, because articles live for days; it takes about three minutes on two cores. The
test NE (dwell60, long_dwell) is about .806 / .915 for ordinal and .810 / .917 for siren_rope,
measured before version 0.4, when weight decay also shrank the network of the angles.
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
            "data": {"path": "runs/data/globo", "length": 64, "stride": 8, "batch_size": 64},
            "model": {
                "width": 64,
                "heads": 2,
                "layers": 2,
                "embedding_width": 16,
                "head_widths": (128,),
                "dropout": 0.1,
                **ranking_variant(name, category="referrer_type"),
            },
            "optimizer": {"learning_rate": 2e-3, "weight_decay": 0.01},
            "training": {"epochs": 1.0, "evaluations_per_epoch": 2, "patience": 3},
        },
    )
