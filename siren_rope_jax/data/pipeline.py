"""From a prepared log to batches: packed rows, shuffled, sharded and batched by Grain."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import grain
import numpy as np

from siren_rope_jax.batch import Batch
from siren_rope_jax.data.dataset import PreparedLog
from siren_rope_jax.data.schema import Schema
from siren_rope_jax.data.windows import Rows, Split, pack_rows, plan_windows
from siren_rope_jax.errors import UserError
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


class RowSource:
    """Random access to rows: {"events": [L] event_dtype, "segment", "position", "event"}."""

    def __init__(self, log: PreparedLog, rows: Rows, length: int) -> None:
        self._log, self._rows, self._length = log, rows, length
        self._offsets = log.offsets

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: Any) -> dict[str, np.ndarray]:
        length, windows = self._length, self._rows.windows
        events = np.zeros(length, self._log.schema.event_dtype)
        segment = np.zeros(length, np.int32)
        position = np.zeros(length, np.int32)
        event = np.full(length, -1, np.int64)
        at = 0
        members = self._rows.members[self._rows.offsets[row] : self._rows.offsets[row + 1]]
        for number, window in enumerate(members, start=1):
            user, start = windows.user[window], windows.start[window]
            target, stop = windows.target[window], windows.stop[window]
            end = at + stop - start
            events[at:end] = self._log.history(int(user))[start:stop]
            segment[at:end] = number
            position[at:end] = np.arange(stop - start)
            event[end - (stop - target) : end] = self._offsets[user] + np.arange(target, stop)
            at = end
        return {"events": events, "segment": segment, "position": position, "event": event}


def make_batch(schema: Schema, rows: Sequence[dict[str, np.ndarray]]) -> Batch:
    """Collates rows into a `Batch` of numpy arrays.

    Actions are two columns per task (liked, not liked; both 0 where the label is absent), then two
    per action feature (standardised value, 0 if absent; whether present).
    """
    stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    events, segment, event = stacked["events"], stacked["segment"], stacked["event"]
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
        position=stacked["position"],
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
    dataset = grain.MapDataset.source(RowSource(log, rows, config.length))
    dataset = dataset.seed(seed).shuffle().repeat(None)[process::processes]
    batches = dataset.batch(
        _per_process(config, processes), batch_fn=lambda rows: make_batch(log.schema, rows)
    )
    return batches.to_iter_dataset(_read_options(config)), max(len(rows) // config.batch_size, 1)


def eval_batches(
    log: PreparedLog, config: DataConfig, split: Split, process: int = 0, processes: int = 1
) -> grain.IterDataset:
    """All rows of a split once, in order, the last batch filled up with padding.

    Every process gets the same number of batches.

    Raises:
      UserError: as in `train_batches`.
    """
    source = RowSource(log, _rows(log, config, split, config.stride), config.length)
    per_process = _per_process(config, processes)
    batches = -(-len(source) // config.batch_size)
    empty = {name: np.zeros_like(array) for name, array in source[0].items()}
    empty["event"] -= 1

    def row(i: int) -> dict[str, np.ndarray]:
        return source[i] if i < len(source) else empty

    dataset = grain.MapDataset.range(batches * config.batch_size).map(row)[process::processes]
    dataset = dataset.batch(per_process, batch_fn=lambda rows: make_batch(log.schema, rows))
    return dataset.to_iter_dataset(_read_options(config))


def _rows(log: PreparedLog, config: DataConfig, split: Split, stride: int) -> Rows:
    windows = plan_windows(log.index, split, config.length, stride)
    if not len(windows):
        raise UserError(f"{log.path}: the {split} split has no events")
    return pack_rows(windows, config.length, config.pack)


def _per_process(config: DataConfig, processes: int) -> int:
    if config.batch_size % processes:
        raise UserError(
            f"config.data.batch_size: {config.batch_size} rows cannot be dealt evenly to "
            f"{processes} processes"
        )
    return config.batch_size // processes


def _read_options(config: DataConfig) -> grain.ReadOptions:
    return grain.ReadOptions(num_threads=config.threads, prefetch_buffer_size=4 * config.threads)
