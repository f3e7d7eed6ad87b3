"""A prepared log is written complete or not at all, and read back as it was written."""

import dataclasses
import json
import pickle

import numpy as np
import pyarrow as pa
import pytest

from siren_rope_jax.base.files import write_json
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.data.schema import Categorical, Dense, Schema
from siren_rope_jax.prepare.writer import encode_ids, vocabulary, write_log
from tests.refusals import refused

SCHEMA = Schema(
    name="small",
    categorical=(Categorical("item", values=3, known=2),),
    dense=(Dense("x"),),
    context=(),
    actions=(Dense("dwell", 1.5, 2.0),),
    tasks=("like", "love"),
    has_utc_offset=True,
    train_start=0,
    train_end=5,
    validation_end=7,
    end=9,
    source="made up",
    license="none",
)
LENGTHS = (1, 4, 2)


def histories(seed: int = 0) -> list[np.ndarray]:
    """Events of random bytes, in which only the split is valid."""
    rng = np.random.default_rng(seed)
    size = SCHEMA.event_dtype.itemsize
    made = [np.frombuffer(rng.bytes(n * size), SCHEMA.event_dtype).copy() for n in LENGTHS]
    for rows in made:
        rows["split"] = np.sort(rng.integers(0, 3, len(rows)))
    return made


def write(path, **changes) -> PreparedLog:
    arguments = {
        "schema": SCHEMA,
        "users": ["ann", "bob", "cy"],
        "vocabularies": {"item": vocabulary(["a", "b", "c"], np.array([3, 2, 0]))},
        "report": {"rows_read": 7},
        "histories": iter(histories()),
    }
    write_log(path, **(arguments | changes))
    return PreparedLog.open(path)


def test_what_is_written_is_read(tmp_path):
    table = pa.table({"event": np.arange(3), "oracle/like": [0.1, 0.2, 0.3]})
    written = write(tmp_path / "log", baselines=table)
    for log in (written, pickle.loads(pickle.dumps(written))):  # as if in another process
        assert log.schema == SCHEMA and log.report["rows_read"] == 7
        for user, rows in enumerate(histories()):
            assert log.history(user).tobytes() == rows.tobytes()
        assert log.users().to_pylist() == ["ann", "bob", "cy"]
        assert log.vocabulary("item")["id"].to_pylist() == [1, 2, 3]
        assert log.baselines().to_dict("list") == table.to_pydict()
        np.testing.assert_array_equal(log.index[:, 0], LENGTHS)
        np.testing.assert_array_equal(log.offsets, [0, 1, 5, 7])
    assert write(tmp_path / "without").baselines() is None


def test_a_fingerprint_is_that_of_what_the_log_holds(tmp_path, monkeypatch):
    other_event, other_borders = histories(), histories()
    other_event[1]["utc_offset"][2] += 1
    other_borders[0], other_borders[1] = np.split(np.concatenate(other_borders[:2]), [2])
    renamed = {"item": vocabulary(["a", "b", "d"], np.array([3, 2, 0]))}
    counted = {"item": vocabulary(["a", "b", "c"], np.array([3, 2, 1]))}
    other = {
        "an event": {"histories": other_event},
        "where a history ends": {"histories": other_borders},
        "a user": {"users": ["ann", "bob", "di"]},
        "an item": {"vocabularies": renamed},
        "a count": {"vocabularies": counted},
    }
    same = {
        "nothing": {},
        "the report": {"report": {"rows_read": 7, "seconds": 3.5}},
        "its description": {
            "schema": dataclasses.replace(SCHEMA, name="other", source="a URL", license="CC0")
        },
        "how Arrow holds it": {"users": pa.chunked_array([["ann"], [], ["bob", "cy"]])},
    }
    found = {
        changed: write(tmp_path / changed, **changes).fingerprint
        for changed, changes in (other | same).items()
    }
    assert {found[changed] for changed in same} == {found["nothing"]}
    assert len(set(found.values())) == 1 + len(other)
    monkeypatch.setattr("siren_rope_jax.prepare.writer.SHARD_BYTES", 1)
    log = write(tmp_path / "in shards")
    assert log.fingerprint == found["nothing"]
    split_elsewhere = dataclasses.replace(SCHEMA, train_end=6)
    assert dataclasses.replace(log, schema=split_elsewhere).fingerprint != found["nothing"]


def test_events_are_numbered_by_user_then_time(tmp_path):
    log, rows = write(tmp_path / "log"), np.concatenate(histories())
    for number, split in enumerate((None, "train", "validation", "test")):
        part, mask = log.events(split), (rows["split"] == number - 1) | (split is None)
        assert part.rows.tobytes() == rows[mask].tobytes()
        np.testing.assert_array_equal(part.event, np.flatnonzero(mask))
        np.testing.assert_array_equal(part.user, np.repeat(np.arange(3), LENGTHS)[mask])
        assert log.index[:, number].sum() == mask.sum()
    with refused("split", "'test'"):
        log.events("tset")
    with refused("name", "'item'"):
        log.vocabulary("itme")


