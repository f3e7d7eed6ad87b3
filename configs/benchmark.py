"""A ranker of the size at which frameworks are compared: 2 layers of width 128, 256 rows of 50.

    siren-rope benchmark --config=configs/benchmark.py

takes some minutes on two cores. The slices of a batch fit the caches of a CPU; on a GPU take
--config.training.slices=1.
"""

from ml_collections import ConfigDict

from siren_rope_jax.base.config import complete
from siren_rope_jax.rotation.variants import ranking_variant
from siren_rope_jax.training.kinds.ranking import RankingExperiment


def get_config() -> ConfigDict:
    """The experiment; its data are the built-in feed."""
    return complete(
        RankingExperiment,
        {
            "variant": "siren_rope",
            "data": {"path": "runs/data/synthetic", "length": 50, "batch_size": 256},
            "model": {
                "width": 128,
                "layers": 2,
                "embedding_width": 16,
                "head_widths": (128,),
                "unknown_rate": 0.0,  # as in the PyTorch twin
                **ranking_variant("siren_rope"),
            },
            "training": {"slices": 16},
        },
    )
