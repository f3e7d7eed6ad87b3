"""Metrics of ranks against their definitions by ranked lists."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from siren_rope_jax.metrics.ranks import CUTOFFS, RANK_METRICS, metrics_of_ranks, per_event
from siren_rope_jax.models.item_ranks import rank_targets


@st.composite
def scored_events(draw):
    """Scores on a coarse grid, targets (0: unknown) and seen items."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    events, items = draw(st.sampled_from([(0, 5), (1, 2), (9, 40), (15, 300)]))  # few to compile
    scores = rng.integers(0, draw(st.integers(1, 40)), (events, items)) / 8
    target = rng.integers(0, items, events) * (rng.random(events) < 0.8)
    seen = rng.integers(0, items, (events, 6)) * (rng.random((events, 6)) < 0.5)
    return scores.astype(np.float32), target.astype(np.int32), seen.astype(np.int32)


@jax.jit
def ranked(scores, target, seen):
    """Ranks of unit queries whose products with the table are exactly the scores."""
    return rank_targets(jnp.eye(len(scores)), scores.T, target, seen)


def can_be_listed(target, seen):
    """Whether targets are known and not filtered."""
    return (target > 0) & (target[:, None] != seen).all(axis=1)


def by_lists(scores, target, seen):
    """Every metric from the ranked list itself, in which the target is the last of its ties."""
    sums = dict.fromkeys(RANK_METRICS, 0.0)
    listed = can_be_listed(target, seen)
    rows = scores.astype(np.float64)[listed], target[listed], seen[listed]
    for score, t, own in zip(*rows, strict=True):
        allowed = [j for j in range(1, len(score)) if j not in own]
        ranking = sorted(allowed, key=lambda j: (-score[j], j == t))
        gains = [1.0 if j == t else 0.0 for j in ranking]
        sums["nll"] += -np.log(np.exp(score[t]) / np.exp(score[1:]).sum())
        sums["mrr"] += next(1 / place for place, gain in enumerate(gains, 1) if gain)
        for k in CUTOFFS:
            sums[f"hr@{k}"] += sum(gains[:k])
            discounts = 1 / np.log2(np.arange(2, len(gains) + 2))
            sums[f"ndcg@{k}"] += float(np.sum((discounts * gains)[:k]))
    counts = {name: sum(listed) if name == "nll" else len(target) for name in sums}
    return {name: sums[name] / counts[name] if counts[name] else None for name in sums}


@given(scored_events())
def test_metrics_equal_those_of_the_ranked_lists(data):
    listed = can_be_listed(*data[1:])
    values = metrics_of_ranks(*map(np.asarray, ranked(*data)))
    assert tuple(values) == (*RANK_METRICS, "count", "unranked")
    assert (values["count"], values["unranked"]) == (len(listed), np.sum(~listed))
    for name, value in by_lists(*data).items():
        assert values[name] == (None if value is None else pytest.approx(value, rel=1e-5))


@given(scored_events())
def test_a_metric_is_the_mean_over_events(data):
    rank, nll = map(np.asarray, ranked(*data))
    values, totals = per_event(rank, nll), metrics_of_ranks(rank, nll)
    assert tuple(values) == RANK_METRICS
    np.testing.assert_array_equal(np.isnan(values["nll"]), rank == 0)
    for name, value in values.items():
        value = value[~np.isnan(value)]
        assert totals[name] == (pytest.approx(value.mean()) if len(value) else None)


def test_known_ranks_give_known_values():
    rank, nll = np.array([1, 2, 6, 201, 0]), np.array([0.5, 1.0, 2.0, 4.5, np.nan])
    values = metrics_of_ranks(rank, nll)
    assert values["nll"] == pytest.approx(2.0)
    assert values["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 6 + 1 / 201) / 5)
    assert [values[f"hr@{k}"] for k in CUTOFFS] == pytest.approx([0.2, 0.4, 0.6, 0.6, 0.6])
    assert values["ndcg@1"] == values["hr@1"]
    assert values["ndcg@5"] == pytest.approx((1 + 1 / np.log2(3)) / 5)
    assert (values["count"], values["unranked"]) == (5, 1)


def test_what_is_undefined_is_none():
    nothing = metrics_of_ranks(np.zeros(0, int), np.zeros(0))
    assert all(nothing[name] is None for name in RANK_METRICS) and nothing["count"] == 0
    unranked = metrics_of_ranks(np.zeros(3, int), np.full(3, np.nan))
    assert unranked["nll"] is None and unranked["mrr"] == 0 and unranked["unranked"] == 3
    assert metrics_of_ranks(np.array([1, 7]), np.array([1.0, np.inf]))["nll"] is None
