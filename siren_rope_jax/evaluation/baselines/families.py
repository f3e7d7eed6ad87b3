"""The simple baselines beside a model of each kind, as the kind's own scores."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from siren_rope_jax.data.assemble import tasks_of
from siren_rope_jax.data.schema import TRAIN
from siren_rope_jax.evaluation.baselines import popularity, rates
from siren_rope_jax.evaluation.evaluated import Evaluated
from siren_rope_jax.training.kinds.ranking import Scored
from siren_rope_jax.training.rank_scorer import Ranked


def _rates(evaluated: Evaluated, config: Mapping[str, Any]) -> dict[str, Scored]:
    """The floors that a synthetic log carries, and the rates of the user and the item."""
    event, schema = evaluated.events.event, evaluated.log.schema
    everything, items = evaluated.everything, evaluated.items(evaluated.everything)
    tasks, scores = tasks_of(schema), dict[str, Any]()
    if (frame := evaluated.log.baselines()) is not None:
        floors = frame.set_index("event").reindex(event).items()
        scores |= {name: column.to_numpy()[:, None] for name, column in floors}
    train = everything.rows["split"] == TRAIN
    for task in tasks:
        labels = schema.label(everything.rows, task.name)
        of_user = rates.user_rate(task, labels, everything.user, train)
        scores[f"user_rate/{task.name}"] = of_user[event]
        scores[f"item_rate/{task.name}"] = rates.item_rate(task, labels, items, train)[event]
    absent = {task.name: np.full((len(event), task.columns), np.nan) for task in tasks}
    return {
        name: Scored(
            event,
            np.hstack([scores.get(f"{name}/{task}", none) for task, none in absent.items()]),
            label=np.full((len(event), len(tasks)), np.nan),
        )
        for name in dict.fromkeys(column.rpartition("/")[0] for column in scores)
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


FLOORS = {
    "oracle": "the true probabilities, given the users' interests, which no history reveals",
    "ideal": "the best possible prediction from the user's earlier events and their times",
    "order_only": "the best possible prediction from the order of these events, without times",
    "time_blind": "the best possible prediction from these events without times or order",
}
"""What each floor of a synthetic log is; `prepare/synthetic.py` computes them."""


class Family(NamedTuple):
    """Baselines that predict the same thing, and what each of them does.

    Attributes:
      predict: from the scored events and the config of the run, as JSON values.
      meanings: of the simple rules, which every log has.
      floors: the meanings of those that a synthetic log carries.
      adaptive: rules that follow the log after the end of training.
    """

    predict: Callable[[Evaluated, Mapping[str, Any]], Mapping[str, Any]]
    meanings: Mapping[str, str]
    floors: Mapping[str, str] = {}
    adaptive: tuple[str, ...] = ()

    def explained(self, names: Iterable[str]) -> dict[str, str]:
        """The meanings of some baselines by name."""
        known = {**self.floors, **self.meanings}
        return {name: known[name] for name in names if name in known}


FAMILIES: Mapping[str, Family] = {
    "": Family(lambda evaluated, config: {}, {}),
    "rates": Family(_rates, rates.MEANINGS, FLOORS),
    "popularity": Family(_popularity, popularity.MEANINGS, adaptive=("recent",)),
}
"""By the names that kinds of experiments use; "" has no baselines."""
