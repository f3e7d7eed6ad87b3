"""Converts files that the engine cannot read to Parquet, chunk by chunk.

Values of text files stay text: their types are found later, from the whole file, as for CSV.
"""

import ast
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.prepare.config import Format
from siren_rope_jax.prepare.text_files import check_readable, lines

CHUNK_ROWS = 1 << 16


def convert(path: Path, kind: str, form: Format, output: Path) -> None:
    """Writes the rows of a file of this kind to `output`; refuses a damaged or another file."""
    chunks: Iterator[Any]  # of columns
    rows: Iterator[Sequence[Any]]
    if kind == "npy":
        array = _open_array(path, form.columns)
        starts = range(0, len(array), CHUNK_ROWS)
        chunks = (np.ascontiguousarray(array[i : i + CHUNK_ROWS].T, np.int64) for i in starts)
    else:
        if kind == "sequences":
            rows = _sequence_rows(path, form)
        else:
            is_json = kind == "jsonl"
            what, parse = ("JSON", _json_object) if is_json else ("Python", _python_dict)
            rows = _objects(path, form.columns, what, parse)
        chunks = _columns(rows)
    value = pa.int64() if kind == "npy" else pa.string()
    schema = pa.schema([(name, value) for name in form.columns])
    with pq.ParquetWriter(output, schema) as writer:
        for columns in chunks:
            writer.write_batch(pa.record_batch(list(columns), schema=schema))


def _columns(rows: Iterator[Sequence[Any]]) -> Iterator[list[Any]]:
    while chunk := list(itertools.islice(rows, CHUNK_ROWS)):
        yield list(zip(*chunk, strict=True))


def _open_array(path: Path, columns: Sequence[str]) -> np.ndarray:
    try:
        with np.errstate(over="raise"):  # of a shape that no file can have
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # of NumPy's parser, which raises whatever a damaged header leads to
        raise UserError(path, f"is not a complete .npy file of numbers: {error}") from error
    if not isinstance(array, np.ndarray) or array.shape[1:] != (len(columns),):
        shape, names = np.shape(array), list(columns)
        raise UserError(path, f"is not an array [rows, columns] with columns {names}, but {shape}")
    if array.dtype.kind not in "iu" or not np.can_cast(array.dtype, np.int64):
        raise UserError(path, f"holds {array.dtype}, not integers that fit into int64")
    return array


def _sequence_rows(items_path: Path, form: Format) -> Iterator[Sequence[str]]:
    """Rows of user, item and time from a file of items and the file of times beside it."""
    of_items, of_times = form.companion
    if items_path.name.count(of_items) != 1:
        raise UserError(
            items_path,
            f"is not the name of a file of items, which has {of_items!r} once, where that of its "
            f"times has {of_times!r} (the companion in config.formats)",
        )
    times_path = items_path.with_name(items_path.name.replace(of_items, of_times))
    if not times_path.exists():
        raise UserError(times_path, f"the file of the times of {items_path} does not exist")
    check_readable(times_path)
    with closing(lines(items_path)) as item_lines, closing(lines(times_path)) as time_lines:
        both = itertools.zip_longest(item_lines, time_lines)
        for number, (item_line, time_line) in enumerate(both, start=1):
            if item_line is None or time_line is None:
                shorter, longer = items_path, times_path
                if item_line is not None:
                    shorter, longer = times_path, items_path
                raise UserError(longer, f"line {number} has no counterpart in {shorter.name}")
            items, times = item_line.split(), time_line.split()
            if items[:1] != times[:1] or len(items) != len(times):
                raise UserError(
                    items_path,
                    f"line {number} has {_counted(items, 'items')}, but "
                    f"{_counted(times, 'times')} in {times_path.name}",
                )
            yield from ((items[0], *event) for event in zip(items[1:], times[1:], strict=True))


def _counted(words: Sequence[str], what: str) -> str:
    return f"{len(words) - 1} {what} of user {words[0]!r}" if words else "nothing"


def _objects(
    path: Path, columns: Sequence[str], what: str, parse: Callable[[str], dict[str, Any]]
) -> Iterator[Sequence[str | None]]:
    """Rows of the lines of a file, each of which is an object in `what`; these keys are read."""
    with closing(lines(path)) as numbered:
        for number, line in enumerate(numbered, start=1):
            if not line.strip():
                continue
            try:
                value = parse(line.strip())
            except (SyntaxError, TypeError, ValueError, MemoryError, RecursionError) as error:
                raise UserError(path, f"line {number} is no object in {what}: {error}") from error
            yield [_text(value.get(column)) for column in columns]


def _python_dict(line: str) -> dict[str, Any]:
    value = ast.literal_eval(line)
    if not isinstance(value, dict):
        raise ValueError(f"it is a {type(value).__name__}, not a Python dict")
    return value


class _Number(str):
    """A number of JSON as it is written: nothing of it is rounded."""


def _json_object(line: str) -> dict[str, Any]:
    value = _JSON.decode(line)
    if isinstance(value, list) or line.startswith("["):
        raise ValueError("it is a JSON array; write one object per line (jq -c '.[]')")
    if not isinstance(value, dict):
        raise ValueError("it is JSON, but no object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it has the key {twice!r} twice")
    return values


_JSON = json.JSONDecoder(
    object_pairs_hook=_unique, parse_float=_Number, parse_int=_Number, parse_constant=_Number
)


def _json(value: Any) -> str:
    """A value of JSON as text, with its numbers as they were written."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(k)}: {_json(v)}' for k, v in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_json, value))}]"
    return str(value) if isinstance(value, _Number) else json.dumps(value)


def _text(value: Any) -> str | None:
    if value is None or value == "":
        return None  # as an empty field of a CSV
    if isinstance(value, bool):
        return str(value).lower()
    text = _json(value) if isinstance(value, dict | list) else str(value)
    # Python 2 wrote characters beyond 16 bits as two surrogates, of which one may be missing.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
