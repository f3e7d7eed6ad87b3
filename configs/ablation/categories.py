"""Does a category belong in the rotation, alone or with time? On one log, with what it knows.

    SIREN_ROPE_DATA=FOLDER siren-rope ablate \
        --config=configs/ablation/categories.py:movielens_next --workdir=runs/categories

The part after the colon is one of the `LOGS` below: films by their first genre, news clicks by how
the reader came to the page, the built-in feed by the topic of its items. The category is a feature
of the events in all variants, so that the rotation is all that differs. Takes a quarter of an hour
on two cores on the feed and on films.
"""

from typing import Any

from ml_collections import ConfigDict

from siren_rope_jax.base.errors import UserError, suggestion

# The category, and the data set.
LOGS: dict[str, tuple[str, dict[str, str]]] = {
    "movielens_next": (
        "genre",
        {
            "base": "configs/movielens_next.py",
            "config": "configs/data/movielens_next.py:genre",
            "input": "movielens_100k/ml-100k.inter",
            "items": "movielens_100k/ml-100k.item",
        },
    ),
    "globo": (
        "referrer_type",
        {
            "base": "configs/globo.py",
            "config": "configs/data/globo.py",
            "input": "globo_news/clicks_hour_000-384.csv.gz",
        },
    ),
    "synthetic": (
        "topic",
        {"base": "configs/synthetic.py", "config": "configs/data/synthetic.py"},
    ),
}
# Variants, and where each has its category.
VARIANTS = {
    "ordinal": (),
    "semantic": ("category.embedding",),
    "siren_rope": (),
    "siren_rope_category": ("time.network",),
    "siren_rope_category_gate": ("time.gate",),
    "siren_rope_semantic": ("category.embedding",),
}


def get_config(log: str = "movielens_next") -> ConfigDict:
    """The variants on one of `LOGS`, with three seeds."""
    if log not in LOGS:
        raise UserError("--config", f"{log!r} is not a log{suggestion(log, LOGS)}")
    category, dataset = LOGS[log]

    def overrides(places: tuple[str, ...]) -> dict[str, Any]:
        return {f"model.encoding.{place}.category": category for place in places}

    return ConfigDict(
        {
            "name": f"Categories in the rotation: {category} on {log}",
            "variants": tuple(
                {"name": name, "overrides": overrides(places)} for name, places in VARIANTS.items()
            ),
            "datasets": ({"name": log, **dataset},),
            "seeds": (0, 1, 2),
            "baseline": "ordinal",
            "champion": "siren_rope",
            "jobs": 2,
        }
    )
