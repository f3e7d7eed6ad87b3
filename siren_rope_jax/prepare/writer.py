"""Writes a prepared log from any source: complete, or not at all."""

import contextlib
import errno
import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from array_record.python import array_record_module

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.files import LOCK, expanded, file_digest, locked, write_json
from siren_rope_jax.data.schema import SPLITS, Categorical, Schema
from siren_rope_jax.prepare.config import to_iso
from siren_rope_jax.prepare.histories import Block

SHARD_BYTES = 1 << 28
"""A new histories file begins once the last one has this many bytes of rows."""

RECORD_EVENTS = 1 << 10
"""Events of a record: a window of a long history is read without the rest of it."""

_HASHED_VALUES = 1 << 16  # that are Python objects at the same time
_UNFINISHED = ".unfinished-log-"  # in the name of what is being written

Written = tuple[np.ndarray, str]
"""What was written: int64 [U, 4] as in index.npy, and the SHA-256 of all records, concatenated."""


def check_new(output: str | Path) -> None:
    """Raises a UserError if `output` exists and is not an empty directory."""
    path = expanded(output)
    try:
        is_empty = path.is_dir() and not path.is_symlink() and not any(path.iterdir())
        in_use = os.path.lexists(path) and not is_empty
    except (OSError, ValueError) as error:  # such as a name that holds NUL
        raise UserError(output, f"cannot be used: {error}") from error
    if in_use:
        what = "is a link" if path.is_symlink() else "exists and is not empty"
        raise UserError(output, f"{what}; remove it or name another output")


@contextlib.contextmanager
def new_directory(output: str | Path) -> Iterator[Path]:
    """Yields a temporary sibling of `output`, renamed to it on success and removed on failure.

    What processes that were killed have left of the same output is removed first.

    Raises:
      UserError: as `check_new`, `output` cannot be created, or its disk is full.
    """
    check_new(output)
    path = expanded(output).absolute()
    prefix = f".{path.name}{_UNFINISHED}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path.parent.glob(f"{glob.escape(prefix)}*"))
        temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
    except OSError as error:
        raise UserError(output, f"cannot be written: {error.strerror}") from error
    try:
        with locked(temporary, "is in use"):
            yield temporary
            temporary.chmod(0o755)  # only the owner can read the directories that mkdtemp makes
            temporary.rename(path)  # replaces an empty directory
            (path / LOCK).unlink()  # afterwards: else it would look abandoned before
    except Exception as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        if full or "No space left on device" in str(error):
            problem = f"the disk of {path.parent} is full; nothing was written"
            raise UserError(output, problem) from error
        if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise UserError(output, "was made by another process meanwhile") from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_abandoned(directories: Iterable[Path]) -> None:
    """Removes those with a lock that no process holds any more."""
    for directory in directories:
        if (directory / LOCK).is_file():
            with contextlib.suppress(UserError), locked(directory, "is in use"):
                shutil.rmtree(directory, ignore_errors=True)


def vocabulary(values: Sequence[Any] | np.ndarray | pa.Array, train_counts: np.ndarray) -> pa.Table:
    """Returns a vocabulary table that gives the ids 1, 2, ... to the values in this order.

    Raises:
      ValueError: the train counts increase, so that the ids that a model knows would not come
        first.
    """
    counts = np.asarray(train_counts, np.int64)
    if np.any(np.diff(counts) > 0):
        raise ValueError("vocabulary: the train counts of the values must not increase")
    ids = np.arange(1, len(counts) + 1, dtype=np.int32)
    return pa.table({"id": ids, "value": values, "train_count": counts})


def encode_ids(values: np.ndarray, in_train: np.ndarray) -> tuple[np.ndarray, pa.Table]:
    """Encodes [N] values, none absent, as int32 [N] ids from 1; also returns their vocabulary.

    The ids are ordered by decreasing count in train (`in_train`: bool [N]), then by value.
    """
    unique, inverse = np.unique(values, return_inverse=True)
    counts = np.bincount(inverse[in_train], minlength=len(unique))
    order = np.argsort(-counts, kind="stable")
    ids = (1 + np.argsort(order)).astype(np.int32)
    return ids[inverse], vocabulary(unique[order], counts[order])


def categorical(name: str, vocabulary: pa.Table, min_count: int, most: int = 0) -> Categorical:
    """The feature with this vocabulary; a model knows what train has `min_count` times or more.

    An event has a list of up to `most` values, or one value if that is 0.
    """
    known = vocabulary["train_count"].to_numpy() >= min_count
    return Categorical(name, len(vocabulary), int(known.sum()), most)


def seen_values(vocabulary: pa.Table) -> int:
    """How many of its values, which are the first ones, occur in train."""
    return int((vocabulary["train_count"].to_numpy() > 0).sum())