def test_rows_are_packed_and_little_endian():
    dtype = SCHEMA.event_dtype
    assert dtype.itemsize == 8 + 4 + 1 + 4 + 4 + 4 + 1 + 1
    assert dtype.names[3:] == (
        "categorical/item", "dense/x", "action/dwell", "task/like", "task/love",
    )  # fmt: skip
    rows = np.zeros(1, dtype)
    rows["time"] = 258
    assert rows.tobytes()[:3] == b"\x02\x01\x00"


def test_ids_are_by_train_count_then_value():
    values = np.array(["b", "a", "c", "b", "d"])
    ids, table = encode_ids(values, np.array([True, True, True, True, False]))
    assert table["value"].to_pylist() == ["b", "a", "c", "d"]
    assert table["train_count"].to_pylist() == [2, 1, 1, 0]
    assert ids.tolist() == [1, 2, 3, 1, 4]
    with pytest.raises(ValueError):
        vocabulary(["a", "b"], np.array([1, 2]))


def broken():
    yield histories()[0]
    raise OSError("the disk went away")


def test_nothing_is_left_of_a_failure(tmp_path):
    for error, changes in (
        (OSError, {"histories": broken()}),
        (ValueError, {"users": ["ann"]}),
        (ValueError, {"vocabularies": {}}),
        (ValueError, {"histories": [np.zeros(2, "<i8")]}),
        (ValueError, {"report": {"rate": float("nan")}}),
    ):
        with pytest.raises(error):
            write(tmp_path / "log", **changes)
        assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_kept(tmp_path):
    (tmp_path / "log").mkdir()
    write(tmp_path / "log")  # empty: may be used
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "log").iterdir()}
    with refused(tmp_path / "log"):
        write(tmp_path / "log")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "log").iterdir()}
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file/log"):
        with refused(path):
            write(path)


FILES = (
    "histories-00000-of-00001.arrayrecord", "index.npy", "users.parquet", "vocabulary/item.parquet",
)  # fmt: skip


@pytest.mark.parametrize("name", ["meta.json", *FILES])
def test_a_missing_file_is_named(tmp_path, name):
    write(tmp_path / "log")
    (tmp_path / "log" / name).unlink()
    with refused(tmp_path / "log", name.partition("0")[0]):
        PreparedLog.open(tmp_path / "log")


def test_a_missing_shard_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr("siren_rope_jax.prepare.writer.SHARD_BYTES", 1)
    log = write(tmp_path / "log")
    assert log.events().rows.tobytes() == np.concatenate(histories()).tobytes()
    (tmp_path / "log" / "histories-00001-of-00003.arrayrecord").unlink()
    with refused(tmp_path / "log", "histories-"):
        PreparedLog.open(tmp_path / "log")


@pytest.mark.parametrize("name", FILES)
def test_damage_is_noticed(tmp_path, name):
    write(tmp_path / "log")
    path = tmp_path / "log" / name
    for left in (100, 0):
        path.write_bytes(path.read_bytes()[:left])
        with refused(path):
            log = PreparedLog.open(tmp_path / "log")
            log.users(), log.vocabulary("item")


@pytest.mark.parametrize(
    ("change", "entry", "named"),
    [
        (lambda meta: meta | {"format_version": 99}, "", 99),
        (lambda meta: meta | {"taskss": []}, ".taskss", "'tasks'"),
        (lambda meta: {k: v for k, v in meta.items() if k != "tasks"}, ".tasks", ""),
        (lambda meta: meta | {"protocol": "last"}, ".protocol", "'last'"),
        (lambda meta: meta | {"report": {}}, "", ""),
    ],
)
def test_another_description_is_refused(tmp_path, change, entry, named):
    write(tmp_path / "log")
    path = tmp_path / "log" / "meta.json"
    changed = change(json.loads(path.read_text()))
    path.write_text(json.dumps(changed))
    with refused(path, "checksum"):
        PreparedLog.open(tmp_path / "log")
    del changed["checksum"]
    write_json(path, changed)
    with refused(f"{path}{entry}", named):
        PreparedLog.open(tmp_path / "log")
    path.write_text("{")
    with refused(path):
        PreparedLog.open(tmp_path / "log")


@pytest.mark.parametrize("more", [3, -1])
def test_an_index_of_an_old_log_that_counts_other_events_is_told(tmp_path, more):
    write(tmp_path / "log")
    meta = json.loads((tmp_path / "log/meta.json").read_text())
    for key in ("checksum", "files", "record_events"):  # as version 3 wrote it
        del meta[key]
    (tmp_path / "log/meta.json").write_text(json.dumps(meta | {"format_version": 3}))
    index = np.load(tmp_path / "log/index.npy")
    index[0] += more
    np.save(tmp_path / "log/index.npy", index)
    log = PreparedLog.open(tmp_path / "log")
    with refused(tmp_path / "log", "index"):
        log.events()
