"""What the analyses say of rotations and attentions whose answer is known, or by brute force."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from siren_rope_jax.base.files import write_json
from siren_rope_jax.base.times import DAY, HOUR, NO_TIME
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.data.pipeline import DataConfig
from siren_rope_jax.prepare.synthetic import SyntheticConfig, generate
from siren_rope_jax.prepare.writer import encode_ids, write_log
from siren_rope_jax.rotation.time import Time
from siren_rope_jax.studies.analysis import BLANK, analyze, default_attention, draw
from siren_rope_jax.studies.asked_later import ANY, TRUE, asked_later, knows_request_time, later
from siren_rope_jax.studies.attended_hours import (
    HOUR_OF_DAY,
    HOURS,
    PAIRS,
    HourSums,
    attended_hours,
    draw_attended_hours,
    hour_sums,
)
from siren_rope_jax.studies.attended_lags import (
    LAGS,
    LagSums,
    attended_lags,
    draw_attended_lags,
    lag_in_hours,
    lag_sums,
)
from siren_rope_jax.training.checkpoint import Progress
from siren_rope_jax.training.experiment import ExperimentConfig
from siren_rope_jax.training.kinds.ranking import RankingExperiment
from siren_rope_jax.training.kinds.retrieval import RetrievalExperiment
from siren_rope_jax.training.mesh import make_mesh
from siren_rope_jax.training.setup import setup
from siren_rope_jax.training.trained import TrainedRun
from tests.batches import small_config, small_retriever_config
from tests.drawn import drawn_figures
from tests.made_up import make_log
from tests.refusals import refused

_CYCLIC = {"time": {"network": {"features": ("day", "week")}, "gate": {"init": 3.0}}}


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> PreparedLog:
    path = tmp_path_factory.mktemp("data") / "feed"
    generate(SyntheticConfig(num_users=100, events_per_user=20, num_items=30), path)
    return PreparedLog.open(path)


@pytest.fixture(scope="module")
def checkins(tmp_path_factory: pytest.TempPathFactory) -> PreparedLog:
    return make_log(tmp_path_factory.mktemp("data") / "log", users=8, days=40, min_count=1)


def untrained(log: PreparedLog, kind: type[ExperimentConfig], name: str, model: Any) -> TrainedRun:
    """A run as it is before training."""
    data = DataConfig(str(log.path), length=24, stride=12, batch_size=8)
    of_run = setup(kind(variant=name, data=data, model=model), log, make_mesh())
    return TrainedRun(of_run, log, of_run.init_params(0), 0, Progress())


def ranker(log: PreparedLog, name: str) -> TrainedRun:
    return untrained(log, RankingExperiment, name, small_config(name))


def retriever(log: PreparedLog, name: str = "siren_rope", **changes: Any) -> TrainedRun:
    model = small_retriever_config(name, **{"repeat": True, **changes})
    return untrained(log, RetrievalExperiment, name, model)


@pytest.fixture(scope="module")
def cyclic(checkins: PreparedLog) -> TrainedRun:
    return retriever(checkins, encoding=_CYCLIC)


def test_what_asked_later_changes_is_the_request_time_alone(checkins: PreparedLog) -> None:
    run = retriever(checkins)
    (batch, *_) = run.setup.batches.evaluation("validation")
    hours = np.arange(batch.event.size).reshape(batch.event.shape)
    moved = later(batch, hours * HOUR)
    time, other = batch.request_time, moved.request_time
    seconds = [np.asarray(t.day, np.int64) * DAY + t.second for t in (time, other)]
    np.testing.assert_array_equal(seconds[1] - seconds[0], hours * HOUR)
    assert (other.second < DAY).all() and (other.second >= 0).all()
    jax.tree.map(np.testing.assert_array_equal, moved.replace(request_time=time), batch)


@pytest.mark.slow
def test_requests_a_week_later_are_the_same_to_a_model_of_the_week(
    cyclic: TrainedRun, checkins: PreparedLog
) -> None:
    assert knows_request_time(cyclic) and not knows_request_time(retriever(checkins, "ordinal"))
    assert not knows_request_time(retriever(checkins, "siren_rope_event"))
    assert not knows_request_time(ranker(checkins, "siren_rope"))
    found = asked_later(cyclic)
    assert found["168 h later"] == (0, 0, 0, 1, 0, 0) and found[TRUE].value > 0
    assert any(found[when].value != 0 for when in ("6 h later", "12 h later", ANY))


@pytest.mark.parametrize("name", ["ordinal", "to_rope"])
def test_linear_rotations_do_not_depart_from_shift_invariance(name: str, feed: PreparedLog) -> None:
    assert max(analyze(ranker(feed, name)).departure.values()) < 1e-3


@pytest.mark.slow
def test_a_network_departs_and_its_periods_are_seen(feed: PreparedLog, tmp_path: Path) -> None:
    run = ranker(feed, "siren_rope")
    analysis = analyze(run)
    assert analysis.attention == "trunk" and analysis.utc_offset is None
    assert analyze(run, "last").attention == "last"
    assert analysis.departure[12] > 0.01
    assert {24.0, 168.0} & set(analysis.spectrum)  # its inputs have no other periods
    np.testing.assert_allclose(np.diag(analysis.kernel), 1.0, atol=1e-5)
    assert np.abs(analysis.kernel).max() <= 1 + 1e-5
    picture = draw(tmp_path / "rotation.png", analysis, "title")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_order_alone_knows_no_hours_in_a_retriever_either(
    checkins: PreparedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    analysis = analyze(retriever(checkins, "ordinal"))
    assert analysis.attention == "last"
    assert max(analysis.departure.values()) < 1e-6 and not analysis.spectrum
    np.testing.assert_allclose(analysis.kernel, 1.0, atol=1e-6)
    figures = drawn_figures(monkeypatch)
    draw(tmp_path / "rotation.png", analysis, "")
    (axes,) = figures[0].axes  # no empty panels, but a sentence
    assert [text.get_text() for text in axes.texts] == [BLANK]


@pytest.mark.parametrize("attention", ["trunk", "last"])
def test_a_whole_week_leaves_cyclic_parts_as_they_are(cyclic: TrainedRun, attention: Any) -> None:
    departure = analyze(cyclic, attention).departure
    assert departure[168] < 1e-4 and departure[84] > 0.01


def test_weeks_are_local_where_the_log_says_what_is_local(
    cyclic: TrainedRun, tmp_path: Path
) -> None:
    plain = make_log(tmp_path / "log", users=8, days=40, has_utc_offset=False, min_count=1)
    local, utc = analyze(cyclic), analyze(dataclasses.replace(cyclic, log=plain))
    assert local.utc_offset in (-5 * 3600, 2 * 3600) and utc.utc_offset is None
    np.testing.assert_allclose(local.kernel, utc.kernel, atol=1e-4)
    assert local.hours[0] == utc.hours[0] == 0


def test_the_last_attention_has_angles_of_its_own(cyclic: TrainedRun) -> None:
    trunk, last = analyze(cyclic, "trunk"), analyze(cyclic, "last")
    assert np.abs(trunk.kernel - last.kernel).max() > 0.1
    np.testing.assert_array_equal(analyze(cyclic).kernel, last.kernel)


def test_an_attention_that_is_not_there_is_refused(checkins: PreparedLog) -> None:
    plain = retriever(checkins, "none", repeat=False)
    assert default_attention(plain) == "trunk"
    with refused("attention", "last", "trunk"):
        analyze(plain, "last")


def test_a_span_without_a_whole_week_is_refused(cyclic: TrainedRun) -> None:
    schema = cyclic.log.schema
    short = dataclasses.replace(schema, train_start=schema.train_end - 6 * 86_400)
    log = dataclasses.replace(cyclic.log, schema=short)
    with refused(cyclic.log.path):
        analyze(dataclasses.replace(cyclic, log=log))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    path = tmp_path_factory.mktemp("data") / "log"
    return retriever(make_log(path, users=16, days=40, no_time=0.1, min_count=1))


def test_sums_are_those_of_brute_force() -> None:
    rng = np.random.default_rng(0)
    shape = (3, 9)
    weight = rng.random((*shape, shape[1]), np.float32) * (rng.random((*shape, 1)) < 0.8)
    segment = np.sort(rng.integers(0, 3, shape), axis=-1)
    past = (segment[:, :, None] == segment[:, None, :]) & np.tri(9, dtype=bool)
    request, event = rng.integers(-1, 168, (2, *shape))
    past &= (event >= 0)[:, None, :]
    ours = hour_sums(*map(jax.device_put, (weight.astype(np.float32), past, request, event)))
    expected = np.zeros((2, 168, 168))
    for b, i in np.ndindex(shape):
        own = np.where(past[b, i], weight[b, i], 0)
        if request[b, i] >= 0 and own.sum() > 0:
            for j in np.flatnonzero(past[b, i]):
                expected[0, request[b, i], event[b, j]] += own[j] / own.sum()
                expected[1, request[b, i], event[b, j]] += 1 / past[b, i].sum()
    np.testing.assert_allclose(np.stack(ours), expected, atol=1e-5)
    assert expected.sum() > 10


def test_every_request_counts_once_and_the_lift_is_1_on_average(run: TrainedRun) -> None:
    hours, events = attended_hours(run), run.log.events("validation").rows
    for sums in (hours.model, hours.users):
        np.testing.assert_allclose(sums.spread.sum(axis=1), sums.even.sum(axis=1), rtol=1e-4)
    assert hours.model.even.sum() == pytest.approx(np.sum(events["time"] != NO_TIME))
    assert 0 < hours.users.even.sum() < hours.model.even.sum()


def test_an_attention_that_finds_all_events_alike_has_a_lift_of_1(run: TrainedRun) -> None:
    attention = run.params["repeat_attention"]
    query = {"kernel": np.zeros_like(attention["query"]["kernel"])}
    params = {**run.params, "repeat_attention": {**attention, "query": query}}
    sums = attended_hours(dataclasses.replace(run, params=params)).model
    np.testing.assert_allclose(sums.spread, sums.even, atol=1e-4)
    for share, even in sums.shares().values():
        assert share == pytest.approx(even, abs=1e-4)


def hourly_items(log: PreparedLog, path: Path) -> PreparedLog:
    """The log, with the local hour of the day as every event's item."""
    rows = log.events().rows.copy()
    local = np.where(rows["time"] == NO_TIME, 0, rows["time"]) + rows["utc_offset"]
    items = local % DAY // HOUR
    rows["categorical/item"], vocabulary = encode_ids(items, rows["split"] == 0)
    item = dataclasses.replace(log.schema.categorical[0], values=24, known=24)
    schema = dataclasses.replace(log.schema, categorical=(item,))
    users = np.split(rows, log.offsets[1:-1])
    write_log(path, schema, users, log.users().to_pylist(), {"item": vocabulary}, {})
    return PreparedLog.open(path)


