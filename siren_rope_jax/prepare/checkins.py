"""Made-up check-ins of people who follow the clock, for examples that run without a real log.

Every person has places of his or her own for each of `HABITS` and goes there at certain hours of
certain days: to the office on weekdays in the morning, to a bar on Friday and Saturday night. Some
visits lead somewhere else. So the time of a request tells much about the next venue, as it does in
real check-ins; apart from that the table is not meant to resemble any city.
"""

import dataclasses

import numpy as np
import pandas as pd

from siren_rope_jax.base.errors import check
from siren_rope_jax.base.times import DAY, HOUR

_WEEKDAYS, _WEEKEND, _EVERY_DAY = (0, 1, 2, 3, 4), (5, 6), (0, 1, 2, 3, 4, 5, 6)


@dataclasses.dataclass(frozen=True)
class Habit:
    """What people do at a certain time.

    Attributes:
      kind: of the venues.
      days: of the week, on which they may do it; Monday is 0.
      hour: of the day, at which they do it on average.
      chance: the probability that a person does it on such a day.
      venues: number of venues of this kind.
      own: number of them among which a person chooses.
    """

    kind: str
    days: tuple[int, ...]
    hour: float
    chance: float
    venues: int
    own: int


HABITS = (
    Habit("station", _WEEKDAYS, 7.75, 0.6, 30, 1),
    Habit("office", _WEEKDAYS, 9.0, 0.6, 80, 1),
    Habit("lunch", _WEEKDAYS, 12.5, 0.6, 60, 2),
    Habit("gym", (1, 3), 18.5, 0.6, 20, 1),
    Habit("home", _EVERY_DAY, 20.0, 0.5, 150, 1),
    Habit("bar", (4, 5), 22.5, 0.6, 40, 2),
    Habit("brunch", _WEEKEND, 11.0, 0.6, 40, 2),
    Habit("park", _WEEKEND, 15.0, 0.6, 20, 1),
)


@dataclasses.dataclass(frozen=True)
class CheckinsConfig:
    """How many check-ins there are, and how regular.

    Attributes:
      num_users: number of people.
      start: the first day, YYYY-MM-DD.
      days: length of the span.
      spread: standard deviation, in hours, of a person's usual time around the habit's, and of each
        visit's time around that.
      wander: the fraction of visits that lead to any venue instead of one of the person's own.
      seed: for everything random.
    """

    num_users: int = 200
    start: str = "2024-01-01"
    days: int = 84
    spread: float = 0.5
    wander: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        check(self.num_users >= 1, "num_users", "at least 1")
        check(self.days >= 7, "days", "at least 7, a whole week")
        check(self.spread >= 0, "spread", "0 or more hours")
        check(0 <= self.wander <= 1, "wander", "in 0..1")
        is_date = not pd.isna(pd.to_datetime(self.start, format="%Y-%m-%d", errors="coerce"))
        check(is_date, "start", "a date such as 2024-01-01")


def simulate(config: CheckinsConfig) -> pd.DataFrame:
    """Draws check-ins; the same config always gives the same ones.

    Returns:
      a table in order of time: user ("p7"), venue ("bar 3") and time (the local clock, to the
      second, without a zone), one row per check-in.
    """
    rng = np.random.default_rng(config.seed)
    first = pd.Timestamp(config.start)
    day_of_week = (first.day_of_week + np.arange(config.days)) % 7
    names = np.array([f"{h.kind} {n}" for h in HABITS for n in range(h.venues)])
    begin = np.cumsum([0] + [habit.venues for habit in HABITS])
    users, venues, seconds = [], [], []
    for habit, offset in zip(HABITS, begin[:-1], strict=True):
        own = offset + rng.integers(habit.venues, size=(config.num_users, habit.own))
        usual = habit.hour + config.spread * rng.standard_normal(config.num_users)
        goes = rng.random((config.num_users, config.days)) < habit.chance
        user, day = np.nonzero(goes & np.isin(day_of_week, habit.days))
        hour = usual[user] + config.spread * rng.standard_normal(user.size)
        users.append(user)
        venues.append(own[user, rng.integers(habit.own, size=user.size)])
        seconds.append((day * DAY + hour * HOUR).astype(np.int64))
    user, venue, second = map(np.concatenate, (users, venues, seconds))
    wanders = rng.random(user.size) < config.wander
    venue = np.where(wanders, rng.integers(names.size, size=user.size), venue)
    order = np.lexsort((user, second))
    return pd.DataFrame(
        {
            "user": np.char.add("p", user[order].astype(str)),
            "venue": names[venue[order]],
            "time": first + pd.to_timedelta(second[order], unit="s"),
        }
    )
