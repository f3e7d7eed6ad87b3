"""An exported model gives the figures of its run, in a process that has none of this package."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.evaluation.evaluate import evaluate_run
from siren_rope_jax.inference.encoded import encode
from siren_rope_jax.inference.export import export
from siren_rope_jax.inference.load_exported import Model
from siren_rope_jax.prepare.synthetic import SyntheticConfig, generate
from siren_rope_jax.training.loop import fit
from siren_rope_jax.training.trained import TrainedRun
from tests.made_up import make_log
from tests.raw_logs import prepared, raw_log
from tests.refusals import refused
from tests.scripts import ROOT, complaint, printed
from tests.test_encoded import untrained

ALONE = """
import importlib.abc, json, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("siren_rope_jax", "flax", "optax", "grain", "orbax", "pandas"):
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
from load import Model
import numpy as np

asked = json.loads(sys.stdin.read())
model = Model()
if model.schema["kind"] == "ranking":
    answer = {"scores": model.score(*asked).astype(float).tolist()}
else:
    items, scores = model.recommend(*asked, k=5)
    answer = {"items": items.tolist(), "scores": scores.astype(float).tolist()}
print(json.dumps(answer))
"""


def answer(folder: Path, histories: Any, requests: Any) -> dict[str, Any]:
    """What the model in a folder says, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", ALONE], cwd=folder, input=json.dumps([histories, requests]),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def raw(log: PreparedLog, rows: np.ndarray) -> list[dict[str, Any]]:
    """Events as their users would write them."""
    found: list[dict[str, Any]] = [{"time": int(t)} if t > -(2**62) else {} for t in rows["time"]]
    for c in log.schema.categorical:
        values = log.vocabulary(c.name)["value"].to_pylist()
        for event, n in zip(found, rows[f"categorical/{c.name}"], strict=True):
            event[c.name] = values[n - 1] if n else None
    for d in log.schema.dense:
        for event, x in zip(found, rows[f"dense/{d.name}"], strict=True):
            event[d.name] = float(x)
    for task in log.schema.tasks:
        for event, label in zip(found, rows[f"task/{task}"], strict=True):
            if label >= 0:
                event[task] = int(label)
    if log.schema.has_utc_offset:
        for event, offset in zip(found, rows["utc_offset"], strict=True):
            event["utc_offset"] = int(offset)
    return found


@pytest.mark.slow
def test_scores_are_the_predictions_of_the_evaluation(tmp_path: Path) -> None:
    generate(SyntheticConfig(num_users=30, events_per_user=40, num_items=25), tmp_path / "feed")
    log = PreparedLog.open(tmp_path / "feed")
    config = untrained(log, "ranking", "siren_rope").config
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, batch_size=8))
    fit(config, tmp_path / "run")
    result = evaluate_run(tmp_path / "run")
    folder = export(TrainedRun.open(tmp_path / "run"), tmp_path / "exported", result)
    predictions = pd.read_parquet(tmp_path / "run/predictions.parquet")
    histories, requests = [], []
    for event in predictions["event"]:
        user = int(np.searchsorted(log.offsets, event, side="right")) - 1
        history, n = log.history(user), int(event - log.offsets[user])
        histories.append(raw(log, history[:n]))
        requests.append([{k: v for k, v in raw(log, history[n : n + 1])[0].items()
                          if k not in log.schema.tasks}])  # fmt: skip
    scores = np.array(answer(folder, histories, requests)["scores"])[:, 0]
    for t, task in enumerate(log.schema.tasks):
        np.testing.assert_allclose(scores[:, t], predictions[f"{task}_score"], atol=1e-6)
    card = (folder / "README.md").read_text()
    assert f"{result['tasks']['like']['ne']:.4f}" in card and "load.Model()" in card
    with refused(folder):
        export(TrainedRun.open(tmp_path / "run"), folder)


