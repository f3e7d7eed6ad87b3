"""From pieces of histories to batches of fixed shape, as numpy arrays.

Each kind of batch has a `Layout`: how many places a window takes, and how its events fill them.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.data.schema import Dense, OrdinalLabel, Schema
from siren_rope_jax.models.batch import DataSpec, NextItemBatch, RankingBatch
from siren_rope_jax.models.tasks import Binary, Ordinal, Regression, Task
from siren_rope_jax.rotation.time import Time, TimeScale


class Piece(NamedTuple):
    """One window of a row.

    Attributes:
      row, segment: where it is: the row of the batch, and 1, 2, ... within it.
      at: the first place in the row.
      events: those of the window, oldest first.
      first: the global index of the user's first event.
      start, target, stop: the window, as in `WINDOW`.
    """

    row: int
    segment: int
    at: int
    events: np.ndarray
    first: int
    start: int
    target: int
    stop: int


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the windows of a row become a batch.

    Attributes:
      make: makes a batch of the log's schema, the pieces of its rows, and their shape [B, L].
      places_saved: how many places fewer a window takes than it has events: 1 where each event asks
        for the next one, so that a window's last event needs no place.
    """

    make: Callable[[Schema, Sequence[Piece], tuple[int, int]], Any]
    places_saved: int


def data_spec(log: PreparedLog, length: int) -> DataSpec:
    """What a model must know of a log cut into rows of `length`; T~ spans the training events."""
    schema = log.schema
    return DataSpec(
        categories={c.name: c.rows for c in schema.categorical},
        lists={c.name: c.most for c in schema.categorical if c.most},
        tasks=tasks_of(schema),
        context_length=length,
        scale=TimeScale.fit(schema.train_start, schema.train_end),
        dense=len(schema.dense),
        context=len(schema.context),
        actions=2 * (len(schema.label_columns) + len(schema.actions)),
        counts={count.name: count.most + 1 for count in schema.counts},
    )


def tasks_of(schema: Schema) -> tuple[Task, ...]:
    """What a ranking model of a log predicts, in the order of its labels."""
    return (
        *map(Binary, schema.tasks),
        *(Ordinal(label.name, label.values, label.shares) for label in schema.ordinal),
        *(Regression(label.name, label.mean, label.std) for label in schema.regression),
    )


def ranking_batch(schema: Schema, pieces: Sequence[Piece], shape: tuple[int, int]) -> RankingBatch:
    """The `RankingBatch`, of shape [B, L], of these pieces: every event asks for its own labels.

    Actions are two columns per binary task (liked, not liked; both 0 where the label is absent),
    then two per action feature, ordinal label and real-valued one (standardised value, 0 if absent;
    whether present).
    """
    events, _, _, common = _fill(schema, pieces, shape, ahead=0)
    segment = common["segment"]
    labels = _stacked([schema.label(events, name) for name in schema.label_columns], segment)
    binary = labels[..., : len(schema.tasks)]
    extra = _standardised(events, schema.outcomes, segment)
    absent = np.isnan(extra)
    columns = [binary == 1, binary == 0, np.where(absent, 0.0, extra), ~absent]
    actions = np.where((segment == 0)[..., None], 0.0, np.concatenate(columns, axis=-1))
    return RankingBatch(
        **common,
        context=_standardised(events, {f"context/{c.name}": c for c in schema.context}, segment),
        actions=actions.astype(np.float32),
        labels=np.nan_to_num(labels).astype(np.float32),
        label_mask=~np.isnan(labels) & (common["event"] >= 0)[..., None],
    )


def next_item_batch(
    schema: Schema, pieces: Sequence[Piece], shape: tuple[int, int], target_task: str = ""
) -> NextItemBatch:
    """The `NextItemBatch`, of shape [B, L]: every event but a window's last asks for the next.

    With a `target_task`, only the positives of that task are asked for.
    """
    _, asked, history, common = _fill(schema, pieces, shape, ahead=1)
    if target_task:
        common["event"][asked[f"task/{target_task}"] != 1] = -1
    item = schema.categorical[0]
    return NextItemBatch(
        **common,
        request_time=_time(asked, common["segment"]),
        target=item.known_ids(asked[f"categorical/{item.name}"]),
        history=history,
        request_counts=_counts(schema, asked),
    )


RANKING_LAYOUT = Layout(ranking_batch, places_saved=0)


def next_item_layout(target_task: str = "") -> Layout:
    """That of `next_item_batch`."""
    return Layout(partial(next_item_batch, target_task=target_task), places_saved=1)


def _fill(
    schema: Schema, pieces: Sequence[Piece], shape: tuple[int, int], ahead: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
    """Events of the slots, events asked about, `history`, and the fields of every `EventBatch`."""
    events, asked = np.zeros(shape, schema.event_dtype), np.zeros(shape, schema.event_dtype)
    segment, position, history = (np.zeros(shape, np.int32) for _ in range(3))
    event = np.full(shape, -1, np.int32)
    for p in pieces:
        nth = np.arange(p.start + ahead, p.stop)  # of the events that are asked for
        place = p.row, slice(p.at, p.at + len(nth))
        events[place] = p.events[: len(p.events) - ahead]
        asked[place] = p.events[ahead:]
        segment[place], history[place] = p.segment, p.first
        position[place] = np.arange(len(nth))
        event[place] = np.where(nth >= p.target, p.first + nth, -1)
    ids = [c.known_ids(events[f"categorical/{c.name}"]) for c in schema.categorical]
    columns = [of.reshape(*shape, -1) for of in ids]  # several of a feature whose values are lists
    common = {
        "categorical": np.concatenate(columns, axis=-1),
        "dense": _standardised(events, {f"dense/{c.name}": c for c in schema.dense}, segment),
        "time": _time(events, segment),
        "position": position,
        "segment": segment,
        "event": event,
        "counts": _counts(schema, events),
    }
    return events, asked, history, common


def _counts(schema: Schema, events: np.ndarray) -> Int[np.ndarray, "B L S"]:
    columns = [events[f"count/{count.name}"] for count in schema.counts]
    return _stacked(columns, events).astype(np.int32)


def _stacked(columns: Sequence[np.ndarray], like: np.ndarray) -> np.ndarray:
    """Columns side by side; [..., 0] for none."""
    return np.stack(columns, axis=-1) if columns else np.zeros((*like.shape, 0))


def _standardised(
    events: np.ndarray, columns: Mapping[str, Dense | OrdinalLabel], segment: np.ndarray
) -> np.ndarray:
    """Zero mean and unit deviation, mostly over train; 0 for padding."""
    values = _stacked([(events[name] - c.mean) / c.std for name, c in columns.items()], segment)
    return np.where((segment == 0)[..., None], 0.0, values).astype(np.float32)


def _time(events: np.ndarray, segment: np.ndarray) -> Time:
    time = Time.from_seconds(events["time"], events["utc_offset"])
    return dataclasses.replace(time, known=time.known & (segment > 0))
