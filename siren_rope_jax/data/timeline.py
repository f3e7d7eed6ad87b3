"""The events of a log by time: what had happened at a moment, and what happens until another."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from siren_rope_jax.base.times import NO_TIME
from siren_rope_jax.data.log import Events, PreparedLog
from siren_rope_jax.data.windows import Targets


@dataclass(frozen=True)
class Timeline:
    """All events of a log.

    Attributes:
      events: in global order.
      moment: int64 [N], Unix seconds: when each happened. An event without a time happened when the
        one before it did; without any, before all others.
      users: how many there are.
    """

    events: Events
    moment: Int[np.ndarray, " N"]
    users: int

    @staticmethod
    def of(log: PreparedLog) -> "Timeline":
        """Reads a log."""
        events = log.events()
        # The running maximum of (user, time): within a user, times ascend where there are any.
        time, user = events.rows["time"], events.user.astype(np.int64)
        span = log.schema.end - log.schema.train_start + 2  # more than is between any two
        known = np.where(time == NO_TIME, 0, time - log.schema.train_start + 1)
        moment = np.maximum.accumulate(user * span + known) - user * span
        return Timeline(events, moment + log.schema.train_start - 1, len(log.index))

    def before(self, moment: int) -> Int[np.ndarray, " U"]:
        """How many events of every user are earlier."""
        return np.bincount(self.events.user[self.moment < moment], minlength=self.users)

    def between(self, first: int, stop: int) -> Targets:
        """The events at `first` or later, and before `stop`."""
        return Targets(self.before(first), self.before(stop))

    def events_between(self, first: int, stop: int) -> Events:
        """The same, read."""
        held = (self.moment >= first) & (self.moment < stop)
        return Events(self.events.rows[held], self.events.event[held], self.events.user[held])