@pytest.mark.slow
def test_the_users_habits_are_seen(run: TrainedRun, tmp_path: Path) -> None:
    """Where every hour of the day has its own item, users return to that hour alone."""
    sums = attended_hours(retriever(hourly_items(run.log, tmp_path / "log"), "none")).users
    apart = HOUR_OF_DAY[:, None] != HOUR_OF_DAY
    assert sums.spread[apart].sum() == 0 and sums.even[apart].sum() > 0
    assert sums.shares()[next(iter(PAIRS))][0] == pytest.approx(1.0)


def test_cells_with_too_little_in_them_have_no_lift() -> None:
    even = np.zeros((len(HOURS), len(HOURS)))
    even[0, 5], even[1, 5] = 0.5, 8.0
    lift = HourSums(2 * even, even).lift(HOUR_OF_DAY)
    assert lift[1, 5] == 2 and np.isnan(np.delete(lift.ravel(), 24 + 5)).all()


def test_a_picture_and_numbers_come_of_it(run: TrainedRun, tmp_path: Path) -> None:
    hours = attended_hours(run)
    write_json(tmp_path / "numbers.json", hours.numbers())  # refuses what JSON does not have
    rows = {"users": hours.users, "model": hours.model}
    picture = draw_attended_hours(tmp_path / "hours.png", rows, "title")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_model_that_names_nothing_is_refused(run: TrainedRun) -> None:
    with refused("run", "model.repeat"):
        attended_hours(retriever(run.log, "none", repeat=False))


