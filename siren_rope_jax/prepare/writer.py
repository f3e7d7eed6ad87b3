"""Writes a prepared log, the same way for every source: complete, or not at all."""

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from array_record.python import array_record_module

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.data.schema import SPLITS, Schema

SHARD_BYTES = 1 << 28
"""A new histories file begins once the last one holds this many bytes of rows."""


class Written(NamedTuple):
    """What was written of the histories.

    Attributes:
      counts: int64 [U, 4], as in index.npy.
      sha256: of all records, one after the other.
    """

    counts: np.ndarray
    sha256: str


def check_new(output: str | Path) -> None:
    """Refuses a directory to write that has anything in it.

    Raises:
      UserError: `output` exists and is not an empty directory.
    """
    output = Path(output).absolute()
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise UserError(f"{output} exists and is not empty; remove it or name another output")


@contextlib.contextmanager
def new_directory(output: str | Path) -> Iterator[Path]:
    """Yields a temporary sibling of `output`, renamed to it on success and removed on failure.

    Raises:
      UserError: `output` exists and is not an empty directory, or cannot be made.
    """
    check_new(output)
    output = Path(output).absolute()
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror}") from error
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp's directories are for their owner alone
        temporary.rename(output)  # replaces an empty directory
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def vocabulary(values: Sequence[Any] | np.ndarray | pa.Array, train_counts: np.ndarray) -> pa.Table:
    """Returns a vocabulary table whose ids 1, 2, ... are given to the values as ordered here.

    The order must be by falling train count, so that the ids a model knows come first.
    """
    counts = np.asarray(train_counts, np.int64)
    if np.any(np.diff(counts) > 0):
        raise ValueError("vocabulary: values must come by falling train count")
    return pa.table(
        {
            "id": np.arange(1, len(counts) + 1, dtype=np.int32),
            "value": values if isinstance(values, pa.Array) else pa.array(values),
            "train_count": counts,
        }
    )


def encode_ids(values: np.ndarray, in_train: np.ndarray) -> tuple[np.ndarray, pa.Table]:
    """Encodes an array of raw values: ids by falling train count, then by value.

    Args:
      values: [N] raw values of one categorical feature, none absent.
      in_train: [N] bool, the events that count.

    Returns:
      int32 [N] ids from 1, and the vocabulary table.
    """
    unique, inverse = np.unique(values, return_inverse=True)
    counts = np.bincount(inverse[in_train], minlength=len(unique))
    order = np.lexsort((np.arange(len(unique)), -counts))
    ids = np.empty(len(unique), np.int32)
    ids[order] = np.arange(1, len(unique) + 1)
    return ids[inverse], vocabulary(unique[order], counts[order])


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
      histories: one array of `schema.event_dtype` per user, in the order of `users`, each oldest
        event first; consumed as a stream, read once.
      users: the raw ids.
      vocabularies: by name, one for each of `schema.categorical` (see `vocabulary`).
      report: what to tell the reader of meta.json; JSON values only.
      baselines: optional table with `event` and one column per "<baseline>/<task>".

    Returns:
      the report as written: with "content", as `write_description` adds it.

    Raises:
      UserError: `output` exists and is not empty.
      ValueError: the arguments do not fit together.
    """
    with new_directory(output) as directory:
        written = write_histories(directory, schema.event_dtype, histories)
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
    """Writes all of a prepared log but its histories, of which it takes `written`; meta.json last.

    Returns:
      the report, with "content": SHA-256 of histories, users and vocabularies, the same for the
      same ones. A log's fingerprint is made of it.
    """
    names = [categorical.name for categorical in schema.categorical]
    if sorted(names) != sorted(vocabularies):
        raise ValueError(f"vocabularies of {sorted(vocabularies)}, but features {sorted(names)}")
    if len(written.counts) != len(users):
        raise ValueError(f"{len(written.counts)} histories, but {len(users)} users")
    np.save(directory / "index.npy", written.counts, allow_pickle=False)
    user_table = pa.table(
        {
            "user": np.arange(len(users), dtype=np.int32),
            "value": users if isinstance(users, pa.Array | pa.ChunkedArray) else pa.array(users),
        }
    )
    pq.write_table(user_table, directory / "users.parquet")
    (directory / "vocabulary").mkdir()
    for name, table in vocabularies.items():
        pq.write_table(table, directory / "vocabulary" / f"{name}.parquet")
    if baselines is not None:
        pq.write_table(baselines, directory / "baselines.parquet")
    tables = {"users": user_table, **{name: vocabularies[name] for name in names}}
    complete = dict(report) | {"content": _content(written, tables)}
    meta = schema.to_json() | {"report": complete}
    text = json.dumps(meta, indent=2, allow_nan=False)
    (directory / "meta.json").write_text(text + "\n", encoding="utf-8")
    return complete


def _content(written: Written, tables: Mapping[str, pa.Table]) -> str:
    """SHA-256 of the records and of the tables' values, however Arrow holds them."""
    digest = hashlib.sha256(written.sha256.encode())
    for name, table in tables.items():
        for column in table.column_names:
            digest.update(f"{name}/{column}\n".encode())
            for chunk in table[column].chunks:
                lines = (f"{value!r}\n" for value in chunk.to_pylist())
                digest.update("".join(lines).encode(errors="surrogatepass"))
    return digest.hexdigest()


def write_histories(directory: Path, dtype: np.dtype, histories: Iterable[np.ndarray]) -> Written:
    """Writes one record per history."""
    digest = hashlib.sha256()
    counts: list[np.ndarray] = []
    shards: list[Path] = []
    writer, room = None, 0
    try:
        for rows in histories:
            if rows.dtype != dtype:
                raise ValueError(f"history {len(counts)} has dtype {rows.dtype}, not {dtype}")
            if writer is None or room <= 0:
                if writer is not None:
                    writer.close()
                shards.append(directory / f"histories-{len(shards):05d}")
                # group_size 1: each history can be read without its neighbours.
                writer = array_record_module.ArrayRecordWriter(str(shards[-1]), "group_size:1")
                room = SHARD_BYTES
            record = rows.tobytes()
            writer.write(record)
            digest.update(record)
            room -= len(record)
            counts.append(np.bincount(rows["split"], minlength=len(SPLITS)))
    finally:
        if writer is not None:
            writer.close()
    for number, shard in enumerate(shards):
        shard.rename(directory / f"histories-{number:05d}-of-{len(shards):05d}.arrayrecord")
    splits = np.asarray(counts, np.int64).reshape(-1, len(SPLITS))
    index = np.concatenate([splits.sum(axis=1, keepdims=True), splits], axis=1)
    return Written(index, digest.hexdigest())
