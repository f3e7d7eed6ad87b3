"""Whatever the input is: an error of one line about the right thing, status 2, nothing written.

Every case is a command line beside a few files. Its script runs in this process, in a folder of its
own, which must hold afterwards what it held before.
"""

import gzip
import io
import json
import os
import runpy
import socket
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from siren_rope_jax.base.times import DAY
from tests.made_up import make_log
from tests.raw_logs import SMALL, START
from tests.scripts import ROOT, complaint, run

SECONDS = 20
"""Longer than any case takes, and short enough that nobody takes it for a hang."""

Content = bytes | Callable[[Path], object]
"""What a file holds, or how it is made."""


class Case(NamedTuple):
    """A command line and the files beside it; what the error is about, and a word in it."""

    script: str
    flags: tuple[str, ...]
    files: Mapping[str, Content]
    about: str
    named: str


# A small log


def table(rows: int = 60) -> dict[str, list[Any]]:
    """Its columns."""
    return {
        "uid": [row % 5 for row in range(rows)],
        "iid": [f"i{row * 7 % 11}" for row in range(rows)],
        "at": [START + 500 * row for row in range(rows)],
        "rating": [1 + row % 5 for row in range(rows)],
        "x": [row / 4 for row in range(rows)],
    }


def csv(delimiter: str = ",", rows: int = 60, **columns: Callable[[int], object]) -> bytes:
    """The log as text, with new values of some columns, by the number of the row from 0."""
    values = table(rows) | {n: [of(row) for row in range(rows)] for n, of in columns.items()}
    lines = [values, *zip(*values.values(), strict=True)]
    return "".join(delimiter.join(map(str, line)) + "\n" for line in lines).encode()


def cell(column: str, value: object, row: int = 7) -> bytes:
    """The log with one other value, in a row counted from 1."""
    old = table()[column]
    new: dict[str, Any] = {column: lambda n: value if n == row - 1 else old[n]}
    return csv(**new)


def dates(text: Callable[[int], str] | str) -> bytes:
    """The log with its times as text; a text alone is the time in row 7 among good ones."""
    if isinstance(text, str):
        one = text
        return csv(at=lambda row: one if row == 6 else f"2024-05-01T08:{row:02d}:00Z")
    return csv(at=text)


def parquet(**columns: Any) -> bytes:
    """The log as Parquet, with new columns."""
    return parquet_of(table() | columns)


def parquet_of(columns: Mapping[str, Any] | pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(dict(columns)), file)
    return file.getvalue()


def parquet_twice() -> bytes:
    names = ["uid", "iid", "at", "uid"]
    return parquet_of(pa.table([pa.array([1, 2])] * 4, names=names))


def array(values: Any, **how: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, values, **how)
    return file.getvalue()


