"""The description of a prepared log: its columns, its vocabularies and its split.

A prepared log is a directory:

    meta.json                             `Schema` and the report of how it was made
    histories-00000-of-0000N.arrayrecord  one record per user: packed rows of `Schema.event_dtype`
    index.npy                             int64 [U, 4]: events, and those in train, validation, test
    users.parquet                         user (int32), value (the raw id)
    vocabulary/NAME.parquet               id (int32), value (the raw one), train_count (int64)
    baselines.parquet                     optional: event (int64), "<baseline>/<task>" probabilities

Times are integers: Unix seconds UTC, from 1902 to 2100, never a float.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np

from siren_rope_jax.base.errors import UserError, suggestion

FORMAT_VERSION = 3
SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)

Protocol = Literal["time", "leave_one_out"]
"""How events are parted: by one time for all, or each user's last two from the rest."""

NO_LABEL = -1
"""The label of an event that has none for this task."""


@dataclasses.dataclass(frozen=True)
class Categorical:
    """A categorical feature. Id 0: absent. Ids 1..known: seen often enough in train.

    The file keeps every value apart, ids 1..values; a model knows only the first `known`.
    """

    name: str
    values: int
    known: int

    @property
    def rows(self) -> int:
        """Rows of a model's embedding table: the known ids, and row 0 for all that is unknown."""
        return self.known + 1

    def known_ids(self, ids: np.ndarray) -> np.ndarray:
        """Returns the ids a model sees: those above `known` become 0."""
        return np.where(ids > self.known, 0, ids).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Dense:
    """A real-valued column with its mean and standard deviation over the train events.

    `std` is 1 for a constant column, so that (x - mean) / std is always finite.
    """

    name: str
    mean: float = 0.0
    std: float = 1.0


@dataclasses.dataclass(frozen=True)
class Schema:
    """What the columns of a prepared log mean.

    Attributes:
      name: the data set's name.
      categorical: the categorical features of an event's item, "item" first.
      dense: real-valued features of an event, known before its actions.
      context: real-valued features of the request, for the head alone.
      actions: what the user did with the item, besides the labels; never an input of its own event.
      tasks: the binary labels' names.
      has_utc_offset: whether `utc_offset` says anything (else it is 0 everywhere).
      time_zone: the one zone that `utc_offset` is of, as the IANA database names it; empty: that of
        an event was told otherwise, or not at all.
      train_start: time of the log's earliest event (Unix seconds, as are the other three).
      train_end: all of train is before it. By "time" nothing else is; under "leave_one_out", where
        other splits' events may be too, it is the second after the last train event.
      validation_end: all of train and validation is before it, likewise.
      end: time of the log's last event.
      source: where the log came from.
      license: the publisher's terms.
      protocol: "time": train is time < train_end, validation train_end <= time < validation_end,
        test the rest. "leave_one_out": of a user with three events or more, the last one is test
        and the one before it validation; all else is train. Under both a user's events of train
        come first, then those of validation, then those of test.
    """

    name: str
    categorical: tuple[Categorical, ...]
    dense: tuple[Dense, ...]
    context: tuple[Dense, ...]
    actions: tuple[Dense, ...]
    tasks: tuple[str, ...]
    has_utc_offset: bool
    train_start: int
    train_end: int
    validation_end: int
    end: int
    source: str = ""
    license: str = ""
    protocol: Protocol = "time"
    time_zone: str = ""

    @property
    def event_dtype(self) -> np.dtype:
        """The packed little-endian row of one event, as stored in a record."""
        fields = [("time", "<i8"), ("utc_offset", "<i4"), ("split", "<u1")]
        fields += [(f"categorical/{c.name}", "<i4") for c in self.categorical]
        fields += [(f"dense/{d.name}", "<f4") for d in self.dense]
        fields += [(f"context/{d.name}", "<f4") for d in self.context]
        fields += [(f"action/{d.name}", "<f4") for d in self.actions]
        fields += [(f"task/{task}", "<i1") for task in self.tasks]
        return np.dtype(fields)

    def to_json(self) -> dict[str, Any]:
        """Returns plain dicts, lists and numbers, `from_json`'s inverse."""
        return {"format_version": FORMAT_VERSION} | dataclasses.asdict(self)

    @staticmethod
    def from_json(meta: Mapping[str, Any], where: str = "meta.json") -> "Schema":
        """Reads what `to_json` wrote; `where` names the file in messages.

        Raises:
          UserError: another format version, a missing or an unknown entry or protocol.
        """
        version = meta.get("format_version")
        if version != FORMAT_VERSION:
            raise UserError(
                f"{where}: format version {version!r}, but this program reads {FORMAT_VERSION}; "
                "prepare the log again"
            )
        entries = {k: v for k, v in meta.items() if k != "format_version"}
        names = {field.name for field in dataclasses.fields(Schema)}
        for key in entries:
            if key not in names:
                raise UserError(f"{where}: unknown entry {key!r}{suggestion(key, names)}")
        if missing := names - set(entries):
            raise UserError(f"{where}: no entry {sorted(missing)[0]!r}; prepare the log again")
        if entries["protocol"] not in get_args(Protocol):
            raise UserError(f"{where}: unknown protocol {entries['protocol']!r}")
        entries["categorical"] = tuple(Categorical(**c) for c in entries["categorical"])
        for group in ("dense", "context", "actions"):
            entries[group] = tuple(Dense(**d) for d in entries[group])
        entries["tasks"] = tuple(entries["tasks"])
        return Schema(**entries)


def split_of_times(times: np.ndarray, train_end: int, validation_end: int) -> np.ndarray:
    """Returns the split (uint8 0, 1, 2) of known times in Unix seconds."""
    return ((times >= train_end).astype(np.uint8)) + (times >= validation_end).astype(np.uint8)
