"""What several runs predicted for the same events, from their predictions.parquet.

Letters: N events, S training seeds.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.times import DAY, HOUR
from siren_rope_jax.metrics.bootstrap import Columns

Unit = Literal["user", "item", "hour", "day"]
"""What is drawn to say how certain a metric is; hours and days are UTC."""
_SECONDS: dict[Unit, int] = {"hour": HOUR, "day": DAY}


def read_predictions(
    paths: Sequence[Path], columns: Columns, reference: Path | None = None, unit: Unit = "user"
) -> tuple[Int[np.ndarray, " N"], dict[str, Float[np.ndarray, "S N"]]]:
    """Reads columns of the predictions of one model, one file per seed.

    Args:
      paths: the files.
      columns: what is read.
      reference: a file of another model, which must cover the same events.
      unit: what the events are resampled by.

    Returns:
      integers that identify the units of the events, and the values by column, NaN for null; both
      in order of the events. Events without a time are of one hour and day.

    Raises:
      UserError: a file lacks a column, or the files differ in the events, their users or what
        `columns` calls their truth.
    """
    files = [*paths, *([reference] if reference else [])]
    frames = [_read(path, columns) for path in files]
    first, same_split = frames[0], "evaluate both models on the same split of the same prepared log"
    for frame, path in zip(frames[1:], files[1:], strict=True):
        if not first["event"].equals(frame["event"]):
            sizes = f"({len(frame)} and {len(first)})"
            raise UserError(path, f"holds other events than {files[0]} {sizes}; {same_split}")
        a, b = (columns.truth({c: of[c].to_numpy() for c in columns}) for of in (first, frame))
        if not first["user"].equals(frame["user"]) or not np.array_equal(a, b, equal_nan=True):
            what = f"users or in what is true ({', '.join(columns)})"
            raise UserError(path, f"differs from {files[0]} in {what}; {same_split}")
    of = _read_unit(paths[0], unit) if unit != "user" else first["user"]
    units = pd.factorize(of, sort=True)[0]
    return units, {c: np.stack([frame[c] for frame in frames[: len(paths)]]) for c in columns}


def _read_unit(path: Path, unit: Unit) -> pd.Series:
    """The unit of every event, in the order of the events."""
    column = "time" if unit in _SECONDS else unit
    frame = pd.read_parquet(path, columns=["event", column])
    values = frame.sort_values("event", ignore_index=True)[column]
    return values // _SECONDS[unit] if unit in _SECONDS else values


def _read(path: Path, columns: Columns) -> pd.DataFrame:
    """A file's events, users and columns (float64), in the order of the events."""
    names = list(columns)
    try:
        frame = pd.read_parquet(path, columns=["event", "user", *names])
    except (KeyError, ValueError, OSError) as error:
        why = str(error).partition("\n")[0]  # Arrow goes on with the whole schema
        raise UserError(path, f"lacks predictions ({', '.join(names)}): {why}") from error
    return frame.astype(dict.fromkeys(names, np.float64)).sort_values("event", ignore_index=True)
