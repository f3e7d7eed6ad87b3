"""Spark prepares the same log as DuckDB, or says in one line what it cannot do."""

import contextlib
import io
import os
import shutil
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from siren_rope_jax.base.config import complete
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.prepare.make import make_log
from siren_rope_jax.prepare.synthetic import SyntheticConfig
from siren_rope_jax.prepare.table import prepare
from tests.raw_logs import START, assert_same, config, opened, raw_log, write
from tests.refusals import refused

pyspark_sql = pytest.importorskip("pyspark.sql")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("java") or os.environ.get("JAVA_HOME")), reason="there is no Java"
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def spark():
    """One session for all tests, with several partitions even of little logs."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    settings = {
        "spark.master": "local[2]",
        "spark.ui.enabled": "false",
        "spark.driver.memory": "1g",
        "spark.sql.shuffle.partitions": "3",
        "spark.sql.adaptive.enabled": "false",
    }
    session = pyspark_sql.SparkSession.builder.config(map=settings).getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()


def _features(path: Path) -> tuple[Path, dict]:
    """Text with every group of features, a window per user, and ids of both kinds."""
    raw = raw_log()
    raw["x"] = raw.x.astype(str).where(raw.serial % 7 > 0, "NULL")
    raw["zero"] = np.array(["-0.0", "0.5", "1.5"])[raw.serial % 3]  # equals 0.0, but differs
    values = {
        "derived": {"log_x": "ln(2 + abs(coalesce(x, 0)))"},
        "categorical": {
            "tab": "tab",
            "weekday": "dayname(to_timestamp(time))",
            "x": "x",
            "zero": "zero",
        },
        "dense": {"x": "coalesce(x, 0)", "zero": "zero", "log": "log_x", "age": "time_ns / 1e18"},
        "context": {"gap": "coalesce(time - lag(time) OVER (PARTITION BY user ORDER BY row), 0)"},
        "actions": {"rating": "CASE WHEN rating <> 3 THEN rating END"},
        "tasks": {"like": "rating >= 4", "love": "CASE WHEN tab > 0 THEN rating = 5 END"},
        "utc_offset": "-3600 * tab",
        "where": "rating > 1 AND tab IS NOT NULL",
        "min_count": 20,
    }
    return write(path / "log.csv.gz", raw), values


def _dates(path: Path) -> tuple[Path, dict]:
    """Dates as text with and without zones, some missing; duplicates; ids with blanks and 007."""
    raw = raw_log()
    end = pd.Timestamp(raw["at"].quantile(0.9), unit="s").isoformat()
    stamp = pd.to_datetime(raw["at"], unit="s").dt.strftime("%Y-%m-%dT%H:%M:%S")
    ends = np.array([".123456789Z", "+05:30", " Europe/Berlin", "Z"])[raw.serial % 4]
    raw["at"] = (stamp + ends).where(raw.serial % 11 > 0, "")
    raw["uid"] = np.char.add(np.array(["0", " ", "ü"])[raw.uid % 3], raw.uid.astype(str))
    raw = pd.concat([raw, raw.sample(40, random_state=1)])
    values = {
        "time_unit": "iso",
        "time_zone": "America/New_York",
        "allow_missing_time": True,
        "tie_breaker": "rating - 3",
        "split": {"test_end": end},
    }
    return write(path / "log.tsv", raw), values


def _parts(path: Path) -> tuple[Path, dict]:
    """Parts of several kinds whose columns differ in type; a core; the last event left out."""
    raw = raw_log(900)
    raw["iid"] = np.where(raw.serial % 3 > 0, "i" + (raw.serial % 97).astype(str), raw.iid)
    raw["at"] = raw["at"] + raw.x.abs().round(3)
    raw["seen"] = raw.tab > 1
    raw["day"] = pd.to_datetime(raw["at"], unit="s").dt.as_unit("us")
    first, second, third = (raw[raw.serial % 3 == n] for n in range(3))
    write(path / "parts" / "1.csv", first.drop(columns="day").assign(day=""))
    write(path / "parts" / "2.parquet", second.assign(uid=second.uid.astype(float)))
    write(path / "parts" / "3.parquet", third)
    values = {
        "categorical": {"seen": "seen", "x": "x", "hour": "hour(day)"},
        "core": 4,
        "split": {"kind": "leave_one_out", "last": 2},
        "tasks": {},
    }
    return path / "parts" / "*", values


def _typed(path: Path) -> tuple[Path, dict]:
    """Parquet's own types: timestamps with a zone, dates before 1900, decimals, true and false."""
    raw = raw_log()
    day = pd.Timestamp("1700-02-28") + pd.to_timedelta(raw.serial % 5, "D")
    exact = [Decimal("0.1234567890123456789") + Decimal(n % 6) for n in raw.serial]
    table = pa.table(
        {
            "uid": pa.array(raw.uid, pa.int16()),
            "iid": raw.iid,
            "at": pa.array((raw["at"] + raw.x.abs()) * 1e6, pa.int64()).cast(
                pa.timestamp("us", "UTC")
            ),
            "day": pa.array(day.dt.date, pa.date32()),
            "exact": pa.array(exact, pa.decimal128(30, 19)),
            "odd": pa.array(np.where(raw.serial % 7 > 0, raw.serial % 2 > 0, None), pa.bool_()),
            "rating": raw.rating,
        }
    )
    pq.write_table(table, path / "log.parquet")
    categories = {"day": "day", "odd": "odd", "weekday": "dayofweek(at)"}
    values = {"time_unit": "iso", "categorical": categories, "dense": {"exact": "exact - 2"}}
    return path / "log.parquet", values


