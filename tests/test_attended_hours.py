"""Attention by hours, against brute force and where the answer is known."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from siren_rope_jax.base.files import write_json
from siren_rope_jax.base.times import HOUR, NO_TIME
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.models.relation import Visibility
from siren_rope_jax.prepare.writer import encode_ids, write_log
from siren_rope_jax.studies.attended_hours import (
    HOUR_OF_DAY,
    HOURS,
    PAIRS,
    HourSums,
    attended_hours,
    draw_attended_hours,
    hour_sums,
)
from siren_rope_jax.training.trained import TrainedRun
from tests.made_up import make_log
from tests.refusals import refused
from tests.test_analysis import retriever


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    path = tmp_path_factory.mktemp("data") / "log"
    return retriever(make_log(path, users=16, days=40, no_time=0.1, min_count=1))


def test_sums_are_those_of_brute_force() -> None:
    rng = np.random.default_rng(0)
    shape = (3, 9)
    weight = rng.random((*shape, shape[1]), np.float32) * (rng.random((*shape, 1)) < 0.8)
    segment = np.sort(rng.integers(0, 3, shape), axis=-1)
    past = np.array(Visibility(segment).mask()[:, 0])
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


def test_the_users_habits_are_seen(run: TrainedRun, tmp_path: Path) -> None:
    """Where every hour of the day has its own item, users return to that hour alone."""
    log = run.log
    rows = log.events().rows.copy()
    local = np.where(rows["time"] == NO_TIME, 0, rows["time"]) + rows["utc_offset"]
    items = local % 86_400 // HOUR
    rows["categorical/item"], vocabulary = encode_ids(items, rows["split"] == 0)
    item = dataclasses.replace(log.schema.categorical[0], values=24, known=24)
    schema = dataclasses.replace(log.schema, categorical=(item,))
    users = np.split(rows, log.offsets[1:-1])
    write_log(tmp_path / "log", schema, users, log.users().to_pylist(), {"item": vocabulary}, {})
    sums = attended_hours(retriever(PreparedLog.open(tmp_path / "log"), "none")).users
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
