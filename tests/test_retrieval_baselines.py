"""Popular and revisited items, against ranking every list literally; the past of events."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siren_rope_jax.evaluation import past, retrieval_baselines
from siren_rope_jax.evaluation.retrieval_baselines import simple_rankings


@st.composite
def logs(draw):
    """Users, items (some that cannot be ranked) and the train counts of those that can."""
    sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=5))
    known = draw(st.integers(1, 6))
    users = np.repeat(np.arange(len(sizes)), sizes)
    ids = st.lists(st.integers(0, known + 2), min_size=len(users), max_size=len(users))
    counts = st.lists(st.integers(1, 3), min_size=known, max_size=known)
    return users, np.array(draw(ids)), np.array(draw(counts))


def literal_rank(scores, target, allowed):
    """1 + the other allowed items whose score is not below the target's; 0 for an unknown one."""
    if target not in allowed:
        return 0
    others = (i for i in range(1, len(scores)) if i != target and i in allowed)
    return 1 + sum(scores[i] >= scores[target] for i in others)


@given(logs(), st.booleans())
def test_ranks_equal_those_of_every_list_ranked_literally(log, filter_seen):
    users, items, counts = log
    events = np.arange(len(users))
    got = simple_rankings(users, items, counts, events, filter_seen)
    for e in events:
        before = items[:e][users[:e] == users[e]].tolist()
        every = set(range(1, len(counts) + 1))
        allowed = every - set(before) if filter_seen else every
        scores = {
            "popular": [(0,), *((c,) for c in counts)],
            "revisit": [(0, 0), *((before.count(i), c) for i, c in enumerate(counts, start=1))],
        }
        for name, score in scores.items():
            assert got[name].rank[e] == literal_rank(score, items[e], allowed), name


@given(logs(), st.booleans())
def test_neither_the_chosen_events_nor_the_size_of_the_parts_matter(log, filter_seen):
    users, items, counts = log
    everything = simple_rankings(users, items, counts, np.arange(len(users)), filter_seen)
    chosen = np.arange(0, len(users), 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval_baselines, "_PAIRS", 2)
        part = simple_rankings(users, items, counts, chosen, filter_seen)
    for name, ranks in everything.items():
        np.testing.assert_array_equal(part[name].rank, ranks.rank[chosen])


def test_the_nll_of_popularity_is_that_of_the_training_frequencies():
    users, items = np.zeros(4, int), np.array([1, 2, 3, 9])
    got = simple_rankings(users, items, np.array([6, 3, 1]), np.arange(4), False)
    np.testing.assert_allclose(got["popular"].nll[:3], -np.log([0.6, 0.3, 0.1]))
    assert np.isnan(got["popular"].nll[3]) and np.isnan(got["revisit"].nll).all()


def test_no_events_have_no_ranks():
    none = np.zeros(0, int)
    got = simple_rankings(none, none, np.array([1, 2]), none, True)
    assert all(len(ranks.rank) == 0 for ranks in got.values())


@given(logs())
def test_the_past_of_every_event_equals_a_loop_over_it(log):
    users, items, _ = log
    for e in range(len(users)):
        before = [i for i in range(e) if users[i] == users[e]]
        same = [i for i in before if items[i] == items[e]]
        after = [
            i for i in range(e + 1, len(users)) if users[i] == users[e] and items[i] == items[e]
        ]
        assert past.earlier_events(users)[e] == len(before)
        assert past.earlier_visits(users, items)[e] == len(same)
        assert past.next_visit(users, items)[e] == min(after, default=len(users))
