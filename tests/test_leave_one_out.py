"""Leave one out: each user's last event is test, the one before it validation, the rest train."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.data.schema import Schema
from tests import raw_logs
from tests.raw_logs import START, config, data_config, decoded, opened, prepared, raw_log
from tests.refusals import refused
from tests.scripts import printed

LEAVE_ONE_OUT = {"split": {"kind": "leave_one_out"}}

TIMES = st.one_of(st.none(), st.integers(-6, 6))  # with many ties
EVENTS = st.tuples(st.integers(0, 4), st.integers(0, 5), TIMES)  # user, item


@settings(max_examples=15, deadline=None)
@given(st.lists(EVENTS, min_size=1, max_size=30))
def test_any_log_against_plain_python(tmp_path_factory, events):
    events = events + [(9, item, item) for item in (1, 2, 3)]  # one user of enough events
    raw = pd.DataFrame(events, columns=["uid", "iid", "at"])
    raw["at"] = (raw["at"] + START).astype("Int64")
    values = {"tasks": {}, "allow_missing_time": True} | LEAVE_ONE_OUT
    log = prepared(tmp_path_factory.mktemp("any"), raw, **values)

    first = min(event[2] for event in events if event[2] is not None)
    histories = raw_logs.histories(events, first)
    expected, times = [], {0: [], 1: [], 2: []}
    for user, history in histories.items():
        size = len(history)
        splits = [0] * (size - 2) + [1, 2] if size >= 3 else [0] * size
        for (time, event), split in zip(history, splits, strict=True):
            expected.append((user, raw_logs.stored_time(event[2]), event[1], split))
            times[split].append(START + time)
    found = decoded(log)[["user", "time", "categorical/item", "split"]]
    assert list(found.itertuples(index=False, name=None)) == expected

    schema = log.schema
    assert schema.protocol == "leave_one_out"
    assert schema.train_start == min(times[0] + times[1] + times[2])
    assert schema.train_end == max(times[0]) + 1
    assert schema.validation_end == max(times[0] + times[1]) + 1
    assert schema.end == max(times[0] + times[1] + times[2])
    sizes = [len(history) for history in histories.values()]
    assert log.report["users_only_train"] == sum(size < 3 for size in sizes)
    for index, size in zip(log.index, sizes, strict=True):
        assert list(index) == [size, size - 2, 1, 1] if size >= 3 else [size, size, 0, 0]


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
    path = raw_logs.write(tmp_path / "log.csv", raw_log())
    kind = "--config.split.kind=leave_one_out"
    text = printed("prepare", *raw_logs.table_flags(path, tmp_path / "out", kind))
    report = PreparedLog.open(tmp_path / "out").report
    assert report["protocol"] == "leave_one_out"
    assert report["train_end"] not in text  # no time splits this log


def test_movielens_100k(tmp_path):
    path = raw_logs.real_file("movielens_100k/ml-100k.inter")
    log = opened(data_config("movielens_next", **LEAVE_ONE_OUT), path, tmp_path / "out")
    raw = pd.read_csv(path, sep="\t", names=["user", "item", "rating", "time"], skiprows=1)
    raw = raw.sort_values(["user", "time"], kind="stable")
    newest = raw.groupby("user").cumcount(ascending=False)
    found = decoded(log)
    np.testing.assert_array_equal(found["categorical/item"], raw.item)
    np.testing.assert_array_equal(found["split"], (newest == 0) * 2 + (newest == 1))
