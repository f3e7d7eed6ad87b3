"""Training as users see it: real processes, real kills, resuming, sharding, refusals."""

import dataclasses
import functools
import gzip
import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh

from siren_rope_jax.base.config import to_dict
from siren_rope_jax.base.files import write_json
from siren_rope_jax.data.assemble import RANKING_LAYOUT, Layout, next_item_layout
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.data.pipeline import Batches, DataConfig
from siren_rope_jax.evaluation.evaluate import evaluate_run
from siren_rope_jax.metrics.ranks import metrics_of_ranks
from siren_rope_jax.models.losses import LossConfig
from siren_rope_jax.prepare.synthetic import SyntheticConfig, generate
from siren_rope_jax.prepare.writer import write_log
from siren_rope_jax.studies.ablation import Run
from siren_rope_jax.studies.comparable import RUN_KEYS, check_alike, finished_run
from siren_rope_jax.studies.datasets import Log
from siren_rope_jax.studies.jobs import train_and_evaluate
from siren_rope_jax.training.checkpoint import Checkpoints, _Kept
from siren_rope_jax.training.experiment import ExperimentConfig, TrainingConfig
from siren_rope_jax.training.interruption import ending_on_sigterm
from siren_rope_jax.training.kinds import read_experiment
from siren_rope_jax.training.kinds.ranking import RankingExperiment
from siren_rope_jax.training.kinds.retrieval import RetrievalExperiment
from siren_rope_jax.training.loop import fit, is_validated, take_step
from siren_rope_jax.training.mesh import MeshConfig, make_mesh, place_batch
from siren_rope_jax.training.optim import (
    NO_DECAY,
    OptimizerConfig,
    decays,
    learning_rate,
    make_optimizer,
)
from siren_rope_jax.training.run_log import read_metrics
from siren_rope_jax.training.setup import setup, training_steps
from siren_rope_jax.training.trained import TrainedRun
from siren_rope_jax.training.workdir import claim_workdir, load_config, owned
from tests.batches import interrupted_after, small_config, small_retriever_config
from tests.made_up import change, make_log
from tests.refusals import refused
from tests.scripts import ROOT, has_checkpoint, printed, restored_step, xla_flags
from tests.scripts import run as run_script

LONELY = "one event"


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "feed"
    generate(SyntheticConfig(num_users=300, events_per_user=20, num_items=30), path)
    return path


