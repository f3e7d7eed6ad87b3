"""A small language model of a prepared corpus.

    siren-rope prepare --config=configs/data/stdlib.py --output=runs/data/stdlib
    siren-rope train --config=configs/language/model.py:layout_ladders --workdir=runs/language

The part after the colon is a variant (`language_variant` in siren_rope_jax/rotation/variants.py);
with ",changelogs" after it, one for the corpus of configs/data/changelogs.py, which has no brackets
to count. The model has 2.2 to 2.4 million parameters and a context of 256 tokens. What turns a
token, such as its column, is known when it is asked for, in every variant.
"""

from ml_collections import ConfigDict

from siren_rope_jax.base.config import complete
from siren_rope_jax.base.errors import UserError, suggestion
from siren_rope_jax.rotation.variants import LAYOUT, language_variant
from siren_rope_jax.training.kinds.language_model import LanguageExperiment

CORPORA = {"stdlib": LAYOUT, "changelogs": tuple(c for c in LAYOUT if c != "depth")}


def get_config(wanted: str = "layout_ladders") -> ConfigDict:
    """The experiment, with the model of the named variant, and perhaps a corpus after a comma."""
    name, _, corpus = wanted.partition(",")
    corpus = corpus or "stdlib"
    if corpus not in CORPORA:
        raise UserError("--config", f"{corpus!r} is no corpus{suggestion(corpus, CORPORA)}")
    return complete(
        LanguageExperiment,
        {
            "variant": name,
            "data": {"path": f"runs/data/{corpus}", "length": 256, "stride": 128, "batch_size": 16},
            "model": {
                "width": 160,
                "heads": 4,
                "layers": 6,
                "unknown_rate": 0.0,
                **language_variant(name, CORPORA[corpus]),
            },
            "optimizer": {"learning_rate": 2e-3},
            "training": {"epochs": 1.0, "evaluations_per_epoch": 4},
        },
    )
