"""A feature with lists of values has one vocabulary, one table, and the mean of what is known."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from flax.traverse_util import flatten_dict

from siren_rope_jax.data.assemble import ranking_batch
from siren_rope_jax.data.item_features import item_features
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.data.pipeline import DataConfig
from siren_rope_jax.data.schema import Schema
from siren_rope_jax.inference.encoded import encode
from siren_rope_jax.inference.export import export
from siren_rope_jax.inference.files import read_table, write_table
from siren_rope_jax.inference.fresh_events import encode_candidates, encode_events
from siren_rope_jax.inference.load_exported import Model
from siren_rope_jax.models.batch import ItemFeatures
from siren_rope_jax.models.ranker import Ranker
from siren_rope_jax.models.retriever import Retriever
from siren_rope_jax.models.tables import embedding_of
from siren_rope_jax.prepare.table import prepare
from siren_rope_jax.training.experiment import TrainingConfig
from siren_rope_jax.training.kinds.ranking import RankingExperiment
from siren_rope_jax.training.kinds.retrieval import RetrievalExperiment
from siren_rope_jax.training.loop import fit
from siren_rope_jax.training.mesh import MeshConfig, make_mesh
from siren_rope_jax.training.optim import OptimizerConfig
from siren_rope_jax.training.setup import setup
from siren_rope_jax.training.trained import TrainedRun
from siren_rope_jax.training.warm_start import warm_params
from tests.batches import (
    DATA,
    random_batch,
    random_next_items,
    small_config,
    small_retriever_config,
    source,
)
from tests.raw_logs import config, prepared, raw_log, table_flags, write
from tests.refusals import refused
from tests.scripts import printed
from tests.test_encoded import untrained
from tests.test_item_features import one_step

GENRES = {"genres": "string_split(genres, '|')"}


def with_genres(seed: int = 0, rows: int = 300) -> pd.DataFrame:
    """A raw log whose items each have up to four of six genres, or none that is known."""
    rng, raw = np.random.default_rng(seed), raw_log(rows, seed)
    values = {
        item: "|".join(rng.choice(list("abcdef"), rng.integers(0, 5), replace=False))
        for item in sorted(raw["iid"].unique())
    }
    return raw.assign(genres=raw["iid"].map(values))


def sets(log: PreparedLog, rows: np.ndarray, name: str = "genres") -> list[set[Any]]:
    """The raw values of each row."""
    values = log.vocabulary(name)["value"].to_pylist()
    return [{values[i - 1] for i in ids if i} for ids in rows[f"categorical/{name}"]]


def ordered(raw: pd.DataFrame) -> pd.DataFrame:
    return raw.sort_values(["uid", "at", "serial"])


def test_every_event_has_the_values_of_its_list(tmp_path: Path) -> None:
    raw = with_genres()
    log = prepared(tmp_path, raw, categorical=GENRES)
    rows = log.events().rows
    expected = [set(filter(None, text.split("|"))) for text in ordered(raw)["genres"]]
    assert sets(log, rows) == expected and set() in expected
    ids = rows["categorical/genres"]
    assert ids.shape == (300, max(map(len, expected))) == (300, log.schema.categorical[1].most)
    steps = np.diff(ids, axis=1)
    assert np.all((steps > 0) | (ids[:, 1:] == 0))  # ascending, then zeros
    train = [own for own, split in zip(expected, rows["split"], strict=True) if split == 0]
    counts = log.vocabulary("genres").to_pandas().set_index("value")["train_count"]
    assert counts.to_dict() == {g: sum(g in own for own in train) for g in "abcdef"}
    assert counts.is_monotonic_decreasing and log.report["values_dropped"] == {"genres": 0}


def test_the_command_says_what_the_values_of_each_feature_are_like(tmp_path: Path) -> None:
    raw = with_genres()
    raw["tab"] = raw["tab"].where(raw["tab"] != 2)
    features = "--config.categorical=genres=string_split(genres, '|'); tab=tab"
    few = "--config.most_values=2"
    flags = table_flags(write(tmp_path / "log.csv", raw), tmp_path / "log", features, few)
    lines = printed("prepare", *flags).splitlines()
    expected = {
        "genres": (6, 4, (raw["genres"] == "").mean()),
        "tab": (3, None, raw["tab"].isna().mean()),
    }
    for name, (values, longest, without) in expected.items():
        (line,) = (line for line in lines if line.startswith(f"{name}: "))
        assert f"{values} values" in line and f"{without:.1%}" in line and without
        assert ("list" in line) == bool(longest) and (not longest or f" {longest} " in line)
    assert not any(line.startswith("item: ") for line in lines)


def test_the_order_of_a_list_and_what_it_repeats_change_nothing(tmp_path: Path) -> None:
    raw = with_genres()
    log = prepared(tmp_path, raw, categorical=GENRES)

    def turned(text: str) -> str:
        return "|".join([*reversed(text.split("|")), *text.split("|"), ""])

    changed = raw.assign(genres=raw["genres"].map(turned))
    assert prepared(tmp_path, changed, categorical=GENRES).fingerprint == log.fingerprint
    lists = raw.assign(genres=[text.split("|") if text else None for text in raw["genres"]])
    of_parquet = prepared(tmp_path, lists, "log.parquet", categorical={"genres": "genres"})
    assert of_parquet.fingerprint == log.fingerprint


def test_of_a_longer_list_the_values_that_are_frequent_in_train_count(tmp_path: Path) -> None:
    raw = with_genres()
    log = prepared(tmp_path, raw, categorical=GENRES, most_values=2)
    whole = prepared(tmp_path, raw, categorical=GENRES).events().rows["categorical/genres"]
    np.testing.assert_array_equal(log.events().rows["categorical/genres"], whole[:, :2])
    dropped = int((whole[:, 2:] > 0).sum())
    assert log.report["values_dropped"] == {"genres": dropped} and dropped
    assert any(str(dropped) in note for note in log.report["warnings"])


def test_integers_are_values_and_what_has_no_order_is_refused(tmp_path: Path) -> None:
    raw = raw_log()
    log = prepared(tmp_path, raw, categorical={"both": "[tab, rating, NULL]"})
    expected = [{*pair} for pair in ordered(raw)[["tab", "rating"]].to_numpy().tolist()]
    assert sets(log, log.events().rows, "both") == expected
    for wrong in ("[[tab]]", "{'a': tab}", "[{'a': tab}]"):
        with refused("config.categorical.both"):
            prepared(tmp_path, raw, categorical={"both": wrong})
    for group in ("dense", "context", "actions", "tasks"):
        with refused(f"config.{group}.x"):
            prepared(tmp_path, raw, **{group: {"x": "[1.0]"}})
    with refused("config.item"):
        prepared(tmp_path, raw, item="[iid]")


def test_a_log_without_lists_is_described_as_before(tmp_path: Path) -> None:
    log = prepared(tmp_path, raw_log(), categorical={"tab": "tab"})
    meta = log.schema.to_json()
    assert [set(c) for c in meta["categorical"]] == [{"name", "values", "known"}] * 2
    assert Schema.from_json(meta) == log.schema and "values_dropped" not in log.report
    lists = prepared(tmp_path, with_genres(), categorical=GENRES).schema
    assert Schema.from_json(lists.to_json()) == lists


def test_the_embedding_is_the_mean_of_known_values_and_else_that_of_the_unknown() -> None:
    table = jax.random.normal(jax.random.key(0), (7, 5))
    ids = jnp.array([[1, 2, 0], [2, 0, 1], [3, 0, 0], [0, 0, 0], [4, 5, 6]])
    of = partial(embedding_of, table.__getitem__, is_list=True)
    expected = [table[jnp.array(own)].mean(0) for own in ([1, 2], [1, 2], [3], [0], [4, 5, 6])]
    np.testing.assert_allclose(of(ids), jnp.stack(expected), rtol=1e-6)
    np.testing.assert_array_equal(of(ids[2:4]), table[jnp.array([3, 0])])
    gradient = jax.grad(lambda t: embedding_of(t.__getitem__, ids[4], True).sum())(table)
    np.testing.assert_allclose(gradient[:, 0], [0, 0, 0, 0, 1 / 3, 1 / 3, 1 / 3], rtol=1e-6)


def as_lists(ids: Any, width: int, place: int) -> np.ndarray:
    """A batch's ids whose last feature is a list, with its value at one place."""
    ids = np.asarray(ids)
    lists = np.zeros((*ids.shape[:-1], width), np.int32)
    lists[..., place] = ids[..., -1]
    return np.concatenate([ids[..., :-1], lists], axis=-1)


