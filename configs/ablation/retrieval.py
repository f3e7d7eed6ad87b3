"""The main encodings on four more logs: which item is next, at the request's time?

    SIREN_ROPE_DATA=FOLDER python experiments/ablate.py \
        --config=configs/ablation/retrieval.py:yelp --workdir=runs/retrieval

The part after the colon is one of the data sets below, or nothing for all four; in one work
directory, runs that are there are not run again. FOLDER holds yelp_5core/, globo_news/,
amazon_beauty_5core/ and movielens_100k/.

Beauty's times are whole days, and MovieLens' are those of entering ratings one after the other:
controls, where the request's time should tell little.
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
    # A shorter and faster training than the config's, which is worth a little: 48 runs are many.
    "amazon_beauty": {
        "input": "amazon_beauty_5core/Beauty_item_org_rank.txt",
        "overrides": {"training.epochs": 12.0, "optimizer.learning_rate": 2e-3},
    },
    "movielens_next": {"input": "movielens_100k/ml-100k.inter"},
}


def get_config(dataset: str = "") -> ConfigDict:
    """The variants, the seeds and the data: one of `DATASETS`, or all."""
    if dataset and dataset not in DATASETS:
        raise UserError(f"data set {dataset!r} is unknown{suggestion(dataset, DATASETS)}")
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
