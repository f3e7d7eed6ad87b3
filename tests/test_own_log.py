"""The commands for one's own log (docs/own-log.md, docs/next-items.md), in real processes."""

import csv
import gzip
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from siren_rope_jax.base.config import load_config_file
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.prepare.config import PrepareConfig
from tests.pages import python_blocks
from tests.scripts import ROOT, complaint, printed
from tests.scripts import run as run_script


def write_log(path: Path) -> None:
    rng = np.random.default_rng(0)
    with gzip.open(path, "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["uid", "article", "at", "liked", "seconds", "device"])
        for _ in range(3_000):
            at = np.datetime64("2024-05-01") + np.timedelta64(int(rng.integers(0, 2_000_000)), "s")
            user, item = int(rng.integers(0, 60)), int(rng.integers(0, 40))
            liked = int(rng.random() < (0.8 if (user + item) % 2 else 0.2))
            device = rng.choice(["phone", "desk"])
            row = [f"u{user}", f"a{item}", f"{at}Z", liked, int(rng.integers(1, 90)), device]
            writer.writerow(row)


def prepare_and_train(tmp_path: Path, config: str, *columns: str) -> tuple[Path, Callable[[], str]]:
    """Prepares a log of clicks; returns the folder of a run, and what trains it."""
    log, data, run = tmp_path / "clicks.csv.gz", tmp_path / "data", tmp_path / "run"
    write_log(log)
    printed(
        "prepare", f"--config={ROOT}/configs/data/table.py", f"--input={log}", f"--output={data}",
        "--config.name=clicks", "--config.user=uid", "--config.item=article", "--config.time=at",
        "--config.time_unit=iso", *columns,
    )  # fmt: skip
    flags = f"--config.data.path={data}", f"--workdir={run}", "--config.training.epochs=2"
    return run, partial(printed, "train", f"--config={ROOT}/configs/{config}.py:siren_rope", *flags)


@pytest.mark.slow
def test_prepare_train_evaluate_analyze(tmp_path: Path) -> None:
    run, train = prepare_and_train(
        tmp_path, "table", "--config.tasks=like=liked;read=seconds >= 30",
        "--config.actions=seconds=ln(1 + seconds)", "--config.categorical=device=device",
        "--config.time_zone=Europe/Berlin",
    )  # fmt: skip
    assert "user_rate" in train()
    result = json.loads((run / "result.json").read_text())
    assert result["variant"] == "siren_rope" and result["dataset"] == "clicks"
    assert set(result["tasks"]) == {"like", "read"}
    assert {"ne", "auc", "gauc", "ece", "count", "positives"} == set(result["tasks"]["like"])
    predictions = pq.read_table(run / "predictions.parquet")
    assert {"user", "item", "time", "like", "like_score", "read"} <= set(predictions.column_names)
    assert predictions.num_rows == result["events"]
    assert len(list((run / "plots").glob("*.png"))) >= 6

    steps = (run / "metrics.jsonl").read_text()
    train()  # the same command again: nothing is left to do
    assert (run / "metrics.jsonl").read_text() == steps
    printed("evaluate", f"--workdir={run}", "--split=validation")
    validation = json.loads((run / "result_validation.json").read_text())
    assert validation["split"] == "validation" and result["split"] == "test"
    assert validation["train_seconds"] == result["train_seconds"]
    assert pq.read_table(run / "predictions_validation.parquet").num_rows == validation["events"]
    assert json.loads((run / "result.json").read_text()) == result
    printed("analyze", f"--workdir={run}")
    assert (run / "analysis.json").is_file() and (run / "plots/rotation.png").is_file()

    # Events and candidates in the columns of the raw log; a candidate has no label yet.
    events, candidates, scores = (tmp_path / f"{n}.csv" for n in ("events", "asked", "scores"))
    events.write_text(
        "uid,article,at,liked,seconds,device\n"
        "u1,a3,2024-06-20T10:00:00Z,1,40,phone\n"
        "new one,a4,2024-06-20T11:00:00Z,0,2,desk\n"
    )
    candidates.write_text("article,device\na1,phone\na2,desk\nnever seen,phone\n")
    files = f"--events={events}", f"--candidates={candidates}", f"--output={scores}"
    printed("score", f"--workdir={run}", *files, "--time=2024-06-21T10:00")  # of the log's zone
    table = pd.read_csv(scores)
    assert (pd.to_datetime(table["time"], unit="s") == "2024-06-21T08:00").all()
    assert table["user"].tolist() == ["u1"] * 3 + ["new one"] * 3
    assert table[["like", "read"]].gt(0).all(axis=None) and table["like"].lt(1).all()
    printed("score", f"--workdir={run}", *files, "--time=1718956800000")  # the same in milliseconds
    pd.testing.assert_frame_equal(pd.read_csv(scores), table)
    before = candidates.read_bytes()
    for wrong, about, problem in (
        (f"--output={candidates}", "--output: ", "--candidates"),
        (f"--output={tmp_path}/none/a.csv", "--output: ", "a folder that exists"),
        (f"--output={tmp_path}/a.csv.gz", "--output: ", ".csv"),
        ("--time=2024", "--time: ", "1970-01-01T00:33:44Z"),
    ):
        line = complaint("score", f"--workdir={run}", *files, "--time=2024-06-21", wrong)
        assert line.startswith(about) and problem in line
    assert candidates.read_bytes() == before
    candidates.write_text("uid,article,device\nu1,a1,phone\nnobody,a2,desk\nu2,none,desk\n")
    said = run_script("score", f"--workdir={run}", *files, "--time=2024-06-21").stderr
    assert re.findall(r"\d+ of \d+", said) == ["1 of 3", "1 of 3"] and said.count("\n") == 1, said
    candidates.write_text("article,device\na1,phone\n")
    line = complaint("score", f"--workdir={run}", *files)
    assert line.startswith("--time: ")


@pytest.mark.slow
def test_next_items_of_ones_own_log(tmp_path: Path) -> None:
    """The same without labels, for retrieval, up to lists for users."""
    run, train = prepare_and_train(
        tmp_path, "next_item", "--config.min_count=1", "--config.time_zone=Europe/Berlin"
    )
    assert "revisit" in train()
    result = json.loads((run / "result.json").read_text())
    assert (result["protocol"], result["query_time"]) == ("time", "request")
    assert {"nll", "mrr", "hr@10", "ndcg@10", "count"} <= set(result["ranking"])
    predictions = pq.read_table(run / "predictions.parquet")
    assert {"event", "user", "item", "time", "rank", "nll"} <= set(predictions.column_names)
    assert predictions.num_rows == result["events"] == result["ranking"]["count"]
    assert len(list((run / "plots").glob("*.png"))) >= 5
    (code,) = python_blocks("docs/next-items.md")
    names: dict[str, Any] = {}
    exec(code.replace("runs/next", str(run)).replace('"ann", "bob"', '"u1", "u2"'), names)
    lists = names["monday_morning"]
    assert lists["user"].tolist() == ["u1"] * 10 + ["u2"] * 10
    assert lists["item"].str.startswith("a").all()

    events, output = tmp_path / "events.csv", tmp_path / "lists.parquet"
    events.write_text("uid,article,at\nu1,a3,2024-06-20T10:00:00Z\nnew,a4,2024-06-20T11:00:00Z\n")
    flags = f"--workdir={run}", "--time=2024-06-21T10:00", f"--output={output}", "--k=3"
    printed("recommend", *flags, f"--events={events}")
    assert pd.read_parquet(output)["user"].tolist() == ["u1"] * 3 + ["new"] * 3
    in_the_zone = pd.read_parquet(output)["score"]
    printed("recommend", *flags, f"--events={events}", "--time=2024-06-21T08:00Z")
    pd.testing.assert_series_equal(pd.read_parquet(output)["score"], in_the_zone)
    printed("recommend", *flags, f"--events={events}", "--time=2024-06-21T10:00Z")
    assert not pd.read_parquet(output)["score"].equals(in_the_zone)
    candidates = tmp_path / "candidates.csv"
    candidates.write_text("article\na1\na2\na3\nnever seen\n")
    events.write_text(f"{events.read_text()}late,a1,2024-06-22T10:00:00Z\n")
    files = f"--events={events}", f"--candidates={candidates}"
    said = run_script("recommend", *flags, *files).stderr
    assert re.findall(r"\d+ of \d+", said) == ["1 of 4", "1 of 3"] and said.count("\n") == 1, said
    candidates.write_text("uid,article\nu1,a1\n")
    line = complaint("recommend", *flags, *files)
    assert line.startswith("--candidates: ") and "users" in line
    printed("recommend", *flags, "--everybody", "--filter_seen")
    clicks = pd.read_csv(tmp_path / "clicks.csv.gz")
    for user, own in pd.read_parquet(output).groupby("user"):
        assert not set(own["item"]) & set(clicks[clicks["uid"] == user]["article"])
    printed("recommend", *flags, "--everybody")
    assert pd.read_parquet(output)["user"].nunique() == 60


def test_a_log_can_be_described_by_a_json_file_and_by_another_log(tmp_path: Path) -> None:
    log, described = tmp_path / "clicks.csv.gz", tmp_path / "clicks.json"
    write_log(log)
    columns = {"name": "clicks", "user": "uid", "item": "article", "time": "at"}
    described.write_text(json.dumps(columns | {"time_unit": "iso", "tasks": {"like": "liked"}}))
    made = []
    for file, output in ((described, "first"), (tmp_path / "first/meta.json", "second")):
        config = f"--config={ROOT}/configs/data/from_json.py:{file}"
        printed("prepare", config, f"--input={log}", f"--output={tmp_path / output}")
        made.append(PreparedLog.open(tmp_path / output))
    assert made[0].fingerprint == made[1].fingerprint and made[0].schema.tasks == ("like",)
    machine = {"memory_gb": 1e6, "threads": 1000, "download": {"url": "https://host/log.zip"}}
    described.write_text(json.dumps(columns | machine))
    path = f"{ROOT}/configs/data/from_json.py"
    left = PrepareConfig.load(load_config_file(path, {}, str(described)))
    assert left.memory_gb < 10 and left.threads == 0 and not left.download.url
    described.write_text("[]")
    line = complaint(
        "prepare",
        f"--config={ROOT}/configs/data/from_json.py:{described}",
        f"--input={log}",
        f"--output={tmp_path / 'third'}",
    )
    assert line.startswith(f"{described}: ")
