"""Logs that are not tables of text: arrays, sequences, JSON and Python lines."""

import gzip
import json
import pickle

import numpy as np
import pandas as pd
import pytest

from siren_rope_jax.prepare import conversions
from tests.raw_logs import (
    START,
    assert_same,
    config,
    decoded,
    opened,
    prepared,
    raw_log,
    write,
)  # fmt: skip
from tests.refusals import refused

COLUMNS = ("uid", "iid", "at")
RAW = raw_log()[list(COLUMNS)].assign(iid=lambda raw: raw.iid.str[1:].astype(int))
RAW = RAW.drop_duplicates().sort_values(["uid", "at"], kind="stable")
SEQUENCES = {
    "pattern": "*_item_*",
    "kind": "sequences",
    "columns": COLUMNS,
    "companion": ("_item_", "_time_"),
}


def sequences(folder, name="log_item_x.txt", raw=RAW):
    """Writes both files of sequences and returns that of items."""
    for column, path in (("iid", folder / name), ("at", folder / name.replace("item", "time"))):
        lines = [f"{user} {' '.join(map(str, part))}" for user, part in raw.groupby("uid")[column]]
        text = ("\n".join(lines) + "\n").encode()
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return folder / name


def lines(path, texts):
    text = "".join(f"{text}\n" for text in texts).encode("utf-8", "surrogatepass")
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def records(raw):
    """Rows as an official file has them: in another order, with more than is asked for."""
    return [
        {"title": "a\n'b'", "at": at, "uid": uid, "more": [1, {"uid": 7}], "iid": iid, "ok": True}
        for uid, iid, at in raw.itertuples(index=False, name=None)
    ]


def open_prepared(path, form, **values):
    """Prepares a file of this format and opens the result, which lies beside it."""
    output = path.with_name(f"out-{path.name}")
    return opened(config(tasks={}, formats={"form": form}, **values), path, output)


def saved(array):
    def write(folder):
        np.save(folder / "log.npy", array, allow_pickle=True)
        return folder / "log.npy"

    return write


def with_lines(name, to_text):
    return lambda folder: lines(folder / name, map(to_text, records(RAW)))


KEYS = {"columns": COLUMNS}
DICTS = KEYS | {"kind": "python_dicts"}
FORMS = {
    "array": (saved(RAW.to_numpy(np.int32)), KEYS),
    "fortran order": (saved(np.asfortranarray(RAW.to_numpy(np.int64))), KEYS),
    "sequences": (sequences, SEQUENCES),
    "sequences gzipped": (lambda folder: sequences(folder, "a_item_x.txt.gz"), SEQUENCES),
    "JSON lines": (with_lines("log.jsonl", json.dumps), KEYS),
    "JSON lines gzipped": (with_lines("log.jsonl.gz", json.dumps), KEYS),
    "Python dicts": (with_lines("log.json.gz", repr), DICTS),
    "renamed": (with_lines("r.jsonl", json.dumps), {"columns": ("at", "uid", "iid")}),
}


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_give_the_same_log(tmp_path, form, monkeypatch):
    monkeypatch.setattr(conversions, "CHUNK_ROWS", 37)  # several chunks, and a part of one
    write_form, values = FORMS[form]
    expected = prepared(tmp_path, RAW, tasks={})
    found = open_prepared(write_form(tmp_path), values)
    assert_same(found, expected, form)
    assert found.schema == expected.schema
    assert found.vocabulary("item").equals(expected.vocabulary("item"))
    assert found.users().to_pylist() == expected.users().to_pylist()
    assert found.report["rows_read"] == len(RAW)


def test_text_keeps_its_spelling_and_characters(tmp_path):
    """Ids are spelled as in the file: "007" is not 7, and surrogates become one character."""
    names = ["007", "7", "Zo\u00eb \U0001f600", "u\u2028v", "x y"]
    rows = [{"uid": name, "iid": 1.5, "at": START + 40 * i + j} for j in range(9)
            for i, name in enumerate(names)]  # fmt: skip
    as_json = lines(tmp_path / "log.jsonl", map(json.dumps, rows))
    as_python = [repr(row).replace("'uid': '", "'uid': u'") for row in rows]
    as_python = [text.replace("\U0001f600", "\\ud83d\\ude00") for text in as_python]
    for path, form in ((as_json, KEYS), (lines(tmp_path / "log.py", as_python), DICTS)):
        log = open_prepared(path, form)
        assert sorted(log.users().to_pylist()) == sorted(names)
        assert log.vocabulary("item")["value"].to_pylist() == ["1.5"]


