"""Calibrated probabilities: what is fitted, and that everyone who opens a run gets it."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from siren_rope_jax.base.config import load_config_file
from siren_rope_jax.evaluation.calibrate import calibrate
from siren_rope_jax.evaluation.evaluate import as_text, evaluate_run
from siren_rope_jax.inference.encoded import encode
from siren_rope_jax.prepare.writer import write_log
from siren_rope_jax.training.calibration import Line, fitted, load
from siren_rope_jax.training.kinds import read_experiment
from siren_rope_jax.training.loop import fit
from siren_rope_jax.training.trained import TrainedRun
from tests.made_up import BASES, LOGS, TASKS, make_log
from tests.refusals import refused
from tests.scripts import printed


@given(st.floats(0.3, 3), st.floats(-2, 2), st.integers(0, 99))
def test_the_line_that_labels_were_drawn_by_is_found(scale, offset, seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=40_000)
    labels = rng.random(len(logits)) < expit(scale * logits + offset)
    line = fitted(labels.astype(int), expit(logits))
    np.testing.assert_allclose(line, [scale, offset], atol=0.15)


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=2, max_size=30))
def test_a_line_is_finite_and_keeps_the_order(pairs):
    scores, labels = (np.array(column, float) for column in zip(*pairs, strict=True))
    line = fitted(labels, scores)
    after = line.apply(scores)
    assert np.isfinite(line).all() and line.scale > 0
    assert ((after >= 0) & (after <= 1)).all()
    assert (np.diff(after[np.argsort(scores, kind="stable")]) >= 0).all()


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory):
    """A trained run of each kind."""
    found = {}
    for kind in ("ranking", "retrieval"):
        path = tmp_path_factory.mktemp(kind)
        (path / "base.py").write_text(BASES[kind])
        make_log(path / "log", users=60, **LOGS[kind])
        values = load_config_file(str(path / "base.py"), {"data.path": str(path / "log")})
        fit(read_experiment(values), path / "run")
        found[kind] = path / "run"
    return found


def scores_of(workdir, split="test"):
    evaluate_run(workdir, split)
    name = "predictions.parquet" if split == "test" else f"predictions_{split}.parquet"
    return pd.read_parquet(workdir / name)


def test_everything_that_opens_a_run_has_calibrated_probabilities(workdirs):
    workdir = workdirs["ranking"]
    own, of_validation = scores_of(workdir), scores_of(workdir, "validation")
    text = printed("calibrate", f"--workdir={workdir}")
    lines = load(workdir, TrainedRun.open(workdir).step)
    assert set(lines) == set(TASKS) and all(task in text for task in TASKS)
    outcome = evaluate_run(workdir)
    assert "calibrated" in as_text(outcome)
    assert outcome["calibration"] == {name: line._asdict() for name, line in lines.items()}
    after = pd.read_parquet(workdir / "predictions.parquet")
    for task, line in lines.items():
        known = of_validation[task].notna()
        labels, scores = (
            of_validation[task][known].astype(int),
            of_validation[f"{task}_score"][known],
        )
        np.testing.assert_allclose(fitted(labels.to_numpy(), scores.to_numpy()), line, atol=1e-3)
        expected = line.apply(own[f"{task}_score"].to_numpy())
        np.testing.assert_allclose(after[f"{task}_score"], expected, atol=1e-6)
    first = after.iloc[0]
    time, offset = int(first["time"]), int(first["utc_offset"])
    encoded = encode(TrainedRun.open(workdir), [first["user"]], before=time)
    served = encoded.score(pd.DataFrame({"item": [first["item"]]}), time, offset)
    for task in lines:
        np.testing.assert_allclose(served[task], first[f"{task}_score"], atol=1e-5)
    assert "calibration" not in evaluate_run(workdir, calibrated=False)  # as studies do
    pd.testing.assert_frame_equal(pd.read_parquet(workdir / "predictions.parquet"), own)
    (workdir / "calibration.json").unlink()
    pd.testing.assert_frame_equal(scores_of(workdir), own)


def test_a_task_that_is_ranked_by_chance_is_named(tmp_path):
    (tmp_path / "base.py").write_text(BASES["ranking"])
    log = make_log(tmp_path / "right", users=60, **LOGS["ranking"])
    histories = [history.copy() for history in log.histories_of(range(len(log.index)))]
    for history in histories:  # from the end of training on, `like` is the opposite
        turned = (history["split"] > 0) & (history["task/like"] >= 0)
        history["task/like"] = np.where(turned, 1 - history["task/like"], history["task/like"])
    vocabularies = {"item": log.vocabulary("item")}
    write_log(tmp_path / "log", log.schema, histories, log.users().to_pylist(), vocabularies, {})
    changes = {"data.path": str(tmp_path / "log"), "model.dropout": 0.0, "training.epochs": 4.0}
    fit(read_experiment(load_config_file(str(tmp_path / "base.py"), changes)), tmp_path / "run")
    with pytest.warns(UserWarning, match="^like: .* no better than chance"):
        lines = calibrate(tmp_path / "run")
    assert lines["like"].line.scale == 0.01 < lines["long"].line.scale


@pytest.mark.filterwarnings("ignore:.* no better than chance")
def test_a_calibration_is_of_one_checkpoint_and_of_a_ranker(workdirs):
    workdir = workdirs["ranking"]
    calibrate(workdir)
    found = json.loads((workdir / "calibration.json").read_text())
    assert load(workdir, found["step"])
    with pytest.warns(UserWarning, match=f"step {found['step']}.*not calibrated"):
        assert not load(workdir, found["step"] + 1)
    (workdir / "calibration.json").write_text('{"step": 3, "tasks": {"like": 1}}')
    with refused(workdir / "calibration.json"):
        load(workdir, 3)
    (workdir / "calibration.json").unlink()
    with refused("config.kind", "retrieval"):
        calibrate(workdirs["retrieval"])
    assert not (workdirs["retrieval"] / "calibration.json").exists()
    run = TrainedRun.open(workdir)
    assert run.calibration == {}
    assert run.progress.ended
    assert Line(1.0, 0.0).apply(np.array([0.25]))[0] == pytest.approx(0.25)