@pytest.mark.slow
@pytest.mark.parametrize("repeat", [False, True])
def test_lists_are_those_of_the_run(tmp_path: Path, repeat: bool) -> None:
    log = make_log(tmp_path / "log", users=9, events=30, no_time=0.1, min_count=2)
    run = untrained(log, "retrieval", "siren_rope_hstu_bias", repeat=repeat)
    folder = export(run, tmp_path / "exported")
    users, end = log.users().to_pylist()[:3], log.schema.end
    expected = encode(run, users).recommend(end + 60, k=5)
    histories = [raw(log, log.history(n)) for n in range(3)]
    requests = [[{"time": end + 60}] for _ in histories]  # at the last event's offset
    found = answer(folder, histories, requests)
    assert np.array(found["items"])[:, 0].ravel().tolist() == expected["item"].tolist()
    np.testing.assert_allclose(np.ravel(found["scores"]), expected["score"], atol=1e-5)
    model = Model(folder)
    for filter_seen in (False, True):  # the histories are longer than the model's rows
        expected = encode(run, users).recommend(end + 60, k=70, filter_seen=filter_seen)
        items, _ = model.recommend(histories, requests, 70, filter_seen)
        found = [item for item in items.ravel() if item is not None]
        assert found == expected["item"].tolist()
    for wrong in ([[{}]] * 3, [[{"time": 10**12}]] * 3, [[{"time": end}]] * 2, [[]] * 3):
        with pytest.raises(ValueError):
            model.recommend(histories, wrong)
    with pytest.raises(ValueError):
        model.recommend([[], *histories[1:]], requests)


@pytest.mark.slow
def test_the_clock_of_an_exported_model_is_that_of_the_log(tmp_path: Path) -> None:
    log = make_log(tmp_path / "log", users=9, events=14, min_count=2)
    schema = dataclasses.replace(log.schema, time_zone="Europe/Berlin")
    run = untrained(log, "retrieval", "siren_rope_cyclic")
    run = dataclasses.replace(run, log=dataclasses.replace(log, schema=schema))
    june = 1_717_200_000
    model = Model(export(run, tmp_path / "exported"))
    assert "tzdata" in (tmp_path / "exported/README.md").read_text()
    histories = [raw(log, log.history(n)) for n in range(2)]
    with pytest.raises(ValueError, match="utc_offset"):  # which follows from the zone
        model.recommend(histories, [[{"time": june}]] * 2, k=5)
    past = [[without(event, "utc_offset") for event in history] for history in histories]
    table = [event | {"user": f"new {n}"} for n, history in enumerate(past) for event in history]
    encoded = encode(run, ["new 0", "new 1"], events=pd.DataFrame(table))
    expected = encoded.recommend(june, k=5)
    items, _ = model.recommend(past, [[{"time": june}]] * 2, k=5)
    assert items.ravel().tolist() == expected["item"].tolist()


def test_the_examples_of_two_cards_run_in_one_process(tmp_path: Path) -> None:
    raw = raw_log().assign(rating=lambda f: f["rating"].clip(2, 4))
    log = prepared(
        tmp_path, raw, min_count=1, categorical={"tab": "tab", "tabs": "[tab, tab + 1]"},
        dense={"x": "x", "like": "-x"}, context={"hour": "time // 3600 % 24", "item": "x"},
        actions={"stay": "x + 1"}, ordinal={"stars": "rating"}, regression={"worth": "x"},
    )  # fmt: skip
    names, codes = ["item", "tab", "tabs", "x", "dense/like"], []
    of_ranking = ["hour", "context/item", "stay", "task/like", "stars", "worth"]
    for kind in ("retrieval", "ranking"):
        folder = export(untrained(log, kind, "ordinal"), tmp_path / kind)
        (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
        names += of_ranking * (kind == "ranking")
        assert all(f"'{name}'" in code for name in names)
        assert 'folder = "."' in code
        codes.append(code.replace('folder = "."', f'folder = "{folder}"'))
    shown = "print(model.schema['kind'], scores.shape, end=' ')"
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([codes[0], shown, codes[1], shown])],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "retrieval (1, 1, 3) ranking (1, 1, 3) "  # items, or tasks