def test_what_is_absent_is_absent(tmp_path):
    rows = [{"uid": i % 9, "iid": i % 5, "at": START + i, "x": i % 2 or None} for i in range(300)]
    rows[4]["x"], rows[5]["x"] = "", True
    del rows[6]["x"]
    actions = {"x": "CASE x WHEN 'true' THEN 5 ELSE CAST(x AS INTEGER) END"}
    for kind, to_text in (("jsonl", json.dumps), ("python_dicts", repr)):
        path = lines(tmp_path / kind, map(to_text, rows))
        form = {"columns": (*COLUMNS, "x"), "kind": kind}
        log = open_prepared(path, form, actions=actions)
        found = decoded(log).sort_values("time")["action/x"].to_numpy()
        assert found[5] == 5 and np.isnan(found[[4, 6, 8]]).all() and (found[7::2] == 1).all()


def test_rows_are_numbered(tmp_path):
    rows = records(RAW)
    rows[16]["at"] = "noon"
    for name, to_text, form in (("log.jsonl", json.dumps, KEYS), ("log.dicts", repr, DICTS)):
        with refused("config.time", f"row 17 of {name}", "'at'", "'noon'"):
            open_prepared(lines(tmp_path / name, map(to_text, rows)), form)


def test_identical_rows_can_be_kept(tmp_path):
    raw = pd.concat([raw_log(), raw_log()[:7]])
    log = prepared(tmp_path, raw, drop_duplicates=False)
    assert log.report["rows_read"] == sum(log.report["events"].values()) == 307
    assert log.report["duplicates_dropped"] == 0


