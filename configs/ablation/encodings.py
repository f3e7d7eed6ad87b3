"""Every encoding at its best, on one log: the comparison after a sweep.

    SIREN_ROPE_DATA=FOLDER siren-rope ablate \
        --config=configs/ablation/encodings.py:foursquare_nyc --workdir=runs/encodings/ablation \
        --chosen=runs/encodings/sweep/best.json

The part after the colon is one of the `LOGS` below. configs/sweep/encodings.py says how the sweep
is started that chooses the settings of each variant on validation; the check-ins without repeat
have those of the check-ins.

Globo's news are four evenings in Sao Paulo, 18:00 to midnight, each after a training that ends at
15:00 and a validation in between; the sweep is over the first one. A few hundred articles get all
that can be ranked well there, so it is articles that chance has drawn more than users: intervals
resample them (`unit`), or hours with --config.unit=hour.
"""

from typing import Any

from ml_collections import ConfigDict

from siren_rope_jax.base.errors import UserError, suggestion

NYC = "foursquare_nyc/NYC.npy"
EVENINGS = (2, 3, 4, 5)  # of October 2017, Monday to Thursday
# The data sets of each log: raw files, and what differs from the log's own experiment.
LOGS: dict[str, tuple[dict[str, Any], ...]] = {
    "foursquare_nyc": ({"input": NYC},),
    # By a model that cannot repeat a venue of the history by its place; learns for longer.
    "foursquare_nyc_without_repeat": (
        {
            "base": "configs/foursquare_nyc.py",
            "config": "configs/data/foursquare_nyc.py",
            "input": NYC,
            "overrides": {"model.repeat": False, "training.epochs": 20.0},
            "tuned_on": "foursquare_nyc",
        },
    ),
    "globo_next": tuple(
        {
            "name": f"october_{day}",
            "input": "globo_news/clicks_hour_000-384.csv.gz",
            "prepare": {
                "split.train_end": f"2017-10-0{day}T15:00-03:00",
                "split.validation_end": f"2017-10-0{day}T18:00-03:00",
                "split.test_end": f"2017-10-0{day + 1}T00:00-03:00",
            },
        }
        for day in EVENINGS
    ),
    "yelp": ({"input": "yelp_5core/Yelp-A_item_org_rank.txt"},),
    "movielens_next": ({"input": "movielens_100k/ml-100k.inter"},),
    "amazon_beauty": (
        {
            "input": "amazon_beauty_5core/Beauty_item_org_rank.txt",
            "overrides": {"training.epochs": 12.0, "optimizer.learning_rate": 2e-3},
        },
    ),
    "synthetic": ({},),
}

VARIANTS = (
    "ordinal",
    "to_rope_split_dim",
    "to_rope_split_dim_hstu_bias",
    "rote",
    "hstu_bias",
    "relation_bias",
    "time_in_embedding_network_hstu_bias",
    "trend_hstu_bias",
    "siren_rope",
    "siren_rope_hstu_bias",
    "clock_and_lag_hstu_bias",
    "clock_lag_trend",
    "learned_clock",
    "learned_clock_hstu_bias",
)


def get_config(log: str = "foursquare_nyc") -> ConfigDict:
    """The variants on one of `LOGS`."""
    if log not in LOGS:
        raise UserError("--config", f"{log!r} is not a log{suggestion(log, LOGS)}")
    common = {"name": log, "base": f"configs/{log}.py", "config": f"configs/data/{log}.py"}
    datasets = tuple(common | own for own in LOGS[log])
    several = len(datasets) > 1
    return ConfigDict(
        {
            "name": f"Encodings on {log}, each with the settings that are best on validation",
            "variants": tuple({"name": name} for name in VARIANTS),
            "datasets": tuple({"tuned_on": datasets[0]["name"]} | one for one in datasets),
            "seeds": (0, 1, 2) if several else (0, 1, 2, 3, 4),
            "baseline": "ordinal",
            "champion": "clock_lag_trend",
            "unit": "item" if log == "globo_next" else "user",
            "together": several,
            "jobs": 2,
        }
    )