def test_every_column_has_the_expression_of_the_log(tmp_path: Path) -> None:
    log = prepared(
        tmp_path, raw_log(), min_count=1, derived={"size": "abs(x)"}, where="rating < 9",
        categorical={"tab": "tab"}, dense={"x": "ln(1 + size)"}, utc_offset="60 * tab",
    )  # fmt: skip
    folder = export(untrained(log, "ranking", "ordinal"), tmp_path / "exported")
    schema = json.loads((folder / "schema.json").read_text())
    assert {key: column["expression"] for key, column in schema["columns"].items()} == {
        "time": "", "utc_offset": "60 * tab", "item": "iid", "tab": "tab", "x": "ln(1 + size)",
        "like": "rating >= 4",
    }  # fmt: skip
    assert schema["derived"] == {"size": "abs(x)"}
    card = (folder / "README.md").read_text()
    assert schema["jax"] == jax.__version__ and jax.__version__ in card and "tzdata" not in card
    for text in ("`60 * tab`", "`ln(1 + size)`", "`rating >= 4`", "`abs(x)`", "`rating < 9`"):
        assert text in card


@pytest.fixture(scope="module")
def stars(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("stars")
    log = prepared(
        folder, raw_log(), min_count=1, categorical={"tab": "tab", "tabs": "[tab, tab + 1]"},
        dense={"x": "x"}, context={"hour": "time // 3600 % 24"}, actions={"stay": "x"},
        ordinal={"stars": "rating"}, utc_offset="60 * tab",
    )  # fmt: skip
    return Model(export(untrained(log, "ranking", "ordinal"), folder / "exported"))


NOW = 1_700_000_000
CANDIDATE = {"item": "i2", "tab": None, "tabs": [1, 2], "x": 0.5, "hour": 7, "time": NOW}
PAST = {"item": "i1", "tab": 1, "tabs": [1], "x": 0.5, "stars": 4, "like": True, "utc_offset": 60}
PAST |= {"time": NOW}


def without(event: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in event.items() if k != key}


@pytest.mark.parametrize(
    ("history", "request_", "said"),
    [
        ([PAST, {**PAST, "stars": 4.5}], {}, r"histories\[0\]\[1\]: stars is 4.5; .* 3, 4, 5"),
        ([{**PAST, "stars": "4"}], {}, "stars is '4'; it must be one of"),
        ([{**PAST, "like": 2}], {}, "like is 2; it must be one of 0, 1, or None"),
        ([{**PAST, "x": [0.5]}], {}, "x is .*; it must be a number"),
        ([{**PAST, "x": float("inf")}], {}, "x is inf; it must be a number from"),
        ([{**PAST, "x": float("nan")}], {}, "x is nan; it must be a number"),
        ([{**PAST, "stay": 1e39}], {}, "stay is 1e.39; it must be a number from .*, or None"),
        ([{**PAST, "item": ["i1"]}], {}, "item is .*; it must be a text$"),
        ([{**PAST, "item": None}], {}, "item is None; it must be a text$"),
        ([{**PAST, "item": 1}], {}, "item is 1; it must be a text$"),
        ([{**PAST, "tab": "1"}], {}, "tab is '1'; it must be a number, or None"),
        ([{**PAST, "tab": True}], {}, "tab is True; it must be a number"),
        ([{**PAST, "tabs": [[1]]}], {}, "tabs is .*; it must be a list, each a number"),
        ([{**PAST, "tabs": ["1"]}], {}, "tabs is .*; it must be a list, each a number"),
        ([{**PAST, "tabs": 1}], {}, "tabs is 1; it must be a list"),
        ([{**PAST, "itm": "i1"}], {}, "'itm'; its keys must be of time, utc_offset, item, tab"),
        ([without(PAST, "item")], {}, "item is not given; it must be a text"),
        ([without(PAST, "tab")], {}, "tab is not given; it must be a number, or None"),
        ([without(PAST, "x")], {}, "x is not given"),
        ([without(PAST, "utc_offset")], {}, "utc_offset is not given; it must be seconds"),
        ([{**PAST, "utc_offset": None}], {}, "utc_offset is None; it must be seconds"),
        ([{**PAST, "time": "2023-11-14"}], {}, "time is '2023-11-14'; it must be Unix seconds"),
        ([[PAST]], {}, "must be a dict"),
        (PAST, {}, "histories must be a list"),
        ([{**PAST, "time": NOW + 1}, without(PAST, "time"), PAST], {}, "at least 1700000001"),
        ([PAST], {"time": NOW - 1}, r"requests\[0\]\[0\]: time is 1699999999; it must be at least"),
        ([PAST], {"time": None}, "time is None; it must be Unix seconds"),
        ([PAST], {"utc_offset": 10**7}, "utc_offset is 10000000; it must be seconds from -64800"),
        ([PAST], {"hour": None}, "hour is None; it must be a number"),
        ([PAST], {"hours": 7}, "'hours'; its keys must be of"),
    ],
)
def test_what_an_exported_model_cannot_take_is_refused(
    stars: Model, history: Any, request_: dict[str, Any], said: str
) -> None:
    unsure = without(PAST, "time") | {"stars": None, "like": float("nan"), "item": "new"}
    scores = stars.score([[PAST, unsure, PAST]], [[CANDIDATE]])
    assert np.isfinite(scores).all()
    with pytest.raises(ValueError, match=said) as caught:
        stars.score([history], [[CANDIDATE | request_]])
    assert "\n" not in str(caught.value)


def test_users_and_requests_are_answered_alike_in_any_number(stars: Model) -> None:
    """And few numbers are compiled."""
    histories = [[PAST] * n for n in (1, 0, 3, 2, 5)]
    requests = [[{**CANDIDATE, "x": u + n} for n in range(3)] for u in range(5)]
    scores = stars.score(histories, requests)
    assert scores.shape == (5, 3, 2)
    for u, (history, row) in enumerate(zip(histories, requests, strict=True)):
        for n, request in enumerate(row):
            alone = stars.score([history], [[request]])[0, 0]
            np.testing.assert_allclose(alone, scores[u, n], atol=1e-6)
    compiled: list[str] = []

    def listen(event: str, _: float, **__: Any) -> None:
        compiled.append(event)

    # It stays: older versions of JAX cannot take one listener away.
    jax.monitoring.register_event_duration_secs_listener(listen)
    for users in (5, 6, 7, 8):
        row = [CANDIDATE] * ((users + 1) // 2)
        assert stars.score([[PAST]] * users, [row] * users).shape == (users, len(row), 2)
    assert not compiled


def test_a_model_says_which_question_it_answers(tmp_path: Path, stars: Model) -> None:
    log = make_log(tmp_path / "log", users=9, events=14, min_count=2, has_utc_offset=False)
    model = Model(export(untrained(log, "retrieval", "ordinal"), tmp_path / "exported"))
    histories, request = [raw(log, log.history(0))], {"time": log.schema.end}
    with pytest.raises(ValueError, match="ranking model; use score"):
        stars.recommend([[PAST]], [[CANDIDATE]])
    with pytest.raises(ValueError, match="retrieval model; use recommend"):
        model.score(histories, [[request]])
    for k in (-1, 0, 1_001, 2.5, True):
        with pytest.raises(ValueError, match="must be a whole number from 1 to 1000"):
            model.recommend(histories, [[request]], k)
    for wrong in ({"item": "i1"}, {"utc_offset": 0}):
        with pytest.raises(ValueError, match=r"its keys must be of time$"):
            model.recommend(histories, [[request | wrong]])
    with pytest.raises(ValueError, match=r"histories\[0\] is empty"):
        model.recommend([[]], [[request]])
    items, _ = model.recommend(histories, [[request]], 1_000)
    assert items.shape[2] == log.schema.categorical[0].known


def test_a_training_exports_its_model_if_asked(tmp_path: Path) -> None:
    generate(SyntheticConfig(num_users=20, events_per_user=30, num_items=10), tmp_path / "feed")
    folder = tmp_path / "exported"
    flags = [
        f"--config={ROOT}/configs/synthetic.py:ordinal", f"--config.data.path={tmp_path}/feed",
        "--config.model.width=16", "--config.model.layers=1", "--config.data.length=16",
        "--config.training.epochs=0.5", f"--export={folder}",
    ]  # fmt: skip
    printed("train", f"--workdir={tmp_path}/run", *flags)
    assert "ordinal" in (folder / "README.md").read_text() and Model(folder).schema
    said = complaint("train", f"--workdir={tmp_path}/another", *flags)
    assert said.startswith(str(folder)) and not (tmp_path / "another").exists()