@pytest.fixture(scope="module")
def rare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log with test items that train has never seen, and amid its users one of a single event."""
    place = tmp_path_factory.mktemp("data")
    log = make_log(place / "made_up", items=400, min_count=1)
    histories, users = log.histories_of(range(len(log.index))), log.users().to_pylist()
    histories.insert(7, histories[7][-1:])
    users.insert(7, LONELY)
    write_log(place / "rare", log.schema, histories, users, {"item": log.vocabulary("item")}, {})
    return place / "rare"


def experiment(feed: Path, **training: Any) -> RankingExperiment:
    return RankingExperiment(
        variant="siren_rope",
        data=DataConfig(str(feed), length=24, stride=12, batch_size=8),
        model=small_config("siren_rope", dropout=0.1),
        training=TrainingConfig(**{"epochs": 1.0, "evaluations_per_epoch": 3, **training}),
    )


def next_item_experiment(feed: Path, **training: Any) -> RetrievalExperiment:
    model = small_retriever_config("siren_rope_hstu_bias", dropout=0.1)
    common = vars(experiment(feed, **training))
    return RetrievalExperiment(**common | {"kind": "retrieval", "model": model})


EXPERIMENTS = pytest.mark.parametrize("make", [experiment, next_item_experiment])
Make = Callable[..., ExperimentConfig]


def final_params(config: ExperimentConfig, workdir: Path) -> Any:
    wanted = setup(config, PreparedLog.open(config.data.path), make_mesh()).param_specs
    with Checkpoints(workdir) as checkpoints:
        return checkpoints.best(wanted)


@pytest.mark.slow
@EXPERIMENTS
def test_metrics_are_written_and_the_best_checkpoint_is_kept(
    feed: Path, tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = make(feed, log_every=2, tensorboard=True, wandb="rotations")
    criterion = {"ranking": "ne", "retrieval": "nll"}[config.kind]
    progress = fit(config, tmp_path / "run")
    lines = read_metrics(tmp_path / "run")
    validations = [line for line in lines if line["kind"] == "validation"]
    best = min(validations, key=lambda line: line[criterion])
    _, step = final_params(config, tmp_path / "run")
    assert progress.best_step == step == best["step"]
    assert {"loss", "events_per_second", "gradient_norm"} <= lines[0].keys()
    measured = {"ranking": "ne/like", "retrieval": "ndcg@10"}[config.kind]
    assert {measured, "gate/order", "gate/time"} <= best.keys()
    assert load_config(tmp_path / "run") == config
    assert list((tmp_path / "run/tensorboard").iterdir())
    (written,) = (tmp_path / "run/wandb").glob("offline-run-*/run-*.wandb")
    for said in ("rotations", config.variant, "train/loss", f"validation/{criterion}"):
        assert said.encode() in written.read_bytes()


@pytest.mark.slow
def test_another_criterion_chooses_the_checkpoint(feed: Path, tmp_path: Path) -> None:
    config = next_item_experiment(feed, evaluations_per_epoch=6)
    config = dataclasses.replace(config, criterion="mrr")
    progress = fit(config, tmp_path / "run")
    lines = read_metrics(tmp_path / "run")
    best = max((x for x in lines if x["kind"] == "validation"), key=lambda line: line["mrr"])
    assert (progress.best_step, -progress.best) == (best["step"], best["mrr"])
    assert TrainedRun.open(tmp_path / "run").step == best["step"]


@pytest.mark.parametrize(
    ("steps", "epoch", "per_epoch", "expected"),
    [
        (12, 5, 1, {5, 10, 12}), (10, 5, 1, {5, 10}), (695, 695, 2, {348, 695}),
        (5, 5, 3, {2, 3, 5}), (8, 5, 3, {2, 3, 5, 7, 8}), (4, 3, 7, {1, 2, 3, 4}),
        (2, 100, 3, {2}), (1, 1, 1, {1}),
    ],
)  # fmt: skip
def test_validations_are_spread_evenly(
    steps: int, epoch: int, per_epoch: int, expected: set[int]
) -> None:
    found = {s for s in range(1, steps + 1) if is_validated(s, steps, epoch, per_epoch)}
    assert found == expected


@pytest.mark.slow
def test_a_run_validates_when_it_should(feed: Path, tmp_path: Path) -> None:
    config = experiment(feed, evaluations_per_epoch=7, patience=100)
    epoch = setup(config, PreparedLog.open(feed), make_mesh()).batches.epoch
    assert epoch % 7  # else any rule would do
    fit(config, tmp_path)
    steps = [x["step"] for x in read_metrics(tmp_path) if x["kind"] == "validation"]
    assert steps == [round(k * epoch / 7) for k in range(1, 8)]


def _command(config: ExperimentConfig, path: Path, workdir: Path) -> list[str]:
    script = (
        "import json, sys; from pathlib import Path\n"
        "from siren_rope_jax.training.kinds import read_experiment\n"
        "from siren_rope_jax.training.loop import fit\n"
        "config = read_experiment(json.loads(Path(sys.argv[1]).read_text()))\n"
        "fit(config, Path(sys.argv[2]))\n"
    )
    path.write_text(json.dumps(to_dict(config)))
    return [sys.executable, "-c", script, str(path), str(workdir)]


@pytest.mark.slow
@EXPERIMENTS
def test_a_killed_run_resumes_to_the_very_same_parameters(
    feed: Path, tmp_path: Path, make: Make
) -> None:
    """SIGKILL after the first checkpoint; the same command again ends where no kill would have."""
    config = make(feed, epochs=3.0)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    subprocess.run(
        _command(config, tmp_path / "a.json", undisturbed), check=True, env=environment, cwd=ROOT
    )
    command = _command(config, tmp_path / "b.json", killed)
    process = subprocess.Popen(command, env=environment, cwd=ROOT)
    deadline = time.monotonic() + 120
    while not has_checkpoint(killed):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    again = subprocess.run(
        command, check=True, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    assert restored_step(again.stderr) > 0

    for one, other in zip(
        *(jax.tree.leaves(final_params(config, d)) for d in (undisturbed, killed)), strict=True
    ):
        np.testing.assert_array_equal(one, other)

    def curve(workdir: Path) -> list[dict[str, Any]]:
        ignored = "events_per_second"
        return [{key: x[key] for key in x if key != ignored} for x in read_metrics(workdir)]

    assert curve(undisturbed) == curve(killed)


LAYOUTS = pytest.mark.parametrize("layout", [RANKING_LAYOUT, next_item_layout()])


@LAYOUTS
def test_a_batch_is_known_by_its_number(feed: Path, layout: Layout) -> None:
    """A training goes on with any batch, and with any number of processes that share it."""
    config = DataConfig(str(feed), 24, 12, 8)
    log = PreparedLog.open(feed)

    def events(batches: Batches, first: int, count: int) -> list[np.ndarray]:
        rows = itertools.islice(batches.train(3, first), count)
        return [np.sort(batch.event, axis=None) for batch in rows]

    expected = events(Batches(log, config, layout), 0, 205)  # across the end of an epoch
    for found, batch in zip(
        events(Batches(log, config, layout), 5, 200), expected[5:], strict=True
    ):
        np.testing.assert_array_equal(found, batch)
    parts = [Batches(log, config, layout, (part,), 2) for part in range(2)]
    halves = zip(*(events(part, 100, 20) for part in parts), strict=True)
    for both, batch in zip(halves, expected[100:120], strict=True):
        np.testing.assert_array_equal(np.sort(np.concatenate(both)), batch)


@LAYOUTS
def test_processes_share_an_epoch(feed: Path, layout: Layout) -> None:
    """Every process reads the rows that its devices hold, wherever they are in the batch."""
    log, config = PreparedLog.open(feed), DataConfig(str(feed), 24, 12, 8)

    def events(*held: int) -> np.ndarray:
        iterator = iter(Batches(log, config, layout, held, 4).train(seed=3))
        return np.stack([next(iterator).event for _ in range(10)])

    whole, two = events(0, 1, 2, 3), (events(0, 3), events(1, 2))
    assert whole.shape[:2] == (10, 8)
    np.testing.assert_array_equal(whole[:, [0, 1, 6, 7]], two[0])
    np.testing.assert_array_equal(whole[:, 2:6], two[1])


@LAYOUTS
def test_processes_share_an_evaluation(feed: Path, layout: Layout) -> None:
    """Also where devices do not divide the batch: all get as many batches and rows of them."""
    log, config = PreparedLog.open(feed), DataConfig(str(feed), 24, 12, batch_size=8)

    def events(*held: int) -> np.ndarray:
        batches = Batches(log, config, layout, held, 6)
        return np.stack([batch.event for batch in batches.evaluation("test")])

    one, three = events(*range(6)), [events(2 * n, 2 * n + 1) for n in range(3)]
    assert one.shape[1:] == (12, 24)  # 12 rows are the least that are 8 and 6 devices share
    np.testing.assert_array_equal(np.concatenate(three, axis=1), one)
    expected = log.events("test").event
    np.testing.assert_array_equal(np.sort(one[one >= 0]), expected)


def _but_first(log: PreparedLog, events: np.ndarray) -> np.ndarray:
    """Without every user's first event, which nothing precedes."""
    return np.setdiff1d(events, log.offsets)


@LAYOUTS
def test_an_epoch_has_every_training_event_once(feed: Path, layout: Layout) -> None:
    log, config = PreparedLog.open(feed), DataConfig(str(feed), 24, 12, 1)
    batches = Batches(log, config, layout)
    iterator = iter(batches.train(seed=0))
    events = np.concatenate([next(iterator).event.ravel() for _ in range(batches.epoch)])
    expected = log.events("train").event
    expected = _but_first(log, expected) if layout.places_saved else expected
    np.testing.assert_array_equal(np.sort(events[events >= 0]), expected)


def test_a_next_item_batch_is_the_log(feed: Path) -> None:
    """Every slot's target, request time and own event are the log's."""
    log = PreparedLog.open(feed)
    rows = log.events().rows
    item = log.schema.categorical[0]
    config = DataConfig(str(feed), 24, 12, 8)
    seen = []
    for batch in Batches(log, config, next_item_layout()).evaluation("test"):
        asked = batch.event >= 0
        event = batch.event[asked]
        for slot_time, of in ((batch.request_time, event), (batch.time, event - 1)):
            seconds = slot_time.day[asked].astype(np.int64) * 86_400 + slot_time.second[asked]
            np.testing.assert_array_equal(seconds, rows["time"][of])
            np.testing.assert_array_equal(slot_time.offset[asked], rows["utc_offset"][of])
        ids = item.known_ids(rows["categorical/item"])
        np.testing.assert_array_equal(batch.target[asked], ids[event])
        np.testing.assert_array_equal(batch.categorical[asked][:, 0], ids[event - 1])
        user = np.searchsorted(log.offsets, event, side="right") - 1
        np.testing.assert_array_equal(batch.history[asked], log.offsets[user])
        seen.append(event)
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), log.events("test").event)


