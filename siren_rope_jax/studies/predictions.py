"""What several runs predicted for the same events, from their predictions.parquet.

Letters: N events, S training seeds.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.metrics.bootstrap import Columns


class Predictions(NamedTuple):
    """The events' users and several runs' columns, in order of the events.

    Attributes:
      users: integers that identify them.
      values: by column; NaN for null.
    """

    users: Int[np.ndarray, " N"]
    values: Mapping[str, Float[np.ndarray, "S N"]]


def read_predictions(
    paths: Sequence[Path], columns: Columns, reference: Path | None = None
) -> Predictions:
    """Reads columns of the predictions of one model.

    Args:
      paths: one file per seed; at least one.
      columns: which ones.
      reference: predictions of another model, which must cover the same events.

    Raises:
      UserError: a file lacks a column, or the files differ in the events, their users or what
        `columns` calls their truth.
    """
    files = [*paths, *([reference] if reference else [])]
    frames = [_read(path, columns) for path in files]
    for frame, path in zip(frames[1:], files[1:], strict=True):
        _check_same(frames[0], files[0], frame, path, columns)
    own = frames[: len(paths)]
    users = pd.factorize(own[0]["user"], sort=True)[0]
    values = {c: np.stack([frame[c].to_numpy() for frame in own]) for c in columns}
    return Predictions(users, values)


def _read(path: Path, columns: Columns) -> pd.DataFrame:
    """A file's events, users and columns (float64), in the order of the events."""
    names = list(columns)
    try:
        frame = pd.read_parquet(path, columns=["event", "user", *names])
    except (KeyError, ValueError, OSError) as error:
        raise UserError(path, f"lacks predictions ({', '.join(names)}): {error}") from error
    frame[names] = frame[names].astype(np.float64)
    return frame.sort_values("event", ignore_index=True)


def _check_same(
    first: pd.DataFrame, theirs: Path, frame: pd.DataFrame, path: Path, columns: Columns
) -> None:
    """Refuses files that differ in events, users or the truth."""
    hint = "evaluate both models on the same split of the same prepared log"
    if not first["event"].equals(frame["event"]):
        sizes = f"({len(frame)} and {len(first)})"
        raise UserError(path, f"holds other events than {theirs} {sizes}; {hint}")
    a, b = (columns.truth({c: of[c].to_numpy() for c in columns}) for of in (first, frame))
    if not first["user"].equals(frame["user"]) or not np.array_equal(a, b, equal_nan=True):
        what = f"users or in what is true ({', '.join(columns)})"
        raise UserError(path, f"differs from {theirs} in {what}; {hint}")
