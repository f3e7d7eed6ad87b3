"""Intervals of users and seeds together, and families of differences."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from siren_rope_jax.metrics.bootstrap import Resampled, resample_means
from siren_rope_jax.metrics.intervals import certain, interval


def resampled(values, users):
    return resample_means({"m": np.asarray(values)}, users, resamples=300)["m"]


@pytest.mark.parametrize("of_seeds", [0.0, 0.1, 0.5])
def test_it_covers_the_truth_whatever_part_of_the_chance_is_of_seeds(of_seeds):
    """Three trainings, each with an effect of its own, on 60 users with effects of their own."""
    rng, covered = np.random.default_rng(0), []
    users = np.repeat(np.arange(60), 3)
    for _ in range(300):
        seeds = rng.normal(0, of_seeds, (3, 1))
        values = 0.3 + seeds + rng.normal(0, 1, 60)[users] + rng.normal(0, 0.3, (3, 180))
        found = interval(resampled(values, users))
        covered.append(found.low <= 0.3 <= found.high)
    assert 0.93 <= np.mean(covered) <= 0.995


def test_without_users_it_is_that_of_a_t_test_over_seeds():
    for by_seed in ([0.1, 0.3], [0.2, 0.5, 0.4], [1.0, 1.1, 0.2, 0.8, 0.6]):
        found = interval(Resampled(np.array(by_seed), np.full(50, np.mean(by_seed))))
        test = ttest_1samp(by_seed, 0)
        assert found.p == pytest.approx(test.pvalue, rel=1e-6)
        assert found[1:3] == pytest.approx(tuple(test.confidence_interval()))


def test_of_one_seed_it_is_that_of_the_users():
    rng = np.random.default_rng(1)
    values, users = rng.normal(0.2, 1, (1, 4000)), np.arange(4000)
    found, test = interval(resampled(values, users)), ttest_1samp(values[0], 0)
    assert found.low == pytest.approx(test.confidence_interval().low, abs=0.005)
    assert found.high == pytest.approx(test.confidence_interval().high, abs=0.005)


def test_what_a_seed_does_to_both_models_alike_does_not_matter():
    rng = np.random.default_rng(2)
    users, seeds = np.arange(100), np.array([[0.0], [3.0], [-5.0]])
    values, effects = rng.normal(0, 1, 100), rng.normal(0.1, 1e-6, 100)
    a, b = (resampled(values + seeds + effect, users) for effect in (effects, 0.0))
    assert interval(a, b) == pytest.approx((0.1, 0.1, 0.1, 0.0, 0.0, 0.0), abs=1e-6)
    assert interval(a, a) == (0, 0, 0, 1, 0, 0)


def test_what_is_undefined_has_no_interval():
    nothing = Resampled(np.array([np.nan]), np.full(5, np.nan))
    assert np.isnan(interval(nothing)).all()
    some = Resampled(np.array([1.0]), np.array([np.nan, 0.9, 1.1]))
    assert interval(some).low < 1 < interval(some).high
    alone = resampled(np.where(np.arange(30) == 3, 0.2, np.nan)[None], np.arange(30))
    assert interval(alone).value == 0.2 and np.isnan(interval(alone)[1:]).all()


def test_the_more_is_compared_the_less_is_certain():
    """Holm's procedure on his own example, and on families of one."""
    assert certain([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]
    assert certain([0.04]) == [True] and certain([0.06]) == [False]
    assert certain([0.04, 0.9]) == [False, False]  # .04 is above .05 / 2
    assert certain([0.02, 0.04]) == [True, True]
    assert certain([None, 0.04, None]) == [False, True, False] and certain([]) == []


def test_the_risk_of_any_error_is_at_most_five_percent():
    rng = np.random.default_rng(3)
    wrong = np.mean([any(certain(list(rng.uniform(size=10)))) for _ in range(4000)])
    assert wrong < 0.06