@pytest.mark.slow
def test_in_batch_negatives_are_of_other_users(feed: Path) -> None:
    """All windows of a user are one history, which has no negatives for itself."""
    loss = LossConfig("sampled_softmax", sampler="in_batch")
    config = dataclasses.replace(next_item_experiment(feed), loss=loss)
    training = setup(config, PreparedLog.open(feed), make_mesh())
    params, key = training.init_params(0), jax.random.key(0)
    batch = next(iter(training.batches.train(0)))

    def loss(batch: Any) -> Any:
        variables = {"params": params}
        return training.kind.loss(training.model, variables, batch, key, training.statistics)[0]

    assert loss(batch) > 0.1
    assert loss(dataclasses.replace(batch, history=np.full_like(batch.history, 7))) == 0


def test_only_positives_of_a_task_are_asked_for(feed: Path) -> None:
    log = PreparedLog.open(feed)
    config = DataConfig(str(feed), 24, 12, 8)
    batches = Batches(log, config, next_item_layout("like")).evaluation("test")
    events = np.concatenate([batch.event.ravel() for batch in batches])
    test = log.events("test")
    expected = test.event[test.rows["task/like"] == 1]
    np.testing.assert_array_equal(np.sort(events[events >= 0]), expected)
    wrong = next_item_experiment(feed)
    data = dataclasses.replace(wrong.data, target_task="liek")
    with refused("config.data.target_task", "like"):
        setup(dataclasses.replace(wrong, data=data), log, make_mesh())
    with refused("config.data.target_task"):
        setup(dataclasses.replace(experiment(feed), data=data), log, make_mesh())


@EXPERIMENTS
def test_evaluation_scores_every_event_of_its_split_once(feed: Path, make: Make) -> None:
    log = PreparedLog.open(feed)
    training = setup(make(feed), log, make_mesh())
    scored: Any = training.score(training.init_params(0), "test")
    expected = log.events("test")
    order = np.argsort(scored.event)
    np.testing.assert_array_equal(scored.event[order], expected.event)
    if make is experiment:
        np.testing.assert_array_equal(scored.label[order, 1], expected.rows["task/like"])


def test_a_target_that_train_has_never_seen_has_no_rank(rare: Path) -> None:
    log = PreparedLog.open(rare)
    training = setup(next_item_experiment(rare), log, make_mesh())
    ranked: Any = training.score(training.init_params(0), "test")
    item = log.schema.categorical[0]
    known = item.known_ids(log.events().rows["categorical/item"][ranked.event]) > 0
    assert 0 < known.sum() < len(known)
    np.testing.assert_array_equal(ranked.rank > 0, known)
    assert ranked.rank.max() <= item.known
    np.testing.assert_array_equal(np.isfinite(ranked.nll), known)


@pytest.mark.slow
@pytest.mark.parametrize("filter_seen", [False, True])
def test_a_user_of_one_event_is_never_asked_for(
    rare: Path, tmp_path: Path, filter_seen: bool
) -> None:
    """From training to the files: all targets of the others are there, and finite."""
    log, config = PreparedLog.open(rare), next_item_experiment(rare)
    outcome = train_and_evaluate(dataclasses.replace(config, filter_seen=filter_seen), tmp_path)
    test = log.events("test").event
    expected = _but_first(log, test)
    frame = pd.read_parquet(tmp_path / "predictions.parquet")
    assert frame["event"].tolist() == expected.tolist() and len(expected) == len(test) - 1
    assert LONELY in log.users().to_pylist() and LONELY not in set(frame["user"])
    assert outcome["events"] == outcome["ranking"]["count"] == len(expected)
    assert 0 < outcome["ranking"]["unranked"] < len(expected)
    assert np.isfinite([outcome["ranking"][metric] for metric in ("nll", "mrr", "ndcg@10")]).all()


@EXPERIMENTS
def test_packed_and_unpacked_rows_score_the_same(feed: Path, make: Make) -> None:
    log, config = PreparedLog.open(feed), make(feed)
    scores = []
    for pack in (True, False):
        data = dataclasses.replace(config.data, pack=pack)
        training = setup(dataclasses.replace(config, data=data), log, make_mesh())
        scored: Any = training.score(training.init_params(0), "test")
        column = scored.score if make is experiment else scored.nll
        scores.append(column[np.argsort(scored.event)])
    np.testing.assert_allclose(*scores, atol=1e-5)


@pytest.mark.slow
def test_items_had_before_are_no_candidates_where_filtered(feed: Path) -> None:
    """The ranks are those of the model's own scores among what is left."""
    log, config = PreparedLog.open(feed), next_item_experiment(feed)
    config = dataclasses.replace(config, filter_seen=True)
    training = setup(config, log, make_mesh())
    params = training.init_params(0)
    ranked = training.score(params, "test")
    rank = dict(zip(ranked.event.tolist(), ranked.rank.tolist(), strict=True))
    item = log.schema.categorical[0]
    ids = item.known_ids(log.events().rows["categorical/item"])
    apart, apply = [], jax.jit(training.model.apply)
    for batch in training.batches.evaluation("test"):
        query, table, _ = apply({"params": params}, batch)
        query, items = np.asarray(query), np.asarray(table.values)
        for row, slot in np.argwhere(batch.event >= 0)[::7]:
            event, target = batch.event[row, slot], batch.target[row, slot]
            score = items @ query[row, slot]
            user = np.searchsorted(log.offsets, event, side="right") - 1
            allowed = set(range(1, item.rows)) - set(ids[log.offsets[user] : event])
            if target not in allowed:
                assert rank[event] == 0
                continue
            better = sum(score[other] >= score[target] for other in allowed)
            apart.append(rank[event] - better)
    # Rounding parts ties now and then.
    assert len(apart) > 5 and np.abs(apart).max() <= 1 and np.mean(np.equal(apart, 0)) > 0.9


@pytest.mark.parametrize("loss", [LossConfig("gbce"), LossConfig("sampled_softmax", log_q=False)])
def test_a_loss_that_learns_no_probabilities_has_no_nll(feed: Path, loss: LossConfig) -> None:
    log, config = PreparedLog.open(feed), next_item_experiment(feed)
    config = dataclasses.replace(config, loss=loss, criterion="mrr")
    training = setup(config, log, make_mesh())
    params = training.init_params(0)
    assert set(training.validate(params)) == {"mrr", "hr@10", "ndcg@10"}
    ranked = training.score(params, "test")
    assert np.isnan(ranked.nll).all() and (ranked.rank > 0).any()
    assert metrics_of_ranks(ranked.rank, ranked.nll)["nll"] is None


def lazy_experiment(feed: Path) -> ExperimentConfig:
    """Only the rows that a step touches are updated; its batch has two slices."""
    config, loss = next_item_experiment(feed), LossConfig("sampled_softmax", sampler="shared")
    optimizer = OptimizerConfig(lazy_adam=("items",), row_wise_adagrad=("embed_*",))
    training = dataclasses.replace(config.training, slices=2)
    return dataclasses.replace(config, loss=loss, optimizer=optimizer, training=training)


