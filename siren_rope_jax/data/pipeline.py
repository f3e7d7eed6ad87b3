"""From a prepared log to batches: packed rows, shuffled, sharded and batched by Grain."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import grain
import numpy as np

from siren_rope_jax.base.errors import UserError, check, suggestion
from siren_rope_jax.data.assemble import Piece, next_item_batch, ranking_batch
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.data.schema import Schema
from siren_rope_jax.data.windows import Rows, Split, pack_rows, plan_windows


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which log, and how it is cut into batches.

    Attributes:
      path: directory of the prepared log.
      length: events of a row; also the longest history a model sees.
      stride: most targets of an evaluation window that is not its user's first (`plan_windows`):
        an event sees the last `length - stride` before it, or more. Small is dear, 1 exact.
      batch_size: rows of a batch, over all processes; training deals them evenly to all devices.
      pack: several short histories share a row.
      threads: that read and decode.
      target_task: of next-item retrieval: a task whose positives alone are targets, such as `like`;
        empty: every event is one.
    """

    path: str
    length: int = 64
    stride: int = 8
    batch_size: int = 64
    pack: bool = True
    threads: int = 2
    target_task: str = ""

    def __post_init__(self) -> None:
        check(self.length >= 1, "data.length", "at least 1")
        right = f"in 1..{self.length}, which is data.length, but is {self.stride}"
        check(1 <= self.stride <= self.length, "data.stride", right)
        check(self.batch_size >= 1, "data.batch_size", "at least 1")
        check(self.threads >= 1, "data.threads", "at least 1")


_EPOCHS = 1 << 20  # endless for every purpose; Grain cannot slice what has no length


@dataclasses.dataclass(frozen=True)
class RowReader:
    """Reads rows of a plan from a log, many at once: one read call costs as much as hundreds.

    Attributes:
      log: the prepared log.
      rows: which windows each row holds.
      length: L, places of a row.
      shift: places a window needs less than it has events: 1 where each event asks for the next.
      make: makes a batch of the log's schema, the pieces of the rows, and their shape [B, L].
    """

    log: PreparedLog
    rows: Rows
    length: int
    shift: int
    make: Callable[[Schema, Sequence[Piece], tuple[int, int]], Any]

    def __call__(self, numbers: Sequence[int]) -> Any:
        """The batch of these rows; numbers beyond the plan are rows of padding."""
        windows, offsets = self.rows.windows, self.log.offsets
        members = [self.rows.members_of(number) for number in numbers]
        histories = iter(self.log.histories_of(windows.user[np.concatenate(members)]))
        pieces = []
        for r, row in enumerate(members):
            at = 0
            for segment, window in enumerate(row, start=1):
                start, target, stop = (
                    int(x[window]) for x in (windows.start, windows.target, windows.stop)
                )
                first = int(offsets[windows.user[window]])
                history = next(histories)
                pieces.append(Piece(r, segment, at, history, first, start, target, stop))
                at += stop - start - self.shift
        return self.make(self.log.schema, pieces, (len(numbers), self.length))


@dataclasses.dataclass(frozen=True)
class Batches:
    """What a model trains on and is evaluated with: rows of a log, batched for one process.

    Attributes:
      log: the prepared log.
      config: how it is cut.
      next_item: whether events ask for the item of the next one; else for their own labels.
      process, processes: which of how many this is.
      devices: of each process; the rows of a batch are dealt evenly to all of them.
    """

    log: PreparedLog
    config: DataConfig
    next_item: bool = False
    process: int = 0
    processes: int = 1
    devices: int = 1

    def __post_init__(self) -> None:
        task, known = self.config.target_task, self.log.schema.tasks
        if not self.next_item and not known:
            raise UserError(f"{self.log.path}: the log has no task to rank by; prepare it with one")
        if task and not self.next_item:
            raise UserError("config.data.target_task: is for next-item retrieval; leave it empty")
        if task and task not in known:
            names = suggestion(task, known) or "; the log has none"
            raise UserError(f"config.data.target_task: no task {task!r}{names}")
        if self.log.offsets[-1] >= 2**31:
            raise UserError(f"{self.log.path}: a batch numbers events in 31 bits; the log has more")

    def train(self, seed: int) -> tuple[grain.IterDataset, int]:
        """Endless batches of the train split, and the number of them in an epoch.

        Rows are shuffled globally with a new seed each epoch, then dealt to the processes. The
        iterator's state can be saved and restored exactly.

        Raises:
          UserError: the split is empty, or a batch cannot be dealt evenly to the devices.
        """
        size, devices = self.config.batch_size, self.processes * self.devices
        if size % devices:
            raise UserError(
                f"config.data.batch_size: {size} rows cannot be dealt evenly to {devices} devices"
            )
        rows = self._rows("train", self.config.length)
        dataset = grain.MapDataset.range(len(rows)).seed(seed).shuffle()
        dataset = dataset.repeat(_EPOCHS)[self.process :: self.processes]
        return self._read(dataset, rows, size), max(len(rows) // size, 1)

    def evaluation(self, split: Split) -> grain.IterDataset:
        """All rows of a split once, in order, the last batch filled up with padding.

        Every process gets the same number of batches. They are of `batch_size` rows, or of the few
        more that can be dealt evenly to the devices: a run is evaluated on any number of them.

        Raises:
          UserError: the split is empty.
        """
        rows = self._rows(split, self.config.stride)
        size = _rounded_up(self.config.batch_size, self.processes * self.devices)
        dataset = grain.MapDataset.range(_rounded_up(len(rows), size))
        return self._read(dataset[self.process :: self.processes], rows, size)

    def _rows(self, split: Split, stride: int) -> Rows:
        shift = int(self.next_item)
        windows = plan_windows(self.log.index, split, self.config.length + shift, stride)
        rows = pack_rows(windows, self.config.length, self.config.pack, shift)
        if not len(rows):
            raise UserError(f"{self.log.path}: the {split} split has no events to predict")
        return rows

    def _read(self, dataset: grain.MapDataset, rows: Rows, size: int) -> grain.IterDataset:
        """Batches the numbers of rows, `size` over all processes, and reads each batch at once."""
        make: Any = ranking_batch
        if self.next_item:
            make = functools.partial(next_item_batch, target_task=self.config.target_task)
        reader = RowReader(self.log, rows, self.config.length, int(self.next_item), make)
        threads = self.config.threads
        batches = dataset.batch(size // self.processes, batch_fn=reader)
        return batches.to_iter_dataset(
            grain.ReadOptions(num_threads=threads, prefetch_buffer_size=4 * threads)
        )


def _rounded_up(number: int, divisor: int) -> int:
    """To the next multiple."""
    return -(-number // divisor) * divisor