@pytest.mark.parametrize("kind", ["ranking", "retrieval", "item_features"])
def test_a_list_of_one_value_is_that_value(kind: str) -> None:
    data, model_of, batch = DATA, partial(Ranker, small_config("ordinal")), random_batch()
    features = None
    if kind != "ranking":
        batch = random_next_items()
        own = ("topic",) if kind == "item_features" else ()
        model_of = partial(Retriever, small_retriever_config("ordinal", item_features=own))
    if kind == "item_features":
        features = np.random.default_rng(0).integers(0, 5, (20, 1)).astype(np.int32)
        data = dataclasses.replace(data, item_features=ItemFeatures(features, 15))
    model = model_of(data=data)
    params = model.init(jax.random.key(0), jax.tree.map(jnp.asarray, batch))["params"]
    expected = model.apply({"params": params}, batch)
    for width in (1, 3):
        lists = {"lists": {"topic": width}}
        if features is not None:
            lists["item_features"] = ItemFeatures(as_lists(features, width, width - 1), 15)
        ids = as_lists(batch.categorical, width, width - 1)
        other = dataclasses.replace(batch, categorical=ids)
        said = model_of(data=dataclasses.replace(data, **lists)).apply({"params": params}, other)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), said, expected)


def test_a_batch_has_columns_for_the_values_of_lists(tmp_path: Path) -> None:
    columns = GENRES | {"tab": "tab"}
    whole = prepared(tmp_path, with_genres(), categorical=columns)
    least = int(np.median(whole.vocabulary("genres")["train_count"].to_numpy()))
    log = prepared(tmp_path, with_genres(), categorical=columns, min_count=least + 1)
    run = untrained(log, "ranking", "ordinal")
    genres = log.schema.categorical[1]
    assert run.setup.data.columns == genres.most + 2 and genres.known < genres.values
    batch = next(iter(run.setup.batches.evaluation("test")))
    padding = run.setup.kind.padding(run.setup.data, len(batch.segment))
    assert jax.tree.map(np.shape, batch) == jax.tree.map(np.shape, padding)
    found = run.setup.data.by_feature(batch.categorical)
    rows = log.events().rows
    asked = batch.event >= 0
    for c in log.schema.categorical:
        expected = c.known_ids(rows[f"categorical/{c.name}"])[batch.event[asked]]
        np.testing.assert_array_equal(found[c.name][asked], expected)
    assert ranking_batch(log.schema, [], (2, 3)).categorical.shape == (2, 3, genres.most + 2)


