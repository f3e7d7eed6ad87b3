"""An exported model gives the figures of its run, in a process that has none of this package."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

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
    assert f"{result['tasks']['like']['ne']:.4f}" in card and "from load import Model" in card
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
    users, june = log.users().to_pylist()[:2], 1_717_200_000
    expected = encode(run, users).recommend(june, k=5)
    model = Model(export(run, tmp_path / "exported"))
    histories = [raw(log, log.history(n)) for n in range(2)]
    offsets = [h["utc_offset"] for h in log.histories_of([0, 1])]  # which the zone replaces
    assert all((offset != 7_200).any() or (offset != 3_600).any() for offset in offsets)
    items, _ = model.recommend(histories, [[{"time": june}]] * 2, k=5)
    past = [[{k: v for k, v in e.items() if k != "utc_offset"} for e in h] for h in histories]
    again, _ = model.recommend(past, [[{"time": june}]] * 2, k=5)
    assert items.tolist() == again.tolist() and expected["user"].nunique() == 2


@pytest.mark.parametrize("kind", ["ranking", "retrieval"])
def test_the_example_of_the_card_runs(tmp_path: Path, kind: str) -> None:
    raw = raw_log().assign(rating=lambda f: f["rating"].clip(2, 4))
    log = prepared(
        tmp_path, raw, min_count=1, categorical={"tab": "tab", "tabs": "[tab, tab + 1]"},
        dense={"x": "x", "like": "-x"}, context={"hour": "time // 3600 % 24", "item": "x"},
        actions={"stay": "x + 1"}, ordinal={"stars": "rating"}, regression={"worth": "x"},
    )  # fmt: skip
    folder = export(untrained(log, kind, "ordinal"), tmp_path / "exported")
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint(past, scores.shape)"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("(1, 1, 3)\n"), done.stdout  # tasks, or items
    names = ["item", "tab", "tabs", "x", "dense/like"]
    if kind == "ranking":
        names += ["hour", "context/item", "stay", "task/like", "stars", "worth"]
    for name in names:
        assert f"'{name}'" in code


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
    for text in ("`60 * tab`", "`ln(1 + size)`", "`rating >= 4`", "`abs(x)`", "`rating < 9`"):
        assert text in card


@pytest.fixture(scope="module")
def stars(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("stars")
    log = prepared(
        folder, raw_log(), min_count=1, categorical={"tabs": "[tab, tab + 1]"}, dense={"x": "x"},
        ordinal={"stars": "rating"},
    )  # fmt: skip
    return Model(export(untrained(log, "ranking", "ordinal"), folder / "exported"))


PAST = {"item": "i1", "tabs": [1], "x": 0.5, "stars": 4, "like": True, "time": 1_700_000_000}


@pytest.mark.parametrize(
    ("history", "request_", "said"),
    [
        ([{**PAST, "stars": 4.5}], {}, "stars must be one of"),
        ([{**PAST, "stars": "4"}], {}, "stars must be a number"),
        ([{**PAST, "like": 2}], {}, "like must be one of"),
        ([{**PAST, "x": [0.5]}], {}, "x must be a number"),
        ([{**PAST, "item": ["i1"]}], {}, "item must be one value"),
        ([{**PAST, "tabs": [[1]]}], {}, "tabs must be a list of values without lists"),
        ([{**PAST, "tabs": 1}], {}, "tabs must be a list of values"),
        ([{**PAST, "time": "2023-11-14"}], {}, "times are Unix seconds"),
        ([[PAST]], {}, "each a dict"),
        (PAST, {}, "each a dict"),
        ([{**PAST, "time": 1_700_000_001}, {"item": "i1"}, PAST], {}, "from old to new"),
        ([PAST, {"item": "i1"}], {"time": 1_699_999_999}, "before its past"),
        ([PAST], {"time": None}, "a request needs a time"),
    ],
)
def test_what_an_exported_model_cannot_take_is_refused(
    stars: Model, history: Any, request_: dict[str, Any], said: str
) -> None:
    right = {"item": "i2", "time": 1_700_000_000}
    scores = stars.score(
        [[PAST, {"item": "i1", "stars": None, "like": float("nan")}, PAST]], [[right]]
    )
    assert np.isfinite(scores).all()
    with pytest.raises(ValueError, match=said) as caught:
        stars.score([history], [[right | request_]])
    assert "\n" not in str(caught.value)


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
