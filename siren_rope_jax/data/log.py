"""Reads a prepared log: whole histories at random, or all events in order."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
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
    """Events of a log in global order: those of user 0, oldest first, then those of user 1, ...

    Attributes:
      rows: [N] of `Schema.event_dtype`.
      event: int64 [N], the global index of each.
      user: int32 [N], the index of its user.
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
      index: int64 [U, 4]: the number of a user's events, and of those in each of the splits.
      report: what `prepare` counted.
      histories: the records by user; can be shared between threads and sent to other processes.
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
          UserError: it is not a prepared log, has another format version, or a file is missing or
            damaged.
        """
        path = Path(path)
        meta_path = path / "meta.json"
        if not meta_path.is_file():
            raise UserError(
                path,
                "is not a prepared log (it has no meta.json); make one with experiments/prepare.py",
            )
        meta = _read(meta_path, lambda path: json.loads(path.read_text(encoding="utf-8")))
        report = meta.pop("report", {})
        schema = Schema.from_json(meta, str(meta_path))
        if "content" not in report:
            raise UserError(meta_path, "has no hash of the content; prepare the log again")
        vocabularies = [f"vocabulary/{c.name}.parquet" for c in schema.categorical]
        for name in ("index.npy", "users.parquet", *vocabularies):
            if not (path / name).is_file():
                raise _incomplete(path, f"{name} is missing")
        index = _read(path / "index.npy", np.load)
        histories = _open_histories(path)
        if len(histories) != len(index):
            raise _incomplete(path, f"it has {len(histories)} histories of {len(index)} users")
        return PreparedLog(path, schema, index, report, histories)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what the log holds; its name, source and license do not count."""
        descriptive = ("name", "source", "license")
        held = {k: v for k, v in self.schema.to_json().items() if k not in descriptive}
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
            raise UserError("split", f"there is no split {split!r}{suggestion(split, SPLITS)}")
        users, dtype = len(self.index), self.schema.event_dtype
        user = np.repeat(np.arange(users, dtype=np.int32), self.index[:, 0])
        event = np.arange(len(user), dtype=np.int64)
        rows = np.empty(len(user), dtype)
        for first in range(0, users, _CHUNK):
            stop = min(first + _CHUNK, users)
            chunk = b"".join(self.histories.__getitems__(range(first, stop)))
            rows[self.offsets[first] : self.offsets[stop]] = np.frombuffer(chunk, dtype)
        if split is not None:
            keep = rows["split"] == SPLITS.index(split)
            rows, event, user = rows[keep], event[keep], user[keep]
        return Events(rows, event, user)

    def users(self) -> pa.ChunkedArray:
        """Returns the raw ids of the users, by user index."""
        return _read(self.path / "users.parquet", pq.read_table)["value"]

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
            raise UserError(
                "name", f"{name!r} is not a categorical feature of the log{suggestion(name, names)}"
            )
        if name not in self._vocabularies:
            path = self.path / "vocabulary" / f"{name}.parquet"
            self._vocabularies[name] = _read(path, pq.read_table)
        return self._vocabularies[name]

    @cached_property
    def _vocabularies(self) -> dict[str, pa.Table]:
        """The vocabularies that were read so far, by feature."""
        return {}

    def baselines(self) -> pd.DataFrame | None:
        """Returns known probabilities (`event`, "<baseline>/<task>"), if the log comes with any."""
        path = self.path / "baselines.parquet"
        return _read(path, pq.read_table).to_pandas() if path.is_file() else None


def _incomplete(path: Path, why: str) -> UserError:
    return UserError(path, f"is incomplete: {why}; prepare the log again")


def _read(path: Path, read: Callable[[Path], Any]) -> Any:
    """What `read` makes of a file; a `UserError` about the file if that fails."""
    try:
        return read(path)
    except PermissionError as error:
        raise UserError(path, f"cannot be read: {error.strerror}") from error
    except (EOFError, OSError, ValueError) as error:  # the base classes of Arrow's errors, too
        raise UserError(path, f"is damaged: {error}; prepare the log again") from error


def _open_histories(path: Path) -> ArrayRecordDataSource:
    files = sorted(path.glob("histories-*.arrayrecord"))
    shards = {re.fullmatch(r"histories-\d+-of-(\d+)\.arrayrecord", f.name) for f in files}
    totals = {int(match[1]) for match in shards if match}
    if totals != {len(files)}:
        raise _incomplete(path, "histories-*.arrayrecord files are missing")
    try:
        return ArrayRecordDataSource(files)
    except Exception as error:  # array_record raises bare RuntimeErrors
        raise UserError(
            files[0], f"is damaged, or one of its siblings is: {error}; prepare the log again"
        ) from error
