"""A warm start: what a run has learned of raw values holds in a log that numbers them otherwise."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from flax.traverse_util import flatten_dict

from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.data.pipeline import DataConfig
from siren_rope_jax.prepare.config import PrepareConfig, SplitRule
from siren_rope_jax.prepare.table import prepare
from siren_rope_jax.training.checkpoint import Progress
from siren_rope_jax.training.experiment import TrainingConfig
from siren_rope_jax.training.kinds.ranking import RankingExperiment
from siren_rope_jax.training.kinds.retrieval import RetrievalExperiment
from siren_rope_jax.training.loop import fit
from siren_rope_jax.training.mesh import MeshConfig, make_mesh
from siren_rope_jax.training.setup import setup
from siren_rope_jax.training.trained import TrainedRun
from siren_rope_jax.training.warm_start import known_rows, warm_params
from tests.batches import small_config, small_retriever_config, source
from tests.made_up import make_log
from tests.refusals import refused

CATEGORY = {"item": source(embedding={"category": "item"}), "order": source(ladder={})}


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> tuple[PreparedLog, PreparedLog]:
    """An earlier log, and one that knows more items, which it numbers otherwise."""
    place = tmp_path_factory.mktemp("logs")
    return make_log(place / "a"), make_log(place / "b", seed=1, items=90, users=50)


def experiment(kind: str, log: PreparedLog, **changes: Any) -> Any:
    config, model = RankingExperiment, small_config("ordinal")
    if kind == "retrieval":
        config, model = RetrievalExperiment, small_retriever_config("ordinal")
    return config(
        variant="ordinal",
        data=DataConfig(str(log.path), length=16, stride=16, batch_size=8),
        model=dataclasses.replace(model, encoding=CATEGORY, **changes),
        training=TrainingConfig(epochs=1.0, evaluations_per_epoch=1),
    )


@pytest.mark.parametrize("kind", ["ranking", "retrieval"])
def test_it_says_of_known_items_what_the_earlier_run_says(
    logs: tuple[PreparedLog, PreparedLog], kind: str, tmp_path: Path
) -> None:
    earlier, present = logs
    fit(experiment(kind, earlier), tmp_path / "run")
    run = TrainedRun.open(tmp_path / "run", mesh=make_mesh())
    training = setup(experiment(kind, present), present, make_mesh())
    params = warm_params(training, run)
    row_of = known_rows(run.setup, training, "item")
    both = np.flatnonzero(row_of)
    assert 10 < len(both) < len(row_of) - 1
    item = np.random.default_rng(0).choice(both, (8, 16)).astype(np.int32)
    item[:, ::5] = np.flatnonzero(row_of[1:] == 0)[0] + 1  # which the earlier run does not know

    def says(of: Any, params: Any, item: np.ndarray) -> Any:
        batch = of.kind.padding(of.data, len(item))
        position = np.broadcast_to(np.arange(16, dtype=np.int32), item.shape)
        batch = dataclasses.replace(
            batch, categorical=item[..., None], position=position, segment=np.ones_like(item)
        )
        said: Any = of.model.apply({"params": params}, jax.tree.map(jax.numpy.asarray, batch))
        return said if kind == "ranking" else said.query

    expected = says(run.setup, run.params, row_of[item])
    np.testing.assert_allclose(says(training, params, item), expected, rtol=1e-5, atol=1e-6)
    numbers = present.vocabulary("item")["value"].to_pylist(), earlier.vocabulary("item")["value"]
    assert all(numbers[0][v - 1] == numbers[1][int(row_of[v]) - 1].as_py() for v in both)


@pytest.mark.slow
def test_it_is_the_same_on_every_mesh(
    logs: tuple[PreparedLog, PreparedLog], tmp_path: Path
) -> None:
    earlier, present = logs
    fit(experiment("retrieval", earlier), tmp_path / "run", make_mesh(devices=jax.devices()[:1]))
    found = []
    for shape in (MeshConfig(data=1), MeshConfig(data=2, fsdp=2, tensor=2)):
        devices = jax.devices()[: 1 if shape.fsdp == 1 else 8]
        mesh = make_mesh(shape, devices)
        run = TrainedRun.open(tmp_path / "run", mesh=mesh)
        training = setup(experiment("retrieval", present), present, mesh)
        params = warm_params(training, run)
        specs = training.param_specs
        assert jax.tree.map(lambda x: x.sharding, params) == jax.tree.map(
            lambda x: x.sharding, specs
        )
        found.append(jax.device_get(params))
    jax.tree.map(np.testing.assert_array_equal, *found)


@pytest.mark.parametrize(("earlier", "present"), [("int64", "string"), ("string", "int64")])
def test_ids_that_are_text_by_now_are_the_same(tmp_path: Path, earlier: str, present: str) -> None:
    logs = []
    for kind in (earlier, present):
        frame = pd.DataFrame({"u": np.arange(400) % 20, "i": np.arange(400) % 7, "t": range(400)})
        frame["i"] = frame["i"].astype(kind)
        place = tmp_path / kind
        place.mkdir()
        frame.to_parquet(place / "log.parquet")
        columns: Any = {"tasks": {"like": "t % 3 = 0"}, "min_count": 1}
        prepare(PrepareConfig("x", "u", "i", "t", **columns), place / "log.parquet", place / "log")
        logs.append(PreparedLog.open(place / "log"))
    runs = [setup(experiment("ranking", log), log, make_mesh()) for log in logs]
    rows = known_rows(*runs, "item")
    values = [log.vocabulary("item")["value"].to_pylist() for log in logs]
    assert np.all(rows[1:] > 0)
    assert [str(values[0][row - 1]) for row in rows[1:]] == list(map(str, values[1]))


@pytest.mark.slow
def test_a_training_begins_with_it(logs: tuple[PreparedLog, PreparedLog], tmp_path: Path) -> None:
    earlier, present = logs
    config = experiment("ranking", earlier)
    fit(config, tmp_path / "run")
    data = dataclasses.replace(config.data, path=str(present.path))
    tiny = dataclasses.replace(config.optimizer, learning_rate=1e-12)
    warm = dataclasses.replace(config.training, warm_start=str(tmp_path / "run"))
    longer = dataclasses.replace(config, data=data, optimizer=tiny, training=warm, seed=1)
    fit(longer, tmp_path / "warm")
    before, after = (flatten_dict(TrainedRun.open(tmp_path / w).params) for w in ("run", "warm"))
    path = ("block_0", "attention", "query", "kernel")
    np.testing.assert_allclose(before[path], after[path], atol=1e-7)
    drawn = setup(longer, present, make_mesh()).init_params(1)
    assert np.abs(flatten_dict(drawn)[path] - after[path]).max() > 1e-2


def test_what_does_not_fit_is_refused(
    logs: tuple[PreparedLog, PreparedLog], tmp_path: Path
) -> None:
    earlier, present = logs
    config = experiment("ranking", earlier)
    fit(config, tmp_path / "run")
    about = "config.training.warm_start"

    def begins(config: Any, start: Path) -> None:
        warm = dataclasses.replace(config.training, warm_start=str(start))
        fit(dataclasses.replace(config, training=warm), tmp_path / "warm")

    with refused(about, "config.json"):
        begins(config, tmp_path / "nowhere")
    with refused(about, "model.width", "32"):
        begins(experiment("ranking", present, width=32), tmp_path / "run")
    with refused(about, "model.embedding_width"):
        begins(experiment("ranking", present, embedding_width=8), tmp_path / "run")
    with refused(about, "model.biases"):
        begins(experiment("ranking", present, biases=("time_buckets",)), tmp_path / "run")
    with refused(about, "log.tasks"):
        swapped = dataclasses.replace(present.schema, tasks=present.schema.tasks[::-1])
        other = dataclasses.replace(present, schema=swapped)
        run = TrainedRun.open(tmp_path / "run")
        warm_params(setup(experiment("ranking", present), other, make_mesh()), run)
    assert not (tmp_path / "warm" / "checkpoints").exists()


KEPT = {"kind": "leave_one_out"}
LATE = {"train_fraction": 0.97, "validation_fraction": 0.01}
EARLY = {"train_fraction": 0.5, "validation_fraction": 0.25}


@pytest.mark.parametrize(
    ("earlier", "present", "at_once", "named"),
    [
        ((300, {}), (400, {}), False, None),  # the log has grown
        ((400, {}), (400, LATE), False, None),
        ((400, {}), (400, EARLY), False, "1970-01-01T00:06:00"),
        ((400, KEPT), (400, {}), False, "1970-01-01T00:06:00"),
        ((300, KEPT), (400, KEPT), False, None),
        ((300, KEPT), (400, KEPT), True, None),
        ((400, KEPT), (400, KEPT | {"last": 2}), False, "20 users"),
        ((400, KEPT), (300, KEPT), True, "20 users"),
        ((400, {}), (400, KEPT), False, None),  # which ends before anybody's last event
        ((400, LATE), (400, KEPT), False, "12 users"),
    ],
)
def test_what_the_present_log_tests_was_not_learned_before(
    tmp_path: Path, earlier: Any, present: Any, at_once: bool, named: str | None
) -> None:
    logs = []
    for name, (size, split) in {"earlier": earlier, "present": present}.items():
        n = np.arange(size)
        time = 0 * n if at_once else n
        frame = pd.DataFrame({"u": n % 20, "i": n % 7, "t": time, "n": n, "liked": n % 3})
        (place := tmp_path / name).mkdir()
        frame.to_parquet(place / "log.parquet")
        columns: Any = {"tasks": {"like": "liked = 0"}, "min_count": 1, "tie_breaker": "n"}
        config = PrepareConfig("x", "u", "i", "t", **columns, split=SplitRule(**split))
        prepare(config, place / "log.parquet", place / "log")
        logs.append(PreparedLog.open(place / "log"))
    of, training = (setup(experiment("ranking", log), log, make_mesh()) for log in logs)
    run = TrainedRun(of, logs[0], of.init_params(0), 0, Progress())
    if named is None:
        warm_params(training, run)
        return
    with refused("config.training.warm_start", named, logs[1].path):
        warm_params(training, run)