def in_batch_experiment(feed: Path) -> ExperimentConfig:
    """Negatives are other rows' targets, and do not fit into one block."""
    loss = LossConfig(kind="sampled_softmax", sampler="in_batch", block_elements=2**10)
    return dataclasses.replace(next_item_experiment(feed), loss=loss)


def _after_twenty_steps(config: ExperimentConfig, log: PreparedLog, mesh: Mesh) -> Any:
    """The losses of twenty steps of 16 rows, and the parameters after them."""
    data = dataclasses.replace(config.data, batch_size=16)
    training = setup(dataclasses.replace(config, data=data), log, mesh)
    batches, state, key = iter(training.batches.train(0)), training.init(0), training.key(0)
    losses = []
    for _ in range(20):
        batch = place_batch(next(batches), mesh)
        state, metrics = training.step(state, batch, key, training.statistics)
        losses.append(metrics["loss"])
    return np.array(losses), state.params


@pytest.fixture(scope="module")
def on_one_device(large_catalogue: Path) -> Callable[..., Any]:
    log, one = PreparedLog.open(large_catalogue), make_mesh(MeshConfig(), jax.devices()[:1])
    return functools.cache(lambda make: _after_twenty_steps(make(large_catalogue), log, one))


@pytest.fixture(scope="module")
def large_catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With so many items that eight devices can divide their table."""
    path = tmp_path_factory.mktemp("large") / "feed"
    generate(SyntheticConfig(num_users=60, events_per_user=30, num_items=130), path)
    return path


MESHES = (
    (experiment, (2, 2, 2)),
    (next_item_experiment, (8, 1, 1)),
    (next_item_experiment, (1, 8, 1)),
    (next_item_experiment, (1, 2, 4)),
    (in_batch_experiment, (2, 2, 2)),
    (lazy_experiment, (1, 8, 1)),
    (lazy_experiment, (2, 2, 2)),
)


@pytest.mark.slow
@pytest.mark.parametrize(("make", "shape"), MESHES)
def test_every_mesh_trains_as_one_device(
    large_catalogue: Path, on_one_device: Callable[..., Any], make: Make, shape: tuple[int, ...]
) -> None:
    """With Adam, whatever is divided: the batch, the layers, the tables."""
    losses, params = on_one_device(make)
    mesh = make_mesh(MeshConfig(*shape))
    others = _after_twenty_steps(make(large_catalogue), PreparedLog.open(large_catalogue), mesh)
    np.testing.assert_allclose(others[0], losses, atol=1e-5)
    flat, own = flatten_dict(params, sep="/"), flatten_dict(others[1], sep="/")
    for name, expected in flat.items():
        # A constant angle of queries and keys alike moves nothing: its gradient is noise, which
        # Adam makes as large as any other.
        if not name.endswith("/linear/bias"):
            np.testing.assert_allclose(own[name], expected, atol=1e-5, err_msg=name)
    tables = [x for name, x in own.items() if name.endswith("/embedding")]
    assert max(x.shape[1] // x.sharding.shard_shape(x.shape)[1] for x in tables) == 8


@pytest.mark.parametrize("make", [experiment, next_item_experiment, in_batch_experiment])
def test_a_step_compiles_without_any_data(feed: Path, make: Make) -> None:
    """For a log that is never read, and for a spec alone; it is the step that training takes."""
    config, log = dataclasses.replace(make(feed), seed=1), PreparedLog.open(feed)
    with_log = setup(config, log, make_mesh())
    without = setup(config, with_log.data, make_mesh(), with_log.steps)
    batch = next(iter(with_log.batches.train(0)))
    placed = place_batch(batch, with_log.mesh)
    for spec, array in zip(*map(jax.tree.leaves, (without.batch_specs, placed)), strict=True):
        assert (spec.shape, spec.dtype, spec.sharding) == (array.shape, array.dtype, array.sharding)
    compiled = without.trace().lower().compile()
    state = compiled(with_log.init(1), placed, with_log.key(1), with_log.statistics)[0]
    stepped = with_log.step(with_log.init(1), placed, with_log.key(1), with_log.statistics)[0]
    jax.tree.map(np.testing.assert_array_equal, state.params, stepped.params)
    with pytest.raises(ValueError, match="no log"):
        _ = without.batches


@pytest.mark.slow
@EXPERIMENTS
def test_a_run_is_evaluated_elsewhere_as_it_is_here(feed: Path, tmp_path: Path, make: Make) -> None:
    """On three devices, which do not divide its batches, and with its log in another place."""
    log, run = tmp_path / "log", tmp_path / "run"
    shutil.copytree(feed, log)
    config: Any = make(log, epochs=0.3)
    if config.kind == "retrieval":
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, repeat=True))
    fit(config, run)
    one_device = Mesh(jax.devices()[:1], ("data",))
    training = setup(config, PreparedLog.open(log), one_device)
    params = jax.device_get(TrainedRun.open(run).params)
    here: Any = training.score(params, "test")

    moved = log.rename(tmp_path / "moved")
    for name, flags in (("analyze", [f"--log={moved}"]), ("evaluate", [])):
        printed(name, f"--workdir={run}", *flags, XLA_FLAGS=xla_flags(3))
    frame, order = pd.read_parquet(run / "predictions.parquet"), np.argsort(here.event)
    assert frame["event"].tolist() == here.event[order].tolist()
    if config.kind == "ranking":
        columns = [f"{task}_score" for task in training.batches.log.schema.tasks]
        np.testing.assert_allclose(frame[columns], here.score[order], atol=1e-6)
    else:
        np.testing.assert_allclose(frame["nll"], here.nll[order], atol=1e-5)
        assert np.abs(frame["rank"] - here.rank[order]).max() <= 1  # rounding may part ties
        assert "attended_hours" in json.loads((run / "analysis.json").read_text())
        assert (run / "plots" / "attended_lags.png").is_file()
    assert load_config(run).data.path == str(moved)


def test_an_update_takes_the_mean_of_accumulated_gradients() -> None:
    gradients = [{"w": jnp.ones((2, 2)) * g} for g in (0.1, 0.3)]
    params = {"w": jnp.ones((2, 2))}

    def run(accumulate: int, sequence: list[Any]) -> Any:
        config = OptimizerConfig(accumulate=accumulate, warmup_fraction=0.0)
        optimizer = make_optimizer(config, steps=4 * accumulate)
        state, current = optimizer.init(params), params
        for gradient in sequence:
            updates, state = optimizer.update(gradient, state, current)
            current = optax.apply_updates(current, updates)
        return current["w"]

    mean = {"w": jnp.ones((2, 2)) * 0.2}
    np.testing.assert_allclose(run(2, gradients * 2), run(1, [mean] * 2), rtol=1e-6)


def test_a_training_is_of_whole_updates(feed: Path, tmp_path: Path) -> None:
    def config(accumulate: int) -> ExperimentConfig:
        optimizer = OptimizerConfig(accumulate=accumulate)
        return dataclasses.replace(experiment(feed, epochs=1.0), optimizer=optimizer)

    assert [training_steps(config(n), 10) for n in (1, 3, 10)] == [10, 9, 10]
    with refused("config.optimizer.accumulate", 11, 10):
        training_steps(config(11), 10)
    with refused("config.optimizer.accumulate", 4096):
        fit(config(4096), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("updates", [1, 2, 40])
@pytest.mark.parametrize("warmup", [0.0, 0.1])
def test_every_update_learns_the_first_one_too(updates: int, warmup: float) -> None:
    config = OptimizerConfig(
        learning_rate=0.3, warmup_fraction=warmup, final_fraction=0.1, accumulate=3
    )
    schedule = learning_rate(config, steps=3 * updates)
    rates = np.array([schedule(update) for update in range(updates + 1)])
    rising = round(warmup * updates)
    assert rates.min() > 0 and rates.max() == pytest.approx(0.3)
    assert (np.diff(rates[: rising + 1]) > 0).all() and (np.diff(rates[rising:]) < 0).all()
    assert rates[-1] == pytest.approx(0.03)  # after the last update


@EXPERIMENTS
def test_weight_decay_leaves_angles_gates_biases_and_norms_alone(feed: Path, make: Make) -> None:
    params = setup(make(feed), PreparedLog.open(feed), make_mesh()).param_specs
    decay = decays(OptimizerConfig(), params)
    assert not any(jax.tree.leaves(decay["encoding"]))
    for path, shrinks in jax.tree_util.tree_leaves_with_path(decay):
        name = path[-1].key
        if shrinks:
            assert name in ("kernel", "embedding")
        else:
            assert path[0].key == "encoding" or name not in ("kernel", "embedding")
    all_of_it = decays(OptimizerConfig(no_decay=()), params)
    assert all(jax.tree.leaves(all_of_it))
    own = OptimizerConfig(no_decay=(*NO_DECAY, "block_0/*"))
    assert not any(jax.tree.leaves(decays(own, params)["block_0"]))
    with refused("config.optimizer.no_decay", "blok_0/*"):
        decays(OptimizerConfig(no_decay=("blok_0/*",)), params)


@pytest.mark.parametrize(
    ("make", "lazy"),
    [(experiment, ()), (next_item_experiment, ()), (next_item_experiment, ("items",))],
)
def test_frozen_parameters_stay_as_they_began(
    feed: Path, make: Make, lazy: tuple[str, ...]
) -> None:
    """The network and the gates of time do, whatever the weight decay, and all others learn."""
    optimizer = OptimizerConfig(
        frozen=("encoding/time/*",), no_decay=(), weight_decay=0.5, lazy_adam=lazy
    )
    config: Any = dataclasses.replace(make(feed), optimizer=optimizer)
    if lazy:
        config = dataclasses.replace(config, loss=LossConfig("sampled_softmax"))
    training = setup(config, PreparedLog.open(feed), make_mesh())
    state, batches = training.init(config.seed), training.batches.train(config.seed)
    before = jax.device_get(state.params)
    for batch in itertools.islice(batches, 2):
        state, _ = take_step(training, state, batch, training.key(config.seed), training.statistics)
    after = jax.device_get(state.params)
    changed = jax.tree.map(lambda x, y: (x != y).any(), before, after)
    assert not any(jax.tree.leaves(changed["encoding"].pop("time")))
    assert all(jax.tree.leaves(changed))


def test_a_table_that_is_updated_by_rows_cannot_be_frozen(feed: Path, tmp_path: Path) -> None:
    optimizer = OptimizerConfig(frozen=("items",), lazy_adam=("items",))
    loss = LossConfig("sampled_softmax")
    config = dataclasses.replace(next_item_experiment(feed), optimizer=optimizer, loss=loss)
    with refused("config.optimizer.frozen", "items"):
        fit(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_diverging_run_stops_with_a_message(feed: Path, tmp_path: Path) -> None:
    config = experiment(feed)
    wild = OptimizerConfig(learning_rate=1e30, clip_norm=1e30, warmup_fraction=0.0)
    with refused("loss", "step"):
        fit(dataclasses.replace(config, optimizer=wild), tmp_path / "run")


def test_another_experiments_workdir_is_refused(feed: Path, tmp_path: Path) -> None:
    config = experiment(feed)
    claim_workdir(tmp_path / "run", config, "data")
    claim_workdir(tmp_path / "run", config, "data")
    (tmp_path / "run/checkpoints/5").mkdir(parents=True)
    with refused(tmp_path / "run", "config.training.epochs", 1.0, 2.0):
        claim_workdir(tmp_path / "run", experiment(feed, epochs=2.0), "data")
    with refused(tmp_path / "run"):
        claim_workdir(tmp_path / "run", config, "other data")
    data = dataclasses.replace(config.data, path=str(tmp_path / "elsewhere"))
    moved = dataclasses.replace(config, data=data)
    with refused(tmp_path / "run"):
        claim_workdir(tmp_path / "run", moved, "other data")
    assert load_config(tmp_path / "run") == config
    claim_workdir(tmp_path / "run", moved, "data")
    assert load_config(tmp_path / "run") == moved
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun/.config.json.123").write_text("{")  # what a killed claim leaves
    claim_workdir(tmp_path / "begun", config, "data")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/data.jsonl").write_text("do not touch")
    with refused(tmp_path / "other/data.jsonl/run", "Not a directory"):
        claim_workdir(tmp_path / "other/data.jsonl/run", config, "data")
    with refused(tmp_path / "other"):
        claim_workdir(tmp_path / "other", config, "data")


def test_a_directory_without_a_checkpoint_may_be_claimed_anew(feed: Path, tmp_path: Path) -> None:
    """Nothing is lost; not even files that a kill left half-written matter."""
    claim_workdir(tmp_path, experiment(feed), "data")
    (tmp_path / "metrics.jsonl").write_text("of that one")
    (tmp_path / "config.json").write_text("{")
    other = experiment(feed, epochs=2.0)
    claim_workdir(tmp_path, other, "other data")
    assert load_config(tmp_path) == other and not (tmp_path / "metrics.jsonl").exists()


def test_what_is_refused_claims_nothing(feed: Path, tmp_path: Path) -> None:
    config = experiment(feed)
    optimizer = OptimizerConfig(no_decay=("nowhere/*",))
    with refused("config.optimizer.no_decay"):
        fit(dataclasses.replace(config, optimizer=optimizer), tmp_path / "run")
    optimizer = OptimizerConfig(frozen=("nowhere/*",))
    with refused("config.optimizer.frozen", "nowhere/*"):
        fit(dataclasses.replace(config, optimizer=optimizer), tmp_path / "run")
    with refused("config.training.epochs", 1e300):
        fit(experiment(feed, epochs=1e300), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_only_one_process_trains_in_a_directory(feed: Path, tmp_path: Path) -> None:
    config = experiment(feed, epochs=0.03)
    with owned(tmp_path, config, PreparedLog.open(feed).fingerprint), refused(tmp_path):
        fit(config, tmp_path)
    fit(config, tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("somebody's")
    with refused(other):
        fit(config, other)
    assert [path.name for path in other.iterdir()] == ["notes.txt"]


def test_traced_steps_are_the_same_steps(feed: Path, tmp_path: Path) -> None:
    plain = experiment(feed, evaluations_per_epoch=1)
    fit(plain, tmp_path / "plain")
    training = dataclasses.replace(plain.training, profile_steps=(3, 5))
    traced = dataclasses.replace(plain, training=training)
    fit(traced, tmp_path / "traced")
    assert not (tmp_path / "plain/profile").exists()
    (trace,) = (tmp_path / "traced/profile").rglob("*.trace.json.gz")
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    steps = {e["args"]["step_num"] for e in events if e.get("name") == "train"}
    assert steps == {"3", "4", "5"}
    assert list((tmp_path / "traced/profile").rglob("*.xplane.pb"))  # what XProf opens
    for a, b in zip(
        jax.tree.leaves(final_params(plain, tmp_path / "plain")),
        jax.tree.leaves(final_params(plain, tmp_path / "traced")),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    assert fit(plain, tmp_path / "traced").ended  # the same run, with or without a trace


def test_steps_that_never_come_are_not_waited_for(feed: Path, tmp_path: Path) -> None:
    with refused("config.training.profile_steps", "99999"):
        fit(experiment(feed, profile_steps=(3, 99_999)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_largest_seed_trains(feed: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(experiment(feed, epochs=0.03), seed=2**32 - 1)
    assert fit(config, tmp_path).ended
    for seed in (-1, 2**32):
        with refused("config.seed"):
            read_experiment(to_dict(config) | {"seed": seed})


@pytest.mark.slow
def test_a_run_goes_on_for_more_epochs(feed: Path, tmp_path: Path) -> None:
    """And says that it did, so that it is not compared with one that was trained in one go."""
    short, long = (experiment(feed, epochs=e, evaluations_per_epoch=1) for e in (1.0, 2.0))
    first = fit(short, tmp_path / "run")
    early = evaluate_run(tmp_path / "run")
    with refused(tmp_path / "run", "config.training.epochs"):
        fit(long, tmp_path / "run", longer=False)
    progress = fit(long, tmp_path / "run")
    assert (first.ended, progress.ended, progress.step) == (True, True, 2 * first.step)
    steps = [x["step"] for x in read_metrics(tmp_path / "run") if x["kind"] == "validation"]
    assert steps == [first.step, 2 * first.step]
    with refused(tmp_path / "run"):
        finished_run(tmp_path / "run")  # its result is the early one
    result = evaluate_run(tmp_path / "run")
    assert result["epochs_before"] == [1.0] and "epochs_before" not in early
    run = finished_run(tmp_path / "run")
    whole = {key: value for key, value in run.items() if key != "epochs_before"}
    with refused("epochs_before"):
        check_alike({"longer": run, "in one go": whole}, RUN_KEYS)
    with refused(tmp_path / "run", "1.0"):
        train_and_evaluate(long, tmp_path / "run")  # as an ablation would
    with refused(tmp_path / "run", "config.training.epochs"):
        fit(short, tmp_path / "run")


@pytest.mark.slow
def test_a_claim_for_more_epochs_can_be_killed(feed: Path, tmp_path: Path) -> None:
    """Between the writing of data.json and that of config.json: both commands go on."""
    short, long = (experiment(feed, epochs=e, evaluations_per_epoch=1) for e in (0.1, 0.2))
    fit(short, tmp_path)
    old = (tmp_path / "config.json").read_bytes()
    claim_workdir(tmp_path, long, PreparedLog.open(feed).fingerprint, longer=True)
    (tmp_path / "config.json").write_bytes(old)
    assert "epochs_before" not in train_and_evaluate(short, tmp_path)
    fit(long, tmp_path)
    assert evaluate_run(tmp_path)["epochs_before"] == [0.1]


@pytest.mark.slow
def test_more_patience_is_as_if_it_had_been_there_from_the_start(
    feed: Path, tmp_path: Path
) -> None:
    still = OptimizerConfig(learning_rate=0.0)  # no validation is better than the first

    def config(patience: int) -> ExperimentConfig:
        patient = experiment(feed, epochs=1.0, evaluations_per_epoch=4, patience=patience)
        return dataclasses.replace(patient, optimizer=still)

    early = fit(config(1), tmp_path / "run")
    later, whole = (fit(config(2), tmp_path / name) for name in ("run", "whole"))
    assert early.step < later.step == whole.step
    results = [evaluate_run(tmp_path / name) for name in ("run", "whole")]
    assert results[0]["tasks"] == results[1]["tasks"] and "epochs_before" not in results[0]


@pytest.mark.parametrize("name", ["train", "evaluate", "analyze"])
@pytest.mark.slow
def test_a_platform_that_is_not_there_is_told_in_one_line(
    feed: Path, tmp_path: Path, name: str
) -> None:
    config = experiment(feed, epochs=0.03)
    flags = [f"--workdir={tmp_path}"]
    if name == "train":
        synthetic = ROOT / "configs/synthetic.py"
        flags += [f"--config={synthetic}:ordinal", f"--config.data.path={feed}"]
    else:
        fit(config, tmp_path)
    done = run_script(name, *flags, JAX_PLATFORMS="cuda")
    assert done.returncode == 2 and done.stderr.startswith("error: JAX_PLATFORMS: "), done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_processes_that_wait_in_vain_end_with_one_line() -> None:
    script = (
        "import sys; from siren_rope_jax.training import processes\n"
        "processes.join(sys.argv[1], 3)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for index in (0, 1):
        done = subprocess.run(
            [sys.executable, "-c", script, f"127.0.0.1:{40_000 + os.getpid() % 20_000},2,{index}"],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 2 and done.stderr.startswith("error: --distributed: ")
        assert done.stderr.count("\n") == 1


def test_rows_that_do_not_fit_the_devices_are_refused(feed: Path, tmp_path: Path) -> None:
    config = experiment(feed)
    odd = DataConfig(str(feed), 24, 12, batch_size=7)
    with refused("config.data.batch_size", 7, 8):
        fit(dataclasses.replace(config, data=odd), tmp_path / "run")
    assert not (tmp_path / "run").exists()  # a refused start leaves nothing behind
    with refused("config.data.batch_size", 7, 6):
        Batches(PreparedLog.open(feed), odd, RANKING_LAYOUT, parts=6).train(0)


def test_a_run_goes_on_that_was_never_validated(
    feed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It has checkpoints by steps, but nothing to evaluate yet."""
    config = experiment(feed, epochs=0.3, evaluations_per_epoch=1, checkpoint_steps=3)
    whole = fit(config, tmp_path / "whole")
    with interrupted_after(4, monkeypatch):
        fit(config, tmp_path / "run")
    with refused(tmp_path / "run/checkpoints"):
        evaluate_run(tmp_path / "run")
    assert fit(config, tmp_path / "run").cost == whole.cost
    assert restored_step(capsys.readouterr().err) > 0
    lines = [read_metrics(tmp_path / name)[-1] for name in ("run", "whole")]
    assert [{k: v for k, v in line.items() if "second" not in k} for line in lines[:1]] == [
        {k: v for k, v in line.items() if "second" not in k} for line in lines[1:]
    ]


