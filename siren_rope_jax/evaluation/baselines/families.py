"""The simple baselines beside a model of each kind, as the kind's own scores."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from siren_rope_jax.data.schema import TRAIN
from siren_rope_jax.evaluation.baselines import popularity, rates
from siren_rope_jax.evaluation.evaluated import Evaluated
from siren_rope_jax.training.kinds.ranking import Scored
from siren_rope_jax.training.rank_scorer import Ranked


def _rates(evaluated: Evaluated, config: Mapping[str, Any]) -> dict[str, Scored]:
    """The floors that a synthetic log carries, and the rates of the user and the item."""
    event, tasks = evaluated.events.event, evaluated.log.schema.tasks
    everything, items = evaluated.everything, evaluated.items(evaluated.everything)
    columns: dict[str, Any] = {}
    if (frame := evaluated.log.baselines()) is not None:
        columns |= frame.set_index("event").reindex(event).items()
    train = everything.rows["split"] == TRAIN
    for task in tasks:
        labels = everything.rows[f"task/{task}"]
        columns[f"user_rate/{task}"] = rates.user_rate(labels, everything.user, train)[event]
        columns[f"item_rate/{task}"] = rates.item_rate(labels, items, train)[event]
    absent = np.full(len(event), np.nan)
    return {
        name: Scored(
            event,
            np.stack([columns.get(f"{name}/{task}", absent) for task in tasks], axis=-1),
            label=np.full((len(event), len(tasks)), np.nan),
        )
        for name in dict.fromkeys(column.rpartition("/")[0] for column in columns)
    }


def _popularity(evaluated: Evaluated, config: Mapping[str, Any]) -> dict[str, Ranked]:
    """What is popular, what is recent, and what the user had before."""
    everything = evaluated.everything
    return popularity.simple_rankings(
        everything.user,
        evaluated.items(everything),
        everything.rows["time"],
        popularity.time_of_day(everything),
        evaluated.train_counts[: evaluated.item.known],
        evaluated.events.event,
        config["filter_seen"],
    )


class Family(NamedTuple):
    """Baselines that predict the same thing, and for reports what each of them does.

    `predict` has the scored events and the config of the run, as JSON values.
    """

    predict: Callable[[Evaluated, Mapping[str, Any]], Mapping[str, Any]]
    meanings: Mapping[str, str]


FAMILIES: Mapping[str, Family] = {
    "": Family(lambda evaluated, config: {}, {}),
    "rates": Family(_rates, rates.MEANINGS),
    "popularity": Family(_popularity, popularity.MEANINGS),
}
"""By the names that kinds of experiments use; "" has no baselines."""
