"""The made-up check-ins have the habits that they are meant to have, by day and by week."""

import numpy as np
import pandas as pd
import pytest

from siren_rope_jax.prepare.checkins import HABITS, CheckinsConfig, simulate
from tests.refusals import refused

SMALL = CheckinsConfig(num_users=40, days=70)


def regular() -> pd.DataFrame:
    """Check-ins of people who never go anywhere else, with the kinds of the venues."""
    table = simulate(CheckinsConfig(num_users=40, days=70, wander=0.0))
    return table.assign(kind=table["venue"].str.split().str[0])


def test_the_same_config_gives_the_same_table_in_order_of_time() -> None:
    first = simulate(SMALL)
    pd.testing.assert_frame_equal(first, simulate(SMALL))
    assert first["time"].is_monotonic_increasing
    assert not first.equals(simulate(CheckinsConfig(num_users=40, days=70, seed=1)))


@pytest.mark.parametrize("habit", HABITS, ids=lambda habit: habit.kind)
def test_people_follow_a_habit_on_its_days_around_its_hour_to_their_own_places(habit) -> None:
    visits = regular().query("kind == @habit.kind")
    shifted = visits["time"] - pd.Timedelta(hours=habit.hour - 12)  # its hour becomes noon
    assert set(shifted.dt.day_of_week) == set(habit.days)
    hours = (shifted - shifted.dt.normalize()).dt.total_seconds() / 3600
    assert abs(hours.mean() - 12) < 0.5 and hours.std() < 1.5
    assert visits.groupby("user")["venue"].nunique().max() <= habit.own
    days = np.isin(pd.date_range("2024-01-01", periods=70).day_of_week, habit.days).sum()
    assert len(visits) == pytest.approx(habit.chance * days * 40, rel=0.15)


def test_the_hour_tells_more_of_the_next_venue_than_what_a_person_visits_most() -> None:
    table = simulate(SMALL)
    later = table["time"] >= "2024-02-26"
    past, next_ = table[~later], table[later]

    def found(*keys: str) -> float:
        """How often the venue visited most for the same values of the keys is right."""
        mode = past.groupby(list(keys))["venue"].agg(lambda venues: venues.mode()[0])
        guess = next_.join(mode.rename("guess"), on=list(keys))["guess"]
        return float((guess == next_["venue"]).mean())

    hour, weekend = table["time"].dt.hour, table["time"].dt.day_of_week >= 5
    past, next_ = (t.assign(hour=hour, weekend=weekend) for t in (past, next_))
    always, daily, weekly = found("user"), found("user", "hour"), found("user", "hour", "weekend")
    assert daily > 1.5 * always and weekly > 1.02 * daily


def test_a_visit_elsewhere_may_be_anywhere() -> None:
    table = simulate(CheckinsConfig(num_users=40, days=70, wander=1.0))
    assert table["venue"].nunique() == sum(habit.venues for habit in HABITS)


@pytest.mark.parametrize(
    ("key", "value"), [("num_users", 0), ("days", 6), ("spread", -1.0), ("wander", 1.5),
                       ("start", "01.01.2024")],
)  # fmt: skip
def test_impossible_values_are_refused(key: str, value: object) -> None:
    with refused(key):
        CheckinsConfig(**{key: value})
