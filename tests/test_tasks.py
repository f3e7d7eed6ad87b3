"""Ordinal and real-valued labels beside binary ones: losses, metrics, and from end to end."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given

import siren_rope_jax as sr
from siren_rope_jax.base.files import read_json
from siren_rope_jax.data.assemble import tasks_of
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.data.pipeline import DataConfig
from siren_rope_jax.inference.export import export
from siren_rope_jax.metrics.numeric import OrdinalColumns, ValueColumns, spearman
from siren_rope_jax.models.batch import DataSpec
from siren_rope_jax.models.losses import ranking_loss
from siren_rope_jax.models.ranker import Ranker
from siren_rope_jax.models.tasks import (
    Binary,
    Ordinal,
    Regression,
    Task,
    normalized,
    outputs_of,
    prediction_columns,
    predictions_of,
    score_names,
)
from siren_rope_jax.rotation.variants import retrieval_variant
from siren_rope_jax.studies import plots, report
from siren_rope_jax.studies.predictions import read_predictions
from siren_rope_jax.training.kinds import kind_of
from siren_rope_jax.training.kinds.retrieval import RetrievalExperiment
from siren_rope_jax.training.mesh import make_mesh
from siren_rope_jax.training.setup import setup
from siren_rope_jax.training.trained import TrainedRun
from siren_rope_jax.training.warm_start import warm_params
from tests.batches import DATA, random_batch, small_config, small_retriever_config, trained
from tests.made_up import make_plan
from tests.raw_logs import START, config, decoded, prepared, raw_log
from tests.refusals import refused
from tests.test_export import answer
from tests.test_report import table

STARS = Ordinal("stars", (1.0, 2.0, 4.0, 5.0))
SECONDS = Regression("seconds", 40.0, 20.0)
TASKS: tuple[Task, ...] = (Binary("like"), STARS, SECONDS)
EXPRESSIONS = {
    "tasks": {"like": "rating >= 4"},
    "ordinal": {"stars": "CASE WHEN tab > 0 THEN rating END"},
    "regression": {"seconds": "CASE WHEN tab < 3 THEN 100 * rating + x END"},
}
real = st.floats(-50, 50, width=32)


@given(real, st.lists(st.floats(-200, 50, width=32), min_size=2, max_size=2))
def test_an_ordinal_task_has_ordered_thresholds_and_probabilities(
    score: float, gaps: list[float]
) -> None:
    output = STARS.output(jnp.float32(score), jnp.array(gaps, jnp.float32))
    assert (np.diff(output) <= 0).all()  # a higher value is never more likely to be reached
    probabilities = np.asarray(STARS.scores(output))
    assert (probabilities >= 0).all() and probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert STARS.expected(probabilities) + 1e-4 >= 1 and STARS.expected(probabilities) < 5 + 1e-4

    def loss(output: jax.Array) -> jax.Array:
        return STARS.loss(jnp.broadcast_to(output, (4, 3)), jnp.array(STARS.values)).sum()

    assert np.isfinite(loss(output)) and np.isfinite(jax.grad(loss)(output)).all()


@given(real)
def test_probabilities_are_differences_of_sigmoids(score: float) -> None:
    gaps = jnp.array([0.3, 1.0])
    output = STARS.output(jnp.float32(score), gaps)
    reached = np.concatenate([[1], jax.nn.sigmoid(np.asarray(output, np.float64)), [0]])
    np.testing.assert_allclose(STARS.scores(output), -np.diff(reached), atol=1e-6)


@given(st.lists(st.tuples(st.floats(-8, 8, width=32), st.booleans()), min_size=2, max_size=20))
def test_an_ordinal_task_of_two_values_is_the_binary_one(events: list[tuple[float, bool]]) -> None:
    logit, label = (np.array(x, np.float32) for x in zip(*events, strict=True))
    two, one = Ordinal("like", (0.0, 1.0)), Binary("like")
    assert two.outputs == one.outputs
    output = jnp.asarray(logit)[:, None]
    np.testing.assert_allclose(two.loss(output, label), one.loss(output, label), atol=1e-6)
    np.testing.assert_allclose(
        two.expected(two.scores(output)), one.expected(one.scores(output)), atol=1e-6
    )
    scores = [np.asarray(task.scores(output)) for task in (two, one)]
    np.testing.assert_allclose(
        normalized(two, label, scores[0]), normalized(one, label, scores[1]), rtol=1e-4
    )


@given(st.lists(st.integers(1, 5000), min_size=2, max_size=20))
def test_an_ordinal_task_begins_at_the_shares_of_train(counts: list[int]) -> None:
    shares = np.array(counts) / sum(counts)
    task = Ordinal("x", tuple(map(float, range(len(counts)))), tuple(shares))
    output = task.output(jnp.zeros(()), task.first_gaps())
    np.testing.assert_allclose(task.scores(output), shares, atol=2e-5)
    # Also as a model makes it, which has no gaps of two values.
    gaps = {"x": task.first_gaps()} if task.outputs > 1 else {}
    np.testing.assert_allclose(outputs_of([task], jnp.zeros(1), gaps), output)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_without_labels_nothing_is_measured(task: Task) -> None:
    """As in a period of a stream in which nobody rated anything."""
    none = np.zeros(0), np.zeros((0, task.columns)), np.zeros(0, np.int64)
    found = task.measure(*none)
    assert found["ne"] is None and found["count"] == 0
    json.dumps(found, allow_nan=False)
    columns = prediction_columns(task.name, task.measure(*some_scored(task)))
    values = {name: np.full((2, 5), np.nan) for name in columns}
    assert np.isnan(columns.resample(np.arange(5), values)["ne"].samples).all()


def some_scored(task: Task) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    label = some_labels(task, np.random.default_rng(0), 20)
    best = task.targets(label).mean(axis=0)
    return label, np.broadcast_to(best, (20, task.columns)), np.arange(20)


def test_probabilities_are_called_by_their_values() -> None:
    names = score_names(Ordinal("x", (float(np.float32(0.1)), 4.0, 1e6)))
    assert names == ["x=0.1", "x=4", "x=1000000"]


def some_labels(task: Task, rng: np.random.Generator, size: int = 200) -> np.ndarray:
    if isinstance(task, Regression):
        return rng.normal(50, 9, size)
    values = task.values if isinstance(task, Ordinal) else (0.0, 1.0)
    return rng.choice(values, size, p=np.arange(1, len(values) + 1) / sum(range(len(values) + 1)))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_the_best_constant_has_a_normalised_error_of_1_and_others_more(task: Task) -> None:
    rng = np.random.default_rng(0)
    label = some_labels(task, rng)
    best = task.targets(label).mean(axis=0)
    constant = np.broadcast_to(best, (len(label), task.columns))
    assert normalized(task, label, constant) == pytest.approx(1)
    other = 0.9 * best + 0.1 * rng.dirichlet(np.ones(task.columns))
    assert normalized(task, label, np.broadcast_to(other, constant.shape)) > 1
    assert normalized(task, label, 0.5 * task.targets(label) + 0.5 * constant) < 1
    assert np.isnan(normalized(task, label[:1].repeat(3), constant[:3]))


def test_real_valued_metrics_by_their_definitions() -> None:
    rng = np.random.default_rng(0)
    label = rng.normal(50, 9, 300)
    scores = (label + rng.normal(0, 3, 300))[:, None]
    found = SECONDS.measure(label, scores, np.arange(300))
    error = np.mean((label - scores[:, 0]) ** 2)
    assert found["rmse"] == pytest.approx(error**0.5)
    assert found["ne"] == pytest.approx(error / label.var()) and found["count"] == 300
    series = pd.Series(label), pd.Series(scores[:, 0])
    assert found["spearman"] == pytest.approx(series[0].corr(series[1], method="spearman"))
    assert spearman(label, scores[:, 0] ** 3) == pytest.approx(found["spearman"])  # ranks alone
    assert np.isnan(spearman(label, np.ones(300)))
    with pytest.raises(ValueError, match="1 predictions"):
        SECONDS.measure(label, np.where(np.arange(300)[:, None] == 7, np.nan, scores), label)


def test_ordinal_metrics_by_their_definitions() -> None:
    rng = np.random.default_rng(0)
    label = some_labels(STARS, rng)
    scores = rng.dirichlet(np.ones(4), len(label))
    found = STARS.measure(label, scores, np.arange(len(label)))
    own = scores[np.arange(len(label)), [STARS.values.index(v) for v in label]]
    share = np.unique(label, return_counts=True)[1] / len(label)
    assert found["ne"] == pytest.approx(np.log(own).mean() / (share * np.log(share)).sum())
    assert found["mae"] == pytest.approx(np.abs(scores @ np.array(STARS.values) - label).mean())
    with pytest.raises(ValueError, match="rows"):
        STARS.measure(label, scores * 1.1, label)


@pytest.mark.parametrize("task", TASKS[1:], ids=lambda task: task.name)
def test_resampling_all_users_once_gives_the_metric_itself(task: Task) -> None:
    """The value on the data is that of `measure`, and a resample that of the drawn events."""
    rng = np.random.default_rng(0)
    label = some_labels(task, rng, 60)
    scores = np.stack([0.7 * task.targets(label) + 0.3 / task.columns + noise for noise in (0, 0)])
    scores[1] = scores[1, ::-1] * 0.5 + scores[0] * 0.5
    users = np.arange(60) // 6
    columns = prediction_columns(task.name, task.measure(label, scores[0], users))
    assert isinstance(columns, OrdinalColumns | ValueColumns)
    named = dict(zip(list(columns)[1:], np.moveaxis(scores, -1, 0), strict=True))
    absent = np.full((2, 6), np.nan)  # of one more user
    values = {task.name: np.stack([label, label])} | named
    values = {name: np.hstack([column, absent]) for name, column in values.items()}
    ne = columns.resample(np.append(users, [10] * 6), values, resamples=20)["ne"]
    want = [normalized(task, label, own) for own in scores]
    np.testing.assert_allclose(ne.by_seed, want)
    draws = np.random.default_rng(0)
    for sample in ne.samples:
        drawn = np.concatenate([np.flatnonzero(users == u) for u in draws.integers(10, size=10)])
        of_seeds = np.stack([task.losses(label[drawn], own[drawn]).mean() for own in scores])
        assert sample == pytest.approx(of_seeds.mean() / task.uninformed(label[drawn]))


def spec_of(tasks: tuple[Task, ...]) -> DataSpec:
    return DataSpec(DATA.categories, tasks, DATA.context_length, DATA.scale, 3, 2, 4)


def batch_of_tasks() -> Any:
    rng = np.random.default_rng(1)
    shape = random_batch().event.shape
    labels = [rng.integers(0, 2, shape), rng.choice(STARS.values, shape), rng.normal(40, 20, shape)]
    mask = np.ones((*shape, 3), bool)
    return random_batch().replace(labels=np.stack(labels, -1).astype(np.float32), label_mask=mask)


def test_overfits_a_tiny_batch_of_all_types_of_tasks() -> None:
    model, batch = Ranker(small_config("siren_rope"), spec_of(TASKS)), batch_of_tasks()
    params = model.init(jax.random.key(1), jax.tree.map(jnp.asarray, batch))["params"]
    assert params["gaps_stars"].shape == (2,)

    def loss_of(params: Any) -> jax.Array:
        output = model.apply({"params": params}, batch)
        return ranking_loss(TASKS, output, batch.labels, batch.label_mask)

    learned = trained(loss_of, params)
    assert float(loss_of(params)) > 0.5 and float(loss_of(learned)) < 0.15
    predicted = predictions_of(TASKS, model.apply({"params": learned}, batch))
    error = np.abs(predicted - batch.labels).reshape(-1, 3).mean(axis=0)
    assert (error < [0.1, 0.2, 6]).all(), error


def test_absent_labels_have_no_gradient() -> None:
    batch = batch_of_tasks()
    mask = np.random.default_rng(0).random(batch.label_mask.shape) < 0.5
    output = jax.random.normal(jax.random.key(0), (*mask.shape[:2], 5))

    def loss(output: jax.Array, labels: Any) -> jax.Array:
        return ranking_loss(TASKS, output, labels, mask)

    gradient = np.asarray(jax.grad(loss)(output, batch.labels))
    for t, columns in enumerate((slice(0, 1), slice(1, 4), slice(4, 5))):
        assert (gradient[..., columns][~mask[..., t]] == 0).all()
        assert (gradient[..., columns][mask[..., t]] != 0).any(axis=-1).all()
    other = np.where(mask, batch.labels, 0.0)  # as a batch has it
    np.testing.assert_array_equal(gradient, jax.grad(loss)(output, other))


def test_labels_come_back_and_their_statistics_are_of_train(tmp_path: Path) -> None:
    frame = raw_log()
    log = prepared(tmp_path, frame, **EXPRESSIONS, categorical={"serial": "serial"})
    found = decoded(log).set_index("categorical/serial").sort_index()
    stars = frame.rating.where(frame.tab > 0).astype(np.float32)
    seconds = (100 * frame.rating + frame.x).where(frame.tab < 3).astype(np.float32)
    np.testing.assert_array_equal(found["ordinal/stars"], stars)
    np.testing.assert_array_equal(found["regression/seconds"], seconds)
    train = (found["split"] == 0).to_numpy()
    (ordinal,), (regression,) = log.schema.ordinal, log.schema.regression
    assert ordinal.values == (1, 2, 3, 4, 5)
    assert regression.mean == pytest.approx(seconds[train].mean())
    assert regression.std == pytest.approx(seconds[train].std(ddof=0), rel=1e-5)
    counts = log.report["numeric_labels"]["stars"]
    assert counts["train"]["labels"] == stars[train].notna().sum()
    assert counts["test"]["mean"] == pytest.approx(stars[found["split"] == 2].mean(), abs=1e-6)
    assert PreparedLog.open(log.path).schema == log.schema
    assert [task.name for task in tasks_of(log.schema)] == ["like", "stars", "seconds"]


def test_a_log_without_such_labels_says_nothing_of_them(tmp_path: Path) -> None:
    meta = read_json(prepared(tmp_path, raw_log()).path / "meta.json")
    assert not {"ordinal", "regression"} & meta.keys() and "numeric_labels" not in meta["report"]


@pytest.mark.parametrize(
    ("groups", "about", "named"),
    [
        ({"ordinal": {"x": "serial"}}, "config.ordinal.x", ["20", "config.regression"]),
        ({"ordinal": {"x": f"if(at < {START + 490}, tab, 9)"}}, "config.ordinal.x", ["9"]),
        ({"ordinal": {"x": f"if(at < {START + 300}, tab, NULL)"}}, "config.ordinal.x", ["no"]),
        ({"regression": {"x": "7.5"}}, "config.regression.x", ["7.5"]),
        ({"regression": {"x": "1e300"}}, "config.regression.x", ["1e+300"]),
        ({"regression": {"x": "iid"}}, "config.regression.x", ["iid"]),
        ({"regression": {"x": "NULL"}}, "config.regression.x", ["train"]),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_learned_are_refused(
    tmp_path: Path, groups: dict[str, Any], about: str, named: list[str]
) -> None:
    with refused(about, *named):
        prepared(tmp_path, raw_log(), **groups)
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_two_labels_have_two_names() -> None:
    with refused("config.regression.Like", "config.tasks"):
        config(regression={"Like": "rating"})


BASE = """
from siren_rope_jax.base.config import complete
from siren_rope_jax.rotation.variants import ranking_variant
from siren_rope_jax.training.kinds.ranking import RankingExperiment

