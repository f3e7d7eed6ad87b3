"""The events that a model was evaluated on, in order, beside all events of their log."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Int

from siren_rope_jax.data.log import Events, PreparedLog
from siren_rope_jax.data.schema import Categorical


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """Scored events of a log.

    Attributes:
      log: the prepared log.
      everything: all its events, in global order.
      events: the scored ones, in global order.
      scored: what the model says of them, in the same order: a named tuple of arrays by event.
    """

    log: PreparedLog
    everything: Events
    events: Events
    scored: Any

    @staticmethod
    def of(log: PreparedLog, scored: Any) -> "Evaluated":
        """Puts scores, which may come in any order, beside their events.

        Raises:
          ValueError: an event that occurs twice or is not in the log, or shapes that do not fit.
        """
        for name, column in scored._asdict().items():
            if len(column) != len(scored.event):
                raise ValueError(
                    f"{name} has shape {np.shape(column)}, but there are {len(scored.event)} events"
                )
        everything = log.events()
        order = np.argsort(scored.event, kind="stable")
        event = np.asarray(scored.event, np.int64)[order]
        if len(event) and (event[0] < 0 or event[-1] >= len(everything.event)):
            total = len(everything.event)
            raise ValueError(f"event ids {event[0]}..{event[-1]}, but the log has {total} events")
        if np.any(event[1:] == event[:-1]):
            raise ValueError("an event was scored twice")
        events = Events(everything.rows[event], event, everything.user[event])
        ordered = type(scored)(*(np.asarray(column)[order] for column in scored))
        return Evaluated(log, everything, events, ordered)

    def only(self, rows: Int[np.ndarray, " M"]) -> tuple[Events, Any]:
        """Some of the scored events, by position, and their scores."""
        events = self.events
        some = Events(events.rows[rows], events.event[rows], events.user[rows])
        return some, type(self.scored)(*(column[rows] for column in self.scored))

    @property
    def item(self) -> Categorical:
        """The feature that identifies the item."""
        return self.log.schema.categorical[0]

    def items(self, events: Events) -> Int[np.ndarray, " M"]:
        """The ids of the items of some events."""
        return events.rows[f"categorical/{self.item.name}"]

    @property
    def train_counts(self) -> Int[np.ndarray, " V"]:
        """How often each item occurs in training, by id - 1."""
        return self.log.vocabulary(self.item.name)["train_count"].to_numpy()
