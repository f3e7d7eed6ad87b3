"""Prepare keeps every value, sorts, splits, and orders ids by their counts in train."""

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siren_rope_jax.base.times import DAY, HOUR, MAX_TIME, MIN_TIME, NO_TIME, utc_offsets
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.prepare import engine, times
from siren_rope_jax.prepare.config import PrepareConfig, config_dict
from tests import raw_logs
from tests.raw_logs import (
    START,
    assert_same,
    config,
    data_config,
    decoded,
    opened,
    prepared,
    raw_log,
)
from tests.refusals import refused
from tests.scripts import printed

FEATURES = {
    "categorical": {"tab": "tab"},
    "dense": {"x": "x"},
    "context": {"serial": "serial"},
    "actions": {"rating": "CASE WHEN rating <> 3 THEN rating END"},
    "tasks": {"like": "rating >= 4", "love": "CASE WHEN tab > 0 THEN rating = 5 END"},
    "utc_offset": "-3600 * tab",
}


def test_every_value_comes_back(tmp_path):
    raw = raw_log()
    log = prepared(tmp_path, raw, **FEATURES)
    expected = raw.sort_values(["uid", "at", "serial"])
    found = decoded(log)
    for column, values in {
        "user": expected.uid,
        "time": expected["at"],
        "utc_offset": -3600 * expected.tab,
        "categorical/item": expected.iid,
        "categorical/tab": expected.tab,
        "dense/x": expected.x.astype(np.float32),
        "context/serial": expected.serial,
        "action/rating": expected.rating.where(expected.rating != 3),
        "task/like": expected.rating >= 4,
        "task/love": (expected.rating == 5).astype(int).where(expected.tab > 0, -1),
    }.items():
        np.testing.assert_array_equal(found[column], values, err_msg=column)


def test_a_log_prepared_twice_has_one_fingerprint_and_one_with_other_offsets_another(tmp_path):
    raw = raw_log()
    log = prepared(tmp_path, raw, **FEATURES)
    again = prepared(tmp_path, raw, "again.csv.gz", **FEATURES | {"threads": 2})
    changed = FEATURES | {"utc_offset": "-3600 * (tab + 1)"}
    moved = prepared(tmp_path, raw, **changed)
    assert log.fingerprint == again.fingerprint != moved.fingerprint
    assert log.schema == moved.schema and np.array_equal(log.index, moved.index)
    assert PrepareConfig.load(moved.report["config"]) == config(**changed)


def test_an_offset_of_the_event_before_is_known_at_the_request(tmp_path):
    """With the expression in configs/data/table.py."""
    raw = raw_log().rename(columns={"tab": "zone"})
    derived = {"before": "lag(zone) OVER (PARTITION BY user ORDER BY time_ns, row)"}
    log = prepared(tmp_path, raw, derived=derived, utc_offset="3600 * coalesce(before, zone)")
    ordered = raw.sort_values(["uid", "at", "serial"])
    before = ordered.groupby("uid")["zone"].shift().fillna(ordered["zone"])
    np.testing.assert_array_equal(decoded(log)["utc_offset"], 3600 * before)


def test_a_time_zone_gives_offsets_with_daylight_saving_time(tmp_path):
    raw, end_of_dst = raw_log(), 1_352_008_800  # 2012-11-04 06:00 UTC
    raw["at"] += end_of_dst - int(raw["at"].median())
    raw.loc[0, "at"] = None
    log = prepared(tmp_path, raw, time_zone="America/New_York", allow_missing_time=True)
    rows = log.events().rows
    hours = np.where(rows["time"] < end_of_dst, -4, -5) * (rows["time"] != NO_TIME)
    assert set(hours) == {-5, -4, 0} and log.schema.has_utc_offset
    assert log.schema.time_zone == "America/New_York"
    np.testing.assert_array_equal(rows["utc_offset"], 3600 * hours)


def test_categories_that_look_like_numbers_stay_apart(tmp_path):
    raw = raw_log()
    raw["version"] = np.array(["1.1", "1.10", "2.0", "2"])[raw["tab"]]
    raw["flag"] = np.where(raw["tab"] > 1, "true", "TRUE")
    raw["score"] = np.array(["3.5", "4.0", "4.5", "5.0"])[raw["tab"]]
    names = {"version": '"Version"', "flag": "flag", "score": "score"}
    tasks = {"good": "score >= 4.5"}  # a column whose values stay apart as numbers is one
    log = prepared(tmp_path, raw, categorical=names, tasks=tasks, min_count=1)
    found = {name: set(log.vocabulary(name)["value"].to_pylist()) for name in names}
    assert found["version"] == {"1.1", "1.10", "2.0", "2"}
    assert found["flag"] == {"true", "TRUE"}
    assert found["score"] == {3.5, 4.0, 4.5, 5.0}


