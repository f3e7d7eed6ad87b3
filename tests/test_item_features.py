"""Items that training never had are found, and judged, by what they always have."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from flax.traverse_util import flatten_dict

from siren_rope_jax.data.item_features import item_features
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.data.pipeline import DataConfig
from siren_rope_jax.inference.recommend import recommend
from siren_rope_jax.metrics.binary import auc
from siren_rope_jax.models.losses import LossConfig
from siren_rope_jax.prepare.config import PrepareConfig
from siren_rope_jax.prepare.table import prepare
from siren_rope_jax.training.experiment import TrainingConfig
from siren_rope_jax.training.kinds.ranking import RankingExperiment
from siren_rope_jax.training.kinds.retrieval import RetrievalExperiment
from siren_rope_jax.training.loop import fit
from siren_rope_jax.training.mesh import MeshConfig, make_mesh
from siren_rope_jax.training.optim import OptimizerConfig
from siren_rope_jax.training.setup import Setup, setup
from siren_rope_jax.training.trained import TrainedRun
from tests.batches import small_config, small_retriever_config, source
from tests.refusals import refused

MAKERS = 6


def events() -> pd.DataFrame:
    """Users who like one maker; its items are new in turn, and used for a tenth of the time."""
    rng = np.random.default_rng(0)
    rows, each = 6_000, 30
    time = np.sort(rng.integers(0, 1_000_000, rows))
    user = rng.integers(0, 120, rows)
    maker = np.where(rng.random(rows) < 0.9, user % MAKERS, rng.integers(0, MAKERS, rows))
    newest = time * each // 1_000_000
    number = np.maximum(newest - rng.integers(0, 3, rows), 0)
    item = [f"m{m}-{n}" for m, n in zip(maker, number, strict=True)]
    liked = rng.random(rows) < np.where(maker % 2, 0.8, 0.2)
    return pd.DataFrame({"u": user, "i": item, "t": time, "maker": maker, "liked": liked})


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> PreparedLog:
    place = tmp_path_factory.mktemp("log")
    events().to_parquet(place / "log.parquet")
    config = PrepareConfig(
        "makers",
        "u",
        "i",
        "t",
        categorical={"maker": "maker"},
        tasks={"like": "liked"},
        min_count=1,
    )
    prepare(config, place / "log.parquet", place / "prepared")
    return PreparedLog.open(place / "prepared")


def next_item(log: PreparedLog, **changes: Any) -> RetrievalExperiment:
    features = {"item_features": ("maker",), "unknown_rate": 0.2} | changes.pop("model", {})
    values: dict[str, Any] = {
        "data": DataConfig(str(log.path), length=24, stride=12, batch_size=8),
        "model": small_retriever_config("ordinal", **features),
        "optimizer": OptimizerConfig(learning_rate=1e-2),
        "training": TrainingConfig(epochs=4.0),
    }
    return RetrievalExperiment(variant="ordinal", **values | changes)


@pytest.mark.slow
def test_a_retriever_finds_items_that_training_never_had(log: PreparedLog, tmp_path: Path) -> None:
    item = log.schema.categorical[0]
    assert item.values - item.known > 20
    fit(next_item(log), tmp_path / "run")
    run = TrainedRun.open(tmp_path / "run")
    ranked = run.score("test")
    target = log.events().rows["categorical/item"][ranked.event]
    new = target > item.known
    assert new.mean() > 0.5 and np.all(ranked.rank[new] > 0)
    of_maker = item.values / MAKERS
    assert np.median(ranked.rank[new]) < 1.2 * of_maker
    user = log.users().to_pylist()[0]
    lists = recommend(run, [user], request_time=log.schema.end + 60, k=int(of_maker))
    assert sum(i.startswith(f"m{user % MAKERS}-") for i in lists["item"]) > 0.6 * of_maker
    without = setup(next_item(log, model={"item_features": ()}), log, make_mesh())
    unranked = without.score(without.init_params(0), "test")
    assert np.all(unranked.rank[np.isin(unranked.event, ranked.event[new])] == 0)


@pytest.mark.slow
def test_a_ranker_judges_new_items_by_their_features(log: PreparedLog, tmp_path: Path) -> None:
    model = small_config("ordinal", unknown_rate=0.2)
    config = RankingExperiment(
        variant="ordinal",
        data=DataConfig(str(log.path), length=24, stride=12, batch_size=8),
        model=model,
        optimizer=OptimizerConfig(learning_rate=3e-3),
        training=TrainingConfig(epochs=3.0),
    )
    fit(config, tmp_path / "run")
    scored = TrainedRun.open(tmp_path / "run").score("test")
    new = log.events().rows["categorical/item"][scored.event] > log.schema.categorical[0].known
    label = scored.label[new, 0].astype(int)
    assert auc(label, scored.score[new, 0]) > 0.75


SAMPLED = LossConfig(kind="sampled_softmax", sampler="shared", negatives=16)


def one_step(config: Any, log: PreparedLog, mesh: Any) -> tuple[Setup, Any, Any]:
    training = setup(config, log, mesh)
    state = training.init(0)
    before = jax.device_get(state.params)
    batch = next(iter(training.batches.train(0)))
    batch = jax.device_put(batch, jax.tree.map(lambda x: x.sharding, training.batch_specs))
    state, metrics = training.step(state, batch, training.key(0), training.statistics)
    return training, before, jax.device_get((state.params, metrics["loss"]))


@pytest.mark.parametrize("loss", [LossConfig(), SAMPLED])
def test_items_that_training_never_has_are_no_negatives(log: PreparedLog, loss: Any) -> None:
    config = next_item(log, loss=loss)
    training, before, (after, _) = one_step(config, log, make_mesh(devices=jax.devices()[:1]))
    moved = np.abs(after["items"]["embedding"] - before["items"]["embedding"]).max(axis=-1)
    moved = moved.reshape(-1)[: training.data.items]
    known = log.schema.categorical[0].known
    assert training.data.trained_items == known + 1
    assert moved[0] > 0 and np.all(moved[known + 1 :] == 0)  # the unknown row learns, cold ones not
    assert np.abs(after["item_maker"]["embedding"] - before["item_maker"]["embedding"]).max() > 0


def test_rows_that_training_never_had_say_nothing(log: PreparedLog) -> None:
    """Neither an item's own embedding nor its angles, whatever it begins with."""
    encoding = {"item": source(embedding={"category": "item"}), "order": source(ladder={})}
    config = next_item(log, model={"encoding": encoding})
    training = setup(config, log, make_mesh(devices=jax.devices()[:1]))
    params = training.init_params(0)
    said = training.score(params, "test")
    trained = training.data.trained_items

    def changed(path: Any, x: Any) -> Any:
        names = [key.key for key in path]
        if names[0] == "items":
            return x.reshape(-1, x.shape[-1]).at[trained:].add(1.0).reshape(x.shape)
        return x.at[trained:].add(1.0) if names[-1] == "table" else x

    again = training.score(jax.tree_util.tree_map_with_path(changed, params), "test")
    np.testing.assert_array_equal(said.rank, again.rank)
    np.testing.assert_array_equal(said.nll, again.nll)


