"""Bad input of prepare: one clear message each, and nothing half-written."""

import gzip

import pandas as pd
import pytest

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.prepare.config import PrepareConfig, config_dict
from siren_rope_jax.prepare.table import prepare
from tests.raw_logs import START, config, prepared, raw_log, write
from tests.scripts import complaint


def change(column: str, row: int, value) -> pd.DataFrame:
    """The small log with one cell changed; rows count from 1."""
    raw = raw_log().astype({column: object})
    raw.loc[row - 1, column] = value
    return raw


def with_nan() -> pd.DataFrame:
    """The text of the file says "nan", which is a number to the engine; an empty field is none."""
    return change("x", 7, "nan")


BAD = {
    "missing user": (raw_log(), {"user": "uidd"}, "no column 'uidd'.*did you mean 'uid'"),
    "missing time": (raw_log(), {"time": "when"}, r"no column 'when' \(config.time\); known: at,"),
    "unparsable time": (
        change("at", 9, "noon"), {}, r"row 9 of log.csv: 'at' is 'noon', which is not a number",
    ),
    "unparsable date": (
        raw_log().assign(at="2024-05-01").pipe(lambda raw: raw.assign(
            at=raw["at"].where(raw.serial != 4, "2024-13-01"))),
        {"time_unit": "iso"}, "row 5 of log.csv: 'at' is '2024-13-01', which is not a date",
    ),
    "dates without their unit": (
        raw_log().assign(at="2024-05-01"), {}, "for dates as text set it to 'iso'",
    ),
    "numbers, not dates": (
        raw_log(), {"time_unit": "iso"}, "not a date and time .*; for numbers set it to 's' or",
    ),
    "dates of another form": (
        raw_log().assign(at="11.05.2024 19:07"), {"time_unit": "iso"}, "such as 2024-05-01T19:30",
    ),
    "between semicolons": (
        raw_log().set_axis([f"{c};" for c in raw_log()], axis=1)[["uid;"]], {},
        "no column 'uid' .*--config.formats.any.delimiter=';'",
    ),
    "time after 2100": (
        change("at", 3, 4_102_444_801), {},
        r"row 3 of log.csv: time 4102444801 in column 'at' is outside 1902-01-01 to 2100-01-01",
    ),
    "time before 1902": (change("at", 3, -2_145_916_801), {}, "row 3 of log.csv: .*outside 1902"),
    "huge time": (change("at", 3, 10**17), {"time_unit": "day"}, "outside 1902"),
    "no number": (change("at", 3, "nan"), {}, "row 3 of log.csv: 'at' is nan, which is not"),
    "absent time": (
        change("at", 4, None), {}, "row 4 of log.csv: no time in column 'at'.*allow_missing_time",
    ),
    "no times at all": (
        raw_log().assign(at=None), {"allow_missing_time": True}, "no event has a time",
    ),
    "seconds as milliseconds": (
        raw_log(), {"time_unit": "ms"},
        "'ms' all times lie in early 1970; with config.time_unit='s' the log would run from 2023-",
    ),
    "milliseconds as seconds": (
        raw_log().assign(at=lambda raw: raw["at"] * 1000), {},
        "row 1 of .*outside 1902.*with config.time_unit='ms' the log would run from 2023-11-14",
    ),
    "empty log": (raw_log()[:0], {}, "is an empty log"),
    "label of 2": (
        raw_log(), {"tasks": {"like": "rating"}}, r"row \d+ of .*config.tasks.like is \d; a label",
    ),
    "label of a half": (
        change("rating", 3, 0.5), {"tasks": {"like": "CASE WHEN rating < 1 THEN rating END"}},
        "row 3 of log.csv: config.tasks.like is 0.5",
    ),
    "label of text": (raw_log(), {"tasks": {"like": "iid"}}, "'iid' is of type string"),
    "one class": (
        raw_log(), {"tasks": {"like": f"time < {START + 300}"}},
        "config.tasks.like: all .* labels of validation are 0",
    ),
    "no labels": (
        raw_log(), {"tasks": {"like": f"CASE WHEN time < {START + 300} THEN rating > 2 END"}},
        "config.tasks.like: no event of validation has a label",
    ),
    "nan": (with_nan(), {"dense": {"x": "x"}}, "row 7 of log.csv: config.dense.x is nan"),
    "nan in an action": (with_nan(), {"actions": {"x": "x"}}, "row 7 .*config.actions.x is nan"),
    "infinite": (raw_log(), {"context": {"x": "1e300 * x"}}, "config.context.x is .*e.*no finite"),
    "absent feature": (change("x", 7, None), {"dense": {"x": "x"}}, "row 7 .*coalesce"),
    "absent user": (change("uid", 8, None), {}, "row 8 of log.csv: no user in column 'uid'"),
    "absent item": (change("iid", 8, None), {}, "row 8 of log.csv: no item in column 'iid'"),
    "absent offset": (raw_log(), {"utc_offset": "nullif(tab, 1)"}, "config.utc_offset is None"),
    "unknown zone": (
        raw_log(), {"time_zone": "Europe/Berlim"},
        "config.time_zone: 'Europe/Berlim' is no zone .*did you mean 'Europe/Berlin'",
    ),
    "a zone of no place": (raw_log(), {"time_zone": "JST"}, "config.time_zone: 'JST' is no zone"),
    "unknown column in SQL": (
        raw_log(), {"tasks": {"like": "ratng >= 4"}},
        "config.tasks.like: no column 'ratng' in 'ratng >= 4'; did you mean 'rating'",
    ),
    "no SQL": (raw_log(), {"dense": {"x": "x +* 2"}}, "config.dense.x: .* is no SQL expression"),
    "two statements": (raw_log(), {"dense": {"x": "x; DROP TABLE log"}}, "config.dense.x"),
    "a query": (raw_log(), {"dense": {"x": "(SELECT 1)"}}, "config.dense.x: .*no query"),
    "unknown function": (raw_log(), {"dense": {"x": "logg(x)"}}, "config.dense.x: cannot evaluate"),
    "an aggregate": (raw_log(), {"dense": {"x": "max(x)"}}, r"config.dense.x: .*OVER \(...\)"),
    "fails on some row": (
        raw_log(), {"dense": {"x": "x", "y": "CAST(iid AS INTEGER)"}},
        "config.dense.y: cannot evaluate .*Could not convert string 'i",
    ),
    "circle": (
        raw_log(), {"derived": {"a": "b + 1", "b": "a + 1"}}, "a, b need each other in a circle",
    ),
    "derived twice": (raw_log(), {"derived": {"X": "1"}}, "config.derived.X: the log has a column"),
    "one second": (raw_log().assign(at=START), {}, "leave a split without events"),
    "dates outside": (
        raw_log(), {"split": {"train_end": "2030-01-01", "validation_end": "2031-01-01"}},
        "leave a split without events; the log runs from 2023-11-14",
    ),
    "no date": (
        raw_log(), {"split": {"train_end": "May", "validation_end": "June"}},
        "config.split.train_end: 'May' is no date",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_values(tmp_path, case):
    raw, values, message = BAD[case]
    with pytest.raises(UserError, match=message) as caught:
        prepared(tmp_path, raw, **values)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def text_of(raw: pd.DataFrame) -> bytes:
    return raw.to_csv(index=False).encode()


FILES = {
    "truncated gzip": (
        "log.csv.gz", gzip.compress(text_of(raw_log()))[:-9], "truncated or damaged.*gzip -t",
    ),
    "no gzip": ("log.csv.gz", text_of(raw_log()), "truncated or damaged"),
    "nothing": ("log.csv", b"", "is empty: not even a header"),
    "header only": ("log.csv", b"uid,iid,at,rating\n", "is an empty log"),
    "short line": ("log.csv", text_of(raw_log()) + b"1,2\n", "cannot be read: .*Line: 302"),
    "no text": ("log.csv", text_of(raw_log()) + b"\xff\xfe,1,1,1,1,1,1\n", "cannot be read.*utf-8"),
    "header of no text": ("log.csv", b"\xff\xfe,uid\n1,2\n", "first line is not UTF-8"),
    "same column twice": ("log.csv", b"uid,iid,at,UID\n1,2,3,4\n", "two columns are named 'UID'"),
    "column without name": ("log.csv", b"uid,,at\n1,2,3\n", "column 2 has no name"),
    "no Parquet": ("log.parquet", text_of(raw_log()), "no complete Parquet file"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_bad_files(tmp_path, case):
    name, content, message = FILES[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        prepare(config(), tmp_path / name, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_input_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.csv does not exist"):
        prepare(config(), tmp_path / "nothing.csv", tmp_path / "out")
    with pytest.raises(UserError, match="is a folder"):
        prepare(config(), tmp_path, tmp_path / "out")
    with pytest.raises(UserError, match=r"no format for this file name; the config has \*\.dat"):
        prepare(config(formats={"d": {"pattern": "*.dat"}}), write(tmp_path / "l.csv", raw_log()),
                tmp_path / "out")  # fmt: skip


def test_files_of_different_columns(tmp_path):
    write(tmp_path / "a.csv", raw_log())
    write(tmp_path / "b.csv", raw_log().drop(columns="tab"))
    with pytest.raises(UserError, match=r"b\.csv has other columns than .*a\.csv"):
        prepare(config(), tmp_path / "*.csv", tmp_path / "out")
    write(tmp_path / "b.csv", raw_log().assign(at=lambda raw: raw["at"].where(raw.serial != 6)))
    with pytest.raises(UserError, match=r"row 7 of b\.csv: no time"):
        prepare(config(), tmp_path / "*.csv", tmp_path / "out")


def test_an_output_in_use_is_kept(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("work of months")
    with pytest.raises(UserError, match="exists and is not empty"):
        prepare(config(), write(tmp_path / "log.csv", raw_log()), tmp_path / "out")
    assert (tmp_path / "out" / "precious").read_text() == "work of months"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"user": ""}, "config.user: is required and empty"),
        ({"min_count": 0}, "config.min_count: 0 is not at least 1"),
        ({"tasks": {"a b": "1"}}, "config.tasks: 'a b' is no name"),
        ({"tasks": {"like": " "}}, "config.tasks.like: is empty"),
        ({"categorical": {"item": "iid"}}, "config.categorical.item"),
        ({"derived": {"time": "1"}}, "config.derived.time"),
        ({"time_unit": "sec"}, "config.time_unit: 'sec' is not a choice"),
        ({"utc_offset": "0", "time_zone": "UTC"}, "config.time_zone: not beside config.utc_offset"),
        ({"split": {"train_end": "2024-01-01"}}, "both train_end and validation_end"),
        ({"split": {"train_fraction": 0.95}}, "leave something for test"),
        ({"memory_gb": 0.0}, "memory_gb"),
    ],
)
def test_bad_configs(values, message):
    with pytest.raises(UserError, match=message):
        config(**values)


def test_an_unknown_key_is_named():
    whole = config_dict(name="n", user="u", item="i", time="t")
    with whole.unlocked():
        whole.tasksk = "x"
    with pytest.raises(UserError, match="tasksk: unknown key; did you mean 'tasks'"):
        PrepareConfig.load(whole)
    with pytest.raises(UserError, match="usr: unknown key; did you mean 'user'"):
        config_dict(usr="u")


SCRIPT = {
    "missing column": (
        ["--config.user=uidd"],
        "no column 'uidd' (config.user); did you mean 'uid'",
    ),
    "wrong unit": (["--config.time_unit=ms"], "with config.time_unit='s' the log would run from"),
    "unknown key": (["--config.usr=uid"], "config.usr: unknown key; did you mean 'user'?"),
    "no input": (["--input=nothing.csv"], "input nothing.csv does not exist"),
}


@pytest.mark.parametrize("case", SCRIPT)
def test_the_script_says_it_in_one_line(tmp_path, case):
    flags, message = SCRIPT[case]
    path = write(tmp_path / "log.csv", raw_log())
    line = complaint(
        "prepare", "--config=configs/data/table.py", f"--input={path}",
        f"--output={tmp_path / 'out'}", "--config.user=uid", "--config.item=iid",
        "--config.time=at", "--config.tasks=like=rating>=4", *flags,
    )  # fmt: skip
    assert message in line
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]
