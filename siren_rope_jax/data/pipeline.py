"""From a prepared log to batches: packed rows, shuffled, sharded and batched by Grain."""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import grain
import numpy as np

from siren_rope_jax.base.errors import UserError, check
from siren_rope_jax.data.assemble import Layout, Piece
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.data.windows import (
    PackedRows,
    Split,
    Targets,
    pack_rows,
    plan_windows,
    split_targets,
)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which log, and how it is cut into batches.

    Attributes:
      path: directory of the prepared log, or its URL in a store.
      length: events of a row; also the longest history a model sees.
      stride: most targets of an evaluation window that is not its user's first (`plan_windows`):
        an event sees at least the last `length - stride` events before it. A small stride costs
        more time; with 1 every event sees as much of its history as the model can.
      batch_size: rows of a batch, over all processes; in training they are divided evenly among
        all devices.
      pack: several short histories share a row.
      threads: number of threads that read and decode records.
      target_task: of next-item retrieval: a task whose positives alone are targets, such as `like`;
        empty: every event is one.
      tested_lengths: other lengths of rows at which a trained model is tested as well, such as
        twice the trained one; the stride grows with them.
    """

    path: str
    length: int = 64
    stride: int = 8
    batch_size: int = 64
    pack: bool = True
    threads: int = 2
    target_task: str = ""
    tested_lengths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for key in ("length", "batch_size", "threads"):
            check(getattr(self, key) >= 1, key, "at least 1")
        right = f"in 1..{self.length}, the length, but is {self.stride}"
        check(1 <= self.stride <= self.length, "stride", right)
        others = {*self.tested_lengths} - {self.length}
        right = "different lengths, at least 1, without that of the training"
        unique = len(others) == len(self.tested_lengths)
        check(unique and all(n >= 1 for n in others), "tested_lengths", right)

    def at_length(self, length: int) -> "DataConfig":
        """The same for rows of another length: the stride is as large a part of it, and a batch
        has about as many events.
        """
        stride = max(self.stride * length // self.length, 1)
        rows = max(self.batch_size * self.length // length, 1)
        return dataclasses.replace(
            self, length=length, stride=stride, batch_size=rows, tested_lengths=()
        )


_EPOCHS = 1 << 20  # endless for every purpose; Grain cannot slice what has no length


@dataclasses.dataclass(frozen=True)
class Batches:
    """What a model trains on and is evaluated with: rows of a log, in batches or a part of each.

    Attributes:
      log: the prepared log.
      config: how it is cut.
      layout: what becomes of the pieces.
      held: which parts of every batch these are, in order.
      parts: how many there are: the rows of a batch are divided evenly among so many devices.
    """

    log: PreparedLog
    config: DataConfig
    layout: Layout
    held: tuple[int, ...] = (0,)
    parts: int = 1

    def __post_init__(self) -> None:
        if self.log.offsets[-1] >= 2**31:
            raise UserError(self.log.path, "has more than 2^31 events, which a batch cannot number")

    def train(self, seed: int, first: int = 0) -> grain.IterDataset:
        """Endless batches of the train split, from the batch of this number.

        Rows are shuffled globally with a new seed each epoch. Which rows a batch has, and where,
        depends on the seed and its number alone, not on how many parts there are, so a number is
        all that must be known to go on, on any devices and processes.

        Raises:
          UserError: the split is empty, or a batch cannot be divided evenly among the devices.
        """
        size = self._size()
        dataset = grain.MapDataset.range(len(self._train_rows)).seed(seed).shuffle()
        dataset = dataset.repeat(_EPOCHS)[first * size :]
        return self._read(dataset, self._train_rows, size)

    def _size(self) -> int:
        """Rows of a training batch."""
        size = self.config.batch_size
        if size % self.parts:
            raise UserError(
                "config.data.batch_size",
                f"{size} rows cannot be divided evenly among {self.parts} devices",
            )
        return size

    @property
    def epoch(self) -> int:
        """The number of training batches in an epoch, at least 1."""
        return max(len(self._train_rows) // self.config.batch_size, 1)

    @cached_property
    def _train_rows(self) -> PackedRows:
        return self._rows("train", self.config.length, move_last=True)

    def evaluation(self, targets: Split | Targets) -> grain.IterDataset:
        """All rows of a split, or of other targets, once, in order, the last batch padded.

        Every part gets the same number of batches. They have `batch_size` rows, or the few more
        that can be divided evenly among the devices, so that a run can be evaluated on any number
        of devices.

        Raises:
          UserError: there is no target.
        """
        rows = self._rows(targets, self.config.stride)
        size = _rounded_up(self.config.batch_size, self.parts)
        dataset = grain.MapDataset.range(_rounded_up(len(rows), size))
        return self._read(dataset, rows, size)

    def one_pass(self, targets: Targets, seed: int) -> grain.IterDataset:
        """All rows with these targets once, as training has them: shuffled, and padded.

        Raises:
          UserError: there is no target, or a batch cannot be divided evenly among the devices.
        """
        rows, size = self._rows(targets, self.config.length, move_last=True), self._size()
        dataset = grain.MapDataset.range(_rounded_up(len(rows), size)).seed(seed).shuffle()
        return self._read(dataset, rows, size)

    def asks(self, targets: Targets) -> bool:
        """Whether any row has such a target: a user's first event may be none."""
        return bool(len(self._planned(targets, self.config.length)))

    def _rows(self, targets: Split | Targets, stride: int, move_last: bool = False) -> PackedRows:
        if isinstance(targets, str):
            what, targets = f"the {targets} split has", split_targets(self.log.index, targets)
        else:
            what = "these targets have"
        rows = self._planned(targets, stride, move_last)
        if not len(rows):
            raise UserError(self.log.path, f"{what} no events to predict")
        return rows

    def _planned(self, targets: Targets, stride: int, move_last: bool = False) -> PackedRows:
        saved = self.layout.places_saved
        windows = plan_windows(targets, self.config.length + saved, stride, move_last)
        return pack_rows(windows, self.config.length, self.config.pack, saved)

    def _read(self, dataset: grain.MapDataset, rows: PackedRows, size: int) -> grain.IterDataset:
        """Batches the numbers of rows, `size` at a time, and reads what is held of each at once.

        One read of many histories costs as much as one of a few.
        """
        each, threads = size // self.parts, self.config.threads

        def read(numbers: Sequence[int]) -> Any:
            blocks = [numbers[part * each : (part + 1) * each] for part in self.held]
            return self._batch(rows, [number for block in blocks for number in block])

        return dataset.batch(size, batch_fn=read).to_iter_dataset(
            grain.ReadOptions(num_threads=threads, prefetch_buffer_size=4 * threads)
        )

    def _batch(self, rows: PackedRows, numbers: Sequence[int]) -> Any:
        """The batch of these rows; numbers beyond the last row stand for padding."""
        windows = [rows.windows_of(number) for number in numbers]
        joined = np.concatenate(windows)
        of_windows = iter(self.log.windows(joined["user"], joined["start"], joined["stop"]))
        pieces = []
        for r, row in enumerate(windows):
            at = 0
            for segment, (user, start, target, stop) in enumerate(row.tolist(), start=1):
                first = int(self.log.offsets[user])
                events = next(of_windows)
                pieces.append(Piece(r, segment, at, events, first, start, target, stop))
                at += stop - start - self.layout.places_saved
        return self.layout.make(self.log.schema, pieces, (len(numbers), self.config.length))


def _rounded_up(number: int, divisor: int) -> int:
    """To the next multiple."""
    return -(-number // divisor) * divisor