def test_sigterm_outside_of_a_training_ends_with_status_0_and_closes_what_is_open(
    capfd: pytest.CaptureFixture[str],
) -> None:
    before, closed = signal.getsignal(signal.SIGTERM), []
    with pytest.raises(SystemExit) as ended, ending_on_sigterm():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        finally:
            closed.append(True)
    assert ended.value.code == 0 and closed
    assert capfd.readouterr().err == "received SIGTERM; the same command goes on\n"
    assert signal.getsignal(signal.SIGTERM) == before


def test_sigterm_in_the_last_validation_ends_what_comes_after_the_training(
    feed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Checkpoints.save

    def interrupted(self: Checkpoints, step: int, state: Any, progress: Any) -> None:
        save(self, step, state, progress)
        if progress.ended:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)

    monkeypatch.setattr(Checkpoints, "save", interrupted)
    config = experiment(feed, epochs=0.05)
    with pytest.raises(SystemExit), ending_on_sigterm():
        fit(config, tmp_path / "run")
    monkeypatch.undo()
    assert fit(config, tmp_path / "run").ended  # all of it is saved


def test_lines_of_a_training_are_means_of_their_steps_also_after_an_interruption(
    feed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where there is no terminal they are printed at times; Ctrl-C says what is saved."""

    def losses(name: str, every: int) -> list[float]:
        config = experiment(feed, epochs=0.3, evaluations_per_epoch=1, log_every=every)
        training = dataclasses.replace(config.training, checkpoint_steps=4)
        config = dataclasses.replace(config, training=training)
        if name == "interrupted":
            with interrupted_after(4, monkeypatch):
                fit(config, tmp_path / name)
            assert "step 4 is saved; the same command goes on" in capsys.readouterr().err
        fit(config, tmp_path / name)
        lines = read_metrics(tmp_path / name)
        return [line["loss"] for line in lines if line["kind"] == "train"]

    each = losses("each", 1)
    monkeypatch.setattr("siren_rope_jax.training.run_log._SECONDS_OF_A_LINE", 0.0)
    by_three = losses("by_three", 3)
    assert len(each) >= 6
    whole = [np.mean(each[n : n + 3]) for n in range(0, len(each), 3)]
    np.testing.assert_allclose(by_three, whole, rtol=1e-6)
    said = capsys.readouterr().err
    assert f"step 3/{len(each)}: mean loss {by_three[0]:.4f}, " in said and " left\n" in said
    assert losses("interrupted", 3) == by_three


def test_a_best_checkpoint_is_kept_as_long_as_one_before_the_latest_needs_it() -> None:
    kept = _Kept()
    kept.best_of = {1000: 1000, 1900: 1000, 2000: 2000}
    assert kept.needed([1000, 1900, 2000]) == {1000, 1900, 2000}
    kept.best_of[2100] = 2000
    assert kept.needed([1000, 1900, 2000, 2100]) == {2000, 2100}


def test_tables_that_cannot_be_updated_by_rows_are_refused(feed: Path) -> None:
    log = PreparedLog.open(feed)

    def states(config: ExperimentConfig, **optimizer: Any) -> Any:
        changed = dataclasses.replace(config, optimizer=OptimizerConfig(**optimizer))
        return setup(changed, log, make_mesh()).state_specs

    with refused("config.optimizer.lazy_adam", "item", "items", "embed_topic"):
        states(lazy_experiment(feed), lazy_adam=("item",))
    with refused("config.optimizer.row_wise_adagrad"):  # with the full softmax
        states(next_item_experiment(feed), row_wise_adagrad=("items",))
    with refused("config.optimizer.row_wise_adagrad", "items"):
        states(lazy_experiment(feed), lazy_adam=("items",), row_wise_adagrad=("it*",))
    with refused("accumulate"):
        states(lazy_experiment(feed), lazy_adam=("items",), accumulate=2)


@pytest.mark.slow
def test_a_log_prepared_again_is_not_mixed_with_the_old_run(tmp_path: Path) -> None:
    feed = tmp_path / "feed"
    generate(SyntheticConfig(num_users=100, events_per_user=20, num_items=30), feed)
    config = experiment(feed, epochs=0.3)
    fit(config, tmp_path / "run")
    shutil.rmtree(feed)
    generate(SyntheticConfig(num_users=100, events_per_user=20, num_items=30, seed=1), feed)
    for use in (lambda: fit(config, tmp_path / "run"), lambda: TrainedRun.open(tmp_path / "run")):
        with refused(tmp_path / "run"):
            use()


def _as_if_of(version: str, workdir: Path) -> None:
    change(workdir / "data.json", trained_with=version)


def test_what_another_version_trained_is_used_with_a_warning_and_not_continued(
    feed: Path, tmp_path: Path
) -> None:
    config = experiment(feed, epochs=0.3)
    fit(config, tmp_path / "run")
    before = TrainedRun.open(tmp_path / "run")
    _as_if_of("99.0.1", tmp_path / "run")
    with pytest.warns(UserWarning, match=r"99\.0\.1"):
        opened = TrainedRun.open(tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, opened.params, before.params)
    with pytest.warns(UserWarning, match=r"99\.0\.1"):
        assert evaluate_run(tmp_path / "run")["step"] == before.step
    with refused(tmp_path / "run", "99.0.1"):
        fit(config, tmp_path / "run")


OLD_RUN = ROOT / "tests" / "golden" / "run_0_3"


def test_a_run_of_version_0_3_says_what_it_said_then(tmp_path: Path) -> None:
    """Its parameters and its config had another layout; golden/run_0_3 is such a run's."""
    scores = json.loads((OLD_RUN / "scores.json").read_text())
    generate(SyntheticConfig(**scores["feed"]), tmp_path / "feed")
    shutil.copytree(OLD_RUN / "run", tmp_path / "run")
    fingerprint = PreparedLog.open(tmp_path / "feed").fingerprint
    data = {"fingerprint": fingerprint, "trained_with": "0.3.0"}
    write_json(tmp_path / "run" / "data.json", data)
    with pytest.warns(UserWarning, match=r"0\.3\.0"):
        run = TrainedRun.open(tmp_path / "run", tmp_path / "feed")
    scored = run.score("test")
    order = np.argsort(scored.event)
    np.testing.assert_allclose(scored.score[order], scores["score"], atol=1e-5)


def test_a_log_may_move(feed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To open a run, its place is said; training notes it, so that the evaluation finds it."""
    log, run = tmp_path / "log", tmp_path / "run"
    shutil.copytree(feed, log)
    config = experiment(log, epochs=0.3)
    fit(config, run)
    moved = log.rename(tmp_path / "moved")
    with refused(run, log, "--log"):
        TrainedRun.open(run)
    opened = TrainedRun.open(run, moved)
    assert opened.log.path == moved and load_config(run).data.path == str(log)
    with refused(run):
        TrainedRun.open(run, make_log(tmp_path / "other").path)

    monkeypatch.chdir(tmp_path)
    data = dataclasses.replace(config.data, path="moved")
    outcome = train_and_evaluate(dataclasses.replace(config, data=data), run)
    assert outcome["events"] == len(opened.log.events("test").event)
    assert outcome["config"]["data"]["path"] == load_config(run).data.path == str(moved)


@pytest.mark.slow
def test_a_run_that_no_longer_improves_ends_and_has_nothing_left_to_do(
    feed: Path, tmp_path: Path
) -> None:
    """Of its equal checkpoints the first is kept."""
    config = experiment(feed, epochs=50.0, evaluations_per_epoch=1, patience=1)
    config = dataclasses.replace(config, optimizer=OptimizerConfig(learning_rate=0.0))
    progress = fit(config, tmp_path)
    epoch = setup(config, PreparedLog.open(feed), make_mesh()).batches.epoch
    assert progress.stale == 1 and progress.step == 2 * epoch
    assert TrainedRun.open(tmp_path).step == progress.best_step == epoch
    lines = (tmp_path / "metrics.jsonl").read_text()
    assert fit(config, tmp_path) == progress
    assert (tmp_path / "metrics.jsonl").read_text() == lines


@pytest.mark.slow
def test_an_interrupted_run_is_no_finished_one(
    feed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evaluating what there is of it does not make it one; training it to its end does."""
    config, workdir = experiment(feed, epochs=2.0, evaluations_per_epoch=1), tmp_path / "run"
    log = PreparedLog.open(feed)
    run = Run("feed", config.variant, 0, workdir, Log(feed), config)
    epoch = setup(config, log, make_mesh()).batches.epoch
    with interrupted_after(epoch, monkeypatch):
        train_and_evaluate(config, workdir)
    early = evaluate_run(workdir)
    assert early["step"] == epoch and early["train_seconds"] > 0 and not run.is_finished()
    with refused(workdir):
        finished_run(workdir)
    whole = train_and_evaluate(config, workdir)
    assert whole["train_seconds"] > early["train_seconds"] and run.is_finished()
    assert finished_run(workdir)["training_ended"]


@pytest.mark.slow
@EXPERIMENTS
def test_parameters_that_broke_are_never_a_checkpoint(
    feed: Path, tmp_path: Path, make: Make
) -> None:
    """The last update before a validation overflows: no loss shows it, the validation does."""
    config = make(feed, epochs=0.03)  # one step
    if config.kind == "retrieval":
        config = dataclasses.replace(config, criterion="ndcg@10")  # 0 for broken ones: finite
    wild = OptimizerConfig(learning_rate=1e30, clip_norm=1e30, warmup_fraction=0.0)
    with refused("validation", "step 1"):
        fit(dataclasses.replace(config, optimizer=wild), tmp_path / "run")
    with refused(tmp_path / "run" / "checkpoints"):
        TrainedRun.open(tmp_path / "run")
    config = make(feed, epochs=0.1, checkpoint_steps=1)  # some steps before the first validation
    wild = dataclasses.replace(wild, weight_decay=1e30)  # overflows at once
    with refused("parameters", "step 1"):
        fit(dataclasses.replace(config, optimizer=wild), tmp_path / "between")
    assert not list((tmp_path / "between").glob("checkpoints/[0-9]*"))


@pytest.mark.slow
def test_a_run_goes_on_with_another_mesh(feed: Path, tmp_path: Path) -> None:
    """As it would with the same one."""
    shapes = {"one": MeshConfig(8, 1, 1), "two": MeshConfig(2, 2, 2)}
    short, long = (next_item_experiment(feed, epochs=epochs) for epochs in (0.5, 1.0))
    curves = []
    for name, shape in shapes.items():
        fit(short, tmp_path / name, make_mesh(shapes["one"]))
        fit(long, tmp_path / name, make_mesh(shape))
        lines = read_metrics(tmp_path / name)
        curves.append([line["loss"] for line in lines if line["kind"] == "train"])
    assert len(curves[0]) >= 2
    np.testing.assert_allclose(*curves, atol=1e-5)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_the_rows_that_a_step_takes_out_are_those_that_its_loss_asks_for(
    tmp_path: Path, impl: str
) -> None:
    """Whatever kind of key draws the negatives of a slice."""
    generate(SyntheticConfig(num_users=150, events_per_user=20, num_items=2_000), tmp_path / "log")
    config = lazy_experiment(tmp_path / "log")
    few = dataclasses.replace(config.data, batch_size=4)
    loss = dataclasses.replace(config.loss, negatives=16)
    config, losses = dataclasses.replace(config, data=few, loss=loss), []
    for optimizer in (config.optimizer, OptimizerConfig()):
        mesh = make_mesh(devices=jax.devices()[:1])
        of_run = dataclasses.replace(config, optimizer=optimizer)
        training = setup(of_run, PreparedLog.open(tmp_path / "log"), mesh)
        batch = place_batch(next(iter(training.batches.train(0))), mesh)
        key = jax.random.key(1, impl=impl)
        metrics = training.step(training.init(0), batch, key, training.statistics)[1]
        losses.append(float(metrics["loss"]))
    np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.heads", 0), ("model.layers", 0), ("model.dropout", 1.0),
        ("optimizer.warmup_fraction", 1.0), ("optimizer.accumulate", 0),
        ("optimizer.clip_norm", 0.0), ("training.epochs", 0.0),
        ("training.evaluations_per_epoch", 0), ("training.patience", 0),
        ("training.log_every", 0), ("training.profile_steps", (3,)),
        ("data.batch_size", 0), ("data.stride", 99),
        ("data.batch_size", 2**63), ("data.threads", 2**63), ("training.epochs", math.inf),
    ],
)  # fmt: skip
def test_values_out_of_range_are_named(feed: Path, key: str, value: float) -> None:
    config = to_dict(experiment(feed))
    group, name = key.split(".")
    config[group][name] = value
    with refused(f"config.{key}"):
        read_experiment(config)
