"""Streams: an event is asked about before it is learned; learning pays where things change."""

import dataclasses
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from siren_rope_jax.base.files import read_json
from siren_rope_jax.commands import stream as stream_command
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.data.pipeline import DataConfig
from siren_rope_jax.data.timeline import Timeline
from siren_rope_jax.models.losses import LossConfig
from siren_rope_jax.prepare.config import PrepareConfig
from siren_rope_jax.prepare.table import prepare
from siren_rope_jax.prepare.writer import write_log
from siren_rope_jax.studies.staleness import Streams
from siren_rope_jax.studies.stream import FROZEN, StreamConfig, stream
from siren_rope_jax.studies.streamed import stream_run
from siren_rope_jax.training.experiment import TrainingConfig
from siren_rope_jax.training.kinds.ranking import RankingExperiment
from siren_rope_jax.training.kinds.retrieval import RetrievalExperiment
from siren_rope_jax.training.loop import fit
from siren_rope_jax.training.trained import TrainedRun
from tests.batches import small_config, small_retriever_config
from tests.made_up import change, make_log
from tests.refusals import refused

DAY = 86_400


def changed(log: PreparedLog, path: Path, after: int) -> PreparedLog:
    """The same log, but from a moment on everybody likes everything."""
    histories = [history.copy() for history in log.histories_of(range(len(log.index)))]
    for history in histories:
        for task in log.schema.tasks:
            column = history[f"task/{task}"]
            column[:] = np.where((history["time"] >= after) & (column >= 0), 1, column)
    names = [c.name for c in log.schema.categorical]
    vocabularies = {name: log.vocabulary(name) for name in names}
    write_log(path, log.schema, histories, log.users().to_pylist(), vocabularies, {})
    return PreparedLog.open(path)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> PreparedLog:
    return make_log(tmp_path_factory.mktemp("log") / "log", users=60, min_count=4)