def zipped(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


def archive_of_arrays() -> bytes:
    file = io.BytesIO()
    np.savez(file, np.zeros((3, 3), int))
    return file.getvalue()


def json_lines(*lines: str) -> bytes:
    """A few good lines and these."""
    rows = zip(*table(20).values(), strict=True)
    good = [json.dumps(dict(zip(table(), row, strict=True))) for row in rows]
    return ("\n".join([*good, *lines]) + "\n").encode()


def link_to(target: str) -> Content:
    return lambda path: path.symlink_to(target)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def a_folder(path: Path) -> None:
    path.mkdir()


def unreadable(path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    path.write_bytes(LOG)
    path.chmod(0)


LOG = csv()
GZIPPED = gzip.compress(LOG)
PARQUET = parquet()
NUMBERS = "--config.formats.any.columns=('uid', 'iid', 'at')"
JSONL = ("--config.formats.any.kind=jsonl", NUMBERS)
DICTS = ("--config.formats.any.kind=python_dicts", NUMBERS)
SEQUENCES = ("--config.formats.any.kind=sequences", NUMBERS,
             "--config.formats.any.companion=('_item_', '_time_')")  # fmt: skip
GOOD_DICT = b"{'uid': 1, 'iid': 'a', 'at': 1700000000}\n"
GOOD_JSON = '{"uid": 1, "iid": "a", "at": 1700000000}'


def prepare(
    about: str, named: object, *flags: str, files: Mapping[str, Content], **keys: object
) -> Case:
    """A log prepared with configs/data/table.py; the input is the first file unless flags say."""
    config = f"--config={ROOT}/configs/data/table.py"
    values = SMALL | keys
    given = [f"--config.{key.replace('__', '.')}={value}" for key, value in values.items()]
    paths = ["--output=out", f"--input={next(iter(files), 'log.csv')}"]
    return Case("prepare", (config, *paths, *given, *flags), files, about, str(named))


def of_file(name: str, content: Content, named: object, *flags: str, about: str = "") -> Case:
    """A file that cannot be read."""
    return prepare(about or name, named, *flags, files={name: content})


PATHS = {
    "no file": prepare("nothing.csv", "no such file", "--input=nothing.csv", files={}),
    "empty path": prepare("--input", "", "--input=", files={}),
    "standard input": prepare("-", "no such file", "--input=-", files={}),
    "folder": of_file("folder", a_folder, "/*.csv"),
    "here": prepare(".", "folder", "--input=.", files={"log.csv": LOG}),
    "pipe": of_file("log.csv", os.mkfifo, "pipe"),
    "socket": of_file("log.csv", a_socket, "socket"),
    "zeros without end": prepare("/dev/zero", "device", "--input=/dev/zero", files={}),
    "the null device": prepare("/dev/null", "device", "--input=/dev/null", files={}),
    "unreadable": of_file("log.csv", unreadable, "denied"),
    "dangling link": of_file("log.csv", link_to("gone.csv"), "No such file"),
    "link loop": of_file("log.csv", link_to("log.csv"), "symbolic links"),
    "name too long": prepare("x" * 300, "too long", f"--input={'x' * 300}", files={}),
    "NUL in a name": prepare("--input", "NUL", "--input=a\0b.csv", files={}),
    "below a file": prepare("log.csv/a", "", "--input=log.csv/a", files={"log.csv": LOG}),
    "glob without files": prepare("*.tsv", "no such", "--input=*.tsv", files={"log.csv": LOG}),
    "glob of folders": prepare("a.d", "folder", "--input=*.d", files={"a.d": a_folder}),
    "glob of all": prepare("a", "folder", "--input=**", files={"a": a_folder, "b.csv": LOG}),
    "nobody's home": prepare("~nobody_x/a.csv", "home", "--input=~nobody_x/a.csv", files={}),
    "bucket": prepare("--input", "gs://b/a.csv", "--input=gs://b/a.csv", files={}),
    "another bucket": prepare("--input", "s3://b/*.csv", "--input=s3://b/*.csv", files={}),
    "web page": prepare("--input", "https://h/a.csv", "--input=https://h/a.csv", files={}),
}

TEXTS = {
    "nothing": of_file("log.csv", b"", "header"),
    "header only": of_file("log.csv", b"uid,iid,at\n", "empty"),
    "blank lines only": of_file("log.csv", b"\n\r\n\n", "header"),
    "mark of UTF-8 only": of_file("log.csv", b"\xef\xbb\xbf", "header"),
    "blank line first": of_file("log.csv", b"\n" + LOG, "header"),
    "picture": of_file("log.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "UTF-8"),
    "zip archive": of_file("log.csv", zipped("log.csv", LOG), "zip"),
    "web page": of_file(
        "log.csv", b"<!DOCTYPE html>\n<html><body>404</body></html>\n", "<!DOCTYPE html>",
        about="config.user",
    ),
    "JSON as text": of_file("log.csv", json_lines(), "quote=''"),
    "UTF-16": of_file("log.csv", LOG.decode().encode("utf-16"), "iconv"),
    "UTF-16 without its mark": of_file("log.csv", LOG.decode().encode("utf-16-le"), "NUL"),
    "UTF-32": of_file("log.csv", LOG.decode().encode("utf-32"), "UTF-32"),
    "Latin-1": of_file("log.csv", cell("iid", "M\u00fcller").decode().encode("latin1"), "line 8"),
    "Latin-1 header": of_file("log.csv", "uid,iid,at,Pr\u00fcfung\n".encode("latin1"), "line 1"),
    "NUL": of_file("log.csv", cell("iid", "a\0b"), "line 8"),
    "cut off in a character": of_file("log.csv", LOG + b"1,i2,1700030000,1,\xc3", "cut off"),
    "lines of CR with a bad time": of_file(
        "log.csv", cell("at", "noon").replace(b"\n", b"\r"), "row 7", about="config.time"
    ),
    "lone CR": of_file("log.csv", cell("iid", "a\rb"), "newlines"),
    "short line": of_file("log.csv", LOG + b"1,2\n", "5"),
    "long line": of_file("log.csv", LOG + b"1,i2,1700030000,1,1,1\n", "5"),
    "cut off": of_file("log.csv", LOG[:-20], "5"),
    "quote that stays open": of_file("log.csv", cell("iid", '"a'), "quote"),
    "text after a quote": of_file("log.csv", cell("iid", '"a"b'), "quote"),
    "quotes that swallow rows": of_file(
        "log.csv", cell("iid", '"a').replace(b"i9,", b'i9",'), "quot"
    ),
    "open quote in the header": of_file("log.csv", b'uid,"iid,at\n1,2,3\n', "header"),
    "header of 2 MB": of_file("log.csv", b"x" * (2 << 20), "first line"),
    "name of 200 kB": of_file("log.csv", b"x" * 200_000 + b",iid\n1,2\n", "header"),
    "field of 3 MB": of_file("log.csv", lambda path: path.write_bytes(cell("iid", "x" * 3_000_000)),
                             "line"),
    "column twice": of_file("log.csv", b"uid,iid,at,at\n1,2,3,4\n", "'at'"),
    "column twice but for case": of_file("log.csv", b"uid,iid,at,UID\n1,2,3,4\n", "'UID'"),
    "column without a name": of_file("log.csv", b"uid,,at\n1,2,3\n", "column 2"),
    "line ends in a comma": of_file("log.csv", b"uid,iid,at,\n1,2,3,\n", "column 4"),
    "one of our columns": of_file("log.csv", b"uid,siren_rope_jax x\n1,2\n", "siren_rope_jax x"),
    "header of empty names": of_file("log.csv", b",,,\n1,2,3,4\n", "no name"),
    "tabs": of_file("log.csv", csv("\t"), r"--config.formats.any.delimiter='\t'"),
    "tabs, and commas in the fields": of_file(
        "log.csv", csv("\t", iid=lambda row: f"{row},b"), r"delimiter='\t'"
    ),
    "semicolons": of_file("log.csv", csv(";"), "delimiter=';'"),
    "commas in a .tsv": of_file("log.tsv", LOG, "delimiter=','"),
    "a delimiter that is not there": of_file(
        "log.csv", LOG, "uid,iid", "--config.formats.any.delimiter=|", about="config.user"
    ),
    "fewer columns than fields": of_file("log.csv", LOG, "3", NUMBERS),
    "column renamed to another": of_file(
        "log.csv", LOG, "'uid'", "--config.formats.any.rename={'rating': 'uid'}"
    ),
    "no format": of_file(
        "log.csv", LOG, "*.dat", "--config.formats.any.pattern=*.dat", about="config.formats"
    ),
    "column in no folder": of_file(
        "log.csv", LOG, "day", "--config.formats.any.folders=('day',)"
    ),
    "quotes of another kind": of_file(
        "log.csv", cell("iid", "'a,b'"), "5"
    ),
    "truncated gzip": of_file("log.csv.gz", GZIPPED[:-9], "gzip -t"),
    "gzip cut in two": of_file("log.csv.gz", GZIPPED[: len(GZIPPED) // 2], "gzip -t"),
    "not gzip": of_file("log.csv.gz", LOG, "gzip -t"),
    "garbage after gzip": of_file("log.csv.gz", GZIPPED + b"garbage", "gzip -t"),
    "second part of gzip cut": of_file("log.csv.gz", GZIPPED + GZIPPED[:-9], "gzip -t"),
    "damaged gzip": of_file(
        "log.csv.gz", GZIPPED[:40] + bytes(8) + GZIPPED[48:], "gzip -t"
    ),
    "nothing in gzip": of_file("log.csv.gz", gzip.compress(b""), "header"),
    "empty gzip file": of_file("log.csv.gz", b"", "header"),
    "gzipped twice": of_file("log.csv.gz", gzip.compress(GZIPPED), "is gzip"),
    "gzip without its name": of_file("log.csv", GZIPPED, "gzip"),
    "a second file of other columns": prepare(
        "b.csv", "a.csv", "--input=*.csv", files={"a.csv": LOG, "b.csv": b"uid,iid\n1,2\n"}
    ),
    "a second file that is damaged": prepare(
        "b.csv", "line 3", "--input=*.csv",
        files={"a.csv": LOG, "b.csv": LOG.replace(b"i7", b"\xff")},
    ),
    "a second file with a short line": prepare(
        "b.csv", "5", "--input=*.csv", files={"a.csv": LOG, "b.csv": LOG + b"1,2\n"}
    ),
    "a second file with a bad time": prepare(
        "config.time", "row 7 of b.csv", "--input=*.csv",
        files={"a.csv": LOG, "b.csv": cell("at", "")},
    ),
}  # fmt: skip


def nested(kind: pa.DataType, value: Any, rows: int = 60) -> pa.Array:
    return pa.array([value] * rows, kind)


def of_parquet(about: str, named: object, **columns: Any) -> Case:
    """A Parquet file with a column that cannot be."""
    keys = {key: columns.pop(key) for key in ("time_unit",) if key in columns}
    return prepare(about, named, files={"log.parquet": parquet(**columns)}, **keys)


STRUCT = pa.struct({"a": pa.int64()})
PARQUETS = {
    "not Parquet": of_file("log.parquet", LOG, "Parquet"),
    "nothing": of_file("log.parquet", b"", "Parquet"),
    "truncated": of_file("log.parquet", PARQUET[:-100], "Parquet"),
    "without its end": of_file("log.parquet", PARQUET[:-4], "Parquet"),
    "damaged footer": of_file(
        "log.parquet", PARQUET[:-200] + bytes(100) + PARQUET[-100:], "Parquet"
    ),
    "length of the footer": of_file(
        "log.parquet", PARQUET[:-8] + b"\xff\xff\xff\x7f" + PARQUET[-4:], "Parquet"
    ),
    "damaged page": of_file("log.parquet", PARQUET[:4] + bytes(200) + PARQUET[204:], "read"),
    "no rows": of_file("log.parquet", parquet_of(pa.table(table()).slice(0, 0)), "empty"),
    "no columns": of_file("log.parquet", parquet_of(pa.table({})), "column"),
    "column twice": of_file("log.parquet", parquet_twice(), "'uid'"),
    "time of a struct": of_parquet("config.time", "struct", at=nested(STRUCT, {"a": START})),
    "time of a list": of_parquet("config.time", "array", at=nested(pa.list_(pa.int64()), [START])),
    "time of the day": of_parquet("config.time", "time", at=nested(pa.time64("us"), 1)),
    "time of a boolean": of_parquet("config.time", "boolean", at=nested(pa.bool_(), True)),
    "time of bytes": of_parquet("config.time", "binary", at=nested(pa.binary(), b"1700000000")),
    "time of a map": of_parquet(
        "config.time", "map", at=nested(pa.map_(pa.string(), pa.int64()), [("a", 1)])
    ),
    "time of nothing": of_parquet("config.time", "no time", at=nested(pa.null(), None)),
    "dates without their unit": of_parquet("config.time_unit", "iso", at=nested(pa.date32(), 9)),
    "dates before 1902": of_parquet(
        "config.time", "row 1", at=nested(pa.date32(), date(1800, 1, 1)), time_unit="iso"
    ),
    "times with a few zeros": of_parquet(
        "config.time", "row 60", time_unit="iso",
        at=pa.array([*(1_700_000_000_000 + n for n in range(59)), 0], pa.timestamp("ms")),
    ),
    "doubles for times, one not a number": of_parquet(
        "config.time", "row 1", at=[float("nan"), *map(float, table()["at"][1:])]
    ),
    "doubles for times, one infinite": of_parquet(
        "config.time", "row 1", at=[float("inf"), *map(float, table()["at"][1:])]
    ),
    "user of a struct": of_parquet("config.user", "struct", uid=nested(STRUCT, {"a": 1})),
    "user of a list": of_parquet("config.user", "array", uid=nested(pa.list_(pa.int64()), [1])),
    "user of bytes": of_parquet("config.user", "binary", uid=nested(pa.binary(), b"a")),
    "user of a time": of_parquet("config.user", "time", uid=nested(pa.time64("us"), 1)),
    "user missing": of_parquet("config.user", "row 60", uid=[*table()["uid"][:-1], None]),
    "user not a number": of_parquet("config.user", "row 1", uid=[float("nan"), *[1.0] * 59]),
    "user infinite": of_parquet("log.parquet", "'uid'", uid=[float("inf"), *[1.0] * 59]),
    "no user at all": of_parquet("config.user", "row 1", uid=nested(pa.null(), None)),
    "user of 1e300": of_parquet("log.parquet", "'uid'", uid=[1e300] * 60),
    "user beyond 2^53": of_parquet("log.parquet", "'uid'", uid=[2.0**53 + 2] * 60),
    "item of a struct": of_parquet("config.item", "struct", iid=nested(STRUCT, {"a": 1})),
    "item empty": of_parquet("config.item", "row 2", iid=["a", "", *["b"] * 58]),
    "types that have nothing in common": prepare(
        "b.parquet", "'iid'", "--input=*.parquet",
        files={"a.parquet": PARQUET, "b.parquet": parquet(iid=nested(STRUCT, {"a": 1}))},
    ),
    "lists of other values": prepare(
        "a.parquet", "'iid'", "--input=*.parquet",
        files={"a.parquet": parquet(iid=nested(pa.list_(pa.int64()), [1])),
               "b.parquet": parquet(iid=nested(pa.list_(pa.string()), ["a"]))},
    ),
    "parts with other columns": prepare(
        "b.parquet", "a.parquet", "--input=*.parquet",
        files={"a.parquet": PARQUET, "b.parquet": parquet(extra=[1] * 60)},
    ),
    "text and Parquet": prepare(
        "b.parquet", "a.csv", "--input=?.*", files={"a.csv": b"uid,iid,at\n1,2,3\n",
                                                    "b.parquet": PARQUET},
    ),
}  # fmt: skip

OTHERS = {
    "JSON array": of_file("log.json", b'[{"uid": 1}]\n', "jsonl", about="config.formats"),
    "JSON lines without their keys": of_file(
        "log.jsonl", json_lines(), "'uid'", about="config.formats"
    ),
    "JSON array as lines": of_file("log.json", f"[{GOOD_JSON}]\n".encode(), "JSON", *JSONL),
    "line that is not JSON": of_file("log.jsonl", json_lines("{nonsense"), "line 21", NUMBERS),
    "JSON line cut off": of_file("log.jsonl", json_lines()[:-9], "line 20", NUMBERS),
    "JSON line of a list": of_file("log.jsonl", json_lines("[1, 2, 3]"), "21", NUMBERS),
    "JSON line of a number": of_file("log.jsonl", json_lines("17"), "21", NUMBERS),
    "JSON line of a text": of_file("log.jsonl", json_lines('"a"'), "21", NUMBERS),
    "JSON line of null": of_file("log.jsonl", json_lines("null"), "line 21", NUMBERS),
    "deeply nested JSON": of_file(
        "log.jsonl", json_lines('{"at": ' + "[" * 100_000 + "]" * 100_000 + "}"), "line 21", NUMBERS
    ),
    "deeply nested JSON that stays open": of_file(
        "log.jsonl", json_lines('{"at": ' + "[" * 100_000), "line 21", NUMBERS
    ),
    "JSON key twice": of_file(
        "log.jsonl", json_lines('{"uid": 1, "uid": 2, "iid": 1, "at": 3}'), "uid", NUMBERS
    ),
    "JSON over several lines": of_file(
        "log.jsonl", json.dumps(json.loads(GOOD_JSON), indent=1).encode(), "JSON", NUMBERS
    ),
    "two JSON objects in a line": of_file(
        "log.jsonl", json_lines(GOOD_JSON + GOOD_JSON), "line 21", NUMBERS
    ),
    "single quotes in JSON": of_file("log.jsonl", GOOD_DICT, "line 1", NUMBERS),
    "JSON that is not UTF-8": of_file(
        "log.jsonl", json_lines() + b'{"uid": "\xff"}', "line 21", NUMBERS
    ),
    "JSON as UTF-16": of_file(
        "log.jsonl", json_lines().decode().encode("utf-16"), "iconv", NUMBERS
    ),
    "a second file that is not JSON": prepare(
        "b.jsonl", "line 21", NUMBERS, "--input=*.jsonl",
        files={"a.jsonl": json_lines(), "b.jsonl": json_lines("{nonsense")},
    ),
    "no JSON": of_file("log.jsonl", b"", "empty", NUMBERS),
    "JSON keys that are not there": prepare(
        "config.user", "row 1", "--config.formats.any.columns=('a', 'iid', 'at')",
        files={"log.jsonl": json_lines()}, user="a",
    ),
    "JSON time of an object": of_file(
        "log.jsonl", json_lines('{"uid": 1, "iid": 2, "at": {"a": 1}}'), "row 21", NUMBERS,
        about="config.time",
    ),
    "JSON in gzip cut off": of_file(
        "log.jsonl.gz", gzip.compress(json_lines())[:-9], "gzip -t", NUMBERS
    ),
    "array without its columns": of_file(
        "log.npy", array(np.zeros((3, 3), int)), "npy", about="config.formats"
    ),
    "array of objects": of_file(
        "log.npy", array(np.array([[1, 2, "a"]], object), allow_pickle=True), "npy", NUMBERS
    ),
    "array of floats": of_file("log.npy", array(np.zeros((3, 3))), "float64", NUMBERS),
    "array of large integers": of_file(
        "log.npy", array(np.zeros((3, 3), np.uint64)), "uint64", NUMBERS
    ),
    "array of booleans": of_file("log.npy", array(np.zeros((3, 3), bool)), "bool", NUMBERS),
    "array of texts": of_file("log.npy", array(np.full((3, 3), "a")), "U1", NUMBERS),
    "array of times": of_file(
        "log.npy", array(np.zeros((3, 3), "datetime64[s]")), "datetime64", NUMBERS
    ),
    "array of records": of_file(
        "log.npy", array(np.zeros(3, [("a", int), ("b", int)])), "'uid'", NUMBERS
    ),
    "array of one dimension": of_file("log.npy", array(np.zeros(9, int)), "(9,)", NUMBERS),
    "array of three dimensions": of_file(
        "log.npy", array(np.zeros((3, 3, 3), int)), "(3, 3, 3)", NUMBERS
    ),
    "array of no dimension": of_file("log.npy", array(np.int64(1)), "()", NUMBERS),
    "array of other columns": of_file("log.npy", array(np.zeros((3, 4), int)), "(3, 4)", NUMBERS),
    "array of no rows": of_file("log.npy", array(np.zeros((0, 3), int)), "empty", NUMBERS),
    "array cut off": of_file("log.npy", array(np.zeros((9, 3), int))[:-8], "npy", NUMBERS),
    "empty array file": of_file("log.npy", b"", "npy", NUMBERS),
    "text as array": of_file("log.npy", LOG, "npy", NUMBERS),
    "several arrays": of_file("log.npy", archive_of_arrays(), "(1,)", NUMBERS),
    "array header of nonsense": of_file("log.npy", b"\x93NUMPY\x01\0\x10\0{'descr': nonsen\n",
                                        "npy", NUMBERS),
    "array header of 10^18 rows": of_file(
        "log.npy",
        array(np.zeros((3, 3), int)).replace(b"(3, 3), }" + b" " * 17,
                                             b"(1" + b"0" * 18 + b", 3), }"),
        "npy", NUMBERS,
    ),
    "dict of code": of_file("log.txt", GOOD_DICT + b"{'uid': open('made', 'w')}\n", "2", *DICTS),
    "dict line of a list": of_file("log.txt", GOOD_DICT + b"[1]\n", "list", *DICTS),
    "dict line that stays open": of_file("log.txt", GOOD_DICT + b"{'uid': 1\n", "line 2", *DICTS),
    "dict line of JSON": of_file("log.txt", GOOD_DICT + b"{'uid': true}\n", "line 2", *DICTS),
    "dicts nested deeply": of_file("log.txt", b"{'uid': " + b"[" * 9_999 + b"\n", "1", *DICTS),
    "dict with lists as keys": of_file("log.txt", b"{[1]: 2}\n", "line 1", *DICTS),
    "dict of 5,000 digits": of_file("log.txt", b"{'uid': " + b"9" * 5_000 + b"}\n", "1", *DICTS),
    "dict that is not UTF-8": of_file("log.txt", GOOD_DICT + b"{'uid': '\xff'}", "2", *DICTS),
    "dict with NUL": of_file("log.txt", GOOD_DICT + b"{'uid': '\0'}\n", "line 2", *DICTS),
    "no dicts": of_file("log.txt", b"\n\n", "empty", *DICTS),
    "sequences without their times": of_file(
        "a_item_.txt", b"1 2 3\n", "a_item_.txt", *SEQUENCES, about="a_time_.txt"
    ),
    "sequences of another name": of_file("a.txt", b"1 2 3\n", "_item_", *SEQUENCES),
    "sequences of other lengths": prepare(
        "a_item_.txt", "line 2", *SEQUENCES,
        files={"a_item_.txt": b"1 2\n2 3 4\n", "a_time_.txt": b"1 5\n2 6\n"},
    ),
    "sequences of other users": prepare(
        "a_item_.txt", "'3'", *SEQUENCES,
        files={"a_item_.txt": b"1 2\n2 3\n", "a_time_.txt": b"1 5\n3 6\n"},
    ),
    "more sequences than times": prepare(
        "a_item_.txt", "line 2", *SEQUENCES,
        files={"a_item_.txt": b"1 2\n2 3\n", "a_time_.txt": b"1 5\n"},
    ),
    "sequences with a blank line": prepare(
        "a_item_.txt", "line 2", *SEQUENCES,
        files={"a_item_.txt": b"1 2\n\n2 3\n", "a_time_.txt": b"1 5\n2 6\n\n"},
    ),
    "sequences without items": prepare(
        "a_item_.txt", "empty", *SEQUENCES,
        files={"a_item_.txt": b"1\n2\n", "a_time_.txt": b"1\n2\n"},
    ),
    "sequences whose times are a folder": prepare(
        "a_time_.txt", "folder", *SEQUENCES,
        files={"a_item_.txt": b"1 2\n", "a_time_.txt": a_folder},
    ),
    "sequences whose times are a pipe": prepare(
        "a_time_.txt", "pipe", *SEQUENCES,
        files={"a_item_.txt": b"1 2\n", "a_time_.txt": os.mkfifo},
    ),
    "sequences with a bad time": prepare(
        "config.time", "noon", *SEQUENCES,
        files={"a_item_.txt": b"1 2\n", "a_time_.txt": b"1 noon\n"},
    ),
}  # fmt: skip


def of_time(about: str, named: object, content: bytes, **keys: object) -> Case:
    """Times that cannot be."""
    return prepare(f"config.{about}", named, files={"log.csv": content}, **keys)


def scaled(factor: float) -> bytes:
    """The log with all times multiplied."""
    return csv(at=lambda row: int(table()["at"][row] * factor))


def written(form: str, rows: int = 60) -> bytes:
    """The log with days for times, written in this form."""
    first = datetime(2024, 2, 1, tzinfo=UTC)
    return csv(at=lambda row: (first + timedelta(row)).strftime(form))


SOON = int(time.time()) + 30 * DAY
ISO = {"time_unit": "iso"}
TIMES = {
    "ms as s": of_time("time_unit", "'ms'", scaled(1e3)),
    "us as s": of_time("time_unit", "'us'", scaled(1e6)),
    "ns as s": of_time("time_unit", "'ns'", scaled(1e9)),
    "s as ms": of_time("time_unit", "'s'", LOG, time_unit="ms"),
    "s as us": of_time("time_unit", "'s'", LOG, time_unit="us"),
    "s as ns": of_time("time_unit", "'s'", LOG, time_unit="ns"),
    "us as ms": of_time("time_unit", "'us'", scaled(1e6), time_unit="ms"),
    "ms as ns": of_time("time_unit", "'ms'", scaled(1e3), time_unit="ns"),
    "s as min": of_time("time_unit", "'s'", LOG, time_unit="min"),
    "s as h": of_time("time_unit", "'s'", LOG, time_unit="h"),
    "s as days": of_time("time_unit", "'s'", LOG, time_unit="day"),
    "days as s": of_time("time_unit", "'day'", csv(at=lambda row: 19_700 + row)),
    "min as s": of_time("time_unit", "'min'", csv(at=lambda row: START // 60 + row)),
    "yyyymmdd": of_time("time_unit", "'%Y%m%d'", written("%Y%m%d")),
    "yyyymmddhhmmss": of_time("time_unit", "%H%M%S", written("%Y%m%d%H%M%S")),
    "yyyymmddhhmm": of_time("time_unit", "%H%M'", written("%Y%m%d%H%M")),
    "yyyymmddhhmmss as ms": of_time("time_unit", "%S", written("%Y%m%d%H%M%S"), time_unit="ms"),
    "yyyymm": of_time("time_unit", "%Y%m", csv(at=lambda row: f"2024{1 + row % 12:02d}")),
    "days of Excel": of_time("time", "2", csv(at=lambda row: 45_300 + row), time_unit="day"),
    "a zero among others": of_time("time", "row 7", cell("at", 0)),
    "-1 among others": of_time("time", "row 7", cell("at", -1)),
    "one in ms among others": of_time("time", "row 7", cell("at", START * 1000)),
    "half of them in ms": of_time(
        "time", "row 2", csv(at=lambda row: (START + row) * (1000 if row % 2 else 1))
    ),
    "not a number": of_time("time", "row 7", cell("at", "nan")),
    "infinite": of_time("time", "row 7", cell("at", "inf")),
    "minus infinity": of_time("time", "row 7", cell("at", "-inf")),
    "1e300": of_time("time", "row 7", cell("at", "1e300")),
    "60 digits": of_time("time", "row 7", cell("at", "9" * 60)),
    "-10^18": of_time("time", "row 7", cell("at", -(10**18))),
    "after 2100": of_time("time", "row 7", cell("at", 4_102_444_801)),
    "before 1902": of_time("time", "row 7", cell("at", -2_145_916_801)),
    "most still to come": of_time("time", "come", csv(at=lambda row: SOON + row)),
    "text among numbers": of_time("time", "noon", cell("at", "noon")),
    "hexadecimal": of_time("time", "0x", cell("at", hex(START))),
    "digits in groups": of_time("time", "1,700,000,000", cell("at", '"1,700,000,000"')),
    "a unit beside the number": of_time("time", "1700000000s", cell("at", "1700000000s")),
    "a missing one": of_time("time", "allow_missing_time", cell("at", "")),
    "NULL": of_time("time", "allow_missing_time", cell("at", "NULL")),
    "all missing": of_time("time", "'at'", csv(at=lambda row: ""), allow_missing_time=True),
    "true and false": of_time("time", "boolean", csv(at=lambda row: row % 2 == 0)),
    "texts of true and false": of_time("time", "boolean", csv(at=lambda row: "true")),
    "dates without their unit": of_time("time", "'iso'", written("%Y-%m-%d")),
    "numbers as dates": of_time("time", "time_unit", LOG, **ISO),
    "Summer Time": of_time("time", "BST", dates("2024-05-01 08:00:00 BST"), **ISO),
    "China or Central": of_time("time", "CST", dates("2024-05-01 08:00:00 CST"), **ISO),
    "Eastern": of_time("time", "EST", dates("2024-05-01 08:00:00 EST"), **ISO),
    "India, Israel or Ireland": of_time("time", "IST", dates("2024-05-01T08:00:00 IST"), **ISO),
    "a zone that is none": of_time(
        "time", "Mars/Olympus", dates("2024-05-01 08:00:00 Mars/Olympus"), **ISO
    ),
    "month 13": of_time("time", "2024-13-01", dates("2024-13-01"), **ISO),
    "30 February": of_time("time", "2024-02-30", dates("2024-02-30"), **ISO),
    "29 February of no leap year": of_time("time", "2023-02-29", dates("2023-02-29"), **ISO),
    "day 0": of_time("time", "2024-05-00", dates("2024-05-00"), **ISO),
    "hour 25": of_time("time", "25:00", dates("2024-05-01T25:00"), **ISO),
    "minute 61": of_time("time", "08:61", dates("2024-05-01T08:61"), **ISO),
    "second 61": of_time("time", "08:00:61", dates("2024-05-01T08:00:61"), **ISO),
    "days first": of_time("time", "13/05/2024", dates("13/05/2024"), **ISO),
    "months first": of_time("time", "strptime", written("%m/%d/%Y"), **ISO),
    "two digits of the year": of_time("time", "24-05-01", dates("24-05-01"), **ISO),
    "AM and PM": of_time("time", "8:00 PM", dates("2024-05-01 8:00 PM"), **ISO),
    "names of months": of_time("time", "May", dates("1 May 2024"), **ISO),
    "an e-mail's date": of_time("time", "Wed", dates('"Wed, 01 May 2024 08:00:00 +0000"'), **ISO),
    "a week": of_time("time", "2024-W05", dates("2024-W05"), **ISO),
    "a month": of_time("time", "2024-05", dates("2024-05"), **ISO),
    "infinity": of_time("time", "infinity", dates("infinity"), **ISO),
    "epoch": of_time("time", "epoch", dates("epoch"), **ISO),
    "today": of_time("time", "today", dates("today"), **ISO),
    "the year 0": of_time("time", "0000", dates("0000-01-01"), **ISO),
    "the year 1": of_time("time", "0001-01-01", dates("0001-01-01"), **ISO),
    "the year 9999": of_time("time", "9999-12-31", dates("9999-12-31"), **ISO),
    "the year 12024": of_time("time", "12024-05-01", dates("12024-05-01"), **ISO),
    "25 hours from UTC": of_time("time", "+25:00", dates("2024-05-01T08:00:00+25:00"), **ISO),
    "an offset and a zone": of_time("time", "Z+02", dates("2024-05-01T08:00:00Z+02:00"), **ISO),
    "a date and more": of_time("time", "about", dates("2024-05-01 or about"), **ISO),
    "earliest violated": of_time("earliest", "row 1", LOG, earliest="2024-01-01"),
    "latest violated": of_time("latest", "row 1", LOG, latest="2020-01-01"),
    "earliest is no date": of_time("earliest", "May", LOG, earliest="May"),
    "latest is no date": of_time("latest", "2024-02-30", LOG, latest="2024-02-30"),
    "earliest after latest": of_time("earliest", "row 1", LOG, latest="2000-01-01",
                                     earliest="2050-12-31"),
    "latest is the year 1": of_time("latest", "0001-01-01", LOG, latest="0001-01-01"),
    "origin is no date": of_time("time_origin", "May", LOG, time_origin="May"),
    "origin beside dates": of_time("time_origin", "iso", LOG, time_origin="2024-01-01", **ISO),
    "origin too late": of_time("time", "2090", LOG, time_origin="2090-01-01"),
    "origin in the year 1": of_time("time_origin", "0001", LOG, time_origin="0001-01-01"),
    "dates that strptime refuses": of_time(
        "time", "noon", dates("noon"), time="strptime(at, '%Y-%m-%dT%H:%M:%SZ')", **ISO
    ),
    "strptime of another form": of_time("time", "%d", dates("noon"), time="strptime(at, '%d')",
                                        **ISO),
    "strptime without its unit": of_time(
        "time_unit", "iso", dates(lambda row: f"2024-05-{1 + row % 30:02d}"),
        time="strptime(at, '%Y-%m-%d')",
    ),
    "a column for an expression": of_time("time", "'when'", LOG, time="when"),
    "a sum of texts": of_time("time", "iid", LOG, time="iid + 1"),
    "an interval": of_time("time", "interval", LOG, time="to_seconds(at)"),
    "one moment": of_time("split", "2023-11-14", csv(at=lambda row: START)),
}  # fmt: skip

IDENTITIES = {
    "no user": of_time("user", "row 7", cell("uid", "")),
    "no item": of_time("item", "row 7", cell("iid", "")),
    "user NULL": of_time("user", "row 7", cell("uid", "NULL")),
    "item \\N": of_time("item", "row 7", cell("iid", r"\N")),
    "item nan": of_time("item", "row 7", cell("iid", "nan")),
    "user of the missing texts": of_time(
        "user", "row 7", cell("uid", "-"), formats__any__missing="('-',)"
    ),
    "another name of the user": of_time("user", "'uid'", LOG, user="uidd"),
    "another name of the item": of_time("item", "'uid'", LOG, item="idd"),
    "user of nothing": of_time("user", "given", LOG, user=""),
    "item of a number that divides by 0": of_time("item", "row", LOG, item="1 / (rating - 1)"),
    "user of a list": of_time("user", "array", LOG, user="[uid, uid]"),
    "item of a struct": of_time("item", "struct", LOG, item="{'a': iid}"),
    "user of a subquery": of_time("user", "query", LOG, user="(SELECT 1)"),
    "no tie breaker": of_time("tie_breaker", "'rank'", LOG, tie_breaker="rank"),
    "core without users": of_time("core", 999, LOG, core=999),
}  # fmt: skip


def of_dense(named: object, expression: str, about: str = "dense.y") -> Case:
    """A dense feature that is no such expression."""
    name = about.partition(".")[2]
    flag = {about.partition(".")[0]: f"{name}={expression}" if name else expression}
    return prepare(f"config.{about}", named, files={"log.csv": LOG}, **flag)


def of_bomb(expression: str) -> Case:
    """An expression that would take more memory than there is."""
    return prepare("config.memory_gb", "0.05", files={"log.csv": LOG}, memory_gb=0.05,
                   dense=f"y={expression}")  # fmt: skip


EXPRESSIONS = {
    "not SQL": of_dense("+*", "x +* 2"),
    "open parenthesis": of_dense("(x", "(x"),
    "closed parenthesis": of_dense("x)", "x) + (1"),
    "open text": of_dense("'a", "length('a)"),
    "open comment": of_dense("/*", "x /* + 1"),
    "comment at the end": of_dense("FROM log", "x) FROM log --"),
    "nothing but a comment": of_dense("y", "-- x"),
    "a comma": of_dense("x, x", "x, x"),
    "a star": of_dense("*", "*"),
    "all columns": of_dense("COLUMNS", "COLUMNS(*)"),
    "columns of a pattern": of_dense("COLUMNS", "COLUMNS('.*')"),
    "a column by number": of_dense("#1", "#1"),
    "a parameter": of_dense("?", "?"),
    "a numbered parameter": of_dense("$1", "$1"),
    "an alias": of_dense("AS", "x AS z"),
    "a subquery": of_dense("query", "(SELECT max(x) FROM log)"),
    "a subquery of IN": of_dense("query", "x IN (SELECT 1)"),
    "a subquery of EXISTS": of_dense("query", "EXISTS (SELECT 1)"),
    "a table": of_dense("FROM", "FROM log"),
    "a table and its column": of_dense("log.x", "log.x"),
    "a statement": of_dense("DROP", "x; DROP TABLE log", about="utc_offset"),
    "a statement alone": of_dense("DROP TABLE log", "DROP TABLE log", about="utc_offset"),
    "a setting": of_dense("SET", "SET threads = 1", about="utc_offset"),
    "a copy": of_dense("COPY", "COPY log TO 'made.csv'", about="utc_offset"),
    "an attached file": of_dense("ATTACH", "ATTACH 'made.db'", about="utc_offset"),
    "an unknown column": of_dense("'rating'", "ratng"),
    "an unknown function": of_dense("logg", "logg(x)"),
    "a reserved column": of_dense("time_n", "time_n"),
    "an internal column": of_dense("siren", '"siren_rope_jax split"'),
    "another feature": of_dense("'z'", "z"),
    "itself": of_dense("'y'", "y + 1"),
    "itself, derived": prepare("config.derived", "y", files={"log.csv": LOG}, derived="y=y + 1"),
    "a circle": prepare("config.derived", "a, b", files={"log.csv": LOG}, derived="a=b+1;b=a+1"),
    "a column derived anew": of_dense("column", "1", about="derived.X"),
    "an aggregate": of_dense("OVER (...)", "max(x)"),
    "a filtered aggregate": of_dense("OVER (...)", "count(*) FILTER (x > 1)"),
    "an aggregate that lists": of_dense("OVER (...)", "list(x)"),
    "a window alone": of_dense("y", "row_number()"),
    "an unknown window": of_dense("w", "max(x) OVER w"),
    "an empty frame": of_dense(
        "FOLLOWING", "max(x) OVER (ORDER BY row ROWS BETWEEN 1 FOLLOWING AND 1 PRECEDING)"
    ),
    "a window within a window": of_dense("nested", "max(max(x) OVER ()) OVER ()"),
    "rows": of_dense("unnest", "unnest([1, 2])"),
    "a range": of_dense("range", "length(range(10))"),
    "a series": of_dense("generate_series", "length(generate_series(1, 10))"),
    "a file": of_dense("read_text", "read_text('/etc/passwd')"),
    "files": of_dense("glob", "glob('*')"),
    "random": of_dense("random", "random()"),
    "random ids": of_dense("uuid", "length(uuid())"),
    "now": of_dense("now", "epoch(now())"),
    "today": of_dense("CURRENT_DATE", "epoch(current_date)"),
    "this moment": of_dense("CURRENT_TIMESTAMP", "epoch(current_timestamp)"),
    "the environment": of_dense("getenv", "length(getenv('HOME'))"),
    "a setting's value": of_dense("current_setting", "current_setting('threads')"),
    "the version": of_dense("version", "length(version())"),
    "a text run as SQL": of_dense("query", "query('SELECT 1')"),
    "infinity": of_dense("inf", "'inf'::DOUBLE"),
    "not a number": of_dense("nan", "'nan'::DOUBLE"),
    "division by 0": of_dense("row 1", "1 / (rating - 1)"),
    "beyond 32 bits": of_dense("1e+39", "1e39"),
    "NULL": of_dense("coalesce", "NULL"),
    "NULL in a row": of_dense("row 3", "nullif(rating, 3)"),
    "a cast that fails": of_dense("'i", "CAST(iid AS INTEGER)"),
    "a logarithm of 0": of_dense("LOG", "log(x)"),
    "an overflow": of_dense("Overflow", "9223372036854775807 + rating"),
    "a date that fails": of_dense("%Y", "epoch(strptime(iid, '%Y'))"),
    "an error": of_dense("error", "error('no')"),
    "text": of_dense("string", "iid"),
    "a list": of_dense("array", "[x]"),
    "a struct": of_dense("struct", "{'a': x}"),
    "a date": of_dense("date", "DATE '2024-05-01'"),
    "an interval": of_dense("interval", "INTERVAL 1 DAY"),
    "a type that is none": of_dense("y", "CAST(x AS nonsense)"),
    "a table as a type": of_dense("y", "x::log"),
    "too many arguments": of_dense("(3)", "abs(x, x, x)"),
    "text where a number belongs": of_dense("y", "sqrt(iid)"),
    "10,000 parentheses": of_dense("((((", "(" * 10_000 + "x" + ")" * 10_000),
    "10,000 minus signs": of_dense("- - - -", "- " * 10_000 + "x"),
    "10,000 sums": of_dense("depth", "x" + " + x" * 10_000),
    "1 MB of text": of_dense("'aaa", "('" + "a" * 1_000_000 + "')"),
    "100,000 features": prepare("config.dense", "'y'", files={"log.csv": LOG},
                                dense="y=1;" * 100_000),
    "10,000 columns": of_dense("10000", "abs(" + ", ".join(["x"] * 10_000) + ")"),
    "4 GB of text": of_dense("repeat", "length(repeat('x', 4000000000))"),
    "4 GB of padding": of_dense("lpad", "length(lpad('x', 2000000000, 'y'))"),
    "4 GB of bits": of_dense("bitstring", "bit_length(bitstring('1', 2000000000))"),
    "4 GB by a column": of_bomb("length(repeat('x', rating * 1000000000))"),
    "4 GB of padding by a column": of_bomb(
        "length(rpad('x', CAST(rating * 100000000 AS INTEGER), 'y'))"
    ),
    "4 GB by format": of_bomb("length(format('{:2000000000}', rating))"),
    "4 GB by printf": of_bomb("length(printf('%2000000000d', rating))"),
    "4 GB by doubling": of_bomb("length(" + "repeat(" * 3 + "iid" + ", 1000)" * 3 + ")"),
    "4 GB of a list": of_bomb("length(repeat([x], CAST(1e9 AS BIGINT)))"),
    "a list without end": of_dense("list_resize", "length(list_resize([1], 4000000000))"),
    "a factorial": of_dense("5!", "5!"),
    "a factorial beyond all numbers": of_dense("1000000", "factorial(1000000)"),
    "a label of 2": of_dense("row", "rating", about="tasks.like"),
    "a label of text": of_dense("string", "iid", about="tasks.like"),
    "a label of one class": of_dense("both classes", "rating > 9", about="tasks.like"),
    "a label that is never there": of_dense("train", "NULL", about="tasks.like"),
    "an infinite action": of_dense("row 1", "1e300", about="actions.y"),
    "a category of lists of lists": of_dense("array", "[[x]]", about="categorical.y"),
    "a category of a list of bytes": of_dense("binary", "[encode(iid)]", about="categorical.y"),
    "the item again": of_dense("left out", "iid", about="categorical.item"),
    "a category of bytes": of_dense("binary", "encode(iid)", about="categorical.y"),
    "an offset of a day": of_dense("86400", "86400", about="utc_offset"),
    "an offset of nothing": of_dense("row 1", "nullif(rating, 1)", about="utc_offset"),
    "an offset of text": of_dense("string", "'+02:00'", about="utc_offset"),
    "a name with a blank": prepare(
        "config.dense.a b", "letters", files={"log.csv": LOG}, dense="a b=1"
    ),
    "a name of SQL": prepare('config.dense.a"', "letters", files={"log.csv": LOG}, dense='a"=1'),
    "no name": prepare("config.dense", "x > 1", files={"log.csv": LOG}, dense="x > 1"),
    "a name twice": prepare("config.dense", "'y'", files={"log.csv": LOG}, dense="y=1;y=2"),
    "no expression": prepare("config.dense.y", "empty", files={"log.csv": LOG}, dense="y="),
    "a reserved name": prepare("config.derived.time", "row", files={"log.csv": LOG},
                               derived="time=1"),
    "features that are one but for case": prepare(
        "config.dense.Y", "case", files={"log.csv": LOG}, dense="y=1;Y=2"
    ),
}  # fmt: skip


def of_key(key: str, value: object, named: object = "", about: str = "") -> Case:
    """A value of a config key of prepare that cannot be."""
    flag = f"--config.{key}={value}"
    return prepare(about or f"config.{key}", named, flag, files={"log.csv": LOG})


def of_flag(key: str, value: object, named: object = "") -> Case:
    """As `of_key`, if the flag itself is refused, because the text is no such value."""
    return of_key(key, value, named, about=f"--config.{key}")


PREPARE_VALUES = {
    "core -1": of_key("core", -1, 1),
    "core 0": of_key("core", 0, 1),
    "core 2^63": of_key("core", 2**63, 64),
    "core 10^400": of_key("core", 10**400),
    "core 10^5000": of_flag("core", "9" * 5_000),
    "core of a half": of_flag("core", 0.5, "0.5"),
    "core of text": of_flag("core", "many", "many"),
    "core of nothing": of_flag("core", ""),
    "core nan": of_flag("core", "nan", "nan"),
    "core of a sum": of_flag("core", "1+1", "1+1"),
    "threads -1": of_key("threads", -1, 0),
    "threads 10^6": of_key("threads", 10**6, 1024),
    "min_count 0": of_key("min_count", 0, 1),
    "min_count 2^62": of_key("min_count", 2**62, "at most"),
    "memory_gb 0": of_key("memory_gb", 0, 0),
    "memory_gb -1": of_key("memory_gb", -1, 0),
    "memory_gb nan": of_key("memory_gb", "nan", "nan"),
    "memory_gb inf": of_key("memory_gb", "inf", "inf"),
    "memory_gb 1e300": of_key("memory_gb", "1e300", "million"),
    "memory_gb 1e-12": of_key("memory_gb", "1e-12"),
    "memory_gb of text": of_flag("memory_gb", "2GB", "2GB"),
    "allow_missing_time maybe": of_flag("allow_missing_time", "maybe", "maybe"),
    "drop_duplicates of nothing": of_flag("drop_duplicates", ""),
    "time_unit sec": of_key("time_unit", "sec", "'sec'"),
    "time_unit of nothing": of_key("time_unit", "", "known"),
    "time_zone of a city": of_key("time_zone", "Berlin", "'Europe/Berlin'"),
    "time_zone JST": of_key("time_zone", "JST", "'JST'"),
    "time_zone of SQL": of_key("time_zone", "') --", "')"),
    "time_zone beside utc_offset": prepare(
        "config.time_zone", "utc_offset", files={"log.csv": LOG}, time_zone="UTC", utc_offset="0"
    ),
    "name of nothing": of_key("name", "", "empty"),
    "no time": of_key("time", "", "empty"),
    "split kind": of_key("split.kind", "random", "'random'"),
    "train_fraction 1": of_key("split.train_fraction", 1, "validation_fraction"),
    "train_fraction nan": of_key("split.train_fraction", "nan", "nan"),
    "train_fraction -1": of_key("split.train_fraction", -1, 0),
    "train_fraction 1e-300": of_key("split.train_fraction", "1e-300", "split",
                                    about="config.split"),
    "validation_fraction 0": of_key("split.validation_fraction", 0, 0),
    "train_end alone": of_key("split.train_end", "2023-11-14", "validation_end"),
    "validation_end alone": of_key("split.validation_end", "2023-11-15", "together",
                                   about="config.split.train_end"),
    "ends that are no dates": prepare(
        "config.split.train_end", "'May'", "--config.split.train_end=May",
        "--config.split.validation_end=June", files={"log.csv": LOG},
    ),
    "ends outside": prepare(
        "config.split", "2030-01-01", "--config.split.train_end=2030-01-01",
        "--config.split.validation_end=2031-01-01", files={"log.csv": LOG},
    ),
    "ends the wrong way round": prepare(
        "config.split", "2023-11-15T00:00:00Z", "--config.split.train_end=2023-11-15T03:00",
        "--config.split.validation_end=2023-11-15", files={"log.csv": LOG},
    ),
    "ends of leave one out": prepare(
        "config.split.train_end", "leave_one_out", "--config.split.train_end=2023-11-14",
        "--config.split.kind=leave_one_out", "--config.split.validation_end=2023-11-15",
        files={"log.csv": LOG},
    ),
    "leave one out of single events": prepare(
        "config.split.kind", "three", "--config.split.kind=leave_one_out",
        files={"log.csv": csv(uid=lambda row: row)},
    ),
    "two events": of_file("log.csv", csv(rows=2), "split", about="config.split"),
    "delimiter of five": of_key("formats.any.delimiter", "abcde", 4),
    "delimiter a quotation mark": of_key("formats.any.delimiter", '"', "quotation"),
    "delimiter a line end": of_key("formats.any.delimiter", "\n", "line end"),
    "quote of two": of_key("formats.any.quote", "ab", "one character"),
    "escape a line end": of_key("formats.any.escape", "\n", "one character"),
    "kind xml": of_key("formats.any.kind", "xml", "python_dicts"),
    "columns of a number": of_key("formats.any.columns", "3", "3",
                                  about="config.formats.any.columns[0]"),
    "columns of numbers": of_key("formats.any.columns", "(1, 2, 3)", 1,
                                 about="config.formats.any.columns[0]"),
    "columns that stay open": of_flag("formats.any.columns", "('uid', 'iid'"),
    "columns of code": of_file("log.csv", LOG, "Columns: 1",
                               "--config.formats.any.columns=open('made', 'w')"),
    "100,000 columns": of_file("log.csv", LOG, "'a'",
                                 f"--config.formats.any.columns={('a',) * 100_000}"),
    "column twice": of_file("log.csv", LOG, "'uid'",
                            "--config.formats.any.columns=('uid', 'uid', 'at')"),
    "column of nothing": of_file("log.csv", LOG, "column 2",
                                 "--config.formats.any.columns=('uid', '', 'at')"),
    "companion of text files": of_key("formats.any.companion", "('a', 'b')", "sequences"),
    "sequences without a companion": of_key("formats.any.kind", "sequences", "_time_",
                                            about="config.formats.any.companion"),
    "pattern of nothing": of_key("formats.any.pattern", "", "log.csv", about="config.formats"),
    "another format": of_key("formats.mine.kind", "text", "any", about="config.formats.mine"),
    "formats of a text": of_flag("formats", "text", "text"),
    "split of a text": of_flag("split", "time", "time"),
    "unknown key": of_key("usr", "uid", "'user'"),
    "unknown key of a group": of_key("split.train_fracton", 1, "'train_fraction'"),
    "key of train": of_key("training.epochs", 1, "known", about="config.training"),
    "key below a value": of_key("user.name", 1, "unknown", about="config.user.name"),
    "checksum": of_key("download.checksum", "abc", "md5"),
    "name of 300 letters": prepare(
        f"config.categorical.{'x' * 300}", "letters", files={"log.csv": LOG},
        categorical=f"{'x' * 300}=iid",
    ),
}  # fmt: skip


def train(
    about: str,
    named: object,
    *flags: str,
    config: str = "table",
    files: Mapping[str, Content] | None = None,
) -> Case:
    """An experiment on a small prepared log, which stands for "{log}"."""
    given = (f"--config={ROOT}/configs/{config}.py", "--workdir=run", "--config.data.path={log}")
    return Case("train", (*given, *flags), files or {}, about, str(named))


def of_run(key: str, value: object, named: object = "", about: str = "", **more: object) -> Case:
    """A value of a config key of train that cannot be."""
    flags = [f"--config.{name.replace('__', '.')}={given}" for name, given in more.items()]
    return train(about or f"config.{key}", named, f"--config.{key}={value}", *flags)


def of_run_flag(key: str, value: object, named: object = "") -> Case:
    return of_run(key, value, named, about=f"--config.{key}")


TRAIN_VALUES = {
    "seed -1": of_run("seed", -1, 4294967295),
    "seed 2^32": of_run("seed", 2**32, 4294967295),
    "seed 2^63": of_run("seed", 2**63, 64),
    "seed 10^400": of_run("seed", 10**400),
    "seed of a half": of_run_flag("seed", 0.5, 0.5),
    "epochs 0": of_run("training.epochs", 0, 0),
    "epochs nan": of_run("training.epochs", "nan", "nan"),
    "epochs inf": of_run("training.epochs", "inf", "inf"),
    "epochs 1e300": of_run("training.epochs", 1e300, "lower"),
    "evaluations_per_epoch 0": of_run("training.evaluations_per_epoch", 0, 1),
    "patience 0": of_run("training.patience", 0, 1),
    "patience of text": of_run_flag("training.patience", "long", "long"),
    "log_every 0": of_run("training.log_every", 0, 1),
    "tensorboard maybe": of_run_flag("training.tensorboard", "maybe", "maybe"),
    "learning_rate -1": of_run("optimizer.learning_rate", -1, 0),
    "learning_rate nan": of_run("optimizer.learning_rate", "nan", "nan"),
    "learning_rate 1e300": of_run("optimizer.learning_rate", 1e300),
    "warmup_fraction 1": of_run("optimizer.warmup_fraction", 1, 1),
    "final_fraction 2": of_run("optimizer.final_fraction", 2, 1),
    "weight_decay -1": of_run("optimizer.weight_decay", -1, 0),
    "weight_decay 1e300": of_run("optimizer.weight_decay", 1e300),
    "clip_norm 0": of_run("optimizer.clip_norm", 0, 0),
    "accumulate 0": of_run("optimizer.accumulate", 0, 1),
    "accumulate 10^6": of_run("optimizer.accumulate", 10**6, "batches"),
    "no_decay of nothing there": of_run("optimizer.no_decay", "('nothing_*',)", "nothing_*"),
    "no_decay of numbers": of_run("optimizer.no_decay", "(1,)", 1,
                                  about="config.optimizer.no_decay[0]"),
    "length 0": of_run("data.length", 0, 1),
    "length 2^62": of_run("data.length", 2**62, "2^31", about="config.data.batch_size"),
    "stride 0": of_run("data.stride", 0, 1),
    "stride beyond the length": of_run("data.stride", 65, 64),
    "batch_size 0": of_run("data.batch_size", 0, 1),
    "batch_size of 9": of_run("data.batch_size", 9, "devices"),
    "batch_size 2^40": of_run("data.batch_size", 2**40, "2^31"),
    "threads 0": of_run("data.threads", 0, 1),
    "threads 10^6": of_run("data.threads", 10**6, 1024),
    "target_task of ranking": of_run("data.target_task", "like", "retrieval"),
    "path of nothing": train(".", "siren-rope prepare", "--config.data.path="),
    "path of a text file": train("log.csv", "prepared", "--config.data.path=log.csv",
                                 files={"log.csv": LOG}),
    "path that is not there": train("gone", "siren-rope prepare", "--config.data.path=gone"),
    "path in a bucket": train("oss://b/log", "ossfs", "--config.data.path=oss://b/log"),
    "path in no store": train("nil://b/log", "Protocol", "--config.data.path=nil://b/log"),
    "width 0": of_run("model.width", 0, 1),
    "width 9": of_run("model.width", 9, "even"),
    "width 2^40": of_run("model.width", 2**40),
    "heads 0": of_run("model.heads", 0, 1),
    "heads 3": of_run("model.heads", 3, 3, about="config.model.width"),
    "layers 0": of_run("model.layers", 0, 1),
    "layers 10^9": of_run("model.layers", 10**9, "1,000"),
    "clip_norm 1e-300": of_run("optimizer.clip_norm", 1e-300),
    "dropout 1": of_run("model.dropout", 1, 1),
    "dropout nan": of_run("model.dropout", "nan", "nan"),
    "embedding_width 0": of_run("model.embedding_width", 0, 1),
    "embedding_width 2^62": of_run("model.embedding_width", 2**62),
    "head_widths of 0": of_run("model.head_widths", "(0,)"),
    "head_widths of -1": of_run("model.head_widths", "(-1,)"),
    "head_widths of text": of_run("model.head_widths", "('a',)", "a",
                                  about="config.model.head_widths[0]"),
    "biases of a text": of_run("model.biases", "time", "position",
                               about="config.model.biases[0]"),
    "biases unknown": of_run("model.biases", "('tiem',)", "'tiem'",
                             about="config.model.biases[0]"),
    "biases twice": of_run("model.biases", "('position', 'position')", "twice"),
    "dtype float16": of_run("model.dtype", "float16", "'bfloat16'"),
    "block unknown": of_run("model.block", "soft", "'softmax'"),
    "interleaved": of_run("model.interleaved", True, "mixed_value"),
    "variant unknown": train(
        "variant", "'siren_rope'", f"--config={ROOT}/configs/table.py:siren_rop"
    ),
    "variant by override": of_run("variant", "ordinal", ":ordinal"),
    "kind unknown": of_run("kind", "rank", "'ranking'"),
    "kind of another": of_run("kind", "retrieval", "unknown",
                              about="config.model.embedding_width"),
    "unknown key": of_run("training.epocs", 1, "'epochs'"),
    "key of prepare": of_run("user", "uid", "unknown"),
    "group for a value": of_run("seed.low", 1, "unknown"),
    "value for a group": of_run_flag("training", 1, 1),
    "negatives 0": train("config.loss.negatives", 1, "--config.loss.kind=sampled_softmax",
                         "--config.loss.negatives=0", config="next_item"),
    "temperature 0": train("config.model.temperature", 0, "--config.model.temperature=0",
                           config="next_item"),
    "criterion unknown": train("config.criterion", "'ndcg@10'", "--config.criterion=ndcg@100",
                               config="next_item"),
    "task unknown": train("config.data.target_task", "'like'", "--config.data.target_task=liek",
                          config="next_item"),
    "loss of repeats": train("config.loss.kind", "model.repeat", "--config.loss.kind=bce",
                             config="next_item"),
}  # fmt: skip


def of_config(named: object, text: str, about: str = "--config", script: str = "prepare") -> Case:
    """A config file that cannot be read."""
    flags = ["--config=mine.py", "--workdir=run"]
    if script == "prepare":
        flags = ["--config=mine.py", "--input=log.csv", "--output=out"]
    files = {"mine.py": text.encode(), "log.csv": LOG}
    return Case(script, tuple(flags), files, about, str(named))


def of_command(about: str, named: object, *flags: str, script: str = "prepare") -> Case:
    """A command line that cannot be."""
    return Case(script, flags, {"log.csv": LOG, "folder": a_folder}, about, str(named))


HEAD = "from ml_collections import ConfigDict\n"
TABLE = f"--config={ROOT}/configs/data/table.py"
RANKING = f"--config={ROOT}/configs/table.py"
IN, OUT = "--input=log.csv", "--output=out"
CONFIG_FILES = {
    "no such file": of_command("--config", "gone.py", "--config=gone.py", IN, OUT),
    "no such file, and a key": of_command(
        "--config", "gone.py", "--config=gone.py", IN, OUT, "--config.user=uid"
    ),
    "a folder": of_command("--config", "folder", "--config=folder", IN, OUT),
    "a log": of_command("--config", "log.csv", "--config=log.csv", IN, OUT),
    "of nothing": of_command("--config", "", "--config=", IN, OUT),
    "SyntaxError": of_config("line 2", "x = 1\ndef get_config(:\n"),
    "SyntaxError with a key": Case(
        "prepare", ("--config=mine.py", IN, OUT, "--config.user=uid"),
        {"mine.py": b"def get_config(:\n"}, "--config", "line 1",
    ),
    "IndentationError": of_config("line 2", "def get_config():\nreturn 1\n"),
    "NUL": of_config("mine.py", "x = 1\0\n"),
    "not text": Case("prepare", ("--config=mine.py", IN, OUT), {"mine.py": b"\xff\xfe\n"},
                     "--config", "mine.py"),
    "NameError": of_config("line 3", HEAD + "def get_config():\n    return nonsense\n"),
    "ImportError": of_config("nonsense", "import nonsense\n"),
    "ZeroDivisionError": of_config("line 2", "def get_config():\n    return 1 / 0\n"),
    "KeyError": of_config("line 2", "def get_config():\n    return {}['a']\n"),
    "error of two lines": of_config("second", "raise ValueError('first\\nsecond')\n"),
    "no get_config": of_config("get_config", "x = 1\n"),
    "empty": of_config("get_config", ""),
    "get_config of no function": of_config("mine.py", "get_config = 3\n"),
    "get_config with an argument": of_config("name", "def get_config(name):\n    return name\n"),
    "None": of_config("ConfigDict", "def get_config():\n    return None\n"),
    "a dict": of_config("ConfigDict", "def get_config():\n    return {'user': 'uid'}\n"),
    "recursion without end": of_config("line 2", "def get_config():\n    return get_config()\n"),
    "sys.exit": of_config("SystemExit", "import sys\nsys.exit(0)\n"),
    "sys.exit in get_config": of_config(
        "SystemExit", "import sys\ndef get_config():\n    sys.exit('enough')\n"
    ),
    "empty config": of_config(
        "missing", HEAD + "def get_config():\n    return ConfigDict()\n", "config.name"
    ),
    "value of a function": of_config(
        "len", HEAD + "def get_config():\n"
        "    return ConfigDict(dict(name='a', user=len, item='iid', time='at'))\n", "config.user",
    ),
    "user of a number": of_config(
        "3", HEAD + "def get_config():\n"
        "    return ConfigDict(dict(name='a', user=3, item='iid', time='at'))\n", "config.user",
    ),
    "group of a list": of_config(
        "1", HEAD + "def get_config():\n"
        "    return ConfigDict(dict(name='a', user='u', item='i', time='t', split=[1]))\n",
        "config.split",
    ),
    "reference to nothing": of_config(
        "None", HEAD + "from ml_collections.config_dict import placeholder\n"
        "def get_config():\n    return ConfigDict(dict(name=placeholder(str)))\n", "config.name",
    ),
    "experiment to prepare": of_command("--config", "siren-rope train", RANKING, IN, OUT),
    "log to train": of_command(
        "--config", "siren-rope prepare", TABLE, "--workdir=run", "--config.data.path=x",
        script="train",
    ),
    "ablation to train": of_command(
        "--config", "siren-rope ablate", f"--config={ROOT}/configs/ablation/demo.py",
        "--workdir=run", script="train",
    ),
    "file as a work directory": train("log.csv", "is a file", "--workdir=log.csv",
                                      files={"log.csv": LOG}),
    "None to train": of_config(
        "ConfigDict", "def get_config():\n    return None\n", script="train"
    ),
    "empty config to train": of_config(
        "missing", HEAD + "def get_config():\n    return ConfigDict()\n", "config.variant", "train"
    ),
    "NameError to evaluate a variant": Case(
        "train", ("--config=mine.py:a", "--workdir=run"),
        {"mine.py": b"def get_config(name):\n    return nonsense\n"}, "--config", "line 2",
    ),
    "an experiment of an ablation": Case(
        "ablate", (f"--config={ROOT}/configs/ablation/demo.py", "--workdir=run",
                   "--config.datasets=({'name': 'a', 'base': 'mine.py', 'prepared': 'log'},)"),
        {"mine.py": b"import sys\nsys.exit(0)\n"}, "mine.py", "line 2",
    ),
    "recursion to ablate": of_config(
        "line 2", "def get_config():\n    return get_config()\n", script="ablate"
    ),
    "argument that get_config lacks": of_command(
        "--config", "argument", f"{TABLE}:siren_rope", IN, OUT
    ),
}  # fmt: skip

COMMANDS = {
    "nothing": of_command("--config", ""),
    "no --config": of_command("--config", "", IN, OUT),
    "no --output": of_command("--output", "", TABLE, IN),
    "no --workdir": of_command("--workdir", "", RANKING, script="train"),
    "no --workdir to evaluate": of_command("--workdir", "", script="evaluate"),
    "no --workdir to analyze": of_command("--workdir", "", script="analyze"),
    "no --workdir to ablate": of_command(
        "--workdir", "", f"--config={ROOT}/configs/ablation/demo.py", script="ablate"
    ),
    "no --input": of_command("input", "--input", TABLE, OUT, "--config.user=a",
                             "--config.item=b", "--config.time=c"),
    "key without dashes": of_command(
        "command line", "--config.user=uid", TABLE, IN, OUT, "config.user=uid"
    ),
    "one dash too many": of_command("---config.user", "", TABLE, IN, OUT, "---config.user=uid"),
    "word": of_command("command line", "log.csv", TABLE, IN, OUT, "log.csv"),
    "glob without quotes": of_command("command line", "folder", TABLE, OUT, IN, "folder"),
    "after --": of_command("command line", "--config.user=uid", TABLE, IN, OUT, "--",
                           "--config.user=uid"),
    "unknown flag": of_command("--inptu", "", TABLE, OUT, "--inptu=log.csv"),
    "unknown flag of two words": of_command("--out-put", "", TABLE, IN, OUT, "--out-put=a"),
    "flag of another script": of_command("--workdir", "", TABLE, IN, OUT, "--workdir=run"),
    "no value at the end": of_command("command line", "--output", TABLE, IN, "--output"),
    "no value of a key": of_command("command line", "--config.user", TABLE, IN, OUT,
                                     "--config.user"),
    "nothing for a config": of_command("--config", "", "--config", IN, OUT),
    "key before its config": of_command("--config", "", "--config.user=uid", IN, OUT),
    "key without a name": of_command("config.", "unknown", TABLE, IN, OUT, "--config.=1"),
    "key that ends in a dot": of_command("config.split.", "", TABLE, IN, OUT, "--config.split.=1"),
    "key of two dots": of_command("config.", "", TABLE, IN, OUT, "--config..user=uid"),
    "key in brackets": of_command("config.formats[any]", "", TABLE, IN, OUT,
                                  "--config.formats[any]=1"),
    "boolean of text": of_command("--download", "maybe", TABLE, OUT, "--download=maybe"),
    "download beside an input": of_command("--download", "--input", TABLE, IN, OUT, "--download"),
    "download of nothing": of_command("--download", "--input", TABLE, OUT, "--download",
                                      "--config.user=a", "--config.item=b", "--config.time=c"),
    "input of the built-in feed": of_command(
        "input", "generated", f"--config={ROOT}/configs/data/synthetic.py", IN, OUT
    ),
    "split unknown": of_command("split", "'test'", "--workdir=folder", "--split=tset",
                                script="evaluate"),
    "attention unknown": of_command("--attention", "trunk", "--workdir=folder", "--attention=all",
                                    script="analyze"),
    "a run that is none": of_command("folder", "", "--workdir=folder", script="analyze"),
    "a file for a run": of_command("log.csv", "", "--workdir=log.csv", script="evaluate"),
    "no run": of_command("gone", "", "--workdir=gone", script="evaluate"),
    "processes of nonsense": train("--distributed", "nonsense", "--distributed=nonsense"),
    "process 2 of 2": train("--distributed", "h:1,2,2", "--distributed=h:1,2,2"),
    "variant unknown to ablate": of_command(
        "--variants", "siren_rope", f"--config={ROOT}/configs/ablation/demo.py", "--workdir=run",
        "--variants=ordinal,siren_rop", script="ablate",
    ),
}  # fmt: skip

OUTPUTS = {
    "a file": prepare("log.csv", "exists", "--output=log.csv", files={"log.csv": LOG}),
    "a folder in use": prepare(
        "b", "empty", "--output=b", files={"log.csv": LOG, "b": a_folder, "b/c.csv": LOG}
    ),
    "here": prepare(".", "empty", "--output=.", files={"log.csv": LOG}),
    "below a file": prepare("log.csv/out", "", "--output=log.csv/out", files={"log.csv": LOG}),
    "far below a file": prepare("log.csv/a/b", "", "--output=log.csv/a/b", files={"log.csv": LOG}),
    "name too long": prepare("x" * 300, "long", f"--output={'x' * 300}", files={"log.csv": LOG}),
    "name almost too long": prepare(
        "x" * 250, "long", f"--output={'x' * 250}", files={"log.csv": LOG}
    ),
    "NUL": prepare("--output", "NUL", "--output=a\0b", files={"log.csv": LOG}),
    "of nothing": prepare("--output", "", "--output=", files={"log.csv": LOG}),
    "link loop": prepare("loop", "link", "--output=loop",
                         files={"log.csv": LOG, "loop": link_to("loop")}),
    "dangling link": prepare("gone", "link", "--output=gone",
                             files={"log.csv": LOG, "gone": link_to("there")}),
    "link to a folder": prepare(
        "gone", "link", "--output=gone",
        files={"log.csv": LOG, "there": a_folder, "gone": link_to("there")},
    ),
    "device": prepare("/dev/null", "exists", "--output=/dev/null", files={"log.csv": LOG}),
    "system": prepare("/proc/out", "", "--output=/proc/out", files={"log.csv": LOG}),
    "nobody's home": prepare("~nobody_x/o", "home", "--output=~nobody_x/o", files={"log.csv": LOG}),
    "bucket": prepare("--output", "gs://b/o", "--output=gs://b/o", files={"log.csv": LOG}),
    "run in a file": train("log.csv", "", "--workdir=log.csv", files={"log.csv": LOG}),
    "run below a file": train("log.csv/run", "", "--workdir=log.csv/run", files={"log.csv": LOG}),
    "run in a folder in use": train("folder", "config.json", "--workdir=folder",
                                    files={"folder": a_folder, "folder/a.csv": LOG}),
    "run of a name too long": train("x" * 300, "long", f"--workdir={'x' * 300}"),
    "run of nothing": train("--workdir", "", "--workdir="),
    "run in a bucket": train("oss://b/r", "ossfs", "--workdir=oss://b/r"),
}  # fmt: skip

GROUPS = {
    "paths": PATHS,
    "texts": TEXTS,
    "parquet": PARQUETS,
    "others": OTHERS,
    "times": TIMES,
    "identities": IDENTITIES,
    "expressions": EXPRESSIONS,
    "prepare": PREPARE_VALUES,
    "train": TRAIN_VALUES,
    "configs": CONFIG_FILES,
    "commands": COMMANDS,
    "outputs": OUTPUTS,
}
SLOW = ("expressions: 4 GB of padding by a column",)


def parameters() -> list[Any]:
    found = []
    for group, cases in GROUPS.items():
        for name, case in cases.items():
            key = f"{group}: {name}"
            marks = [pytest.mark.slow] if key in SLOW else []
            found.append(pytest.param(case, id=key, marks=marks))
    return found


@pytest.fixture(scope="module")
def prepared_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prepared") / "log"
    make_log(path)
    return path


def write_files(folder: Path, files: Mapping[str, Content]) -> None:
    for name, content in files.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            content(folder / name)


def everything(folder: Path) -> dict[str, int]:
    """All that is in a folder, and when it was changed."""
    found = {}
    for path in folder.rglob("*"):
        changed = 0 if path.is_dir() and not path.is_symlink() else path.lstat().st_mtime_ns
        found[str(path.relative_to(folder))] = changed
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # as Python itself does, of libraries
# NumPy before 2.2 leaves an array file open that it refuses.
@pytest.mark.filterwarnings(
    r"ignore:Exception ignored in.*\.npy:pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("case", parameters())
def test_one_line_and_nothing_else(
    case: Case,
    prepared_log: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)  # files are named as a user would, and so are they in the error
    write_files(Path(), case.files)
    before = everything(tmp_path)
    flags = [flag.replace("{log}", str(prepared_log)) for flag in case.flags]
    monkeypatch.setattr(sys, "argv", [case.script, *flags])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # of config files
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    begin = time.monotonic()
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(f"{ROOT}/experiments/{case.script}.py", run_name="__main__")
    seconds, said = time.monotonic() - begin, capfd.readouterr().err
    assert ended.value.code == 2, said
    assert said.startswith(f"error: {case.about}: "), said
    assert said.count("\n") == 1 and said.endswith("\n"), said
    assert case.named in said.removeprefix(f"error: {case.about}: "), said
    assert everything(tmp_path) == before
    assert seconds < SECONDS


IN_PROCESSES = {
    "commands": ("nothing", "no --workdir to analyze", "glob without quotes", "word"),
    "configs": ("None", "sys.exit", "recursion without end", "NUL", "no get_config"),
    "paths": ("pipe", "zeros without end"),
    "texts": ("field of 3 MB",),
    "others": ("array header of 10^18 rows", "dict of code"),
    "expressions": ("4 GB by a column", "10,000 parentheses"),
    "train": ("seed 10^400",),
    "outputs": ("run of nothing", "dangling link"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group, names in IN_PROCESSES.items() for name in names]
)
def test_a_process_says_the_same(group: str, name: str, prepared_log: Path, tmp_path: Path) -> None:
    case = GROUPS[group][name]
    write_files(tmp_path, case.files)
    before = everything(tmp_path)
    flags = [flag.replace("{log}", str(prepared_log)) for flag in case.flags]
    line = complaint(case.script, *flags, cwd=tmp_path)
    assert line.startswith(f"{case.about}: ") and case.named in line
    assert everything(tmp_path).keys() - {"__pycache__"} == before.keys()


@pytest.mark.slow
def test_a_device_that_jax_does_not_have(prepared_log: Path, tmp_path: Path) -> None:
    flags = [f"--config={ROOT}/configs/table.py", "--workdir=run"]
    flags.append(f"--config.data.path={prepared_log}")
    done = run("train", *flags, cwd=tmp_path, JAX_PLATFORMS="cuda", TMPDIR=str(tmp_path))
    if done.returncode == 0:
        pytest.skip("this machine has one")
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: JAX_PLATFORMS: ") and done.stderr.count("\n") == 1
    assert "'cuda'" in done.stderr and not list(tmp_path.iterdir())
