"""The description of a prepared log: its columns, its vocabularies and its split.

A prepared log is a directory:

    meta.json                             `Schema`, the report of how it was made, and the SHA-256
                                          of every other file
    histories-00000-of-0000N.arrayrecord  packed rows of `Schema.event_dtype`, user by user; each
                                          record holds a user's next "record_events" events
    index.npy                             int64 [U, 4]: events, and those in train, validation, test
    users.parquet                         user (int32), value (the raw id)
    vocabulary/NAME.parquet               id (int32), value (the raw one), train_count (int64)
    baselines.parquet                     optional: event (int64), "<baseline>/<task>" probabilities

Times are integers: Unix seconds UTC, from 1902 to 2100, never a float.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

import numpy as np

from siren_rope_jax.base.config import from_config_dict, to_dict
from siren_rope_jax.base.errors import UserError

FORMAT_VERSION = 4
_READ = (3, FORMAT_VERSION)  # 3: one record per user, and no checksums

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
TRAIN, VALIDATION, TEST = range(3)

Protocol = Literal["time", "leave_one_out", "by_user"]
"""How events are split: at two global times, by taking each user's last two events, or by user."""

NO_LABEL = -1
"""Stands for the label of an event that has none for a binary task; of other tasks, NaN does."""

PREFIXES = {
    "categorical": "categorical",
    "dense": "dense",
    "context": "context",
    "actions": "action",
    "tasks": "task",
    "ordinal": "ordinal",
    "regression": "regression",
}
"""The columns that hold a group of a `Schema`: those of `actions` are called "action/NAME"."""

LABELS = ("tasks", "ordinal", "regression")
"""The groups of a `Schema` that are labels, in the order of a model's tasks."""


def bare_names(columns: Iterable[str]) -> dict[str, str]:
    """What users call columns: "x" for "dense/x", unless another column has that name as well.

    The item is always "item".
    """
    bare = {column: column.partition("/")[2] or column for column in columns}
    count = Counter(bare.values())
    return {
        column: name if count[name] == 1 or column == "categorical/item" else column
        for column, name in bare.items()
    }


@dataclasses.dataclass(frozen=True)
class Categorical:
    """A categorical feature. Id 0 means that an event has no value.

    Every value has an id of its own in 1..values; a model knows only the first `known` of them,
    which were seen often enough in train.

    An event has one value if `most` is 0; else it has a list of up to `most` different ones, whose
    ids ascend and are followed by zeros.
    """

    name: str
    values: int
    known: int
    most: int = 0

    @property
    def rows(self) -> int:
        """Rows of a model's embedding table: the known ids, and row 0 for everything else."""
        return self.known + 1

    def known_ids(self, ids: np.ndarray) -> np.ndarray:
        """Returns the ids that a model sees: those above `known` become 0."""
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
class Count:
    """An integer signal of events, from 0; `most` is its largest value in train."""

    name: str
    most: int


@dataclasses.dataclass(frozen=True)
class OrdinalLabel:
    """A label that takes one of a few ordered values.

    Attributes:
      name: of the label.
      values: those of train, ascending.
      shares: how often each of them occurs there; their sum is 1.
    """

    name: str
    values: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()

    @property
    def mean(self) -> float:
        """Of the values, however often each occurs."""
        return float(np.mean(self.values))

    @property
    def std(self) -> float:
        """Of the values, likewise."""
        return float(np.std(self.values))