def get_config(name="ordinal"):
    return complete(RankingExperiment, {
        "variant": name, "data": {"path": "", "length": 16, "stride": 8, "batch_size": 8},
        "model": {"width": 8, "heads": 1, "layers": 1, "head_widths": (16,),
                  **ranking_variant(name)},
        "optimizer": {"learning_rate": 0.01},
        "training": {"epochs": 4.0, "log_every": 5},
    })
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two variants, trained and reported on a log with labels of all types; its first run."""
    path, patch = tmp_path_factory.mktemp("study"), pytest.MonkeyPatch()
    patch.setattr("tests.made_up.BASES", {"ranking": BASE})
    made = prepared(path, raw_log(900), **EXPRESSIONS)
    variants = ({"name": "ordinal"}, {"name": "siren_rope"})
    spec, runs = make_plan(
        path / "plan", variants=variants, baseline="ordinal", seeds=(0,),
        data={"prepared": str(made.path)},
    )  # fmt: skip
    assert report.run_and_report(spec, path / "out", runs) == []
    yield path, runs
    patch.undo()


def test_results_and_predictions_of_all_types(study: Any) -> None:
    _, runs = study
    result, run = runs[0].result(), TrainedRun.open(runs[0].workdir)
    frame = pd.read_parquet(runs[0].workdir / "predictions.parquet")
    test = run.log.events("test")
    label = {name: run.log.schema.label(test.rows, name) for name in ("like", "stars", "seconds")}
    for name, of_task in label.items():
        np.testing.assert_array_equal(frame[name].to_numpy(np.float64), of_task)
        assert result["tasks"][name]["count"] == (~np.isnan(of_task)).sum()
        assert set(result["baselines"]["user_rate"]) == set(label)
    names = [f"stars={value}" for value in range(1, 6)]
    expected = frame[names].to_numpy() @ np.arange(1, 6)
    np.testing.assert_allclose(frame["stars_score"], expected, rtol=1e-5)
    stars, seconds = result["tasks"]["stars"], result["tasks"]["seconds"]
    assert set(stars) == {"ne", "mae", "spearman", "count", "values", "mean_label"}
    assert set(seconds) == {"ne", "rmse", "spearman", "count", "mean_label"}
    error = frame["seconds"].astype(float) - frame["seconds_score"]
    assert seconds["rmse"] == pytest.approx(np.sqrt(np.nanmean(error**2)), rel=1e-5)
    best = runs[0].validation()
    assert best["ne"] == pytest.approx(np.mean([best[f"ne/{name}"] for name in label]))
    assert set(result["slices"]["item"]["known"]["seconds"]) == {"ne", "count"}


def test_a_report_has_the_metrics_of_each_type(study: Any) -> None:
    path, runs = study
    text = (path / "out/report.md").read_text()
    like, stars, seconds = (
        table(text, f"{name}: overview") for name in ("like", "stars", "seconds")
    )
    assert like["variant"] == ["NE", "AUC", "GAUC", "ECE"]
    assert stars["variant"] == ["NE", "MAE", "Spearman"]
    assert seconds["variant"] == ["NE", "RMSE", "Spearman"]
    assert table(text, "Overview")["variant"] == ["like: NE", "stars: NE", "seconds: NE"]
    assert table(text, "Difference to ordinal RoPE")["variant"] == [
        "like: Δ NE", "like: Δ AUC", "stars: Δ NE", "seconds: Δ NE",
    ]  # fmt: skip
    numbers = json.loads((path / "out/report.json").read_text())["datasets"]["made_up"]
    results = [run.result()["tasks"] for run in runs]
    for name in ("stars", "seconds"):
        own = numbers["variants"]["siren_rope"]["parts"][name]["difference"]["ne"]
        difference = results[1][name]["ne"] - results[0][name]["ne"]
        assert own["value"] == pytest.approx(difference, rel=1e-4, abs=1e-6)
        assert own["low"] <= own["value"] <= own["high"]
    drawn = {picture.stem for picture in plots.draw_run(runs[0].workdir)}
    assert {"reliability", "models", "learning"} <= drawn
    columns = prediction_columns("stars", results[0]["stars"])
    users, _ = read_predictions([runs[0].workdir / "predictions.parquet"], columns)
    assert len(users) == len(pd.read_parquet(runs[0].workdir / "predictions.parquet"))


def raw_events(log: PreparedLog, user: int) -> pd.DataFrame:
    """A user's events in the columns of the prepared log; absent labels are None."""
    rows = log.history(user)
    items = log.vocabulary("item")["value"].to_pylist()
    events = pd.DataFrame({
        "user": log.users()[user].as_py(), "time": rows["time"].astype(int),
        "item": [items[n - 1] for n in rows["categorical/item"]],
    })  # fmt: skip
    for name in log.schema.label_columns:
        events[name] = log.schema.label(rows, name).astype(np.float64)
    return events