def write_log(
    output: str | Path,
    schema: Schema,
    histories: Iterable[np.ndarray],
    users: Sequence[Any] | np.ndarray | pa.Array,
    vocabularies: Mapping[str, pa.Table],
    report: Mapping[str, Any],
    baselines: pa.Table | None = None,
) -> dict[str, Any]:
    """Writes a prepared log to `output`, which appears only when it is complete.

    Args:
      output: a directory that does not exist yet, or is empty.
      schema: describes the rows.
      histories: one array of `schema.event_dtype` per user, in the order of `users`, oldest event
        first; they are read once, as a stream.
      users: the raw ids.
      vocabularies: by name, one for each of `schema.categorical` (see `vocabulary`).
      report: facts for the reader of meta.json; JSON values only.
      baselines: optional table with `event` and one column per "<baseline>/<task>".

    Returns:
      the report with the additions of `write_description`.

    Raises:
      UserError: `output` exists and is not empty.
      ValueError: the arguments do not fit together.
    """
    with new_directory(output) as directory:
        blocks = ((rows, np.array([len(rows)])) for rows in histories)
        written = write_histories(directory, schema.event_dtype, blocks)
        return write_description(directory, schema, written, users, vocabularies, report, baselines)


def write_description(
    directory: Path,
    schema: Schema,
    written: Written,
    users: Sequence[Any] | np.ndarray | pa.Array,
    vocabularies: Mapping[str, pa.Table],
    report: Mapping[str, Any],
    baselines: pa.Table | None = None,
) -> dict[str, Any]:
    """Writes everything but the histories, which were `written` before; meta.json comes last.

    Returns:
      the report with the protocol and the times of the schema, and "content": SHA-256 of the values
      of histories, users and vocabularies, from which the log's fingerprint is made. Beside it,
      meta.json has the SHA-256 of every other file.
    """
    index, records = written
    names = [categorical.name for categorical in schema.categorical]
    if sorted(names) != sorted(vocabularies):
        raise ValueError(f"vocabularies of {sorted(vocabularies)}, features {sorted(names)}")
    if len(index) != len(users):
        raise ValueError(f"{len(index)} histories, but {len(users)} users")
    np.save(directory / "index.npy", index, allow_pickle=False)
    user_table = pa.table({"user": np.arange(len(users), dtype=np.int32), "value": users})
    pq.write_table(user_table, directory / "users.parquet")
    (directory / "vocabulary").mkdir()
    for name, table in vocabularies.items():
        pq.write_table(table, directory / "vocabulary" / f"{name}.parquet")
    if baselines is not None:
        pq.write_table(baselines, directory / "baselines.parquet")
    tables = {"users": user_table, **{name: vocabularies[name] for name in names}}
    complete = {
        **report,
        "protocol": schema.protocol,
        "first_time": to_iso(schema.train_start),
        "train_end": to_iso(schema.train_end),
        "validation_end": to_iso(schema.validation_end),
        "last_time": to_iso(schema.end),
        "content": _content(records, tables),
    }
    written_files = [*directory.glob("*.*"), *directory.glob("vocabulary/*")]
    files = {
        path.relative_to(directory).as_posix(): file_digest(path)
        for path in sorted(written_files)
        if path.is_file() and path.name != LOCK
    }
    meta = schema.to_json() | {"report": complete, "files": files}
    write_json(directory / "meta.json", meta | {"record_events": RECORD_EVENTS})
    return complete


def _content(records: str, tables: Mapping[str, pa.Table]) -> str:
    """SHA-256 of the records' SHA-256 and of the tables' values, however Arrow stores these."""
    digest = hashlib.sha256(records.encode())
    for name, table in tables.items():
        for column in table.column_names:
            digest.update(f"{name}/{column}\n".encode())
            for some in table.select([column]).to_batches(max_chunksize=_HASHED_VALUES):
                lines = (f"{value!r}\n" for value in some[0].to_pylist())
                digest.update("".join(lines).encode(errors="surrogatepass"))
    return digest.hexdigest()


def write_histories(directory: Path, dtype: np.dtype, blocks: Iterable[Block]) -> Written:
    """Writes each history as records of `RECORD_EVENTS` events; the last one may have fewer."""
    digest = hashlib.sha256()
    splits = [np.zeros((0, len(SPLITS)), np.int32)]
    shards: list[Path] = []
    writer, room, size = None, 0, dtype.itemsize
    try:
        for rows, counts in blocks:
            if rows.dtype != dtype:
                raise ValueError(f"a history has dtype {rows.dtype}, not {dtype}")
            data, begin = rows.tobytes(), 0
            digest.update(data)
            for count in counts.tolist():
                if writer is None or room <= 0:
                    if writer is not None:
                        writer.close()
                    shards.append(directory / f"histories-{len(shards):05d}")
                    # group_size 1: each record can be read without its neighbours.
                    writer = array_record_module.ArrayRecordWriter(str(shards[-1]), "group_size:1")
                    room = SHARD_BYTES
                end = begin + count
                for first in range(begin, max(end, begin + 1), RECORD_EVENTS):
                    writer.write(data[first * size : min(first + RECORD_EVENTS, end) * size])
                room -= count * size
                begin = end
            cells = np.repeat(np.arange(len(counts)), counts) * len(SPLITS) + rows["split"]
            counted = np.bincount(cells, minlength=len(counts) * len(SPLITS))
            splits.append(counted.astype(np.int32).reshape(-1, len(SPLITS)))
    finally:
        if writer is not None:
            writer.close()
    for number, shard in enumerate(shards):
        shard.rename(directory / f"histories-{number:05d}-of-{len(shards):05d}.arrayrecord")
    index = np.empty((sum(map(len, splits)), 1 + len(SPLITS)), np.int64)
    np.concatenate(splits, out=index[:, 1:])
    np.sum(index[:, 1:], axis=1, out=index[:, 0])
    return index, digest.hexdigest()
