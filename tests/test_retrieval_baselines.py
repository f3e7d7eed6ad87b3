"""The baselines of retrievers against literally ranked lists, and the past of events."""

import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siren_rope_jax.base.times import DAY, HOUR, NO_TIME
from siren_rope_jax.data.log import Events
from siren_rope_jax.evaluation.baselines import past, popularity
from siren_rope_jax.evaluation.baselines.popularity import (
    baseline_names,
    simple_rankings,
    time_of_day,
)

UNKNOWN = -1  # the clock of an event without a time
TIMES = st.sampled_from([NO_TIME, 0, 1, HOUR, DAY - 1, DAY, DAY + 1, 3 * DAY])
CLOCKS = st.sampled_from([UNKNOWN, 0, HOUR, HOUR + 1, DAY - HOUR])


@st.composite
def logs(draw):
    """Users, items (some cannot be ranked), times, clocks, and train counts of known items."""
    sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=5))
    known = draw(st.integers(1, 6))
    users = np.repeat(np.arange(len(sizes)), sizes)
    ids = st.lists(st.integers(0, known + 2), min_size=len(users), max_size=len(users))
    times = st.lists(TIMES, min_size=len(users), max_size=len(users))
    clocks = st.lists(CLOCKS, min_size=len(users), max_size=len(users))
    counts = st.lists(st.integers(1, 3), min_size=known, max_size=known)
    columns = [np.array(draw(column)) for column in (ids, times, clocks, counts)]
    return users, *columns


def literal_rank(scores, target, allowed):
    """1 + the number of other allowed items that score no lower; 0 for a target not allowed."""
    if target not in allowed:
        return 0
    others = (i for i in range(1, len(scores)) if i != target and i in allowed)
    return 1 + sum(scores[i] >= scores[target] for i in others)


def is_near(a, b):
    """Whether two times of day are within an hour, on the same or neighbouring days."""
    return UNKNOWN not in (a, b) and any(abs(a - b + day) <= HOUR for day in (-DAY, 0, DAY))


@settings(max_examples=300)
@given(logs(), st.booleans())
def test_ranks_equal_those_of_every_list_ranked_literally(log, filter_seen):
    users, items, times, clock, counts = log
    events = np.arange(len(users))
    got = simple_rankings(*log, events, filter_seen)
    assert tuple(got) == baseline_names(filter_seen)
    for e in events:
        past_events = [b for b in range(e) if users[b] == users[e]]
        before = [items[b] for b in past_events]
        near = [items[b] for b in past_events if is_near(clock[b], clock[e])]
        every = set(range(1, len(counts) + 1))
        allowed = every - set(before) if filter_seen else every
        frequency = [0, *counts]
        lately = [
            items[b]
            for b in events
            if NO_TIME not in (times[b], times[e]) and times[e] - DAY <= times[b] < times[e]
        ]
        visits = [(before.count(i), c) for i, c in enumerate(frequency)]
        scores = {
            "popular": frequency,
            "recent": [(lately.count(i), c) for i, c in enumerate(frequency)],
            "revisit": visits,
            "revisit_hour": [(near.count(i), *v) for i, v in enumerate(visits)],
        }
        for name, ranks in got.items():
            assert ranks.rank[e] == literal_rank(scores[name], items[e], allowed), name


@given(logs(), st.booleans())
def test_neither_the_chosen_events_nor_the_size_of_the_parts_matter(log, filter_seen):
    everything = simple_rankings(*log, np.arange(len(log[0])), filter_seen)
    chosen = np.arange(0, len(log[0]), 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(popularity, "_PAIRS", 2)
        patch.setattr(popularity, "_STRETCH", 2)
        part = simple_rankings(*log, chosen, filter_seen)
    for name, ranks in everything.items():
        np.testing.assert_array_equal(part[name].rank, ranks.rank[chosen])


def test_the_nll_of_popularity_is_that_of_the_training_frequencies():
    items, times, zeros = np.array([1, 2, 3, 9]), np.arange(4), np.zeros(4, int)
    got = simple_rankings(zeros, items, times, zeros, np.array([6, 3, 1]), np.arange(4), False)
    np.testing.assert_allclose(got["popular"].nll[:3], -np.log([0.6, 0.3, 0.1]))
    assert np.isnan(got["popular"].nll[3])
    assert all(np.isnan(got[name].nll).all() for name in got if name != "popular")


def test_without_times_neither_the_hour_nor_the_day_makes_a_difference():
    rng = np.random.default_rng(0)
    users, items = np.repeat(np.arange(9), 30), rng.integers(1, 9, 270)
    clock, counts, events = np.full(270, UNKNOWN), np.arange(1, 9), np.arange(270)
    times = np.full(270, NO_TIME)
    got = simple_rankings(users, items, times, clock, counts, events, False)
    np.testing.assert_array_equal(got["revisit_hour"].rank, got["revisit"].rank)
    np.testing.assert_array_equal(got["recent"].rank, got["popular"].rank)


@given(st.lists(st.tuples(st.integers(-(10**9), 4 * 10**9), st.integers(-50_400, 50_400))))
def test_the_time_of_day_is_local(pairs):
    rows = np.array([*pairs, (NO_TIME, -3600)], [("time", "<i8"), ("utc_offset", "<i4")])
    index = np.arange(len(rows))
    got = time_of_day(Events(rows, index, index.astype(np.int32)))
    epoch = datetime.datetime(1970, 1, 1)
    for clock, (time, offset) in zip(got, pairs, strict=False):
        local = epoch + datetime.timedelta(seconds=time + offset)
        assert clock == local.hour * HOUR + local.minute * 60 + local.second
    assert got[-1] == UNKNOWN


def test_no_events_have_no_ranks():
    none = np.zeros(0, int)
    got = simple_rankings(none, none, none, none, np.array([1, 2]), none, True)
    assert all(len(ranks.rank) == 0 for ranks in got.values())


@given(logs())
def test_the_past_of_every_event_equals_a_loop_over_it(log):
    users, items, *_ = log
    for e in range(len(users)):
        before = [i for i in range(e) if users[i] == users[e]]
        same = [i for i in before if items[i] == items[e]]
        assert past.earlier_events(users)[e] == len(before)
        assert past.earlier_visits(users, items)[e] == len(same)
        assert past.first_visit(users, items)[e] == min(same, default=e)
