"""Leave one out: each user's last event is test, the one before it validation, the rest train."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siren_rope_jax.base.times import NO_TIME
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.data.schema import Schema
from siren_rope_jax.prepare.table import prepare
from tests.raw_logs import (
    START,
    config,
    data_config,
    decoded,
    prepared,
    raw_log,
    real_file,
    write,
)
from tests.refusals import refused
from tests.scripts import printed

LEAVE_ONE_OUT = {"split": {"kind": "leave_one_out"}}

logs = st.lists(
    st.tuples(
        st.integers(0, 4),  # user
        st.integers(0, 5),  # item
        st.one_of(st.none(), st.integers(-6, 6)),  # time, with many ties
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=15, deadline=None)
@given(logs)
def test_any_log_against_plain_python(tmp_path_factory, events):
    events = events + [(9, item, item) for item in (1, 2, 3)]  # one user of enough events
    raw = pd.DataFrame(events, columns=["uid", "iid", "at"])
    raw["at"] = (raw["at"] + START).astype("Int64")
    log = prepared(
        tmp_path_factory.mktemp("any"), raw, tasks={}, allow_missing_time=True, **LEAVE_ONE_OUT
    )

    kept = list(dict.fromkeys(events))
    first = min(event[2] for event in kept if event[2] is not None)
    expected, times = [], {0: [], 1: [], 2: []}
    for user in sorted({event[0] for event in kept}):
        mine = [event for event in kept if event[0] == user]
        known = [event[2] for event in mine if event[2] is not None]
        last = known[0] if known else first
        placed = []
        for _, item, time in mine:
            last = last if time is None else time
            placed.append((last, item, NO_TIME if time is None else START + time))
        placed.sort(key=lambda event: event[0])  # stable: ties keep the file's order
        splits = [0] * (len(placed) - 2) + [1, 2] if len(placed) >= 3 else [0] * len(placed)
        for (time, item, stored), split in zip(placed, splits, strict=True):
            expected.append((user, stored, item, split))
            times[split].append(START + time)
    found = decoded(log)[["user", "time", "categorical/item", "split"]]
    assert list(found.itertuples(index=False, name=None)) == expected

    schema = log.schema
    assert schema.protocol == "leave_one_out"
    assert schema.train_start == min(times[0] + times[1] + times[2])
    assert schema.train_end == max(times[0]) + 1
    assert schema.validation_end == max(times[0] + times[1]) + 1
    assert schema.end == max(times[0] + times[1] + times[2])
    sizes = pd.Series([event[0] for event in kept]).value_counts()
    assert log.report["users_only_train"] == (sizes < 3).sum()
    for index, size in zip(log.index, sizes.sort_index(), strict=True):
        assert list(index) == [size, size - 2, 1, 1] if size >= 3 else [size, size, 0, 0]


def test_ids_and_statistics_are_of_train_alone(tmp_path):
    log = prepared(tmp_path, raw_log(), min_count=1, dense={"x": "x"}, **LEAVE_ONE_OUT)
    found = decoded(log)
    train = found[found.split == 0]
    vocabulary = log.vocabulary("item").to_pandas()
    counts = vocabulary.value.map(train["categorical/item"].value_counts()).fillna(0)
    np.testing.assert_array_equal(vocabulary.train_count, counts)
    assert log.schema.categorical[0].known == log.report["known_items"] == (counts > 0).sum()
    assert log.schema.dense[0].mean == pytest.approx(train["dense/x"].mean(), rel=1e-5)


def test_few_events_and_little_memory(tmp_path, monkeypatch):
    whole = prepared(tmp_path, raw_log(20_000), **LEAVE_ONE_OUT)
    monkeypatch.setattr("siren_rope_jax.prepare.table.BATCH_ROWS", 97)
    parts = prepared(tmp_path, raw_log(20_000), memory_gb=0.06, **LEAVE_ONE_OUT)
    np.testing.assert_array_equal(parts.events().rows, whole.events().rows)
    assert parts.schema == whole.schema


def test_a_log_without_such_users(tmp_path):
    raw = raw_log(24).assign(uid=lambda frame: frame.serial // 2)
    with refused("config.split.kind"):
        prepared(tmp_path, raw, tasks={}, **LEAVE_ONE_OUT)
    dates = {"train_end": "2024-01-01", "validation_end": "2024-02-01"}
    with refused("config.split.train_end", "leave_one_out"):
        config(split={"kind": "leave_one_out", **dates})
    with refused("config.split.kind", "'leave_one_out'"):
        config(split={"kind": "leave_one_ot"})


def test_the_schema_remembers_it(tmp_path):
    schema = prepared(tmp_path, raw_log(), **LEAVE_ONE_OUT).schema
    assert Schema.from_json(schema.to_json()) == schema
    assert prepared(tmp_path, raw_log()).schema.protocol == "time"


def test_the_script_says_what_the_split_is(tmp_path):
    path = write(tmp_path / "log.csv", raw_log())
    text = printed(
        "prepare", "--config=configs/data/table.py", f"--input={path}",
        f"--output={tmp_path / 'out'}", "--config.name=raw", "--config.user=uid",
        "--config.item=iid", "--config.time=at", "--config.split.kind=leave_one_out",
    )  # fmt: skip
    report = PreparedLog.open(tmp_path / "out").report
    assert report["protocol"] == "leave_one_out"
    assert report["train_end"] not in text  # no time splits this log


def test_movielens_100k(tmp_path):
    path = real_file("movielens_100k/ml-100k.inter")
    prepare(data_config("movielens_next", **LEAVE_ONE_OUT), path, tmp_path / "out")
    raw = pd.read_csv(path, sep="\t", names=["user", "item", "rating", "time"], skiprows=1)
    raw = raw.sort_values(["user", "time"], kind="stable")
    newest = raw.groupby("user").cumcount(ascending=False)
    found = decoded(PreparedLog.open(tmp_path / "out"))
    np.testing.assert_array_equal(found["categorical/item"], raw.item)
    np.testing.assert_array_equal(found["split"], (newest == 0) * 2 + (newest == 1))
