"""What the analysis says of rotations whose answer is known."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.data.pipeline import DataConfig
from siren_rope_jax.prepare.synthetic import SyntheticConfig, generate
from siren_rope_jax.studies.analysis import analyze, default_attention, draw
from siren_rope_jax.training.checkpoint import Progress
from siren_rope_jax.training.experiment import ExperimentConfig
from siren_rope_jax.training.kinds.ranking import RankingExperiment
from siren_rope_jax.training.kinds.retrieval import RetrievalExperiment
from siren_rope_jax.training.mesh import make_mesh
from siren_rope_jax.training.setup import setup
from siren_rope_jax.training.trained import TrainedRun
from tests.batches import small_config, small_retriever_config
from tests.made_up import make_log
from tests.refusals import refused

_CYCLIC = {"time": {"network": {"features": ("day", "week")}, "gate": {"init": 3.0}}}


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "feed"
    generate(SyntheticConfig(num_users=100, events_per_user=20, num_items=30), path)
    return path


@pytest.fixture(scope="module")
def checkins(tmp_path_factory: pytest.TempPathFactory) -> PreparedLog:
    return make_log(tmp_path_factory.mktemp("data") / "log", users=8, days=40, min_count=1)


def ranker(path: Path, name: str) -> TrainedRun:
    """A run as it is before training."""
    data = DataConfig(str(path), length=24, stride=12, batch_size=8)
    config = RankingExperiment(variant=name, data=data, model=small_config(name))
    return untrained(config, PreparedLog.open(path))


def retriever(log: PreparedLog, name: str = "siren_rope", **changes: Any) -> TrainedRun:
    """Likewise."""
    model = small_retriever_config(name, **{"repeat": True, **changes})
    data = DataConfig(str(log.path), length=24, stride=12, batch_size=8)
    return untrained(RetrievalExperiment(variant=name, data=data, model=model), log)


def untrained(config: ExperimentConfig, log: PreparedLog) -> TrainedRun:
    of_run = setup(config, log, make_mesh())
    return TrainedRun(of_run, log, of_run.init_params(0), 0, Progress())


@pytest.fixture(scope="module")
def cyclic(checkins: PreparedLog) -> TrainedRun:
    return retriever(checkins, encoding=_CYCLIC)


@pytest.mark.parametrize("name", ["ordinal", "to_rope"])
def test_linear_rotations_do_not_depart_from_shift_invariance(name: str, feed: Path) -> None:
    analysis = analyze(ranker(feed, name))
    assert max(analysis.departure.values()) < 1e-3


def test_a_network_departs_and_its_periods_are_seen(feed: Path, tmp_path: Path) -> None:
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


def test_order_alone_knows_no_hours_in_a_retriever_either(checkins: PreparedLog) -> None:
    analysis = analyze(retriever(checkins, "ordinal"))
    assert analysis.attention == "last"
    assert max(analysis.departure.values()) < 1e-6 and not analysis.spectrum
    np.testing.assert_allclose(analysis.kernel, 1.0, atol=1e-6)


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
