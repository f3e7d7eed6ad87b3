"""The metrics against their definitions, by brute force, and their invariances."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given, settings

from siren_rope_jax.metrics import binary as metrics


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
