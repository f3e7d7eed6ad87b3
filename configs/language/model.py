"""A small language model of a prepared corpus.

    siren-rope prepare --config=configs/data/stdlib.py --output=runs/data/stdlib
    siren-rope train --config=configs/language/model.py:layout_ladders --workdir=runs/language

The part after the colon is a variant (`language_variant` in siren_rope_jax/rotation/variants.py).
The model has 2.6 million parameters and a context of 256 tokens; what a token's signals are, such
as its column, is known when it is asked for, in every variant that uses any.
"""

from ml_collections import ConfigDict

from siren_rope_jax.base.config import complete
from siren_rope_jax.rotation.variants import language_variant
from siren_rope_jax.training.kinds.language_model import LanguageExperiment


def get_config(name: str = "layout_ladders") -> ConfigDict:
    """The experiment, with the model of the named variant."""
    return complete(
        LanguageExperiment,
        {
            "variant": name,
            "data": {"path": "runs/data/stdlib", "length": 256, "stride": 128, "batch_size": 16},
            "model": {
                "width": 160,
                "heads": 4,
                "layers": 6,
                "unknown_rate": 0.0,
                **language_variant(name),
            },
            "optimizer": {"learning_rate": 2e-3},
            "training": {"epochs": 1.0, "evaluations_per_epoch": 4},
        },
    )