def test_scores_and_an_export_give_what_the_evaluation_found(study: Any) -> None:
    """Of histories in the log, in a table of their labels, and in the exported model."""
    path, runs = study
    run = TrainedRun.open(runs[1].workdir)
    log, names = run.log, list(run.log.schema.label_columns)
    predictions = pd.read_parquet(runs[1].workdir / "predictions.parquet").set_index("event")
    values = log.schema.ordinal[0].values
    probabilities = predictions[[f"stars={value:g}" for value in values]].to_numpy()
    np.testing.assert_allclose(probabilities @ values, predictions["stars_score"], rtol=1e-5)
    folder = export(run, path / "exported", runs[1].result())
    histories, requests, found, want = [], [], [], []
    for user in range(len(log.index)):
        events = raw_events(log, user)
        last = int(log.offsets[user]) + len(events) - 1
        if last not in predictions.index:
            continue
        want.append(predictions.loc[last, [f"{name}_score" for name in names]].to_numpy(float))
        past, request = events[:-1], events[-1:].drop(columns=names)
        new = f"new {user}" if isinstance(events["user"][0], str) else 10**6 + user
        encoded = sr.encode(run, [new], events=past.assign(user=new))
        found.append(encoded.score(request.assign(user=new))[names].to_numpy()[0])
        histories.append(past.drop(columns="user").to_dict("records"))
        requests.append(request.drop(columns="user").to_dict("records"))
    assert len(want) > 5
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-4)
    scores = np.array(answer(folder, histories, requests)["scores"])[:, 0]
    np.testing.assert_allclose(scores, want, rtol=1e-4, atol=1e-4)
    card = (folder / "README.md").read_text()
    assert "| stars | NE | MAE | Spearman |" in card