@pytest.mark.slow
@pytest.mark.parametrize("lazy", [False, True])
def test_a_step_is_the_same_on_a_mesh(log: PreparedLog, lazy: bool) -> None:
    optimizer = OptimizerConfig(learning_rate=1e-2, lazy_adam=("items",) if lazy else ())
    config = next_item(log, loss=SAMPLED, optimizer=optimizer)
    one = one_step(config, log, make_mesh(devices=jax.devices()[:1]))[2]
    many = one_step(config, log, make_mesh(MeshConfig(data=2, fsdp=2, tensor=2)))[2]
    assert abs(one[1] - many[1]) < 1e-5
    alone, divided = flatten_dict(one[0]), flatten_dict(many[0])
    for path in (("items", "embedding"), ("item_maker", "embedding")):
        np.testing.assert_allclose(alone[path], divided[path], atol=1e-5)


def test_only_what_an_item_always_has_can_describe_it(log: PreparedLog, tmp_path: Path) -> None:
    key = "config.model.item_features"
    with refused(key, "maker"):
        item_features(log.with_all_values(["item"]), ["makers"], 3)
    with refused(key, "twice"):
        item_features(log.with_all_values(["item"]), ["maker", "maker"], 3)
    frame = events()
    frame.loc[frame.index[::100], "maker"] = 0
    frame.to_parquet(tmp_path / "log.parquet")
    prepared = PrepareConfig("makers", "u", "i", "t", categorical={"maker": "maker"})
    prepare(prepared, tmp_path / "log.parquet", tmp_path / "prepared")
    changing = PreparedLog.open(tmp_path / "prepared")
    with refused(key, "maker", "differs"):
        setup(dataclasses.replace(next_item(log)), changing, make_mesh())
    spec = setup(next_item(log, model={"item_features": ()}), log, make_mesh()).data
    with refused(key, "log"):
        setup(next_item(log), spec, make_mesh())


def test_an_event_that_does_not_say_what_its_item_has_does_not_matter(
    log: PreparedLog, tmp_path: Path
) -> None:
    frame = events().astype({"maker": "Int64"})
    frame.loc[frame.index[::3], "maker"] = None
    frame.to_parquet(tmp_path / "log.parquet")
    columns: Any = {"categorical": {"maker": "maker"}, "min_count": 1}
    config = PrepareConfig("makers", "u", "i", "t", **columns)
    prepare(config, tmp_path / "log.parquet", tmp_path / "prepared")
    gaps = PreparedLog.open(tmp_path / "prepared")
    found = []
    for of in (log, gaps):
        ids = item_features(of.with_all_values(["item"]), ["maker"], 3).ids[1:, 0]
        raw = np.array(of.vocabulary("maker")["value"].to_pylist())
        names = of.vocabulary("item")["value"].to_pylist()
        found.append({n: raw[i - 1] for n, i in zip(names, ids, strict=True) if i})
    assert len(found[1]) > 0.9 * len(found[0])
    assert found[1].items() <= found[0].items()


def test_rare_items_are_as_unknown_as_min_count_says(log: PreparedLog) -> None:
    item = log.schema.categorical[0]
    rarer = dataclasses.replace(item, known=item.known - 20)
    others = log.schema.categorical[1:]
    schema = dataclasses.replace(log.schema, categorical=(rarer, *others))
    training = setup(next_item(log), dataclasses.replace(log, schema=schema), make_mesh())
    assert training.data.trained_items == rarer.known + 1
    assert training.data.items == item.values + 1
