"""Bad input of prepare: an error about the right key or file, and nothing half-written."""

import gzip

import pandas as pd
import pytest

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.times import DAY
from siren_rope_jax.prepare.config import PrepareConfig, config_dict
from siren_rope_jax.prepare.table import prepare
from tests.raw_logs import START, config, prepared, raw_log, table_flags, write
from tests.refusals import refused
from tests.scripts import complaint

LOG = raw_log()


def change(column: str, row: int, value, raw: pd.DataFrame = LOG) -> pd.DataFrame:
    """The small log with one cell changed; rows count from 1."""
    raw = raw.astype({column: object})
    raw.loc[row - 1, column] = value
    return raw


# As an empty field, it is missing.
WITH_NAN = change("x", 7, "nan")

BAD = {  # raw log, changes of the config; what the error is about, and names and values in it
    "missing user": (LOG, {"user": "uidd"}, "config.user", "log.csv", "'uidd'", "'uid'"),
    "missing time": (LOG, {"time": "when"}, "config.time", "'when'", "at,"),
    "unparsable time": (
        change("at", 9, "noon"), {}, "config.time", "row 9 of log.csv", "'at'", "noon",
    ),
    "unparsable date": (
        change("at", 5, "2024-13-01", LOG.assign(at="2024-05-01")), {"time_unit": "iso"},
        "config.time", "row 5 of log.csv", "'2024-13-01'",
    ),
    "dates without their unit": (
        LOG.assign(at="2024-05-01"), {}, "config.time", "config.time_unit", "'iso'",
    ),
    "numbers, not dates": (LOG, {"time_unit": "iso"}, "config.time", "config.time_unit", "'s'"),
    "dates of another form": (
        LOG.assign(at="11.05.2024 19:07"), {"time_unit": "iso"}, "config.time", "2024-05-01T19:30",
    ),
    "time after 2100": (
        change("at", 3, 4_102_444_801), {}, "config.time", "row 3 of log.csv", "'at'", 4102444801,
    ),
    "time before 1902": (change("at", 3, -2_145_916_801), {}, "config.time", "row 3 of log.csv"),
    "huge time": (
        change("at", 3, 10**17, LOG.assign(at=START // DAY + LOG.serial)), {"time_unit": "day"},
        "config.time", "row 3 of log.csv", 10**17,
    ),
    "not a number": (change("at", 3, "nan"), {}, "config.time", "row 3 of log.csv", "no time"),
    "absent time": (
        change("at", 4, None), {}, "config.time", "row 4 of log.csv", "config.allow_missing_time",
    ),
    "no times at all": (LOG.assign(at=None), {"allow_missing_time": True}, "config.time"),
    "seconds as milliseconds": (
        LOG, {"time_unit": "ms"}, "config.time_unit", "'ms'", "1970", "'s'", "2023-11-14",
    ),
    "milliseconds as seconds": (
        LOG.assign(at=LOG["at"] * 1000), {},
        "config.time_unit", "'s'", "row 1 of log.csv", "'ms'", "2023-11-14",
    ),
    "label of 2": (LOG, {"tasks": {"like": "rating"}}, "config.tasks.like", "of log.csv"),
    "label of a half": (
        change("rating", 3, 0.5), {"tasks": {"like": "CASE WHEN rating < 1 THEN rating END"}},
        "config.tasks.like", "0.5", "row 3 of log.csv",
    ),
    "label of text": (LOG, {"tasks": {"like": "iid"}}, "config.tasks.like", "iid", "string"),
    "one class": (
        LOG, {"tasks": {"like": f"time < {START + 300}"}}, "config.tasks.like", "validation",
    ),
    "no labels": (
        LOG, {"tasks": {"like": f"CASE WHEN time < {START + 300} THEN rating > 2 END"}},
        "config.tasks.like", "validation",
    ),
    "nan": (WITH_NAN, {"dense": {"x": "x"}}, "config.dense.x", "row 7 of log.csv", "coalesce"),
    "nan that is computed": (
        LOG, {"actions": {"x": "x + CAST('nan' AS DOUBLE)"}}, "config.actions.x", "nan", "row 1",
    ),
    "infinite": (LOG, {"context": {"x": "1e300 * x"}}, "config.context.x", "e+"),
    "absent feature": (
        change("x", 7, None), {"dense": {"x": "x"}}, "config.dense.x", "row 7", "coalesce",
    ),
    "absent user": (change("uid", 8, None), {}, "config.user", "row 8 of log.csv", "'uid'"),
    "absent item": (change("iid", 8, None), {}, "config.item", "row 8 of log.csv", "'iid'"),
    "absent offset": (LOG, {"utc_offset": "nullif(tab, 1)"}, "config.utc_offset", "None"),
    "offset of a day": (LOG, {"utc_offset": "86400"}, "config.utc_offset", 86400, 64800),
    "unknown zone": (LOG, {"time_zone": "Europe/Berlim"}, "config.time_zone", "'Europe/Berlin'"),
    "not a zone": (LOG, {"time_zone": "JST"}, "config.time_zone", "'JST'"),
    "unknown column in SQL": (
        LOG, {"tasks": {"like": "ratng >= 4"}},
        "config.tasks.like", "'ratng'", "'ratng >= 4'", "'rating'",
    ),
    "not SQL": (LOG, {"dense": {"x": "x +* 2"}}, "config.dense.x", "'x +* 2'"),
    "two statements": (LOG, {"dense": {"x": "x; DROP TABLE log"}}, "config.dense.x"),
    "a query": (LOG, {"dense": {"x": "(SELECT 1)"}}, "config.dense.x", "(SELECT 1)"),
    "unknown function": (LOG, {"dense": {"x": "logg(x)"}}, "config.dense.x", "logg"),
    "an aggregate": (LOG, {"dense": {"x": "max(x)"}}, "config.dense.x", "OVER (...)"),
    "fails on some row": (
        LOG, {"dense": {"x": "x", "y": "CAST(iid AS INTEGER)"}}, "config.dense.y", "'i",
    ),
    "circle": (LOG, {"derived": {"a": "b + 1", "b": "a + 1"}}, "config.derived", "a, b"),
    "derived twice": (LOG, {"derived": {"X": "1"}}, "config.derived.X"),
    "one second": (LOG.assign(at=START), {}, "config.split"),
    "dates outside": (
        LOG, {"split": {"train_end": "2030-01-01", "validation_end": "2031-01-01"}},
        "config.split", "2030-01-01", "2023-11-14",
    ),
}  # fmt: skip


@pytest.mark.parametrize("group", ["actions", "ordinal", "regression"])
def test_a_label_that_is_no_number_is_none_and_not_zero(tmp_path, group):
    """Zeros in its place would be learned; without a label, nothing is."""
    values = {group: {"y": "x + CAST('nan' AS DOUBLE)"}}
    with pytest.raises(UserError, match="NULL") as caught:
        prepared(tmp_path, LOG, **values)
    assert "coalesce" not in caught.value.problem


@pytest.mark.parametrize(
    ("group", "expression"),
    [("dense", "x"), ("dense", "x + 1"), ("context", "coalesce(x, 0)"), ("tasks", "x > 0"),
     ("regression", "ln(x)"), ("derived", "serial * x")],
)  # fmt: skip
def test_the_value_for_which_a_column_of_numbers_is_text_is_named(tmp_path, group, expression):
    raw = change("x", 9, "many", change("x", 7, "n/a"))
    row = "row 7 of log.csv"
    with refused(f"config.{group}.y", "'x'", "'n/a'", row, "config.formats.*.missing"):
        prepared(tmp_path, raw, **{group: {"y": expression}})
    missing = {"any": {"missing": ("n/a", "many")}}
    prepared(tmp_path, raw, dense={"x": "coalesce(x, 0)"}, formats=missing)


def test_a_time_made_of_a_text_is_named(tmp_path):
    raw = change("at", 7, "n/a").assign(zero=0)
    with refused("config.time", "'n/a'", "row 7 of log.csv"):
        prepared(tmp_path, raw, time="at + zero")


@pytest.mark.parametrize("case", BAD)
def test_bad_values(tmp_path, case):
    raw, values, about, *named = BAD[case]
    with refused(about, *named):
        prepared(tmp_path, raw, **values)
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_timestamps_of_parquet_need_their_unit(tmp_path):
    raw = LOG.assign(at=pd.to_datetime(LOG["at"], unit="s"))
    with refused("config.time_unit", "'at'", "'iso'"):
        prepared(tmp_path, raw, "log.parquet")


TEXT = LOG.to_csv(index=False).encode()
FILES = {  # name, content; names and values in the error, which is about the file
    "truncated gzip": ("log.csv.gz", gzip.compress(TEXT)[:-9], "gzip -t"),
    "not gzip": ("log.csv.gz", TEXT, "gzip -t"),
    "nothing": ("log.csv", b""),
    "header only": ("log.csv", b"uid,iid,at,rating\n"),
    "short line": ("log.csv", TEXT + b"1,2\n", "302"),
    "not text": ("log.csv", TEXT + b"\xff\xfe,1,1,1,1,1,1\n", "line 302", "UTF-8"),
    "header is not text": ("log.csv", b"\xff\xfe,uid\n1,2\n", "UTF-16", "iconv"),
    "same column twice": ("log.csv", b"uid,iid,at,UID\n1,2,3,4\n", "'UID'"),
    "column without name": ("log.csv", b"uid,,at\n1,2,3\n", "column 2"),
    "not Parquet": ("log.parquet", TEXT, "Parquet"),
}


@pytest.mark.parametrize("case", FILES)
def test_bad_files(tmp_path, case):
    name, content, *named = FILES[case]
    (tmp_path / name).write_bytes(content)
    with refused(tmp_path / name, *named):
        prepare(config(), tmp_path / name, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_input_that_is_not_there_and_an_output_in_use(tmp_path):
    for path in (tmp_path / "nothing.csv", tmp_path):
        with refused(path):
            prepare(config(), path, tmp_path / "out")
    with refused(tmp_path):
        prepare(config(), write(tmp_path / "l.csv", LOG), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["l.csv"]
    with refused("config.formats", tmp_path / "l.csv", "*.dat"):
        prepare(config(formats={"d": {"pattern": "*.dat"}}), tmp_path / "l.csv", tmp_path / "out")


def test_files_of_different_columns(tmp_path):
    write(tmp_path / "a.csv", LOG)
    write(tmp_path / "b.csv", LOG.drop(columns="tab"))
    with refused(tmp_path / "b.csv", tmp_path / "a.csv"):
        prepare(config(), tmp_path / "*.csv", tmp_path / "out")
    write(tmp_path / "b.csv", LOG.assign(at=LOG["at"].where(LOG.serial != 6)))
    with refused("config.time", "row 7 of b.csv"):
        prepare(config(), tmp_path / "*.csv", tmp_path / "out")


@pytest.mark.parametrize(
    ("values", "about", "named"),
    [
        ({"user": ""}, "user", ""),
        ({"min_count": 0}, "min_count", 1),
        ({"tasks": {"a b": "1"}}, "tasks.a b", ""),
        ({"tasks": {"like": " "}}, "tasks.like", "SQL"),
        ({"categorical": {"item": "iid"}}, "categorical.item", ""),
        ({"derived": {"time": "1"}}, "derived.time", ""),
        ({"time_unit": "sec"}, "time_unit", "'sec'"),
        ({"utc_offset": "0", "time_zone": "UTC"}, "time_zone", "utc_offset"),
        ({"split": {"train_end": "2024-01-01"}}, "split.train_end", "validation_end"),
        ({"split": {"train_end": "May", "validation_end": "June"}}, "split.train_end", "'May'"),
        ({"split": {"train_fraction": 0.95}}, "split.train_fraction", "validation_fraction"),
        ({"split": {"validation_fraction": 0.0}}, "split.validation_fraction", 0),
        ({"time_origin": "May"}, "time_origin", "'May'"),
        ({"time_unit": "iso", "time_origin": "2024-05-01"}, "time_origin", "'iso'"),
        ({"memory_gb": 0.0}, "memory_gb", 0),
        ({"threads": -1}, "threads", 0),
        ({"ordinal": {"user": "rating"}}, "ordinal.user", "utc_offset"),
        ({"tasks": {"TIME": "rating > 3"}}, "tasks.TIME", "time"),
        ({"ordinal": {"like_score": "rating"}}, "ordinal.like_score", "'like'"),
    ],
)
def test_bad_configs(values, about, named):
    with refused(f"config.{about}", named):
        config(**values)


def test_an_unknown_key_is_named():
    whole = config_dict(name="n", user="u", item="i", time="t")
    with whole.unlocked():
        whole.tasksk = "x"
    with refused("config.tasksk", "'tasks'"):
        PrepareConfig.load(whole)
    with refused("config.usr", "'user'"):
        config_dict(usr="u")


SCRIPT = {
    "missing column": (["--config.user=uidd"], "config.user", "'uid'"),
    "wrong unit": (["--config.time_unit=ms"], "config.time_unit", "'s'"),
    "unknown key": (["--config.usr=uid"], "config.usr", "'user'"),
    "no input": (["--input=nothing.csv"], "nothing.csv", ""),
    "no item": (["--config.item="], "config.item", ""),
}


@pytest.mark.parametrize("case", SCRIPT)
def test_the_script_says_it_in_one_line(tmp_path, case):
    flags, about, named = SCRIPT[case]
    path = write(tmp_path / "log.csv", LOG)
    flags = table_flags(path, tmp_path / "out", "--config.tasks=like=rating>=4", *flags)
    line = complaint("prepare", *flags)
    assert line.startswith(f"{about}: ") and named in line
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]
