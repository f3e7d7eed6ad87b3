"""Reads a prepared log: whole histories at random, or all events in order."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from array_record.python.array_record_data_source import ArrayRecordDataSource

from siren_rope_jax.base.errors import UserError, suggestion
from siren_rope_jax.data.schema import SPLITS, Schema

_CHUNK = 1 << 14  # histories read at once by `events`


@dataclasses.dataclass(frozen=True)
class Events:
    """Events of a log in global order: user 0's, oldest first, then user 1's, ...

    Attributes:
      rows: [N] of `Schema.event_dtype`.
      event: int64 [N], the global index of each.
      user: int32 [N].
    """

    rows: np.ndarray
    event: np.ndarray
    user: np.ndarray


@dataclasses.dataclass(frozen=True)
class PreparedLog:
    """A prepared log on disk.

    Attributes:
      path: its directory.
      schema: what its columns mean.
      index: int64 [U, 4]: the number of a user's events, and those in train, validation, test.
      report: what `prepare` counted.
      histories: the records by user; safe to share between threads and to send to processes.
    """

    path: Path
    schema: Schema
    index: np.ndarray
    report: Mapping[str, Any]
    histories: ArrayRecordDataSource

    @staticmethod
    def open(path: str | Path) -> "PreparedLog":
        """Opens the log in the directory `path`.

        Raises:
          UserError: nothing there, something missing, or another format version.
        """
        path = Path(path)
        meta_path = path / "meta.json"
        if not meta_path.is_file():
            raise UserError(
                f"{path} is no prepared log (it has no meta.json); "
                "write one with experiments/prepare.py"
            )
        try:
            meta = json.loads(meta_path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{meta_path} is damaged: {error}; prepare the log again") from error
        report = meta.pop("report", {})
        schema = Schema.from_json(meta, str(meta_path))
        needed = ["index.npy", "users.parquet"]
        needed += [f"vocabulary/{c.name}.parquet" for c in schema.categorical]
        if "content" not in report:
            raise UserError(f"{meta_path} has no hash of the content; prepare the log again")
        for name in needed:
            if not (path / name).is_file():
                raise UserError(f"{path} is incomplete: no {name}; prepare the log again")
        with _undamaged(path / "index.npy") as index_path:
            index = np.load(index_path, allow_pickle=False)
        histories = _open_histories(path)
        if len(histories) != len(index):
            raise UserError(
                f"{path} is incomplete: {len(histories)} histories for {len(index)} users; "
                "prepare the log again"
            )
        return PreparedLog(path, schema, index, report, histories)

    @cached_property
    def fingerprint(self) -> str:
        """Tells prepared logs apart: SHA-256 of what the log holds, whatever is told of it."""
        told = ("name", "source", "license")
        held = {key: value for key, value in self.schema.to_json().items() if key not in told}
        text = json.dumps([held, self.report["content"]], sort_keys=True)
        index = hashlib.sha256(np.ascontiguousarray(self.index).tobytes()).hexdigest()
        return hashlib.sha256((text + index).encode()).hexdigest()

    @cached_property
    def offsets(self) -> np.ndarray:
        """int64 [U + 1]: the global index of each user's first event, and the total."""
        return np.concatenate([[0], np.cumsum(self.index[:, 0])])

    def history(self, user: int) -> np.ndarray:
        """Returns one user's events, oldest first: [n] of `schema.event_dtype`, read-only."""
        return np.frombuffer(self.histories[user], self.schema.event_dtype)

    def histories_of(self, users: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """Returns the events of several users, each as `history`, in one read."""
        if not len(users):
            return []
        dtype = self.schema.event_dtype
        records = self.histories.__getitems__([int(user) for user in users])
        return [np.frombuffer(record, dtype) for record in records]

    def events(self, split: str | None = None) -> Events:
        """Returns all events, or those of one split, in global order.

        Raises:
          UserError: an unknown split.
        """
        if split is not None and split not in SPLITS:
            raise UserError(f"unknown split {split!r}{suggestion(split, SPLITS)}")
        counts = self.index[:, 0]
        rows = np.empty(counts.sum(), self.schema.event_dtype)
        begin = 0
        for first in range(0, len(counts), _CHUNK):
            users = range(first, min(first + _CHUNK, len(counts)))
            chunk = b"".join(self.histories.__getitems__(users))
            part = np.frombuffer(chunk, self.schema.event_dtype)
            rows[begin : begin + len(part)] = part
            begin += len(part)
        user = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        event = np.arange(len(rows), dtype=np.int64)
        if split is not None:
            keep = rows["split"] == SPLITS.index(split)
            rows, event, user = rows[keep], event[keep], user[keep]
        return Events(rows, event, user)

    def users(self) -> pa.ChunkedArray:
        """Returns the users' raw ids, by user index."""
        with _undamaged(self.path / "users.parquet") as path:
            return pq.read_table(path)["value"]

    @cached_property
    def user_numbers(self) -> dict[Any, int]:
        """The index of every user, by raw id."""
        return {user: number for number, user in enumerate(self.users().to_pylist())}

    def vocabulary(self, name: str) -> pa.Table:
        """Returns the vocabulary of a categorical feature: id, value, train_count, by id.

        Raises:
          UserError: no such feature.
        """
        names = [categorical.name for categorical in self.schema.categorical]
        if name not in names:
            raise UserError(f"no categorical feature {name!r}{suggestion(name, names)}")
        if name not in self._vocabularies:
            with _undamaged(self.path / "vocabulary" / f"{name}.parquet") as path:
                self._vocabularies[name] = pq.read_table(path)
        return self._vocabularies[name]

    @cached_property
    def _vocabularies(self) -> dict[str, pa.Table]:
        """Those read so far."""
        return {}

    def baselines(self) -> pd.DataFrame | None:
        """Returns the known floors beside the log (`event`, "<baseline>/<task>"), if it has any."""
        path = self.path / "baselines.parquet"
        return pq.read_table(path).to_pandas() if path.is_file() else None


@contextmanager
def _undamaged(path: Path) -> Iterator[Path]:
    """Turns what reading a damaged file raises into a message."""
    try:
        yield path
    except PermissionError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (EOFError, OSError, ValueError) as error:  # of Arrow too, whose errors are such
        raise UserError(f"{path} is damaged: {error}; prepare the log again") from error


def _open_histories(path: Path) -> ArrayRecordDataSource:
    files = sorted(path.glob("histories-*.arrayrecord"))
    shards = {re.fullmatch(r"histories-\d+-of-(\d+)\.arrayrecord", f.name) for f in files}
    totals = {int(match[1]) for match in shards if match}
    if totals != {len(files)}:
        raise UserError(f"{path} is incomplete: some histories-*.arrayrecord files are missing")
    try:
        return ArrayRecordDataSource(files)
    except Exception as error:  # array_record raises bare RuntimeErrors
        raise UserError(f"{files[0]} or its siblings are damaged: {error}") from error