@pytest.mark.parametrize("zone", ["America/Sao_Paulo", "Europe/Berlin", "Asia/Kolkata"])
def test_offsets_outside_the_log_are_those_that_prepare_would_give(tmp_path, zone):
    raw = raw_log()
    raw["at"] = np.random.default_rng(0).integers(MIN_TIME, MAX_TIME, len(raw))
    rows = prepared(tmp_path, raw, time_zone=zone).events().rows
    np.testing.assert_array_equal(utc_offsets(zone, rows["time"]), rows["utc_offset"])
    assert len(set(rows["utc_offset"])) > 1


def test_split_is_by_one_time_and_statistics_are_of_train(tmp_path):
    raw = raw_log()
    log = prepared(tmp_path, raw, **FEATURES)
    schema, times = log.schema, np.sort(raw["at"].to_numpy())
    ends = [int(times[int(len(times) * fraction)]) for fraction in (0.8, 0.8 + 0.1)]
    assert [schema.train_end, schema.validation_end] == ends
    assert (schema.train_start, schema.end) == (times[0], times[-1])
    rows = log.events().rows
    np.testing.assert_array_equal(rows["split"], np.digitize(rows["time"], ends))
    train = rows[rows["split"] == 0]
    columns = {"dense/x": schema.dense[0], "action/rating": schema.actions[0]}
    for dense, values in ((column, train[name]) for name, column in columns.items()):
        assert dense.mean == pytest.approx(np.nanmean(values, dtype=float), rel=1e-6)
        assert dense.std == pytest.approx(np.nanstd(values, dtype=float), rel=1e-6)
    report = log.report["tasks"]["love"]["test"]
    test = rows[rows["split"] == 2]["task/love"]
    assert (report["labels"], report["positives"]) == ((test >= 0).sum(), (test == 1).sum())
    dates = {"train_end": "2023-11-14T22:16:40", "validation_end": "2023-11-15T00:18:20+02:00"}
    schema = prepared(tmp_path, raw, split=dates).schema
    assert [schema.train_end, schema.validation_end] == [START + 200, START + 300]


def test_a_log_that_ends_at_a_date_is_that_of_its_earlier_events(tmp_path):
    raw = raw_log()
    times = np.sort(raw["at"].to_numpy())
    end, split = times[int(0.6 * len(times))], {"train_fraction": 0.5, "validation_fraction": 0.2}
    cut = prepared(tmp_path, raw, **FEATURES, split=split | {"test_end": date(end)})
    earlier = prepared(tmp_path, raw[raw["at"] < end], **FEATURES, split=split)
    assert cut.fingerprint == earlier.fingerprint and cut.schema.end < end
    with refused("config.split.test_end", "no event is earlier"):
        prepared(tmp_path, raw, split={"test_end": date(times[0])})
    with refused("config.split.test_end", "leave_one_out"):
        prepared(tmp_path, raw, split={"kind": "leave_one_out", "test_end": "2024-05-01"})


def test_events_that_do_not_count_might_as_well_not_be_there(tmp_path):
    raw = raw_log()
    with_where = prepared(tmp_path, raw, **FEATURES, where="rating >= 3 AND at > 0")
    without = prepared(tmp_path, raw[raw["rating"] >= 3], **FEATURES)
    assert with_where.fingerprint == without.fingerprint
    assert with_where.report["left_out"] == (~(raw["rating"] >= 3)).sum() > 0
    for text, named in (("rating", "not a condition"), ("no_such > 1", "no_such"), ("1 = 2", "no")):
        with refused("config.where", named):
            prepared(tmp_path, raw, where=text)


def test_the_test_can_be_an_earlier_event_of_each_user(tmp_path):
    raw = raw_log().drop_duplicates(["uid", "at"]).sort_values(["uid", "at"])
    earlier = raw[raw.groupby("uid").cumcount(ascending=False) >= 2]
    third = prepared(tmp_path, raw, split={"kind": "leave_one_out", "last": 3})
    last = prepared(tmp_path, earlier, split={"kind": "leave_one_out"})
    assert third.fingerprint == last.fingerprint and len(earlier) < len(raw)
    with refused("config.split.last", "time"):
        prepared(tmp_path, raw, split={"last": 2})