def test_an_angle_needs_one_value(tmp_path: Path) -> None:
    log = prepared(tmp_path, with_genres(), categorical=GENRES)
    encoding = {"mine": source(embedding={"category": "genres"})}
    with refused("config.model.encoding.mine.category", "genres"):
        untrained(log, "ranking", "ordinal", encoding=encoding)


def test_fresh_events_have_lists_of_raw_values(tmp_path: Path) -> None:
    raw = with_genres()
    log = prepared(tmp_path, raw, categorical=GENRES, most_values=3)
    lists = [text.split("|") if text else None for text in raw["genres"]]
    columns = {"uid": "user", "iid": "item", "at": "time"}
    events = raw.rename(columns=columns).assign(genres=lists)[["user", "item", "time", "genres"]]
    expected = log.events()
    by_user = encode_events(log, events.iloc[ordered(raw).index])
    for user, rows in by_user.items():
        own = expected.rows[expected.user == log.user_numbers[user]]
        np.testing.assert_array_equal(rows["categorical/genres"], own["categorical/genres"])
    new: list[Any] = [["new", "a"], ("a", "a"), np.array(["new"]), [], None]
    ids = encode_candidates(log, events[:5].assign(genres=new))["categorical/genres"]
    a = log.value_ids("genres")["a"]
    np.testing.assert_array_equal(ids, [[a, 0, 0], [a, 0, 0], [0] * 3, [0] * 3, [0] * 3])
    with refused("candidates", "genres", "'a|b'", "row 1"):
        encode_candidates(log, events[:2].assign(genres=[["a"], "a|b"]))
    with refused("candidates", "genres"):
        encode_candidates(log, events[:2].assign(genres=[[1], [2]]))
    file = write(tmp_path / "new.csv", raw.drop(columns="rating"))
    table = read_table(log, file, "log")
    again = encode_events(log, table)
    for user, rows in by_user.items():
        np.testing.assert_array_equal(again[user]["categorical/genres"], rows["categorical/genres"])