def test_times_count_from_an_origin(tmp_path):
    minutes = RAW.assign(at=(RAW["at"] - START) // 5)
    expected = START + 60 * minutes["at"]
    origin = pd.Timestamp(START, unit="s").isoformat()
    values = {"tasks": {}, "time_origin": origin, "drop_duplicates": False}
    seconds = minutes["at"] * 60
    for unit, at in (
        ("min", minutes["at"]), ("s", seconds), ("s", seconds + 0.5), ("ms", seconds * 1000),
    ):  # fmt: skip
        raw = minutes.assign(at=at)
        log = prepared(tmp_path, raw, f"{unit}.csv", time_unit=unit, **values)
        np.testing.assert_array_equal(np.sort(log.events().rows["time"]), np.sort(expected))
    far = raw.assign(at=raw["at"].where(raw["at"] != raw["at"].max(), 2**62))
    with refused("config.time", "'ms'", "2023-11-14T22:13:20", 2**62):
        prepared(tmp_path, far, time_unit="ms", **values)


def raw_bytes(name: str, content: bytes, **others: bytes):
    """What writes a file, and others of these names, and returns the path of the first."""

    def write(folder):
        for other, text in {name: content, **others}.items():
            (folder / other).write_bytes(text)
        return folder / name

    return write


def pair(items: str, times: str):
    others = {"log_time_x.txt": times.encode()}
    return raw_bytes("log_item_x.txt", items.encode(), **others)


BAD = {  # file, format; the file or key that the error is about, and names and values in it
    "other users": (
        pair("1 5 6\n2 7\n", "1 50 60\n3 70\n"), SEQUENCES,
        "log_item_x.txt", "line 2", "'2'", "'3'", "log_time_x.txt",
    ),
    "other counts": (
        pair("1 5 6\n2 7\n", "1 50\n2 70\n"), SEQUENCES,
        "log_item_x.txt", "line 1", "2 items", "1 times", "log_time_x.txt",
    ),
    "a line too few": (
        pair("1 5 6\n2 7\n", "1 50 60\n"), SEQUENCES, "log_item_x.txt", "line 2", "log_time_x.txt",
    ),
    "an item too few": (
        pair("1 5 6\n", "1 50 60\n2 70\n"), SEQUENCES, "log_time_x.txt", "line 2", "log_item_x.txt",
    ),
    "an empty line": (
        pair("\n1 5 6\n", "1 50 60\n\n"), SEQUENCES, "log_item_x.txt", "line 1", "2 times",
    ),
    "no events": (pair("", ""), SEQUENCES, "log_item_x.txt"),
    "no times": (
        raw_bytes("log_item_x.txt", b"1 2\n"), SEQUENCES, "log_time_x.txt", "log_item_x.txt",
    ),
    "times as items": (
        raw_bytes("log_time_x.txt", b"1 2\n"), SEQUENCES | {"pattern": "*"},
        "log_time_x.txt", "'_item_'", "'_time_'",
    ),
    "not text": (
        raw_bytes("log.dicts", b"{'uid': 1}\n\xff\xfe\n"), DICTS, "log.dicts", "line 2", "UTF-8",
    ),
    "JSON as Python": (
        raw_bytes("log.dicts", b'{"uid": 1, "iid": 2, "at": 3}\n{"uid": null}\n'), DICTS,
        "log.dicts", "line 2",
    ),
    "a program": (
        raw_bytes("log.dicts", b"__import__('os').abort()\n"), DICTS, "log.dicts", "line 1",
    ),
    "a list": (raw_bytes("log.dicts", b"[1, 2]\n"), DICTS, "log.dicts", "line 1", "list"),
    "truncated dicts": (
        raw_bytes("log.gz", gzip.compress(b"{'uid': 1}\n" * 99)[:-5]), DICTS, "log.gz", "gzip -t",
    ),
    "truncated JSON": (
        raw_bytes("log.jsonl.gz", gzip.compress(b'{"uid": 1}\n' * 99)[:-5]), KEYS,
        "log.jsonl.gz", "gzip -t",
    ),
    "half a JSON line": (raw_bytes("log.jsonl", b'{"uid": 1}\n{"uid": '), KEYS, "log.jsonl"),
    "not a JSON object": (raw_bytes("log.jsonl", b"[1, 2, 3]\n"), KEYS, "log.jsonl"),
    "no columns": (raw_bytes("log.jsonl", b"{}\n"), {}, "config.formats", "log.jsonl"),
    "an array of floats": (saved(np.ones((4, 3))), KEYS, "log.npy", "float64"),
    "an array of huge numbers": (saved(np.ones((4, 3), np.uint64)), KEYS, "log.npy", "uint64"),
    "an empty file": (raw_bytes("log.npy", b""), KEYS, "log.npy"),
    "an array of Python's": (saved(np.array([[None, {}]], object)), KEYS, "log.npy"),
    "a pickle": (raw_bytes("log.npy", pickle.dumps([1, 2])), KEYS, "log.npy"),
    "a flat array": (saved(np.arange(9)), KEYS, "log.npy", "[rows, columns]"),
    "another number of columns": (saved(np.ones((4, 2), int)), KEYS, "log.npy", 2, "['uid', 'iid'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_files(tmp_path, case):
    write_case, form, about, *named = BAD[case]
    path = write_case(tmp_path)
    before = sorted(file.name for file in tmp_path.iterdir())
    about = about if about.startswith("config.") else tmp_path / about
    with refused(about, *named):
        open_prepared(path, form)
    assert sorted(file.name for file in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("form", "key", "named"),
    [
        ({"kind": "sequences", "columns": COLUMNS}, "companion", ""),
        ({"companion": ("a", "b")}, "companion", ""),
        (SEQUENCES | {"companion": ("a",)}, "companion", ""),
        (SEQUENCES | {"columns": ("u", "i")}, "columns", ""),
        ({"kind": "json"}, "kind", "'jsonl'"),
    ],
)
def test_bad_formats(form, key, named):
    with refused(f"config.formats.form.{key}", named):
        config(formats={"form": form})


def test_numbers_of_json_are_not_rounded(tmp_path):
    ids = [f"0.1234567890123456789{n}" for n in range(3)]
    times = [f"{START}.12345679{n}" for n in (9, 8, 7)]  # newest first
    events = [
        f'{{"uid": 7, "iid": {i}, "at": {t}, "label": 1e0}}'
        for i, t in zip(ids, times, strict=True)
    ]
    rest = [
        f'{{"uid": {n}, "iid": 1, "at": {START + 60 * n}, "label": {n % 2}}}' for n in range(60)
    ]
    (tmp_path / "log.jsonl").write_text("\ufeff" + "\n".join([*events, *rest]), encoding="utf-8")
    columns = {"any": {"columns": ("uid", "iid", "at", "label")}}
    log = opened(
        config(formats=columns, tasks={"like": "label >= 1"}, min_count=1),
        tmp_path / "log.jsonl", tmp_path / "log",
    )  # fmt: skip
    found = decoded(log).query("user == 7")["categorical/item"].tolist()
    assert found[:3] == ids[::-1]


def test_columns_of_several_files_may_be_in_another_order(tmp_path):
    raw = raw_log()
    write(tmp_path / "a.csv", raw[:150])
    write(tmp_path / "b.csv", raw[150:][raw.columns[::-1]])
    both = opened(config(), tmp_path / "*.csv", tmp_path / "both")
    assert_same(both, prepared(tmp_path, raw))


@pytest.mark.parametrize("column", ["uid", "at"])
def test_floats_that_cannot_tell_neighbours_apart_are_refused(tmp_path, column):
    raw = raw_log().astype({column: "float32"})
    raw[column] = raw[column] + np.float32(2**25 if column == "uid" else 0)
    with refused(tmp_path / "log.parquet", f"'{column}'", "2^24"):
        prepared(tmp_path, raw, "log.parquet")


def test_relative_times_can_be_said_to_be_right(tmp_path):
    raw = raw_log().assign(at=lambda frame: 11_000_000 + frame.serial * 60_000)
    with refused("config.time_unit", "'min'", "time_origin"):
        prepared(tmp_path, raw)
    rows = prepared(tmp_path, raw, time_origin="1970-01-01").events().rows
    assert rows["time"].min() == 11_000_000
