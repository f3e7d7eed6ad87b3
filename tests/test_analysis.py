"""What the analysis says of rotations whose answer is known."""

from pathlib import Path

import numpy as np
import pytest

from siren_rope_jax.analysis import analyze, draw
from siren_rope_jax.data.pipeline import DataConfig
from siren_rope_jax.data.synthetic import SyntheticConfig, generate
from siren_rope_jax.experiment import RankingExperiment, TrainingConfig
from siren_rope_jax.train import fit
from siren_rope_jax.trained import TrainedRun
from tests.batches import small_config


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "feed"
    generate(SyntheticConfig(num_users=100, events_per_user=20, num_items=30), path)
    return path


def trained(name: str, feed: Path, workdir: Path) -> TrainedRun:
    data = DataConfig(str(feed), length=24, stride=12, batch_size=8)
    config = RankingExperiment(
        variant=name, data=data, model=small_config(name), training=TrainingConfig(0.1)
    )
    fit(config, workdir)
    return TrainedRun.open(workdir)


@pytest.mark.parametrize("name", ["ordinal", "to_rope"])
def test_linear_rotations_do_not_depart_from_shift_invariance(
    name: str, feed: Path, tmp_path: Path
) -> None:
    analysis = analyze(trained(name, feed, tmp_path))
    assert max(analysis.departure.values()) < 1e-3


def test_a_network_departs_and_its_periods_are_seen(feed: Path, tmp_path: Path) -> None:
    analysis = analyze(trained("siren_rope", feed, tmp_path / "run"))
    assert analysis.departure[12] > 0.01
    assert {24.0, 168.0} & set(analysis.spectrum)  # its inputs have no other periods
    np.testing.assert_allclose(np.diag(analysis.kernel), 1.0, atol=1e-5)
    assert np.abs(analysis.kernel).max() <= 1 + 1e-5
    picture = draw(tmp_path / "rotation.png", analysis, "title")
    assert picture.read_bytes().startswith(b"\x89PNG")
