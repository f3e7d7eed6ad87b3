"""The simple baselines beside a model of each kind, as the kind's own scores."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from siren_rope_jax.evaluation.baselines.popularity import MEANINGS, simple_rankings, time_of_day
from siren_rope_jax.evaluation.baselines.rates import MEANINGS as RATES
from siren_rope_jax.evaluation.baselines.rates import simple_baselines
from siren_rope_jax.evaluation.evaluated import Evaluated
from siren_rope_jax.training.kinds.ranking import Scored
from siren_rope_jax.training.rank_scorer import Ranked


def _rates(evaluated: Evaluated, config: Mapping[str, Any]) -> dict[str, Scored]:
    """The floors that a synthetic log carries, and the rates of the user and the item."""
    event, tasks = evaluated.events.event, evaluated.log.schema.tasks
    label = np.full((len(event), len(tasks)), np.nan)
    probabilities = {}
    frame = evaluated.log.baselines()
    if frame is not None:
        aligned = frame.set_index("event").reindex(event)
        names = dict.fromkeys(column.rpartition("/")[0] for column in aligned)
        absent = np.full(len(event), np.nan)
        for name in names:
            columns = [aligned.get(f"{name}/{task}", absent) for task in tasks]
            probabilities[name] = np.stack(columns, axis=-1)
    simple = simple_baselines(evaluated.log, evaluated.everything, tasks)
    probabilities |= {name: of_all[event] for name, of_all in simple.items()}
    return {name: Scored(event, p, label) for name, p in probabilities.items()}


def _popularity(evaluated: Evaluated, config: Mapping[str, Any]) -> dict[str, Ranked]:
    """What is popular, what is recent, and what the user had before."""
    everything, item = evaluated.everything, evaluated.item
    rankings = simple_rankings(
        everything.user,
        everything.rows[f"categorical/{item.name}"],
        everything.rows["time"],
        time_of_day(everything),
        evaluated.train_counts[: item.known],
        evaluated.events.event,
        config["filter_seen"],
    )
    return {name: Ranked(evaluated.events.event, *ranks) for name, ranks in rankings.items()}


class Family(NamedTuple):
    """Baselines that predict the same thing.

    Attributes:
      predict: (scored events, config of the run as JSON values) -> scores by baseline.
      meanings: what each of them does, for reports; those that come with a log may have none.
    """

    predict: Callable[[Evaluated, Mapping[str, Any]], Mapping[str, Any]]
    meanings: Mapping[str, str]


FAMILIES: Mapping[str, Family] = {
    "": Family(lambda evaluated, config: {}, {}),
    "rates": Family(_rates, RATES),
    "popularity": Family(_popularity, MEANINGS),
}
"""By the names that kinds of experiments use; "" has no baselines."""