def test_lags_are_those_of_brute_force() -> None:
    rng = np.random.default_rng(0)
    request, event = rng.integers(0, 40 * DAY, (2, 3, 9))
    weight = rng.random((3, 9, 9), np.float32) * (rng.random((3, 9, 1)) < 0.8)
    past = (request[:, :, None] >= event[:, None, :]) & (rng.random((3, 9, 9)) < 0.9)
    lag = lag_in_hours(*(jax.device_put(Time.from_seconds(t)) for t in (request, event)))
    ours = lag_sums(*map(jax.device_put, (weight.astype(np.float32), past)), lag)
    expected = np.zeros((2, LAGS))
    for b, i in np.ndindex(3, 9):
        own = np.where(past[b, i], weight[b, i], 0)
        for j in np.flatnonzero(past[b, i] & (own.sum() > 0)):
            hours = int(np.floor((request[b, i] - event[b, j]) / HOUR + 0.5))
            if hours < LAGS:
                expected[:, hours] += own[j] / own.sum(), 1 / past[b, i].sum()
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    assert expected.sum() > 10


@pytest.mark.slow
def test_a_habit_of_every_day_is_seen_at_lags_of_whole_days(
    run: TrainedRun, tmp_path: Path
) -> None:
    """Where every hour of the day has its own item, users return after whole days."""
    users = attended_lags(retriever(hourly_items(run.log, tmp_path / "log"), "none")).users
    lags = np.arange(LAGS)
    apart = np.minimum(lags % 24, -lags % 24)
    assert users.spread[apart > 1].sum() == 0 and users.even[apart > 1].sum() > 0
    assert users.spread[apart <= 1].sum() > 0


def test_all_lags_together_are_no_more_than_all_requests(run: TrainedRun, tmp_path: Path) -> None:
    lags, hours = attended_lags(run), attended_hours(run)
    for name in ("model", "users"):
        spread, even = getattr(lags, name)
        requests = getattr(hours, name).even.sum()
        assert 0 < even.sum() <= requests * 1.001 and 0 < spread.sum() <= requests * 1.001
    picture = draw_attended_lags(tmp_path / "lags.png", {"model": lags.model}, "title")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_lag_with_too_few_events_has_no_lift() -> None:
    even = np.array([0.5, 8.0])
    np.testing.assert_array_equal(LagSums(2 * even, even).lift(), [np.nan, 2.0])