@pytest.mark.parametrize("expression", ["string_split(genres, '|')", "[tab, tab + 1]"])
def test_lists_outlive_a_file(tmp_path: Path, expression: str) -> None:
    """Those of texts, which may have the quotes and commas of CSV and JSON, and of integers."""
    raw = with_genres()
    raw["genres"] = raw["genres"].str.replace("a", "\"a\", 'é'")
    log = prepared(tmp_path, raw, categorical={"genres": expression}, min_count=1)
    table = read_table(log, write(tmp_path / "new.csv", raw), "log")
    rows = encode_candidates(log, table)["categorical/genres"]
    assert (rows > 0).any()
    for name, file in (("genres", "again.csv"), ("categorical/genres", "more.csv")):
        write_table(table.rename(columns={"genres": name}), tmp_path / file)
        again = read_table(log, tmp_path / file, "prepared")
        np.testing.assert_array_equal(encode_candidates(log, again)["categorical/genres"], rows)
    for wrong in ("['a' 'b']", "a", "7", '{"a": 1}', '[["a"]]'):
        file = write(tmp_path / "wrong.csv", table[:2].assign(genres=["[]", wrong]))
        with refused(file, "genres", "row 1"):
            read_table(log, file, "prepared")


def test_candidates_score_as_the_evaluation_scores_events(tmp_path: Path) -> None:
    raw = with_genres()
    raw["at"] = raw["at"].min() + raw["at"].rank(method="first").astype(int)
    log = prepared(tmp_path, raw, categorical=GENRES, min_count=3)
    run = untrained(log, "ranking", "siren_rope")
    scored, events = run.score("test"), log.events()
    values = log.vocabulary("item")["value"].to_pylist()
    for event, score in zip(scored.event[:5], scored.score, strict=False):
        user = log.users()[int(events.user[event])].as_py()
        row = events.rows[event : event + 1]
        encoded = encode(run, [user], before=int(row["time"][0]))
        candidate = pd.DataFrame(
            {"item": [values[row["categorical/item"][0] - 1]], "time": row["time"]}
        ).assign(genres=[sorted(sets(log, row)[0])])
        found = encoded.score(candidate)
        np.testing.assert_allclose(found["like"], score[0], atol=1e-5)


@pytest.mark.parametrize("kind", ["ranking", "retrieval"])
def test_an_exported_model_takes_lists(tmp_path: Path, kind: str) -> None:
    log = prepared(tmp_path, with_genres(), categorical=GENRES, min_count=3)
    changes = {"item_features": ("genres",)} if kind == "retrieval" else {}
    run = untrained(log, kind, "ordinal", **changes)
    model = Model(export(run, tmp_path / "exported"))
    names, end = log.vocabulary("item")["value"].to_pylist(), log.schema.end + 60
    users = log.users().to_pylist()[:3]
    histories = [
        [
            {
                "item": names[row["categorical/item"] - 1],
                "genres": sorted(sets(log, np.array([row]))[0]),
                "time": int(row["time"]),
                "like": int(row["task/like"]),
            }
            for row in log.history(log.user_numbers[user])
        ]
        for user in users
    ]
    if kind == "ranking":
        candidate = {"item": names[0], "genres": ["b", "new", "a"], "time": end}
        table = pd.DataFrame([candidate | {"user": user} for user in users])
        expected = encode(run, users).score(table)["like"]
        found = model.score(histories, [[candidate]] * 3)[:, 0, 0]
        np.testing.assert_allclose(found, expected, atol=1e-6)
        with pytest.raises(ValueError, match="list"):
            model.score(histories, [[candidate | {"genres": "a|b"}]] * 3)
    else:
        expected = encode(run, users).recommend(end, k=5)
        items, scores = model.recommend(histories, [[{"time": end}]] * 3, k=5)
        assert items.ravel().tolist() == expected["item"].tolist()
        np.testing.assert_allclose(scores.ravel(), expected["score"], atol=1e-5)


def test_what_an_item_always_has_may_be_a_list(tmp_path: Path) -> None:
    raw = with_genres()
    log = prepared(tmp_path, raw, categorical=GENRES | {"one": "genres"}, min_count=1)
    view = log.with_all_values(["item"])
    features = item_features(view, ["genres"], 3)
    genres = raw.drop_duplicates("iid").set_index("iid")["genres"]
    values = log.vocabulary("genres")["value"].to_pylist()
    items = log.vocabulary("item")["value"].to_pylist()
    for item, ids in zip(items, features.ids[1:], strict=True):
        own = {values[i - 1] for i in ids if i}
        assert own == set(filter(None, genres[item].split("|")))
    assert item_features(view, ["genres", "one"], 3).ids.shape[1] == features.ids.shape[1] + 1
    raw.loc[raw.index[-1], "genres"] = "a|b|c|d|e|f"
    changing = prepared(tmp_path, raw, categorical=GENRES, min_count=1)
    with refused("config.model.item_features", "genres", "differs"):
        item_features(changing.with_all_values(["item"]), ["genres"], 3)


