"""The events of a log by time: what had happened at a moment, and what happens until another."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int

from siren_rope_jax.base.times import NO_TIME
from siren_rope_jax.data.log import Events, PreparedLog
from siren_rope_jax.data.windows import Targets


@dataclass(frozen=True)
class Timeline:
    """All events of a log.

    Attributes:
      events: in global order.
      moment: int64 [N], Unix seconds: when each happened. An event without a time happened with the
        one before it that has one, else with the first after it; that of a user without any, at the
        beginning of the log. `prepare` splits events by the same rule.
      users: how many there are.
    """

    events: Events
    moment: Int[np.ndarray, " N"]
    users: int

    @staticmethod
    def of(log: PreparedLog) -> "Timeline":
        """Reads a log."""
        events = log.events()
        time = pd.Series(events.rows["time"], dtype="Int64")
        of_user = time.mask(time == NO_TIME).groupby(events.user)
        moment = of_user.ffill().fillna(of_user.bfill()).fillna(log.schema.train_start)
        return Timeline(events, moment.to_numpy(np.int64), len(log.index))

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
