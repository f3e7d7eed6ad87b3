"""Cuts a stream of sorted event batches into histories, and counts what they hold."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.data.schema import PREFIXES, SPLITS, TRAIN, Schema
from siren_rope_jax.prepare.moments import Moments
from siren_rope_jax.prepare.numeric_labels import NumericLabels

ITEMS = ("known", "rare", "new")
"""Of an event: its item is known to a model, occurs too rarely in train, or not at all there."""

Block = tuple[np.ndarray, np.ndarray]
"""Histories of some users: their rows, user by user and oldest first, and how many each has."""


class Histories:
    """Iterates once over the users' histories; then `out_of_order`, `fitted`, `report` are known.

    `out_of_order` is the number of events that precede, in the input, an earlier event of the same
    user.
    """

    def __init__(self, batches: Iterable[pa.RecordBatch], schema: Schema, seen_items: int):
        """Takes batches with `user_index`, `row` and the fields of `schema.event_dtype`.

        They must be sorted by user and, within a user, oldest first. The items that occur in train
        have the ids up to `seen_items`.
        """
        self._batches = batches
        self._schema = schema
        self._moments = {
            group: {column.name: Moments() for column in getattr(schema, group)}
            for group in ("dense", "context", "actions")
        }
        self.out_of_order = 0
        self._seen_items = seen_items
        self._events = np.zeros((len(ITEMS), len(SPLITS)), int)
        shape = (2, len(ITEMS), len(SPLITS))
        self._without = {feature.name: 0 for feature in schema.categorical[1:]}
        self._labels = {task: np.zeros(shape, int) for task in schema.tasks}
        self._numeric = NumericLabels(schema)

    def __iter__(self) -> Iterator[Block]:
        """Yields the histories of all users, some at a time."""
        pending: list[np.ndarray] = []  # of the last user, who may have more in the next batch
        last_user, last_row = -1, -1  # of the batches before; the row is that user's largest
        for batch in self._batches:
            if batch.num_rows == 0:
                continue
            user, row = batch["user_index"].to_numpy(), batch["row"].to_numpy()
            same_user = np.diff(user, prepend=last_user) == 0
            # Rows that become larger with every user: one running maximum is that of each user.
            of_user = np.cumsum(~same_user) * (1 + max(row.max(), last_row))
            highest = np.maximum.accumulate(np.append(last_row, of_user + row))
            self.out_of_order += int((of_user + row < highest[:-1]).sum())
            last_user, last_row = user[-1], highest[-1] - of_user[-1]
            rows = np.empty(batch.num_rows, self._schema.event_dtype)
            for name in rows.dtype.names or ():
                rows[name] = _values(batch[name])
            self._count(rows)
            if len(begins := np.flatnonzero(~same_user)):
                whole = np.concatenate([*pending, rows[: begins[-1]]])
                ends = begins + (len(whole) - begins[-1])  # where the users before these end
                counts = np.diff(ends, prepend=0)
                if len(whole):
                    yield whole, counts[counts > 0]  # nobody is before the first user of all
                pending, rows = [], rows[begins[-1] :]
            pending.append(rows)
        if pending:
            whole = np.concatenate(pending)
            yield whole, np.array([len(whole)])

    def _count(self, rows: np.ndarray) -> None:
        split, item = rows["split"], rows["categorical/item"]
        limits = [self._schema.categorical[0].known, self._seen_items]
        of_item = np.where(item == 0, len(limits), np.digitize(item, limits, right=True))
        cell = of_item * len(SPLITS) + split
        self._events += _counted(cell, self._events.shape)
        for task, counts in self._labels.items():
            for label in (0, 1):
                counts[label] += _counted(cell[rows[f"task/{task}"] == label], counts[label].shape)
        for name in self._without:
            ids = rows[f"categorical/{name}"].reshape(len(rows), -1)  # of a list, 0 comes last
            self._without[name] += int((ids[:, 0] == 0).sum())
        self._numeric.add(rows)
        train = rows[split == TRAIN]
        for group, of_group in self._moments.items():
            for name, moments in of_group.items():
                moments.add(train[f"{PREFIXES[group]}/{name}"])

    def fitted(self) -> Schema:
        """Returns the schema with means, deviations and ordinal values of the train events."""
        columns: dict[str, Any] = {
            group: tuple(moments.fitted(name) for name, moments in of_group.items())
            for group, of_group in self._moments.items()
        }
        ordinal, regression = self._numeric.fitted()
        return dataclasses.replace(self._schema, **columns, ordinal=ordinal, regression=regression)

    def report(self) -> dict[str, Any]:
        """Returns counts of items, events and labels for the report of a prepared log.

        Raises:
          UserError: a split has no events or, for a task, only one class, so that NE and AUC are
            undefined; or as `NumericLabels.report`.
        """
        for split, count in zip(SPLITS, self._events.sum(axis=0), strict=True):
            if not count:
                raise UserError("config.split", f"{split} has no events")
        tasks: dict[str, dict[str, dict[str, Any]]] = {}
        for task, counts in self._labels.items():
            about, tasks[task] = f"config.tasks.{task}", {}
            of_splits = counts.sum(axis=1).tolist()
            for split, negatives, positives in zip(SPLITS, *of_splits, strict=True):
                labels = negatives + positives
                if labels == 0:
                    raise UserError(about, f"no event of {split} has a label")
                if positives in (0, labels):
                    raise UserError(
                        about,
                        f"all {labels} labels of {split} are {int(positives > 0)}; both classes "
                        "are needed, so change the task or config.split",
                    )
                rate = round(positives / labels, 6)
                tasks[task][split] = {"labels": labels, "positives": positives, "rate": rate}
        item, unknown = self._schema.categorical[0], self._events[1:].sum(axis=0)
        return {
            "items": item.values,
            "known_items": item.known,
            "events": dict(zip(SPLITS, self._events.sum(axis=0).tolist(), strict=True)),
            "unknown_item_events": dict(zip(SPLITS, unknown.tolist(), strict=True)),
            "categorical": {
                feature.name: {
                    "values": feature.values,
                    "without": self._without[feature.name],
                }
                for feature in self._schema.categorical[1:]
            },
            "tasks": tasks,
            **({"numeric_labels": numeric} if (numeric := self._numeric.report()) else {}),
            "by_item": {
                name: {split: self._about(i, s) for s, split in enumerate(SPLITS)}
                for i, name in enumerate(ITEMS)
            },
        }

    def _about(self, of_item: int, split: int) -> dict[str, Any]:
        """How many events a split has with such items, and the rates of their labels, if any."""
        rates = {}
        for task, counts in self._labels.items():
            negatives, positives = counts[:, of_item, split].tolist()
            labels = negatives + positives
            rates[task] = round(positives / labels, 6) if labels else None
        return {"events": int(self._events[of_item, split]), "rates": rates}


def _values(column: pa.Array) -> np.ndarray:
    """Those of a column, where NULL becomes NaN; or of lists, which are equally long."""
    if pa.types.is_list(column.type):
        return column.flatten().to_numpy().reshape(len(column), -1)
    return column.to_numpy(zero_copy_only=False)


def _counted(cells: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """How often each cell of an array of this shape occurs."""
    return np.bincount(cells, minlength=int(np.prod(shape))).reshape(shape)
