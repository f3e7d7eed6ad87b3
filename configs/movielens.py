"""Ranking MovieLens ratings: like (rating >= 4) and love (rating = 5).

    siren-rope prepare --config=configs/data/movielens.py \
        --input=$SIREN_ROPE_DATA/movielens_100k/ml-100k.inter --output=runs/data/movielens
    siren-rope train --config=configs/movielens.py:siren_rope --workdir=runs/movielens

The part after the colon is a variant (`ranking_variant` in siren_rope_jax/rotation/variants.py).
Times are those of entering ratings, many of them within minutes, so this is a control: time should
help little. A run takes about two minutes on two cores; the test NE (like, love) of every variant
is about .83 / .80, measured before version 0.4, when weight decay also shrank the network of the
angles.
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
            "data": {"path": "runs/data/movielens", "length": 128, "stride": 16, "batch_size": 16},
            "model": {
                "width": 64,
                "heads": 2,
                "layers": 2,
                "embedding_width": 32,
                "head_widths": (128,),
                "dropout": 0.3,
                **ranking_variant(name),
            },
            "optimizer": {"learning_rate": 1e-3, "weight_decay": 0.1},
            "training": {"epochs": 30.0, "evaluations_per_epoch": 1, "patience": 5},
        },
    )