@pytest.mark.parametrize("split", [{}, {"split": {"kind": "leave_one_out"}}])
def test_ids_are_by_train_count_then_value_and_statistics_of_train(tmp_path, split):
    log = prepared(tmp_path, raw_log(), min_count=8, dense={"x": "x"}, **split)
    found, vocabulary = decoded(log), log.vocabulary("item").to_pandas()
    train = found[found.split == 0]["categorical/item"].value_counts()
    counts = vocabulary.value.map(train).fillna(0).astype(int)
    np.testing.assert_array_equal(vocabulary.train_count, counts)
    order = vocabulary.sort_values(["train_count", "value"], ascending=[False, True])
    assert list(order.id) == list(range(1, len(order) + 1))
    item, x = log.schema.categorical[0], found[found.split == 0]["dense/x"]
    assert log.schema.dense[0].mean == pytest.approx(x.mean(), rel=1e-5)
    assert item.known == (vocabulary.train_count >= 8).sum() < item.values == len(vocabulary)
    assert log.report["known_items"] == item.known
    ids = np.array([0, 1, item.known, item.known + 1])
    np.testing.assert_array_equal(item.known_ids(ids), [0, 1, item.known, 0])
    assert item.rows == item.known + 1
    unknown = found[~found["categorical/item"].isin(train.index[train >= 8])].split
    expected = [(unknown == split).sum() for split in range(3)]
    assert list(log.report["unknown_item_events"].values()) == expected


def test_a_data_config_trains_the_row_of_unknown_ids(tmp_path):
    """By default too: an id that occurs once in train is unknown, or no train event would be."""
    assert all(data_config(name).min_count > 1 for name in ("globo", "kuairand", "movielens"))
    raw = raw_log()
    raw.loc[raw["at"].idxmin(), "iid"] = "seen once"
    log = prepared(tmp_path, raw)
    item, events = log.schema.categorical[0], log.events("train")
    assert (item.known_ids(events.rows["categorical/item"]) == 0).sum() >= 1


def test_an_absent_category_has_id_0(tmp_path):
    log = prepared(tmp_path, raw_log(), categorical={"tab": "nullif(tab, 2)"})
    assert 2 not in log.vocabulary("tab")["value"].to_pylist()
    assert (log.events().rows["categorical/tab"] == 0).any()


def test_all_forms_of_a_file_give_the_same_log(tmp_path):
    raw = raw_log()
    dates = raw.assign(at=pd.to_datetime(raw["at"], unit="s", utc=True))
    texts = raw.assign(at=dates["at"].dt.tz_convert("Asia/Kolkata").map(pd.Timestamp.isoformat))
    iso, typed = {"time_unit": "iso"}, {"uid": "user_id:token", "at": "at:float"}
    forms = [
        (raw, "a.csv", {}),
        (raw, "a.csv.gz", {}),
        (raw, "a.tsv", {}),
        (raw, "a.tsv.gz", {"threads": 2}),
        (raw, "a.parquet", {}),
        (raw.assign(at=raw["at"] * 1000 + raw.serial % 1000), "ms.csv", {"time_unit": "ms"}),
        (raw.assign(at=raw["at"] * 1000.0 + 999.5), "float.csv", {"time_unit": "ms"}),
        (raw.assign(at=raw["at"] + 0.75), "float.parquet", {}),
        (raw.assign(at=raw["at"] * 10**9 + 999_999_999), "ns.parquet", {"time_unit": "ns"}),
        (dates.assign(at=dates["at"].astype("datetime64[ns, UTC]")), "d.parquet", iso),
        (dates.assign(at=dates["at"].dt.tz_localize(None)), "n.parquet", iso),
        (texts, "iso.csv", iso),
        (raw.rename(columns=typed), "a.inter", {"user": "user_id"}),
    ]
    logs = [prepared(tmp_path, frame, name, **(FEATURES | more)) for frame, name, more in forms]
    for log, (_, name, _) in zip(logs, forms, strict=True):
        assert_same(log, logs[0], name)
        assert log.schema == logs[0].schema, name
        assert log.vocabulary("item").equals(logs[0].vocabulary("item")), name


