"""Reads a prepared log: parts of histories at random, or all events in order."""

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
from siren_rope_jax.base.files import file_digest, read_json
from siren_rope_jax.base.stores import local
from siren_rope_jax.data.schema import SPLITS, Schema

_CHUNK = 1 << 12  # records read at once by `events`


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
      records: the events, user by user; can be shared between threads and sent to other processes.
      record_events: events of a record; a user's last one may have fewer.
    """

    path: Path
    schema: Schema
    index: np.ndarray
    report: Mapping[str, Any]
    records: ArrayRecordDataSource
    record_events: int

    @staticmethod
    def open(path: str | Path) -> "PreparedLog":
        """Opens the log in the directory `path`, and verifies the checksums of all its files.

        A log in a store, named by its URL, is copied to this machine first (`base/stores.py`).

        A log of format version 3, by an earlier version of this package, has no checksums.

        Raises:
          UserError: it cannot be fetched, is not a prepared log, has another format version, or a
            file is missing, damaged or of another log.
        """
        path = local(path)
        meta_path = path / "meta.json"
        if not meta_path.is_file():
            raise UserError(
                path,
                "is not a prepared log (it has no meta.json); make one with `siren-rope prepare`",
            )
        meta = read_json(meta_path)
        if not isinstance(meta, dict):
            raise UserError(meta_path, "is damaged: it holds no object; prepare the log again")
        report, files = meta.pop("report", {}), meta.pop("files", {})
        record_events = meta.pop("record_events", 1 << 62)  # version 3 has one record per user
        schema = Schema.from_json(meta, str(meta_path))
        if "content" not in report:
            raise UserError(meta_path, "has no hash of the content; prepare the log again")
        vocabularies = [f"vocabulary/{c.name}.parquet" for c in schema.categorical]
        for name in ("index.npy", "users.parquet", *vocabularies, *files):
            if not (path / name).is_file():
                raise _incomplete(path, f"{name} is missing")
        for name, digest in files.items():
            if _read(path / name, file_digest) != digest:
                raise UserError(
                    path / name, "is damaged, or of another log; restore it or prepare it again"
                )
        index = _read(path / "index.npy", np.load)
        records = _open_records(path)
        log = PreparedLog(path, schema, index, report, records, record_events)
        if len(records) != log._first_records[-1]:
            raise _incomplete(path, f"it has {len(records)} records of {len(index)} users")
        return log

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what the log holds; its name, source and license do not count."""
        descriptive = ("name", "source", "license")
        held = {k: v for k, v in self.schema.to_json().items() if k not in descriptive}
        held["format_version"] = 3  # so that a log keeps its fingerprint if it is prepared again
        text = json.dumps([held, self.report["content"]], sort_keys=True)
        index = hashlib.sha256(np.ascontiguousarray(self.index).tobytes()).hexdigest()
        return hashlib.sha256((text + index).encode()).hexdigest()

    def with_all_values(self, names: Sequence[str] | None = None) -> "PreparedLog":
        """The same log for a model that knows every value, also those that are not in train.

        Args:
          names: the categorical features; None: all of them.
        """
        categorical = tuple(
            dataclasses.replace(c, known=c.values) if names is None or c.name in names else c
            for c in self.schema.categorical
        )
        schema = dataclasses.replace(self.schema, categorical=categorical)
        return dataclasses.replace(self, schema=schema)

    @cached_property
    def offsets(self) -> np.ndarray:
        """int64 [U + 1]: the global index of each user's first event, and the total."""
        return np.concatenate([[0], np.cumsum(self.index[:, 0])])

    @cached_property
    def _first_records(self) -> np.ndarray:
        """int64 [U + 1]: each user's first record, and the total."""
        count = np.maximum(-(-self.index[:, 0] // self.record_events), 1)
        return np.concatenate([[0], np.cumsum(count)])

    def history(self, user: int) -> np.ndarray:
        """Returns one user's events, oldest first: [n] of `schema.event_dtype`, read-only."""
        (events,) = self.histories_of([user])
        return events

    def histories_of(self, users: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """Returns all events of several users, each as `history`, in one read."""
        users = np.asarray(users, np.int64)
        return self.windows(users, np.zeros(len(users), np.int64), self.index[users, 0])

    def windows(self, user: np.ndarray, start: np.ndarray, stop: np.ndarray) -> list[np.ndarray]:
        """Returns the events [start, stop) of users, in one read of the records they lie in.

        Args:
          user: int [W].
          start: int [W], counted from a user's first event.
          stop: int [W]; no window is empty.
        """
        if not len(user):
            return []
        size = self.record_events
        first = self._first_records[user] + start // size
        count = (stop - 1) // size - start // size + 1
        wanted = np.repeat(first - np.cumsum(count) + count, count) + np.arange(count.sum())
        dtype, records = self.schema.event_dtype, self._records(wanted.tolist())
        windows, at = [], 0
        for begin, end, n in zip(start.tolist(), stop.tolist(), count.tolist(), strict=True):
            joined = records[at] if n == 1 else b"".join(records[at : at + n])
            skipped = begin % size
            window = np.frombuffer(joined, dtype)[skipped : skipped + end - begin]
            if len(window) != end - begin:
                raise UserError(self.path, "its records and its index differ; prepare it again")
            windows.append(window)
            at += n
        return windows

    def _records(self, numbers: Sequence[int]) -> list[bytes]:
        try:
            return self.records.__getitems__(numbers)
        except Exception as error:  # array_record raises bare RuntimeErrors
            raise UserError(
                self.path, f"its histories are damaged: {error}; prepare the log again"
            ) from error

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
        at = 0
        for first in range(0, len(self.records), _CHUNK):
            numbers = range(first, min(first + _CHUNK, len(self.records)))
            read = np.frombuffer(b"".join(self._records(numbers)), dtype)
            if at + len(read) > len(rows):
                raise _incomplete(self.path, "it has more events than its index counts")
            rows[at : at + len(read)] = read
            at += len(read)
        if at < len(rows):
            raise _incomplete(self.path, "it has fewer events than its index counts")
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

    def value_ids(self, name: str) -> dict[Any, int]:
        """The id of every raw value of a categorical feature.

        Raises:
          UserError: no such feature.
        """
        if name not in self._value_ids:
            values = self.vocabulary(name)["value"].to_pylist()
            self._value_ids[name] = {value: id for id, value in enumerate(values, start=1)}
        return self._value_ids[name]

    @cached_property
    def _value_ids(self) -> dict[str, dict[Any, int]]:
        """The ids that were asked for so far, by feature."""
        return {}

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


def _open_records(path: Path) -> ArrayRecordDataSource:
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