@pytest.mark.parametrize("made", [_features, _dates, _parts, _typed])
def test_both_engines_prepare_the_same_log(tmp_path, made):
    path, values = made(tmp_path)
    expected = opened(config(**values), path, tmp_path / "duckdb")
    output = tmp_path / "by Spark [ü]"
    prepare(config(**values), path, output, "spark")
    found = type(expected).open(output)
    assert_same(found, expected)
    assert found.fingerprint == expected.fingerprint
    assert dict(found.report) | {"seconds": 0} == dict(expected.report) | {"seconds": 0}
    for name in found.schema.categorical:
        assert found.vocabulary(name.name).equals(expected.vocabulary(name.name))
    assert {f.name for f in found.path.iterdir()} == {f.name for f in expected.path.iterdir()}


def test_both_engines_join_the_same_items(tmp_path):
    items = pd.DataFrame({"code": ["1", "7", "12", "x"], "maker": ["a", None, "b", "a"]})
    items.to_csv(tmp_path / "items.csv", index=False)
    raw = raw_log().assign(iid=lambda raw: raw.iid.str[1:].astype(int))
    values = {"items_key": "code", "categorical": {"maker": "maker"}}
    made = {}
    for engine in ("duckdb", "spark"):
        files = write(tmp_path / "log.csv", raw), tmp_path / "items.csv"
        prepare(config(**values), files[0], tmp_path / engine, engine, files[1])
        made[engine] = PreparedLog.open(tmp_path / engine)
    found, expected = made["spark"], made["duckdb"]
    assert found.fingerprint == expected.fingerprint
    assert dict(found.report) | {"seconds": 0} == dict(expected.report) | {"seconds": 0}


def test_spark_refuses_lists_of_values(tmp_path):
    path = write(tmp_path / "log.csv", raw_log())
    with refused("--engine", "list", "duckdb"):
        prepare(config(categorical={"both": "[tab, rating]"}), path, tmp_path / "log", "spark")
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("split", ["time", "leave_one_out"])
def test_no_table_is_brought_to_one_machine(tmp_path, monkeypatch, split):
    """Whatever needs an order or the earliest time of all; with more users and items than parts."""
    from siren_rope_jax.prepare.spark import Spark

    plans, written = {}, Spark._written

    def planned(self, name, rows):
        with contextlib.redirect_stdout(io.StringIO()) as text:
            rows.explain()
        plans[name] = text.getvalue()
        return written(self, name, rows)

    monkeypatch.setattr(Spark, "_written", planned)
    raw = raw_log(3000)
    raw["uid"], raw["iid"] = raw.serial * 31 % 397, raw.serial * 37 % 499
    stamp = pd.to_datetime(raw["at"], unit="s").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    raw["at"] = stamp.where((raw.serial % 9 > 0) & (raw.uid > 3), "")  # some users have none
    values = {
        "time_unit": "iso",
        "allow_missing_time": True,
        "tie_breaker": "rating",
        "core": 3,
        "categorical": {"x": "x", "nothing": "nullif(tab, tab)"},
        "split": {"kind": split},
    }
    path = write(tmp_path / "log.csv", raw)
    expected = opened(config(**values), path, tmp_path / "duckdb")
    prepare(config(**values), path, tmp_path / "spark", "spark")
    found = type(expected).open(tmp_path / "spark")
    assert found.fingerprint == expected.fingerprint
    for name in ("item", "x", "nothing"):
        assert found.vocabulary(name).equals(expected.vocabulary(name))
    assert {"log", "log_core", "events", "users", "vocabulary_item", "vocabulary_x"} <= set(plans)
    for name, plan in plans.items():
        assert "Physical Plan" in plan and "SinglePartition" not in plan, name


def test_what_spark_would_do_otherwise_is_refused_and_nothing_is_written(tmp_path):
    path, output = write(tmp_path / "log.parquet", raw_log()), tmp_path / "out"
    windows = config(dense={"seen": "count(*) OVER (PARTITION BY item ORDER BY time_ns, row)"})
    with refused("--engine", "PARTITION BY user", "duckdb"):
        prepare(windows, path, output, "spark")
    with refused("config.tasks.like", "CAST"):
        prepare(config(tasks={"like": "CAST(iid AS BIGINT) > 1"}), path, output, "spark")
    bomb = config(dense={"y": "length(repeat('x', rating * 1000000000))"}, memory_gb=0.05)
    with refused("config.memory_gb", 0.05):
        prepare(bomb, path, output, "spark")
    times = pa.array(START + np.arange(9), pa.timestamp("s")).cast(pa.timestamp("ns"))
    fine = pa.table({"uid": np.arange(9) % 2, "iid": np.arange(9), "at": times})
    pq.write_table(fine, tmp_path / "fine.parquet", version="2.6")
    with refused("--engine", "timestamp", "at"):
        prepare(config(time_unit="iso", tasks={}), tmp_path / "fine.parquet", output, "spark")
    with refused("--engine"):
        make_log(complete(SyntheticConfig, {}), None, output, "spark")
    assert not output.exists() and not list(tmp_path.glob(".*"))
