"""Cuts a stream of sorted event batches into histories, and collects statistics of them."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from siren_rope_jax.data.schema import PREFIXES, SPLITS, TRAIN, Dense, Schema

_REAL_VALUED = ("dense", "context", "actions")


class Histories:
    """Iterates once over the users' histories; its attributes are complete after that.

    Attributes:
      out_of_order: the number of events that precede, in the input, the event of the same user
        just before them in time.
      unknown_items: int64 [3], the number of events per split whose item a model does not know.
    """

    def __init__(self, batches: Iterable[pa.RecordBatch], schema: Schema):
        """Takes batches with `user_index`, `row` and the fields of `schema.event_dtype`.

        They must be sorted by user and, within a user, oldest first.
        """
        self._batches = batches
        self._schema = schema
        self._moments = {
            f"{PREFIXES[group]}/{column.name}": Moments()
            for group in _REAL_VALUED
            for column in getattr(schema, group)
        }
        self.out_of_order = 0
        self.unknown_items = np.zeros(len(SPLITS), np.int64)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields one array of `event_dtype` per user."""
        pending: list[np.ndarray] = []  # of the last user, who may have more in the next batch
        last_user, last_row = -1, -1
        for batch in self._batches:
            if batch.num_rows == 0:
                continue
            user, row = batch["user_index"].to_numpy(), batch["row"].to_numpy()
            same_user = np.diff(user, prepend=last_user) == 0
            self.out_of_order += int((same_user & (np.diff(row, prepend=last_row) < 0)).sum())
            last_user, last_row = user[-1], row[-1]
            rows = self._rows(batch)
            self._count(rows)
            first, *others = np.split(rows, np.flatnonzero(~same_user))
            pending.append(first)
            for piece in others:
                if sum(map(len, pending)):
                    yield np.concatenate(pending)
                pending = [piece]
        if pending:
            yield np.concatenate(pending)

    def fitted(self) -> Schema:
        """Returns the schema with means and standard deviations over the train events."""

        def fit(group: str) -> tuple[Dense, ...]:
            names = [column.name for column in getattr(self._schema, group)]
            return tuple(self._moments[f"{PREFIXES[group]}/{name}"].fitted(name) for name in names)

        columns: dict[str, Any] = {group: fit(group) for group in _REAL_VALUED}
        return dataclasses.replace(self._schema, **columns)

    def _rows(self, batch: pa.RecordBatch) -> np.ndarray:
        rows = np.empty(batch.num_rows, self._schema.event_dtype)
        for name in rows.dtype.names or ():
            rows[name] = batch[name].to_numpy(zero_copy_only=False)  # NULL becomes NaN
        return rows

    def _count(self, rows: np.ndarray) -> None:
        item, known = rows["categorical/item"], self._schema.categorical[0].known
        unknown = rows["split"][(item == 0) | (item > known)]
        self.unknown_items += np.bincount(unknown, minlength=len(SPLITS))
        train = rows[rows["split"] == TRAIN]
        for name, moments in self._moments.items():
            moments.add(train[name])


class Moments:
    """Mean and variance of a stream in float64, by the update of Chan et al., reproducibly."""

    def __init__(self) -> None:
        self._count, self._mean, self._squares = 0, 0.0, 0.0

    def add(self, values: np.ndarray) -> None:
        """Adds a float32 array; NaN is left out."""
        values = values[~np.isnan(values)].astype(np.float64)
        if not len(values):
            return
        mean = values.mean()
        squares = ((values - mean) ** 2).sum()
        count = self._count + len(values)
        step = mean - self._mean
        self._squares += squares + step**2 * self._count * len(values) / count
        self._mean += step * len(values) / count
        self._count = count

    def fitted(self, name: str) -> Dense:
        """Returns the column of this name with the mean and standard deviation so far."""
        std = (self._squares / max(self._count, 1)) ** 0.5
        # A deviation below the resolution of float32 is that of a constant column.
        return Dense(name, float(self._mean), float(std) if std > 1e-7 * abs(self._mean) else 1.0)
