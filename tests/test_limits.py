"""What no rotation by the time of single events can do: the statements of docs/method.md."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from siren_rope_jax.base.times import DAY
from siren_rope_jax.rotation.signals import Signals
from siren_rope_jax.rotation.time import Time
from tests.batches import START, random_next_items, small_retriever, source
from tests.test_angles import angles_of, encoding, sources_of

MINUTES = DAY // 60


def angles_at(sources, seconds):
    """The angles of events at these times with the same index, [N, P], of the first head."""
    time = Time.from_seconds(START + np.asarray(seconds))
    same = np.zeros(len(seconds), np.int32)
    theta, _ = angles_of(encoding(sources), Signals(same, time, {}))
    return np.asarray(theta, np.float64)[:, 0]


def bend(theta):
    """How far angles at equal time steps are from an arithmetic progression, modulo 2 pi."""
    second = np.diff(theta, n=2, axis=0)
    return np.abs(np.exp(1j * second) - 1).max()


@pytest.mark.parametrize("name", ["to_rope", "to_rope_day_week", "clock_and_lag", "linear"])
def test_what_depends_on_lags_alone_is_linear_in_time(name):
    assert bend(angles_at(sources_of(name), 7 * 3600 * np.arange(40))) < 2e-3


@pytest.mark.parametrize("name", ["siren_rope", "time2vec"])
def test_what_is_not_linear_in_time_does_not_depend_on_lags_alone(name):
    assert bend(angles_at(sources_of(name), 7 * 3600 * np.arange(40))) > 0.05


def test_the_logarithm_of_the_lag_is_no_rotation():
    """Of three events, two steps of it do not make the third."""
    angle = np.log1p(np.array([1.0, 1.0, 2.0]) * DAY)  # by lags of a day, a day, and two days
    assert abs(np.exp(1j * (angle[0] + angle[1] - angle[2])) - 1) > 0.5


def test_every_plane_of_a_network_of_the_day_confuses_an_hour_with_the_one_half_a_day_later():
    """Its angle is a continuous function of a circle; a ladder turns once, and never does."""
    day = source(network={"features": ("day",)})
    theta = angles_at({"time": day}, 60 * np.arange(MINUTES))
    opposite = np.roll(theta, MINUTES // 2, axis=0) - theta
    assert (opposite.min(axis=0) <= 0).all() and (opposite.max(axis=0) >= 0).all()
    turned = angles_at({"time": source(clock={})}, 60 * np.arange(MINUTES))
    opposite = np.roll(turned, MINUTES // 2, axis=0) - turned
    np.testing.assert_allclose(np.cos(opposite), -1, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "same"),
    [("to_rope_day_week", True), ("clock_and_lag_hstu_bias", True), ("clock_lag_trend", False)],
)
def test_what_sees_the_clock_and_lags_alone_answers_alike_in_another_week(name, same):
    model, params = small_retriever(name)
    batch = random_next_items()
    weeks = [
        batch.replace(
            time=batch.time.replace(day=batch.time.day + days),
            request_time=batch.request_time.replace(day=batch.request_time.day + days),
        )
        for days in (0, -7)
    ]
    first, other = (model.apply({"params": params}, each).query for each in weeks)
    assert np.allclose(first, other, atol=1e-4) == same


def unexplained(harmonics):
    """The least share of cos(x - y) that cos(f(x) - f(y)) leaves, f of so many harmonics."""
    x = 2 * jnp.pi * jnp.arange(64) / 64
    order = jnp.arange(1, harmonics + 1)[:, None] * x
    waves = jnp.concatenate([jnp.cos(order), jnp.sin(order)])
    wanted = jnp.cos(x[:, None] - x)

    @jax.jit
    @jax.value_and_grad
    def share(weights):
        f = weights @ waves
        return ((wanted - jnp.cos(f[:, None] - f)) ** 2).mean() / (wanted**2).mean()

    rng = np.random.default_rng(0)
    starts = rng.normal(size=(15, 2 * harmonics)) * 2 / np.tile(np.arange(1, harmonics + 1), 2)
    return min(minimize(share, start, jac=True, method="BFGS").fun for start in starts)


def test_the_fewer_harmonics_a_plane_has_the_less_it_is_a_clock():
    one, four = unexplained(1), unexplained(4)
    assert 0.75 < one < 0.85 and 0.45 < four < 0.6
