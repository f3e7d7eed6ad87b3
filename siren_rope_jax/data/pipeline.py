"""From a prepared log to batches: packed rows, shuffled, sharded and batched by Grain."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import grain
import numpy as np
from jaxtyping import Int

from siren_rope_jax.batch import Batch
from siren_rope_jax.data.dataset import PreparedLog
from siren_rope_jax.data.schema import Schema
from siren_rope_jax.data.windows import Rows, Split, pack_rows, plan_windows
from siren_rope_jax.errors import UserError, check
from siren_rope_jax.time_features import Time


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which log, and how it is cut into batches.

    Attributes:
      path: directory of the prepared log.
      length: events of a row; also the longest history a model sees.
      stride: most targets of an evaluation window that is not its user's first (`plan_windows`).
      batch_size: rows of a batch, over all processes.
      pack: several short histories share a row.
      threads: that read and decode.
    """

    path: str
    length: int = 64
    stride: int = 32
    batch_size: int = 64
    pack: bool = True
    threads: int = 2

    def __post_init__(self) -> None:
        check(self.length >= 1, "data.length", "at least 1")
        check(1 <= self.stride <= self.length, "data.stride", "in 1..data.length")
        check(self.batch_size >= 1, "data.batch_size", "at least 1")
        check(self.threads >= 1, "data.threads", "at least 1")


_EPOCHS = 1 << 20  # endless for every purpose; Grain cannot slice what has no length


@dataclasses.dataclass(frozen=True)
class RowReader:
    """Reads rows of a plan from a log, many at once: one read call costs as much as hundreds.

    Attributes:
      log: the prepared log.
      rows: which events each row holds.
      length: events of a row.
    """

    log: PreparedLog
    rows: Rows
    length: int

    def __call__(self, numbers: Sequence[int]) -> Batch:
        """The batch of these rows; numbers beyond the plan are rows of padding."""
        windows, offsets = self.rows.windows, self.log.offsets
        shape = (len(numbers), self.length)
        events = np.zeros(shape, self.log.schema.event_dtype)
        segment, position = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        event = np.full(shape, -1, np.int64)
        members = [self.rows.members_of(number) for number in numbers]
        flat = np.concatenate(members)
        histories = iter(self.log.histories_of(windows.user[flat]))
        for r, row in enumerate(members):
            at = 0
            for number, window in enumerate(row, start=1):
                user, start = windows.user[window], windows.start[window]
                target, stop = windows.target[window], windows.stop[window]
                end = at + stop - start
                events[r, at:end] = next(histories)[start:stop]
                segment[r, at:end] = number
                position[r, at:end] = np.arange(stop - start)
                event[r, end - (stop - target) : end] = offsets[user] + np.arange(target, stop)
                at = end
        return make_batch(self.log.schema, events, segment, position, event)


def make_batch(
    schema: Schema,
    events: np.ndarray,
    segment: Int[np.ndarray, "B L"],
    position: Int[np.ndarray, "B L"],
    event: Int[np.ndarray, "B L"],
) -> Batch:
    """Turns rows of stored events, [B, L] of `schema.event_dtype`, into a `Batch` of numpy arrays.

    Actions are two columns per task (liked, not liked; both 0 where the label is absent), then two
    per action feature (standardised value, 0 if absent; whether present).
    """
    padding = segment == 0

    def standardised(prefix: str, columns: Sequence[Any]) -> np.ndarray:
        values = [(events[f"{prefix}/{c.name}"] - c.mean) / c.std for c in columns]
        stack = np.stack(values, axis=-1) if values else np.zeros((*segment.shape, 0))
        return np.where(padding[..., None], 0.0, stack).astype(np.float32)

    labels = np.stack([events[f"task/{task}"] for task in schema.tasks], axis=-1)
    extra = standardised("action", schema.actions)
    absent = np.isnan(extra)
    columns = [labels == 1, labels == 0, np.where(absent, 0.0, extra), ~absent]
    actions = np.concatenate(columns, axis=-1).astype(np.float32)
    time = Time.from_seconds(events["time"], events["utc_offset"])
    return Batch(
        categorical=np.stack(
            [c.known_ids(events[f"categorical/{c.name}"]) for c in schema.categorical], axis=-1
        ),
        dense=standardised("dense", schema.dense),
        context=standardised("context", schema.context),
        actions=np.where(padding[..., None], 0.0, actions).astype(np.float32),
        labels=(labels == 1).astype(np.float32),
        label_mask=(labels >= 0) & (event >= 0)[..., None],
        time=dataclasses.replace(time, known=time.known & ~padding),
        position=position,
        segment=segment,
        event=event.astype(np.int32),
    )


def train_batches(
    log: PreparedLog, config: DataConfig, seed: int, process: int = 0, processes: int = 1
) -> tuple[grain.IterDataset, int]:
    """Endless batches of the train split, and the number of them in an epoch.

    Rows are shuffled globally with a new seed each epoch, then dealt to the processes. The
    iterator's state can be saved and restored exactly.

    Raises:
      UserError: the batch size is no multiple of the processes, or the split is empty.
    """
    rows = _rows(log, config, "train", stride=config.length)
    dataset = grain.MapDataset.range(len(rows)).seed(seed).shuffle()
    dataset = dataset.repeat(_EPOCHS)[process::processes]
    epoch = max(len(rows) // config.batch_size, 1)
    return _read(dataset, log, rows, config, processes), epoch


def eval_batches(
    log: PreparedLog, config: DataConfig, split: Split, process: int = 0, processes: int = 1
) -> grain.IterDataset:
    """All rows of a split once, in order, the last batch filled up with padding.

    Every process gets the same number of batches.

    Raises:
      UserError: as in `train_batches`.
    """
    rows = _rows(log, config, split, config.stride)
    batches = -(-len(rows) // config.batch_size)
    dataset = grain.MapDataset.range(batches * config.batch_size)[process::processes]
    return _read(dataset, log, rows, config, processes)


def _rows(log: PreparedLog, config: DataConfig, split: Split, stride: int) -> Rows:
    windows = plan_windows(log.index, split, config.length, stride)
    if not len(windows):
        raise UserError(f"{log.path}: the {split} split has no events")
    return pack_rows(windows, config.length, config.pack)


def _read(
    dataset: grain.MapDataset, log: PreparedLog, rows: Rows, config: DataConfig, processes: int
) -> grain.IterDataset:
    """Batches the numbers of rows, and reads the rows of each batch together."""
    if config.batch_size % processes:
        raise UserError(
            f"config.data.batch_size: {config.batch_size} rows cannot be dealt evenly to "
            f"{processes} processes"
        )
    reader = RowReader(log, rows, config.length)
    batches = dataset.batch(config.batch_size // processes, batch_fn=reader)
    return batches.to_iter_dataset(
        grain.ReadOptions(num_threads=config.threads, prefetch_buffer_size=4 * config.threads)
    )
