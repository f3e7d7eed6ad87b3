"""A raw file, read with the config of a prepared log, gives what `prepare` made of it."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest

from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.inference.files import moment, read_table, write_table
from siren_rope_jax.inference.fresh_events import encode_candidates, encode_events
from siren_rope_jax.inference.unknown import say_unknown
from tests.raw_logs import config, opened, prepared, raw_log, write
from tests.refusals import refused

COLUMNS = {
    "categorical": {"tab": "CASE WHEN tab > 0 THEN tab END"},
    "derived": {"double": "2 * x"},
    "dense": {"x": "double / 2"},
    "context": {"hour": "time // 3600 % 24"},
    "actions": {"rating": "NULLIF(rating, 1)"},
}


@pytest.mark.parametrize(
    ("name", "where"),
    [("log.csv", ""), ("log.csv", "rating > 2"), ("log.parquet", ""), ("log.tsv", "")],
)
def test_the_events_of_a_log_are_those_that_prepare_made(tmp_path, name, where):
    frame = raw_log()
    log = prepared(tmp_path, frame, min_count=1, tie_breaker="serial", where=where, **COLUMNS)
    # In the file's order, because only `prepare` has a tie breaker.
    table = read_table(log, write(tmp_path / "again" / name, frame.sort_values("serial")), "log")
    found = encode_events(log, table)
    assert set(found) == set(log.user_numbers)
    for user, number in log.user_numbers.items():
        expected, rows = log.history(number), found[user]
        for column in expected.dtype.names:
            if column == "split" or column.startswith("context/"):
                continue  # of requests, which these events are no longer
            np.testing.assert_array_equal(rows[column], expected[column], err_msg=column)


def test_a_vocabulary_is_read_once(tmp_path, monkeypatch):
    log = prepared(tmp_path, raw_log(), min_count=1)
    table = raw_log().rename(columns={"uid": "user", "iid": "item", "at": "time"})
    rows = encode_candidates(log, table)
    monkeypatch.delattr(PreparedLog, "vocabulary")
    np.testing.assert_array_equal(encode_candidates(log, table), rows)


def test_candidates_may_lack_users_times_and_labels(tmp_path):
    frame = raw_log(40)
    log = prepared(tmp_path, raw_log(), min_count=1, **COLUMNS)
    some = frame.drop(columns=["uid", "at", "rating"])
    file = write(tmp_path / "candidates.csv", some)
    table = read_table(log, file, "log", "candidates")
    assert list(table) == ["item", "tab", "x", "iid", "serial"]  # the file's own columns stay
    with refused("candidates", "hour"):
        encode_candidates(log, table.assign(time=1_700_000_000))
    table = read_table(log, file, "log", "candidates", 1_700_000_000)  # which has an hour
    assert (table["time"] == 1_700_000_000).all() and (table["hour"] == 22).all()
    rows = encode_candidates(log, table)
    assert (rows["task/like"] == -1).all() and np.isnan(rows["action/rating"]).all()
    values = log.vocabulary("item")["value"].to_pandas()
    assert values[rows["categorical/item"] - 1].tolist() == frame["iid"].tolist()


def test_what_rows_need_not_have_is_left_out(tmp_path):
    """Labels made of later rows, and chains of columns."""
    frame = raw_log()
    later = "lead(rating) OVER (PARTITION BY user ORDER BY time_ns, row)"
    log = prepared(
        tmp_path, frame, tasks={"like": f"{later} >= 4", "high": "double > 6"},
        derived={"rated": "rating", "double": "2 * rated"},
    )  # fmt: skip
    file = write(tmp_path / "some.csv", frame.drop(columns=["uid", "rating"]))
    table = read_table(log, file, "log", "candidates")
    assert not {"like", "high", "user"} & set(table)
    events = read_table(log, write(tmp_path / "all.csv", frame), "log")
    assert "high" in events and "like" not in events
    items = read_table(log, write(tmp_path / "items.csv", frame[["iid"]]), "log", "items")
    assert items["item"].tolist() == frame["iid"].tolist()


def test_a_feature_of_the_time_is_that_of_the_request(tmp_path):
    log = prepared(tmp_path, raw_log(), dense={"age": "time - 1700000000"})
    file = write(tmp_path / "some.csv", raw_log().drop(columns="at"))
    with refused(file, "config.dense.age", "time"):
        read_table(log, file, "log", "candidates")
    table = read_table(log, file, "log", "candidates", 1_700_000_100)
    assert (table["age"] == 100).all()


def test_large_numbers_and_the_order_within_a_second_are_kept(tmp_path):
    large = 1_234_567_890_123_456_789
    frame = raw_log().assign(
        author=lambda f: large + f["tab"], at=lambda f: f["at"] * 1000 + f.index
    )
    log = prepared(tmp_path, frame, min_count=1, time_unit="ms", categorical={"author": "author"})
    some = frame.assign(author=frame["author"].astype("Int64").where(frame["tab"] > 0))
    table = read_table(log, write(tmp_path / "some.csv", some[::-1]), "log")
    rows = encode_events(log, table)
    ids = np.concatenate([rows[user]["categorical/author"] for user in rows])
    assert (ids > 0).mean() == (frame["tab"] > 0).mean()
    for user, own in frame.sort_values("at").groupby("uid"):
        values = log.vocabulary("item")["value"].to_pandas()
        assert values[rows[user]["categorical/item"] - 1].tolist() == own["iid"].tolist()


def test_numbers_are_text_where_the_log_has_text(tmp_path):
    """A file whose ids all look like numbers, of a log where some do not."""
    frame = raw_log().assign(iid=lambda f: f["iid"].str[1:].replace({"3": "three"}))
    log = prepared(tmp_path, frame, min_count=1)
    numbers = frame[frame["iid"] != "three"]
    table = read_table(log, write(tmp_path / "new.csv", numbers), "log")
    assert sorted(table["item"]) == sorted(numbers["iid"])
    assert all((rows["categorical/item"] > 0).all() for rows in encode_events(log, table).values())


def test_what_a_file_cannot_say_is_refused(tmp_path):
    before = "lag(x) OVER (PARTITION BY user ORDER BY time_ns, row)"
    log = prepared(tmp_path, raw_log(), dense={"before": f"coalesce({before}, 0)"})
    file = write(tmp_path / "new.csv", raw_log())
    with refused(file, "config.dense.before", "several rows"):
        read_table(log, file, "log")
    log = prepared(tmp_path, raw_log())
    lacking = write(tmp_path / "b.csv", raw_log()[["uid", "at"]])
    with refused(lacking, "config.item", "'iid'"):
        read_table(log, lacking, "log")
    assert list(read_table(log, file, "prepared")) == list(raw_log())
    named = raw_log().rename(columns={"uid": "user", "iid": "item", "at": "time"})
    texts = write(tmp_path / "c.csv", named.assign(item="NA"))
    assert (read_table(log, texts, "prepared")["item"] == "NA").all()  # as `prepare` takes it
    with refused(tmp_path / "gone.csv"):
        read_table(log, tmp_path / "gone.csv", "prepared")


@pytest.mark.parametrize("unit", [1e3, 1e-3, 1e-9])
def test_times_in_another_unit_than_the_logs_are_refused(tmp_path, unit):
    log = prepared(tmp_path, raw_log().assign(at=lambda f: f["at"] * 1_000), time_unit="ms")
    other = raw_log().assign(at=lambda f: (f["at"] * 1_000 * unit).astype(int))
    file = write(tmp_path / "new.csv", other)
    for purpose in ("events", "candidates"):
        with refused(file, "197" if unit < 1 else "config.time"):
            read_table(log, file, "log", purpose)


def test_a_time_that_is_none_is_named_with_its_row_and_file(tmp_path):
    log = prepared(tmp_path, raw_log())
    for wrong in ("09.05.2024", None):
        times = raw_log()["at"].astype(object)
        times.iloc[2] = wrong
        file = write(tmp_path / "new.csv", raw_log().assign(at=times))
        with refused(file, "row 3", "config.time"):
            read_table(log, file, "log")
    named = raw_log().rename(columns={"uid": "user", "iid": "item", "at": "time"})
    days = write(tmp_path / "days.csv", named.assign(time=20_240_509))
    with refused(days, "20240509", "1970-08-23"):
        read_table(log, days, "prepared")


def test_answers_are_written_whole(tmp_path):
    for name in ("a.csv", "a.parquet"):
        write_table(raw_log(5), tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.parquet"]
    with refused(tmp_path / "none/a.csv"):
        write_table(raw_log(5), tmp_path / "none/a.csv")


def test_how_much_is_unknown_is_said_in_a_line(tmp_path, capsys):
    log = prepared(tmp_path, raw_log(), min_count=9)
    item = log.schema.categorical[0]
    assert 0 < item.known < item.values
    every = [*log.vocabulary("item")["value"].to_pylist(), "new"]
    for name in ("item", "categorical/item"):
        say_unknown(log, pd.DataFrame({name: every}), 1000, 2)
        said = capsys.readouterr().err
        unknown = f"{item.values - item.known + 1} of {len(every)}"
        assert re.findall(r"\d+ of \d+", said) == [unknown, "2 of 1000"]
        assert said.count("\n") == 1
    say_unknown(log, pd.DataFrame({"item": every[:3]}), 7, 0)
    say_unknown(log, None, 7, 0)
    assert not capsys.readouterr().err


def test_times_that_users_type():
    assert moment("1700000000") == moment("2023-11-14T22:13:20") == 1_700_000_000
    assert moment("2023-11-14T23:13:20+01:00") == 1_700_000_000
    assert moment("20231114") == moment("2023-11-14")
    assert moment("2023-11-14T23:13:20", "Europe/Berlin") == 1_700_000_000
    assert moment("2023-07-14", "Europe/Berlin") == moment("2023-07-14T00:00+02:00")
    for text in ("1700000000", "2023-11-14T22:13:20Z"):
        assert moment(text, "Europe/Berlin") == 1_700_000_000
    with refused("--time", "'today'"):
        moment("today")


TYPES = {
    "categorical": {"tab": "tab", "code": "code"},
    "dense": {"x": "x // 1"},
    "tasks": {"like": "liked"},
}


def typed_log(tmp_path):
    """A log whose items and tabs are integers, whose codes are texts, and whose x is a double."""
    frame = raw_log().assign(iid=lambda f: f["iid"].str[1:], liked=lambda f: f["rating"] > 3)
    frame["code"] = ["b1", *("00" + frame["tab"].astype(str)[1:])]
    return frame, prepared(tmp_path, frame, min_count=1, **TYPES)


def test_columns_have_the_types_of_the_log(tmp_path):
    frame, log = typed_log(tmp_path)
    new = frame[5:25].reset_index(drop=True).assign(code=lambda f: f["tab"], x=3)
    new = new.astype({"iid": object, "tab": object, "uid": object})
    new.loc[3, "iid"], new.loc[4, "tab"], new.loc[6, "uid"] = "a7", "b", "ann"
    for name in ("new.csv", "new.parquet"):
        file = write(tmp_path / name, new.astype({"iid": str, "tab": str, "uid": str}))
        table = read_table(log, file, "log", "candidates")
        assert table["item"].tolist() == [int(i) if i != "a7" else i for i in new["iid"]]
        assert table["user"][6] == "ann" and table["user"][7] == new["uid"][7]
        rows = encode_candidates(log, table)
        assert ((rows["categorical/item"] > 0) == (new["iid"] != "a7")).all()
        assert ((rows["categorical/tab"] > 0) == (new["tab"] != "b")).all()
        assert (rows["categorical/code"] == 0).all()  # 1 is not "001"
        assert (rows["dense/x"] == 3).all()
        assert "ann" in encode_events(log, read_table(log, file, "log"))
        write_table(table, tmp_path / f"again-{name}")


def test_texts_of_digits_stay_texts(tmp_path):
    frame, log = typed_log(tmp_path)
    file = write(tmp_path / "new.csv", frame[1:30])  # without "b1"
    rows = encode_candidates(log, read_table(log, file, "log", "candidates"))
    assert (rows["categorical/code"] > 0).all()


@pytest.mark.parametrize("column", ["x", "liked"])
def test_what_is_no_number_is_named(tmp_path, column):
    frame, log = typed_log(tmp_path)
    new = frame[:20].astype({column: object})
    new.loc[3, column] = "n/a"
    file = write(tmp_path / "new.csv", new)
    with refused(file, column, "'n/a'", "row 4"):
        read_table(log, file, "log")
    items = read_table(log, file, "log", "items")
    assert len(items) == 20  # of which nothing else is read


def test_logs_that_do_not_know_the_types_of_their_columns(tmp_path):
    frame, log = typed_log(tmp_path)
    report = {key: value for key, value in log.report.items() if key != "columns"}
    older = dataclasses.replace(log, report=report)
    assert older.fingerprint == log.fingerprint
    file = write(tmp_path / "all.csv", frame)
    pd.testing.assert_frame_equal(read_table(older, file, "log"), read_table(log, file, "log"))


def test_a_file_of_another_name_is_read_with_the_only_format(tmp_path):
    only = {"pattern": "clicks*.csv", "delimiter": ";"}
    text = raw_log().to_csv(index=False, sep=";")
    (tmp_path / "clicks-1.csv").write_text(text)
    made = config(formats={"clicks": only})
    log = opened(made, tmp_path / "clicks-1.csv", tmp_path / "one")
    (tmp_path / "today.csv").write_text(text)
    assert len(read_table(log, tmp_path / "today.csv", "log")) == len(raw_log())
    several = {"clicks": only, "views": {"pattern": "views*.csv"}}
    log = opened(config(formats=several), tmp_path / "clicks-1.csv", tmp_path / "two")
    with refused(tmp_path / "today.csv", "clicks*.csv", "views*.csv", "--columns=prepared"):
        read_table(log, tmp_path / "today.csv", "log")


def test_columns_whose_names_are_no_sql_may_be_missing(tmp_path):
    names = {"uid": "the user's id", "at": "at what time", "rating": 'the "rating"'}
    frame = raw_log().rename(columns=names)
    log = prepared(
        tmp_path, frame, user=names["uid"], time=names["at"], tasks={"like": '"the ""rating""" > 3'}
    )
    file = write(tmp_path / "new.csv", frame.drop(columns=list(names.values())))
    table = read_table(log, file, "log", "candidates")
    assert list(table) == ["item", "iid", "x", "tab", "serial"]


def test_groups_may_share_a_name(tmp_path):
    groups = {"dense": {"x": "x"}, "context": {"x": "2 * x"}, "categorical": {"time": "tab"}}
    frame = raw_log()
    log = prepared(tmp_path, frame, min_count=1, **groups)
    table = read_table(log, write(tmp_path / "new.csv", frame), "log", "candidates")
    rows = encode_candidates(log, table)
    np.testing.assert_allclose(rows["dense/x"], frame["x"], rtol=1e-6)
    np.testing.assert_allclose(rows["context/x"], 2 * frame["x"], rtol=1e-6)
    assert (rows["categorical/time"] > 0).all() and (rows["time"] == frame["at"]).all()