def test_hashed_ids_of_64_bits_are_the_same_in_all_forms(tmp_path):
    raw = raw_log()
    hashed = raw.assign(iid=raw["iid"].map(lambda i: 2**64 - 1 - int(i[1:])).astype("uint64"))
    logs = [prepared(tmp_path, hashed, name) for name in ("a.csv", "a.parquet")]
    assert_same(*logs, "parquet")
    values = [log.vocabulary("item")["value"].to_pylist() for log in logs]
    assert values[0] == values[1] and str(2**64 - 1) in values[0]
    small = raw.assign(uid=raw["uid"].astype("uint64"))
    assert_same(prepared(tmp_path, small, "b.parquet"), prepared(tmp_path, raw, "b.csv"), "small")


def test_columns_without_a_header_and_other_delimiters(tmp_path):
    raw = raw_log()
    for delimiter in ("|", "::"):
        lines = ["".join(delimiter.join(map(str, row))) for row in raw.itertuples(index=False)]
        path = tmp_path / f"{len(delimiter)}.txt"
        path.write_text("\n".join(lines))
        form = {"pattern": "*.txt", "delimiter": delimiter, "columns": tuple(raw.columns)}
        log = raw_logs.opened(
            config(formats={"txt": form}), path, tmp_path / f"out{len(delimiter)}"
        )
        assert_same(log, prepared(tmp_path, raw))


def test_several_files_are_one_log(tmp_path):
    raw = raw_log()
    raw_logs.write(tmp_path / "parts/a.csv.gz", raw[:120])
    raw_logs.write(tmp_path / "parts/b.csv.gz", raw[120:])
    both = raw_logs.opened(config(), tmp_path / "parts" / "*.gz", tmp_path / "out")
    assert_same(both, prepared(tmp_path, raw))
    assert both.report["files"] == ["a.csv.gz", "b.csv.gz"]


def test_ids_keep_their_spelling(tmp_path):
    raw = raw_log(60).astype({"uid": str})
    raw["uid"] = raw.uid.where(raw.uid != "3", "03")
    raw["tab"] = "1234567890123456789" + raw.tab.astype(str)  # beyond int64 and double
    log = prepared(tmp_path, raw, categorical={"tab": "tab"})
    assert set(log.users().to_pylist()) == set(raw.uid)
    assert set(log.vocabulary("tab")["value"].to_pylist()) == set(raw.tab)


def test_columns_named_as_what_they_are(tmp_path):
    raw = raw_log().rename(columns={"uid": "user", "iid": "item", "at": "time", "serial": "Row"})
    names = {"user": "user", "item": "item", "time": "time"}
    derived = {"later": "lead(time) OVER (PARTITION BY user ORDER BY time_ns, row) - time"}
    log = prepared(tmp_path, raw, **names, derived=derived, actions={"later": "later"})
    for user in range(len(log.index)):
        history = log.history(user)
        np.testing.assert_array_equal(history["action/later"][:-1], np.diff(history["time"]))
        assert np.isnan(history["action/later"][-1])


def test_derived_columns_come_in_any_order(tmp_path):
    derived = {"a": "b + 1", "b": "C * 2", "c": "rating"}  # configs do not keep their keys' order
    rows = prepared(tmp_path, raw_log(), derived=derived, actions={"a": "A"}).events().rows
    assert set(rows["action/a"]) == {3, 5, 7, 9, 11}


def date(seconds: int) -> str:
    return pd.Timestamp(seconds, unit="s").isoformat()


TIMES = st.one_of(st.none(), st.integers(-10, 10))
EVENTS = st.tuples(st.integers(0, 3), st.integers(0, 5), TIMES, st.booleans())  # user, item; label


@settings(max_examples=10, deadline=None)
@given(st.lists(EVENTS, min_size=1, max_size=40))
def test_any_log_against_plain_python(tmp_path_factory, events):
    # Labels of both classes in each split, so that every drawn log is a legal one.
    frame_of = [(9, 9, t, label) for t in (-20, 20, 30) for label in (False, True)]
    events = events + frame_of
    raw = pd.DataFrame(events, columns=["uid", "iid", "at", "label"])
    raw["at"] = (raw["at"] + START).astype("Int64")
    log = prepared(
        tmp_path_factory.mktemp("any"), raw, tasks={"label": "label"}, allow_missing_time=True,
        split={"train_end": date(START + 15), "validation_end": date(START + 25)},
    )  # fmt: skip
    expected = [
        (user, raw_logs.stored_time(event[2]), event[1], (time >= 15) + (time >= 25), event[3])
        for user, history in raw_logs.histories(events, first=-20).items()
        for time, event in history
    ]
    found = decoded(log)[["user", "time", "categorical/item", "split", "task/label"]]
    assert list(found.itertuples(index=False, name=None)) == expected
    report = log.report
    assert report["rows_read"] == len(events)
    assert report["duplicates_dropped"] == len(events) - len(set(events))
    assert report["missing_times"] == sum(event[2] is None for event in set(events))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-2_145_916_800 * 10**9, 4_102_444_800 * 10**9), min_size=1))
