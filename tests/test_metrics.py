"""The metrics against their definitions, by brute force, and their invariances."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings

from siren_rope_jax.metrics import binary as metrics
from siren_rope_jax.metrics.ranks import CUTOFFS, RANK_METRICS, metrics_of_ranks, per_event
from siren_rope_jax.models.item_ranks import rank_targets


@st.composite
def predictions(draw):
    """Labels, scores on a coarse grid (so that ties abound) and users."""
    size = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels, users = draw(st.integers(1, 20)), draw(st.integers(1, 8))
    rate = draw(st.sampled_from([0.05, 0.5, 0.9]))
    labels = (rng.random(size) < rate).astype(np.int8)
    scores = (rng.integers(0, levels, size) / 20).astype(np.float32)
    return labels, scores, rng.integers(0, users, size)


def auc_by_pairs(labels, scores):
    positive, negative = scores[labels == 1][:, None], scores[labels == 0]
    return ((positive > negative) + (positive == negative) / 2).mean()


def gauc_by_loop(labels, scores, users):
    values, weights = [], []
    for user in np.unique(users):
        own = users == user
        if len(np.unique(labels[own])) == 2:
            values.append(auc_by_pairs(labels[own], scores[own]))
            weights.append(own.sum())
    return np.average(values, weights=weights) if values else np.nan


@settings(max_examples=200)
@given(predictions())
def test_auc_is_the_share_of_pairs_in_the_right_order(data):
    labels, scores, _ = data
    both = len(np.unique(labels)) == 2
    want = auc_by_pairs(labels, scores) if both else np.nan
    np.testing.assert_allclose(metrics.auc(labels, scores), want, rtol=1e-12)


def many_users():
    rng = np.random.default_rng(0)
    labels, users = rng.integers(0, 2, 10_000), rng.integers(0, 600, 10_000) * 10**6
    return labels, rng.random(10_000).round(2).astype(np.float32), users


@settings(max_examples=200)
@given(predictions())
@example(many_users())
def test_gauc_equals_the_loop_over_users(data):
    np.testing.assert_allclose(metrics.gauc(*data), gauc_by_loop(*data), rtol=1e-12)


@given(predictions())
def test_ranking_metrics_see_only_the_order(data):
    labels, scores, users = data
    other = np.exp(3 * scores.astype(np.float64))
    np.testing.assert_allclose(metrics.auc(labels, scores), metrics.auc(labels, other))
    gauc = metrics.gauc(labels, scores, users)
    np.testing.assert_allclose(gauc, metrics.gauc(labels, other, users))


def test_normalized_entropy_is_log_loss_over_the_entropy_of_the_base_rate():
    labels, p = np.array([1, 0, 0, 1, 0]), np.array([0.7, 0.2, 0.4, 0.9, 0.5])
    log_loss = -np.log([0.7, 0.8, 0.6, 0.9, 0.5]).mean()
    base = -0.4 * np.log(0.4) - 0.6 * np.log(0.6)
    np.testing.assert_allclose(metrics.normalized_entropy(labels, p), log_loss / base)
    np.testing.assert_allclose(metrics.normalized_entropy(labels, np.full(5, 0.4)), 1)


def test_a_certain_and_wrong_float32_probability_costs_a_finite_amount():
    value = metrics.normalized_entropy(np.array([1, 0]), np.array([0, 1], np.float32))
    np.testing.assert_allclose(value, -np.log(metrics.EPSILON) / np.log(2), rtol=1e-6)


@given(predictions(), st.integers(0, 2**31))
def test_no_metric_depends_on_the_order_of_the_events(data, seed):
    order = np.random.default_rng(seed).permutation(len(data[0]))
    first = metrics.task_metrics(*data)
    second = metrics.task_metrics(*(x[order] for x in data))
    for name, value in first.items():
        assert second[name] is None if value is None else second[name] == pytest.approx(value)


def test_calibration_bins_hold_equal_counts_and_the_error_is_their_mean_gap():
    rng = np.random.default_rng(0)
    scores = rng.permutation(np.linspace(0.01, 0.99, 2000))
    labels = (rng.random(2000) < scores**2).astype(int)
    bins = metrics.calibration(labels, scores)
    assert bins.events.tolist() == [100] * 20
    order = np.argsort(scores).reshape(20, 100)
    gaps = np.abs(scores[order].mean(1) - labels[order].mean(1))
    np.testing.assert_allclose(metrics.calibration_error(labels, scores), gaps.mean())


@pytest.mark.parametrize(("constant", "error"), [(0.25, 0), (0.75, 0.5)])
def test_a_calibrated_constant_has_no_calibration_error(constant, error):
    found = metrics.calibration_error(np.array([1, 0, 0, 0] * 50), np.full(200, constant))
    assert found == pytest.approx(error)


def test_absent_labels_count_for_nothing():
    labels, scores = np.array([1, -1, 0, 1, -1]), np.array([0.8, np.nan, 0.3, 0.2, 0.1])
    users = np.array([0, 0, 0, 1, 1])
    present = labels >= 0
    full = metrics.task_metrics(labels, scores, users)
    assert full == metrics.task_metrics(labels[present], scores[present], users[present])
    assert (full["count"], full["positives"]) == (3, 2)


@pytest.mark.parametrize("labels", [[], [1, 1], [-1, -1], [0, -1]])
def test_one_class_only_leaves_ranking_and_entropy_undefined(labels):
    values = metrics.task_metrics(
        np.array(labels, int), np.full(len(labels), 0.5), np.arange(2)[: len(labels)]
    )
    assert values["ne"] is values["auc"] is values["gauc"] is None


def test_scores_that_are_no_probabilities_are_refused():
    with pytest.raises(ValueError, match="2 scores"):
        metrics.task_metrics(np.array([0, 1, 1]), np.array([np.nan, 1.5, 0.5]), np.zeros(3, int))


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
