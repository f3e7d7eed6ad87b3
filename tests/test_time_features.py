"""Time is exact to the second from 1902 to 2100, whatever the model's dtype."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siren_rope_jax.base.times import (
    DAY,
    MAX_TIME,
    MIN_TIME,
    NO_TIME,
    WEEK,
    hour_of_day,
    hour_of_week,
    start_of_week,
)
from siren_rope_jax.rotation.time import (
    Time,
    TimeScale,
    phases,
    since,
    time_features,
)
from tests.refusals import refused

SECONDS = st.integers(MIN_TIME, MAX_TIME - 1)
OFFSETS = st.integers(-14 * 3600, 14 * 3600)
SCALE = TimeScale.fit(1_600_000_000, 1_700_000_000)


def _time(seconds: int, offset: int = 0) -> Time:
    return Time.from_seconds(np.asarray([seconds], np.int64), offset)


@given(SECONDS, OFFSETS)
def test_phases_are_exact_to_the_second(seconds: int, offset: int) -> None:
    day, week = phases(_time(seconds, offset))
    assert round(float(day[0]) * DAY) == (seconds + offset) % DAY
    assert round(float(week[0]) * WEEK) == (seconds + offset) % WEEK


@given(SECONDS)
def test_consecutive_seconds_have_different_features(seconds: int) -> None:
    second = min(seconds, MAX_TIME - 2)
    features = [time_features(_time(s), ("day",), SCALE)[0] for s in (second, second + 1)]
    step = 2 * math.pi / DAY
    assert float(jnp.linalg.norm(features[1] - features[0])) == pytest.approx(step, rel=0.02)


@given(SECONDS)
def test_cyclic_features_repeat_after_a_week(seconds: int) -> None:
    shifted = seconds - WEEK if seconds > MAX_TIME - WEEK - 1 else seconds + WEEK
    names = ("day", "week", "day_fraction", "week_fraction")
    both = [time_features(_time(s), names, SCALE) for s in (seconds, shifted)]
    np.testing.assert_array_equal(*both)


@given(SECONDS | st.integers(1_600_000_000, 1_700_000_000))
def test_long_range_time_is_affine_over_the_training_span_and_goes_no_further(seconds: int) -> None:
    affine = (seconds - 1_650_000_000) / 50_000_000
    value = float(time_features(_time(seconds), ("long_range",), SCALE)[0, 0])
    assert value == pytest.approx(min(max(affine, -1.0), 1.0), rel=1e-6, abs=2e-7)


def test_demo_time_through_float32_would_be_wrong_and_ours_is_not() -> None:
    """float32 steps by 128 s at 1.7e9: two events 30 s apart fall together; here they do not."""
    a, b = 1_700_000_000, 1_700_000_030
    assert np.float32(a) == np.float32(b)
    gap = since(_time(b), a, 1.0) - since(_time(a), a, 1.0)
    assert float(gap[0]) == 30.0


def test_bfloat16_model_gets_features_cast_last() -> None:
    exact = time_features(_time(1_700_000_030), ("day", "week"), SCALE)
    cast = time_features(_time(1_700_000_030), ("day", "week"), SCALE, jnp.bfloat16)
    np.testing.assert_array_equal(cast, exact.astype(jnp.bfloat16))


def test_absent_time_has_zero_features() -> None:
    time = Time.from_seconds(np.asarray([NO_TIME, 0]))
    features = time_features(time, ("day", "long_range"), SCALE)
    assert not features[0].any() and features[1].any()


@pytest.mark.parametrize("seconds", [MIN_TIME - 1, MAX_TIME, 1_700_000_000_000])
def test_times_out_of_range_are_refused(seconds: int) -> None:
    with refused("time", seconds):
        _time(seconds)


def test_milliseconds_taken_for_seconds_are_recognised() -> None:
    with refused("time", "milliseconds"):
        _time(1_700_000_000_000)


def test_float_times_are_refused() -> None:
    for time in (np.asarray([1.7e9]), jnp.asarray([1.7e9])):
        with refused("time", time.dtype):
            Time.of(time)


@given(SECONDS)
def test_seconds_on_a_device_are_those_of_the_host(seconds: int) -> None:
    second = min(max(seconds, -(2**31)), 2**31 - 1)  # int32 ends in 2038
    host, device = (Time.of(f([second])) for f in (np.asarray, jnp.asarray))
    assert (host.day, host.second) == (device.day, device.second) and host.known == device.known


@pytest.mark.parametrize("offset", [2.0, 360_000, np.asarray([0, -65_000])])
def test_offsets_that_cannot_be_are_refused(offset: Any) -> None:
    with refused("offset"):
        Time.from_seconds(np.asarray([0, 1]), offset)


@pytest.mark.parametrize("span", [(2, 1), (1, 1_700_000_000_000), (MIN_TIME - 1, 0)])
def test_a_span_of_training_times_has_an_order(span: tuple[int, int]) -> None:
    with refused("scale", span[1]):
        TimeScale.fit(*span)


@given(SECONDS, OFFSETS)
def test_the_calendar_is_pandas(seconds: int, offset: int) -> None:
    local = pd.Timestamp(seconds + offset, unit="s")
    day, second = divmod(seconds + offset, DAY)
    assert hour_of_week(day, second) == local.day_of_week * 24 + local.hour
    assert hour_of_day(seconds + offset) == local.hour
    monday = pd.Timestamp(start_of_week(seconds + offset), unit="s")
    assert monday == local.normalize() - pd.Timedelta(days=local.day_of_week)