def test_times_of_integers_are_exact(nanoseconds):
    con = ibis.duckdb.connect()
    for unit, per_second in (("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)):
        ticks = [n * per_second // 10**9 for n in nanoseconds]
        table = con.create_table("ticks", pa.table({times.GIVEN_TIME: pa.array(ticks, pa.int64())}))
        exact = times.nanoseconds(table, config(time_unit=unit))
        assert exact.to_pyarrow().to_pylist() == [tick * (10**9 // per_second) for tick in ticks]
        seconds = times.whole_seconds(exact).to_pyarrow().to_pylist()
        assert seconds == [tick // per_second for tick in ticks]
        con.drop_table("ticks")
    con.disconnect()


@pytest.mark.parametrize(("unit", "seconds"), [("min", 60), ("h", HOUR), ("day", DAY)])
def test_coarse_units(tmp_path, unit, seconds):
    raw = raw_log().assign(at=lambda frame: START // seconds + frame.serial // 10)
    rows = prepared(tmp_path, raw, time_unit=unit).events().rows
    assert set(rows["time"]) == set(raw["at"] * seconds)


def test_unsorted_and_duplicate_rows_and_users_with_one_event_are_counted(tmp_path):
    raw = raw_log().sort_values(["uid", "at", "serial"])
    in_order = prepared(tmp_path, raw)
    assert in_order.report["out_of_order"] == in_order.report["duplicates_dropped"] == 0
    again = pd.concat([raw, raw[:7]]).sample(frac=1, random_state=1)
    log = prepared(tmp_path, again, dense={"serial": "serial"})
    assert log.report["rows_read"] == 307 and log.report["duplicates_dropped"] == 7
    assert log.report["out_of_order"] > 0 and len(log.report["warnings"]) == 2
    np.testing.assert_array_equal(log.events().rows["time"], raw["at"])
    log = prepared(tmp_path, pd.concat([raw, raw_log(1).assign(uid=77, serial=900)]))
    assert log.report["users_with_one_event"] == 1 and len(log.history(len(log.index) - 1)) == 1


@pytest.mark.parametrize("batch_rows", [7, 1 << 16])
def test_every_row_before_an_earlier_one_of_its_user_is_counted(tmp_path, monkeypatch, batch_rows):
    monkeypatch.setattr(engine, "BATCH_ROWS", batch_rows)
    raw = raw_log().sample(frac=1, random_state=2)
    later = raw["at"].to_numpy()[:, None] > raw["at"].to_numpy()
    same_user = raw["uid"].to_numpy()[:, None] == raw["uid"].to_numpy()
    before = np.triu(np.ones(later.shape, bool), 1)
    log = prepared(tmp_path, raw)
    assert log.report["out_of_order"] == (later & same_user & before).any(axis=1).sum()


def test_the_core_is_what_is_left_when_nothing_more_falls_away(tmp_path):
    raw, least = raw_log(), 11
    sizes, kept = [len(raw)], raw
    while len(sizes) < 2 or sizes[-1] < sizes[-2]:
        for column in ("iid", "uid"):
            kept = kept[kept.groupby(column)[column].transform("size") >= least]
        sizes.append(len(kept))
    assert sizes[-1] > 0 and len(sizes) > 3  # a second round found more
    log = prepared(tmp_path, raw, core=least)
    assert log.report["outside_core"] == len(raw) - len(kept)
    assert len(log.report["warnings"]) == 2  # of these rows, and of those not in order
    expected, found = kept.sort_values(["uid", "at", "serial"]), decoded(log)
    np.testing.assert_array_equal(found["user"], expected.uid)
    np.testing.assert_array_equal(found["categorical/item"], expected.iid)
    with refused("config.core", 12):
        prepared(tmp_path, raw, core=12)


@pytest.mark.parametrize("values", [FEATURES, {"split": {"kind": "leave_one_out"}}])
def test_batches_files_and_little_memory_change_nothing(tmp_path, monkeypatch, values):
    raw = raw_log(20_000)
    whole = prepared(tmp_path, raw, **values)
    monkeypatch.setattr("siren_rope_jax.prepare.engine.BATCH_ROWS", 97)
    monkeypatch.setattr("siren_rope_jax.prepare.writer.SHARD_BYTES", 5000)
    parts = prepared(tmp_path, raw, memory_gb=0.06, **values)
    assert_same(parts, whole)
    if "dense" not in values:  # means are summed up in another order
        assert parts.schema == whole.schema
    assert len(list(parts.path.glob("*.arrayrecord"))) > 3
    assert {f.name for f in parts.path.iterdir()} >= {"meta.json", "index.npy", "vocabulary"}
    assert not [f for f in tmp_path.iterdir() if f.name.startswith(".")]


def test_table_config_takes_every_field_from_the_command_line(tmp_path):
    path = raw_logs.write(tmp_path / "clicks.csv.gz", raw_log())
    flags = [
        "--config.name=clicks", "--config.tasks=love=rating=5;like=rating>=4",
        "--config.actions=log_rating=ln(rating)", "--config.categorical=tab=tab",
        "--config.split.train_fraction=0.5",
    ]  # fmt: skip
    text = printed("prepare", *raw_logs.table_flags(path, tmp_path / "out", *flags))
    log = PreparedLog.open(tmp_path / "out")
    schema = log.schema
    assert schema.name == "clicks" and schema.tasks == ("love", "like")
    assert [c.name for c in schema.categorical] == ["item", "tab"]
    assert log.report["rows_read"] == 300 and log.report["train_end"] in text


def test_an_expression_group_as_text():
    text = "love=rating=5; like = rating>=4 ;"
    groups = config_dict(name="n", user="u", item="i", time="t")
    groups.tasks = text  # as on the command line
    assert PrepareConfig.load(groups).tasks == {"love": "rating=5", "like": "rating>=4"}
    assert config(tasks=text).tasks == {"love": "rating=5", "like": "rating>=4"}
    for text, name in (("rating", "'rating'"), ("a=rating;a=x", "'a'")):
        with refused("config.tasks", name):
            config(tasks=text)


def test_events_without_a_time_are_ordered_and_split_by_the_known_ones(tmp_path):
    first, last = START - 100, START + 30_000
    times = {"with": [None, first, None, last, None], "without": [None, None]}
    rows = [{"uid": user, "at": at} for user, own in times.items() for at in own]
    extra = pd.DataFrame(rows).assign(iid="i1", rating=4, x=0.0, tab=1, serial=range(500, 507))
    whole = pd.concat([raw_log(), extra]).astype({"at": "Int64"})
    log = prepared(tmp_path, whole, dense={"serial": "serial"}, allow_missing_time=True)
    with_some, without = (log.history(log.user_numbers[user]) for user in times)
    assert with_some["dense/serial"].tolist() == [500, 501, 502, 503, 504]
    assert with_some["split"].tolist() == [0, 0, 0, 2, 2]
    assert with_some["time"].tolist() == [NO_TIME, first, NO_TIME, last, NO_TIME]
    assert without["split"].tolist() == [0, 0] and (without["time"] == NO_TIME).all()


def test_an_empty_override_drops_a_feature_of_a_config_file():
    whole = config_dict(name="n", user="u", item="i", time="t", dense={"x": "x", "y": "y"})
    whole.dense.x = ""  # as on the command line
    assert PrepareConfig.load(whole).dense == {"y": "y"}


@pytest.mark.parametrize("delimiter", ["\t", "\\t"])  # the second as a shell passes it
def test_a_tab_is_a_delimiter_of_any_file(tmp_path, delimiter):
    path = tmp_path / "log.csv"
    raw_log().to_csv(path, index=False, sep="\t")
    form = {"any": {"delimiter": delimiter}}
    assert len(opened(config(formats=form), path, tmp_path / "out").events().rows) == 300


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(MIN_TIME, MAX_TIME - 1), min_size=1, max_size=30), st.data())
def test_the_time_at_a_place_is_that_of_the_sorted_times(seconds, data):
    seconds = seconds + data.draw(st.lists(st.sampled_from(seconds)))
    place = data.draw(st.integers(0, len(seconds) - 1))
    table = ibis.memtable({"time": seconds}, schema={"time": "int64"})
    assert times.at_place(table, place) == sorted(seconds)[place]