def test_past_labels_of_all_types_are_seen_by_later_requests(study: Any) -> None:
    _, runs = study
    run = TrainedRun.open(runs[0].workdir)
    events = raw_events(run.log, 0)[:4].assign(user=10**6, like=1, stars=5.0, seconds=500.0)
    request = events[-1:].drop(columns=["user", "like", "stars", "seconds"])

    def score(**changes: Any) -> np.ndarray:
        encoded = sr.encode(run, [10**6], events=events[:3].assign(**changes))
        return encoded.score(request)[["like", "stars", "seconds"]].to_numpy()[0]

    for change in ({"like": 0}, {"stars": 1.0}, {"seconds": 100.0}, {"stars": None}):
        assert not np.allclose(score(**change), score(), atol=1e-5), change
    with refused("events", "stars", "2.5", "1, 2, 3, 4, 5"):
        score(stars=2.5)
    with refused("events", "seconds"):
        score(seconds="long")


def test_a_warm_start_needs_the_same_values(study: Any, tmp_path: Path) -> None:
    _, runs = study
    run = TrainedRun.open(runs[0].workdir)
    params = warm_params(run.setup, run)
    np.testing.assert_array_equal(params["gaps_stars"], run.params["gaps_stars"])
    others = EXPRESSIONS | {"ordinal": {"stars": "rating / 2"}}
    other = prepared(tmp_path, raw_log(900), **others)
    with refused("config.training.warm_start", "log.ordinal.stars"):
        warm_params(setup(run.config, other, make_mesh()), run)


def test_targets_of_a_retriever_are_those_of_a_binary_task(study: Any) -> None:
    _, runs = study
    log = TrainedRun.open(runs[0].workdir).log
    data = DataConfig(str(log.path), length=16, stride=8, batch_size=8, target_task="stars")
    model = small_retriever_config("ordinal", **retrieval_variant("ordinal", "item"))
    kind = kind_of(RetrievalExperiment(variant="ordinal", data=data, model=model))
    with refused("config.data.target_task", "stars", "like"):
        kind.check(kind.spec(log))