@dataclasses.dataclass(frozen=True)
class Schema:
    """What the columns of a prepared log mean.

    Attributes:
      name: the data set's name.
      categorical: the categorical features of an event's item, "item" first.
      dense: real-valued features of an event, known before its actions.
      context: real-valued features of the request, for the prediction head alone.
      actions: what the user did with the item, besides the labels; never an input of its own event.
      tasks: the names of the binary labels.
      has_utc_offset: whether the log states UTC offsets; without, `utc_offset` is 0 everywhere.
      train_start: time of the log's earliest event (Unix seconds, as are the other three).
      train_end: all train events are earlier. With "time" no others are; with "leave_one_out",
        or "by_user", where others may be, it is the second after the last train event.
      validation_end: all train and validation events are earlier; the same goes for others.
      end: time of the log's last event.
      source: where the log came from.
      license: the publisher's terms.
      protocol: "time": train is time < train_end, validation train_end <= time < validation_end,
        test the rest. "leave_one_out": of a user with three events or more, the last one is test
        and the one before it validation; everything else is train. "by_user": all events of a user
        are in one split. Always, a user's train events come first, then those of validation, then
        those of test.
      time_zone: name in the IANA database of the one zone that `utc_offset` follows; empty if there
        is no such zone.
      ordinal: the labels that take one of a few ordered values.
      regression: the real-valued labels.
      counts: integer signals that may drive the rotation, beside time and index.
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
    ordinal: tuple[OrdinalLabel, ...] = ()
    regression: tuple[Dense, ...] = ()
    counts: tuple[Count, ...] = ()

    @property
    def label_columns(self) -> dict[str, str]:
        """The column of every label by the name of its task, in the order of a model's tasks."""
        binary = {task: f"task/{task}" for task in self.tasks}
        ordinal = {label.name: f"ordinal/{label.name}" for label in self.ordinal}
        regression = {label.name: f"regression/{label.name}" for label in self.regression}
        return binary | ordinal | regression

    @property
    def outcomes(self) -> dict[str, Dense | OrdinalLabel]:
        """The real-valued columns of what came of an event; NaN where it is unknown.

        They are the actions and the labels that are not binary.
        """
        actions = {f"action/{c.name}": c for c in self.actions}
        ordinal = {f"ordinal/{c.name}": c for c in self.ordinal}
        return {**actions, **ordinal, **{f"regression/{c.name}": c for c in self.regression}}

    def label(self, rows: np.ndarray, task: str) -> np.ndarray:
        """The labels of events for a task, in its own unit: floats, NaN where there is none."""
        column = rows[self.label_columns[task]]
        return np.where(column < 0, np.nan, column) if task in self.tasks else column

    @property
    def event_dtype(self) -> np.dtype:
        """The packed little-endian row of one event, as stored in a record."""
        fields: list[Any] = [("time", "<i8"), ("utc_offset", "<i4"), ("split", "<u1")]
        for c in self.categorical:
            fields.append((f"categorical/{c.name}", "<i4", *([(c.most,)] if c.most else [])))
        fields += [(f"dense/{d.name}", "<f4") for d in self.dense]
        fields += [(f"context/{d.name}", "<f4") for d in self.context]
        fields += [(f"action/{d.name}", "<f4") for d in self.actions]
        fields += [(f"task/{task}", "<i1") for task in self.tasks]
        fields += [(f"ordinal/{label.name}", "<f4") for label in self.ordinal]
        fields += [(f"regression/{label.name}", "<f4") for label in self.regression]
        fields += [(f"count/{count.name}", "<i4") for count in self.counts]
        return np.dtype(fields)

    def to_json(self) -> dict[str, Any]:
        """Returns plain dicts, lists and numbers, from which `from_json` restores the schema."""
        entries = to_dict(self)
        # So that logs without any of these have the fingerprints of earlier versions:
        for group in ("ordinal", "regression", "counts"):
            if not entries[group]:
                del entries[group]
        for categorical in entries["categorical"]:
            if not categorical["most"]:
                del categorical["most"]
        return {"format_version": FORMAT_VERSION} | entries

    @staticmethod
    def from_json(meta: Mapping[str, Any], about: str = "meta.json") -> "Schema":
        """Reads what `to_json` returned; `about` names the file in errors.

        Raises:
          UserError: another format version, or an unknown, a missing or a wrong entry.
        """
        entries = dict(meta)
        version = entries.pop("format_version", None)
        if version not in _READ:
            raise UserError(
                about,
                f"has format version {version!r}, but this program reads {FORMAT_VERSION}; "
                "prepare the log again",
            )
        return from_config_dict(Schema, entries, about)
