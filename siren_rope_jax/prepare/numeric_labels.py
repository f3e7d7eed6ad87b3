"""What a log holds of ordinal and real-valued labels: their numbers, means and values by split."""

from collections import Counter
from typing import Any

import numpy as np

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.data.schema import SPLITS, TRAIN, Dense, OrdinalLabel, Schema
from siren_rope_jax.prepare.moments import Moments

MOST_ORDINAL_VALUES = 20
"""Different values of one label."""


class NumericLabels:
    """Counts the labels of events, of which it is given some at a time."""

    def __init__(self, schema: Schema) -> None:
        self._ordinal = [label.name for label in schema.ordinal]
        self._columns = {n: c for n, c in schema.label_columns.items() if n not in schema.tasks}
        self._moments = {name: [Moments() for _ in SPLITS] for name in self._columns}
        self._counts: dict[str, list[Counter[float]]] = {
            name: [Counter() for _ in SPLITS] for name in self._ordinal
        }

    def add(self, rows: np.ndarray) -> None:
        """Counts some events, rows of `Schema.event_dtype`."""
        for name, column in self._columns.items():
            for split in range(len(SPLITS)):
                labels = rows[column][rows["split"] == split]
                self._moments[name][split].add(labels)
                if name in self._ordinal:
                    found = np.unique(labels[~np.isnan(labels)], return_counts=True)
                    # Of too many values, which are refused, one more is enough to know it.
                    values, counts = (of[: MOST_ORDINAL_VALUES + 1].tolist() for of in found)
                    self._counts[name][split].update(dict(zip(values, counts, strict=True)))

    def fitted(self) -> tuple[tuple[OrdinalLabel, ...], tuple[Dense, ...]]:
        """The ordinal labels with their values in train, the others with their moments there."""
        ordinal = (self._ordinal_label(name) for name in self._ordinal)
        others = (name for name in self._columns if name not in self._ordinal)
        return tuple(ordinal), tuple(self._moments[name][TRAIN].fitted(name) for name in others)

    def _ordinal_label(self, name: str) -> OrdinalLabel:
        counts = sorted(self._counts[name][TRAIN].items())
        total = max(sum(count for _, count in counts), 1)
        return OrdinalLabel(name, tuple(v for v, _ in counts), tuple(n / total for _, n in counts))

    def report(self) -> dict[str, dict[str, dict[str, Any]]]:
        """The number and the mean of each label by split.

        Raises:
          UserError: a split has no label, or only equal ones, so that nothing can be learned or
            measured; or an ordinal label has too many values, or some that train lacks.
        """
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for name, of_splits in self._moments.items():
            group = "ordinal" if name in self._ordinal else "regression"
            about, found[name] = f"config.{group}.{name}", {}
            for split, moments in zip(SPLITS, of_splits, strict=True):
                if not moments.count:
                    raise UserError(about, f"no event of {split} has a label")
                if not moments.std:
                    raise UserError(
                        about,
                        f"all {moments.count} labels of {split} are {moments.mean:g}; different "
                        "ones are needed, so change the label or config.split",
                    )
                mean = round(float(moments.mean), 6)
                found[name][split] = {"labels": moments.count, "mean": mean}
        for name, counts in self._counts.items():
            _check_values(f"config.ordinal.{name}", [sorted(values) for values in counts])
        return found


def _check_values(about: str, of_splits: list[list[float]]) -> None:
    for split, values in zip(SPLITS, of_splits, strict=True):
        if len(values) > MOST_ORDINAL_VALUES:
            raise UserError(
                about,
                f"has more than {MOST_ORDINAL_VALUES} different values in {split}; round it, or "
                "make it a label of config.regression",
            )
        if len(unknown := np.setdiff1d(values, of_splits[TRAIN])):
            raise UserError(
                about,
                f"is {unknown[0]:g} in {split} and nowhere in train, so no model can learn it; "
                "join it with another value, write NULL for it, or change config.split",
            )