def of_taste() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Users who choose items of one genre, which are new in turn; and the genres of all items."""
    rng, rows, each = np.random.default_rng(0), 6_000, 30
    time = np.sort(rng.integers(0, 1_000_000, rows))
    user = rng.integers(0, 120, rows)
    chosen = np.where(rng.random(rows) < 0.9, user % 6, rng.integers(0, 6, rows))
    number = np.maximum(time * each // 1_000_000 - rng.integers(0, 3, rows), 0)
    item = [f"m{g}-{n}" for g, n in zip(chosen, number, strict=True)]
    events = pd.DataFrame({"uid": user, "iid": item, "at": time + 10**9})
    names = sorted({f"m{g}-{n}" for g in range(6) for n in range(each)})
    genres = [f"{'also' if rng.random() < 0.5 else 'or'}|genre {name[1]}" for name in names]
    return events, pd.DataFrame({"iid": names, "genres": genres})


@pytest.mark.slow
def test_a_step_with_lists_is_the_same_on_a_mesh(tmp_path: Path) -> None:
    log = prepared(tmp_path, with_genres(rows=900), categorical=GENRES, min_count=3)
    optimizer = OptimizerConfig(learning_rate=1e-2, lazy_adam=("embed_genres",))
    experiment = RankingExperiment(
        variant="ordinal",
        data=DataConfig(str(log.path), length=8, stride=8, batch_size=16),
        model=small_config("ordinal"),
        optimizer=optimizer,
    )
    one = one_step(experiment, log, make_mesh(devices=jax.devices()[:1]))[2]
    many = one_step(experiment, log, make_mesh(MeshConfig(data=2, fsdp=2, tensor=2)))[2]
    assert abs(one[1] - many[1]) < 1e-5
    alone, divided = (flatten_dict(x[0])["embed_genres", "embedding"] for x in (one, many))
    width = alone.shape[-1]
    rows = log.schema.categorical[1].rows
    alone, divided = (np.reshape(x, (-1, width))[:rows] for x in (alone, divided))
    np.testing.assert_allclose(alone, divided, atol=1e-5)


@pytest.mark.slow
def test_new_items_are_found_by_their_genres_and_an_earlier_run_is_a_beginning(
    tmp_path: Path,
) -> None:
    events, items = of_taste()
    columns = {"categorical": GENRES, "tasks": {}, "min_count": 1}
    files = write(tmp_path / "log.csv", events), write(tmp_path / "items.csv", items)
    prepare(config(**columns), files[0], tmp_path / "log", items=files[1])
    log = PreparedLog.open(tmp_path / "log")
    optimizer = OptimizerConfig(learning_rate=1e-2, lazy_adam=("embed_genres",))
    experiment = RetrievalExperiment(
        variant="ordinal",
        data=DataConfig(str(log.path), length=24, stride=12, batch_size=8),
        model=small_retriever_config("ordinal", item_features=("genres",), unknown_rate=0.2),
        optimizer=optimizer,
        training=TrainingConfig(epochs=4.0),
    )
    fit(experiment, tmp_path / "run")
    run = TrainedRun.open(tmp_path / "run")
    ranked, item = run.score("test"), log.schema.categorical[0]
    new = log.events().rows["categorical/item"][ranked.event] > item.known
    assert new.mean() > 0.5 and np.median(ranked.rank[new]) < 1.2 * item.values / 6

    turned = items.assign(genres=["|".join(g.split("|")[::-1]) + "|third" for g in items["genres"]])
    prepare(config(**columns), files[0], tmp_path / "b", items=write(tmp_path / "b.csv", turned))
    present = PreparedLog.open(tmp_path / "b")
    training = setup(experiment, present, make_mesh())
    before, after = flatten_dict(run.params), flatten_dict(warm_params(training, run))
    ids = log.value_ids("genres"), present.value_ids("genres")
    for path in [("item_genres", "embedding"), ("embed_genres", "embedding")]:
        old, now = (np.asarray(x[path]).reshape(-1, x[path].shape[-1]) for x in (before, after))
        for value, id in ids[1].items():
            np.testing.assert_array_equal(now[id], old[ids[0].get(value, 0)])
