"""Converts files that the engine cannot read to Parquet, chunk by chunk.

Values of text files stay text: their types are found later, from the whole file, as for CSV.
"""

import ast
import gzip
import itertools
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.prepare.config import Format

CHUNK_ROWS = 1 << 16

Chunk = Sequence[Any]
"""The columns of some rows."""


def convert(path: Path, kind: str, form: Format, output: Path) -> None:
    """Writes the rows of a file of this kind ("npy", "sequences", "python_dicts") to `output`.

    Raises:
      UserError: the file is damaged, or not of this kind.
    """
    chunks: Iterator[Chunk]
    if kind == "npy":
        chunks = _array_chunks(_open_array(path, form.columns))
    elif kind == "sequences":
        chunks = _sequence_chunks(path, _companion(path, form.companion))
    else:
        chunks = _dict_chunks(path, form.columns)
    value = pa.int64() if kind == "npy" else pa.string()
    schema = pa.schema([(name, value) for name in form.columns])
    with pq.ParquetWriter(output, schema) as writer:
        for columns in chunks:
            writer.write_batch(pa.record_batch(list(columns), schema=schema))


def check_gzip(path: Path) -> None:
    """Reads a gzip file to its end, since the engine would not notice that it is truncated.

    Raises:
      UserError: it is truncated, damaged, or not a gzip file.
    """
    try:
        with gzip.open(path, "rb") as file:
            while file.read(1 << 20):
                pass
    except (EOFError, OSError, zlib.error) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> UserError:
    tip = "fetch it again (gzip -t must accept it)"
    return UserError(path, f"is truncated or damaged ({error}); {tip}")


def _open_array(path: Path, columns: Sequence[str]) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(path, f"is not a complete .npy file of numbers: {error}") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2:
        raise UserError(path, "is not a .npy file of one array [rows, columns]")
    if array.dtype.kind not in "iu" or not np.can_cast(array.dtype, np.int64):
        raise UserError(path, f"holds {array.dtype}, not integers that fit into int64")
    if array.shape[1] != len(columns):
        names = list(columns)
        raise UserError(path, f"has {array.shape[1]} columns, but config.formats names {names}")
    return array


def _array_chunks(array: np.ndarray) -> Iterator[Chunk]:
    for first in range(0, len(array), CHUNK_ROWS):
        yield list(np.ascontiguousarray(array[first : first + CHUNK_ROWS].T, np.int64))


def _companion(path: Path, texts: Sequence[str]) -> Path:
    """The file of times that belongs to a file of items."""
    of_items, of_times = texts
    if path.name.count(of_items) != 1:
        raise UserError(
            path,
            f"is not the name of a file of items, which has {of_items!r} once, where that of its "
            f"times has {of_times!r} (the companion in config.formats)",
        )
    times = path.with_name(path.name.replace(of_items, of_times))
    if not times.is_file():
        raise UserError(times, f"the file of the times of {path} does not exist")
    return times


def _sequence_chunks(items_path: Path, times_path: Path) -> Iterator[Chunk]:
    user: list[str] = []
    item: list[str] = []
    time: list[str] = []
    lines = itertools.zip_longest(_lines(items_path), _lines(times_path))
    for number, (item_line, time_line) in enumerate(lines, start=1):
        if item_line is None or time_line is None:
            shorter, longer = items_path, times_path
            if item_line is not None:
                shorter, longer = times_path, items_path
            raise UserError(longer, f"line {number} has no counterpart in {shorter.name}")
        items, times = item_line.split(), time_line.split()
        if items[:1] != times[:1] or len(items) != len(times):
            raise UserError(
                items_path,
                f"line {number} has {_counted(items, 'items')}, but {_counted(times, 'times')} in "
                f"{times_path.name}",
            )
        user += items[:1] * (len(items) - 1)
        item += items[1:]
        time += times[1:]
        if len(user) >= CHUNK_ROWS:
            yield user, item, time
            user, item, time = [], [], []
    yield user, item, time


def _counted(words: Sequence[str], what: str) -> str:
    return f"{len(words) - 1} {what} of user {words[0]!r}" if words else "nothing"


def _dict_chunks(path: Path, columns: Sequence[str]) -> Iterator[Chunk]:
    rows: list[list[str | None]] = []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            value = ast.literal_eval(line.strip())
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            raise UserError(path, f"line {number} is not a Python dict: {error}") from error
        if not isinstance(value, dict):
            kind = type(value).__name__
            raise UserError(path, f"line {number} is a {kind}, not a Python dict")
        rows.append([_text(value.get(column)) for column in columns])
        if len(rows) >= CHUNK_ROWS:
            yield [list(column) for column in zip(*rows, strict=True)]
            rows = []
    yield [[row[i] for row in rows] for i in range(len(columns))]


def _text(value: Any) -> str | None:
    if value is None or value == "":
        return None  # as an empty field of a CSV
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    # Python 2 wrote characters beyond 16 bits as two surrogates, of which one may be missing.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _lines(path: Path) -> Iterator[str]:
    number = 0
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        try:
            for number, line in enumerate(file, start=1):
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise UserError(path, f"line {number} is not UTF-8 text") from error
        except (EOFError, OSError, zlib.error) as error:
            raise _damaged(path, error) from error
