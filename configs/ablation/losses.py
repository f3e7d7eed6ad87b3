"""Losses for next-item retrieval on MovieLens-100K: how close do they come to the full softmax?

    SIREN_ROPE_DATA=FOLDER siren-rope ablate \
        --config=configs/ablation/losses.py --workdir=runs/losses

FOLDER holds movielens_100k/. The model is ordinal RoPE with the settings of
configs/movielens_next.py, which were chosen for the full softmax, trained for 20 epochs, or 100 if
the name says so. `hstu` is the recipe of configs/hstu.py, including its block and biases. Takes
about an hour on four cores.
"""

from typing import Any

from ml_collections import ConfigDict

_SAMPLED = {"loss.kind": "sampled_softmax"}
_IN_BATCH = {**_SAMPLED, "loss.sampler": "in_batch"}
_UNCORRECTED = {"loss.log_q": False}
_COSINES = {"model.normalize": True, "model.temperature": 0.05}
_LONG = {"training.epochs": 100.0, "training.patience": 100}
LOSSES: dict[str, dict[str, Any]] = {
    "full_softmax": {},
    "sampled_softmax": _SAMPLED,
    "sampled_softmax_uncorrected": {**_SAMPLED, **_UNCORRECTED},
    "in_batch": _IN_BATCH,
    "in_batch_uncorrected": {**_IN_BATCH, **_UNCORRECTED},
    "sampled_softmax_of_cosines": {**_SAMPLED, **_UNCORRECTED, **_COSINES},
    "bce": {"loss.kind": "bce"},
    "bce_1_negative": {"loss.kind": "bce", "loss.negatives": 1},
    "gbce": {"loss.kind": "gbce"},
    "gbce_16_negatives": {"loss.kind": "gbce", "loss.negatives": 16},
    "full_softmax_100_epochs": _LONG,
    "bce_100_epochs": {"loss.kind": "bce", **_LONG},
    "gbce_100_epochs": {"loss.kind": "gbce", **_LONG},
}
_HSTU = {
    **_SAMPLED,
    **_UNCORRECTED,
    **_COSINES,
    "model.block": "hstu",
    "model.learned_positions": True,
}


def get_config() -> ConfigDict:
    """The variants, data sets and seeds."""
    return ConfigDict(
        {
            "name": "Losses for retrieval, with 128 negatives unless stated otherwise",
            "variants": (
                *(
                    {"name": name, "argument": "ordinal", "overrides": overrides}
                    for name, overrides in LOSSES.items()
                ),
                {"name": "hstu", "argument": "hstu_bias_only", "overrides": _HSTU},
            ),
            "datasets": (
                {
                    "name": "movielens_next",
                    "base": "configs/movielens_next.py",
                    "config": "configs/data/movielens_next.py",
                    "input": "movielens_100k/ml-100k.inter",
                    "overrides": {"training.patience": 20},  # some losses start slowly
                },
            ),
            "seeds": (0, 1, 2),
            "baseline": "full_softmax",
            "jobs": 4,
        }
    )