@pytest.fixture(scope="module")
def run(log: PreparedLog, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    workdir = tmp_path_factory.mktemp("run") / "run"
    config = RankingExperiment(
        variant="siren_rope",
        data=DataConfig(str(log.path), length=24, stride=12, batch_size=8),
        model=small_config("siren_rope"),
        training=TrainingConfig(epochs=3.0, evaluations_per_epoch=1),
    )
    fit(config, workdir)
    return TrainedRun.open(workdir)


def on(run: TrainedRun, log: PreparedLog) -> TrainedRun:
    """The same model with the data of another log."""
    setup = dataclasses.replace(run.setup, log=log)
    return dataclasses.replace(run, setup=setup, log=log)


def joined(slices: list[Any], state: str) -> Any:
    parts = [s.scored[state] for s in slices if s.scored]
    scored = type(parts[0])(*map(np.concatenate, zip(*parts, strict=True)))
    order = np.argsort(scored.event)
    return type(scored)(*(column[order] for column in scored))


@pytest.mark.slow
def test_it_asks_about_every_test_event_once_as_the_evaluation_does(
    run: TrainedRun, log: PreparedLog
) -> None:
    slices = list(stream(run, StreamConfig(every=DAY)))
    tested = run.score("test")
    order = np.argsort(tested.event)
    frozen, present = (joined(slices, state) for state in (FROZEN, "0"))
    np.testing.assert_array_equal(frozen.event, tested.event[order])
    np.testing.assert_array_equal(present.event, frozen.event)
    np.testing.assert_allclose(frozen.score, tested.score[order], atol=1e-6)
    assert np.abs(present.score - frozen.score).mean() > 1e-3
    learned = [s.steps for s in slices]
    assert len(slices) >= 8 and min(learned) > 0


@pytest.mark.slow
def test_a_later_event_changes_nothing_that_was_said_before(
    run: TrainedRun, log: PreparedLog, tmp_path: Path
) -> None:
    moment = log.schema.validation_end + 2 * DAY
    config = StreamConfig(every=DAY, ages=(1,))
    slices = (
        list(stream(run, config)),
        list(stream(on(run, changed(log, tmp_path / "c", moment)), config)),
    )
    for state in ("0", "1"):
        said, again = (joined(list(s), state) for s in slices)
        early = log.events().rows["time"][said.event] < moment
        assert 50 < early.sum() < len(early) - 50
        np.testing.assert_array_equal(said.score[early], again.score[early])
        assert not np.allclose(said.score[~early], again.score[~early])


@pytest.mark.slow
def test_a_model_that_learns_follows_a_change_and_older_states_lag(
    run: TrainedRun, log: PreparedLog, tmp_path: Path
) -> None:
    other = on(run, changed(log, tmp_path / "c", log.schema.train_end))
    config = StreamConfig(every=DAY // 2, ages=(1, 4, 7), passes=2, learning_rate=3e-3)
    slices = list(stream(other, config))
    rows, loss = other.log.events().rows, {}
    for state in ("0", "1", "4", "7", FROZEN):
        scored = joined(slices, state)
        label = np.stack([rows[f"task/{t}"][scored.event] for t in other.log.schema.tasks], -1)
        p = np.where(label == 1, scored.score, 1 - scored.score)
        loss[state] = -np.log(p[label >= 0]).mean()
    assert loss["0"] < loss[FROZEN] - 0.05
    assert loss["0"] < loss["4"] < loss[FROZEN] and loss["1"] < loss["7"], loss


def test_the_timeline_divides_every_history(log: PreparedLog) -> None:
    timeline = Timeline.of(log)
    first, stop = log.schema.train_start + 3 * DAY, log.schema.train_start + 9 * DAY
    begin, end = timeline.between(first, stop)
    for user, history in enumerate(log.histories_of(range(len(log.index)))):
        inside = (history["time"] >= first) & (history["time"] < stop)
        np.testing.assert_array_equal(np.flatnonzero(inside), np.arange(begin[user], end[user]))
    assert len(timeline.events_between(first, stop).event) == (end - begin).sum()


def test_events_without_a_time_are_in_the_slices_of_their_split(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    time = np.sort(rng.integers(0, 1_000_000, 800)).astype(object)
    time[rng.random(800) < 0.3] = None
    frame = pd.DataFrame({"u": rng.integers(0, 40, 800), "i": rng.integers(0, 9, 800), "t": time})
    frame.loc[len(frame)] = [77, 1, None]  # a user without any time
    frame["t"] = frame["t"].astype("Int64")
    frame.to_parquet(tmp_path / "log.parquet")
    config = PrepareConfig("untimed", "u", "i", "t", allow_missing_time=True, drop_duplicates=False)
    prepare(config, tmp_path / "log.parquet", tmp_path / "log")
    log = PreparedLog.open(tmp_path / "log")
    timeline = Timeline.of(log)
    ends = [log.schema.train_end, log.schema.validation_end]
    np.testing.assert_array_equal(np.digitize(timeline.moment, ends), timeline.events.rows["split"])
    known = timeline.events.rows["time"] > 0
    np.testing.assert_array_equal(timeline.moment[known], timeline.events.rows["time"][known])
    assert timeline.before(log.schema.end + 1).sum() == len(known)


@pytest.mark.slow
def test_the_command_compares_all_runs_that_have_ended(
    log: PreparedLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def trained(variant: str, seed: int, **training: Any) -> None:
        config = RetrievalExperiment(
            variant=variant,
            seed=seed,
            data=DataConfig(str(log.path), length=24, stride=12, batch_size=8),
            model=small_retriever_config(variant),
            loss=LossConfig(kind="sampled_softmax", sampler="in_batch"),
            training=TrainingConfig(**{"epochs": 1.0} | training),
        )
        fit(config, tmp_path / "runs" / variant / f"seed_{seed}")

    for variant in ("ordinal", "siren_rope"):
        trained(variant, 0)
    (tmp_path / "runs" / "claimed").mkdir()
    shutil.copy(tmp_path / "runs/ordinal/seed_0/config.json", tmp_path / "runs/claimed")
    given = [f"--workdir={tmp_path / 'runs'}", "--every=24", "--ages=2"]

    def said() -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["stream", *given])
            stream_command.run()
        return capsys.readouterr().err

    assert said().count("is streamed") == 2
    text = (tmp_path / "runs" / "staleness.md").read_text()
    assert all(name in text for name in ("`ordinal`", "`siren_rope`", "48 h old", "*recent*"))
    assert (tmp_path / "runs" / "staleness.png").is_file()
    tested = TrainedRun.open(tmp_path / "runs/ordinal/seed_0").score("test")
    outcome = read_json(tmp_path / "runs/ordinal/seed_0/stream/stream.json")
    assert outcome["events"] == len(tested.event)
    assert sum(p["states"]["0"]["count"] for p in outcome["periods"]) == outcome["events"]
    change(tmp_path / "runs/ordinal/seed_0/stream/stream.json", step=1)  # as if trained on since
    again = said()
    assert again.count("is streamed") == again.count("was streamed before") == 1
    trained("ordinal", 1)
    with refused("seeds", "ordinal"):
        for run in (runs := sorted(p.parent for p in tmp_path.glob("runs/*/*/config.json"))):
            if not (run / "stream").exists():
                stream_run(run, StreamConfig(every=DAY, ages=(2,)))
        Streams.below(runs)


def test_what_cannot_be_streamed_is_refused(run: TrainedRun, log: PreparedLog) -> None:
    with refused("ages", "validation"):
        next(stream(run, StreamConfig(every=DAY, ages=(50,))))
    split = dataclasses.replace(log.schema, protocol="leave_one_out")
    with refused(log.path, "split by time"):
        next(stream(on(run, dataclasses.replace(log, schema=split)), StreamConfig()))
    for wrong in ({"every": 0}, {"ages": (3, 1)}, {"ages": (0,)}, {"passes": 0}):
        with refused(next(iter(wrong))):
            StreamConfig(**wrong)
