"""The main encodings on four more logs: which item is next at a given time?

    SIREN_ROPE_DATA=FOLDER siren-rope ablate \
        --config=configs/ablation/retrieval.py:yelp --workdir=runs/retrieval

The part after the colon is one of the data sets below; without it, all four are used. Runs that
the work directory already holds are not repeated. FOLDER holds yelp_5core/, globo_news/,
amazon_beauty_5core/ and movielens_100k/.

Beauty and MovieLens are controls, in which the time should tell little: Beauty's times are whole
days, and MovieLens' are those of entering many ratings in a row.
"""

from typing import Any

from ml_collections import ConfigDict

from siren_rope_jax.base.errors import UserError, suggestion

VARIANTS = (
    "ordinal",
    "time_in_embedding",
    "time_in_embedding_cyclic",
    "to_rope",
    "to_rope_split_dim",
    "to_rope_day_week",
    "hstu_bias",
    "siren_only",
    "dnn_only",
    "siren_rope",
    "siren_rope_split_dim",
    "siren_rope_day_week",
    "siren_rope_cyclic",
    "siren_rope_event",
    "siren_rope_hstu_bias",
    "siren_rope_time_in_embedding",
)
LINES = (
    "ordinal",
    "time_in_embedding",
    "to_rope_split_dim",
    "hstu_bias",
    "siren_rope",
    "siren_rope_day_week",
    "siren_rope_event",
    "siren_rope_hstu_bias",
)
DATASETS: dict[str, dict[str, Any]] = {
    "yelp": {"input": "yelp_5core/Yelp-A_item_org_rank.txt"},
    "globo_next": {"input": "globo_news/clicks_hour_000-384.csv.gz"},
    # To save time over 48 runs, training is shorter than in the config, which costs a little.
    "amazon_beauty": {
        "input": "amazon_beauty_5core/Beauty_item_org_rank.txt",
        "overrides": {"training.epochs": 12.0, "optimizer.learning_rate": 2e-3},
    },
    "movielens_next": {"input": "movielens_100k/ml-100k.inter"},
}


def get_config(dataset: str = "") -> ConfigDict:
    """The variants, seeds and data sets: one of `DATASETS`, or all."""
    if dataset and dataset not in DATASETS:
        known = suggestion(dataset, DATASETS)
        raise UserError("--config", f"{dataset!r} is not a data set{known}")
    chosen = {dataset: DATASETS[dataset]} if dataset else DATASETS
    return ConfigDict(
        {
            "name": "Encodings for retrieval: the next item at the request's time",
            "variants": tuple({"name": name} for name in VARIANTS),
            "datasets": tuple(
                {
                    "name": name,
                    "base": f"configs/{name}.py",
                    "config": f"configs/data/{name}.py",
                    **own,
                }
                for name, own in chosen.items()
            ),
            "seeds": (0, 1, 2),
            "baseline": "ordinal",
            "champion": "siren_rope",
            "lines": LINES,
            "jobs": 4,
        }
    )
