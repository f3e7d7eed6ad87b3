"""Which events each row of a batch holds: windows over histories, packed into rows.

A *window* is a run of consecutive events of one user. The last of them are targets, on which a
model is trained or evaluated; those before are context. Every event of a split is a target exactly
once, so a history is not repeated for each of its prefixes. Windows share a row where they fit.
"""

import dataclasses
import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from siren_rope_jax.base.errors import check
from siren_rope_jax.data.schema import SPLITS, Split

WINDOW = np.dtype([(name, np.int64) for name in ("user", "start", "target", "stop")])
"""A user's events [start, stop), counted from 0: from `target` on they are targets."""


class Targets(NamedTuple):
    """The events [begin, end) of every user, counted from the first, that a model must predict."""

    begin: Int[np.ndarray, " U"]
    end: Int[np.ndarray, " U"]


def split_targets(index: np.ndarray, split: Split) -> Targets:
    """The events of a split; `index` is that of `PreparedLog`."""
    column = SPLITS.index(split) + 1
    end = index[:, 1 : column + 1].sum(axis=1)
    return Targets(end - index[:, column], end)


def plan_windows(targets: Targets, length: int, stride: int, move_last: bool = False) -> np.ndarray:
    """Covers targets, each of which belongs to one window: [W] of `WINDOW`.

    Windows begin at multiples of the stride (`window_start`), unless `move_last`.

    Args:
      targets: earlier events serve as context only, later ones are not used.
      length: the largest number of events in a window.
      stride: the largest number of targets in a window that does not begin with its user's first
        event; a target has at least `length - stride` events of context, if its user has as many.
      move_last: whether a user's last window begins earlier, if it would have fewer events than
        `length` otherwise; its targets then have more context.

    Raises:
      UserError: length < 1, or stride outside 1..length.
    """
    check(length >= 1, "length", "at least 1")
    check(1 <= stride <= length, "stride", f"in 1..{length}, the length of a window")
    begin, end = targets
    first = window_start(begin, length, stride)
    last = window_start(end - 1, length, stride)
    count = np.where(end > begin, 1 + (last - first) // stride, 0)
    user = np.repeat(np.arange(len(begin)), count)
    nth = np.arange(len(user)) - np.repeat(np.cumsum(count) - count, count)
    start, end = first[user] + nth * stride, end[user]
    windows = np.empty(len(user), WINDOW)
    windows["target"] = np.where(nth == 0, begin[user], start + length - stride)
    windows["user"], windows["stop"] = user, np.minimum(start + length, end)
    windows["start"] = np.minimum(start, np.maximum(end - length, 0)) if move_last else start
    return windows


def window_start(target: np.ndarray, length: int, stride: int) -> np.ndarray:
    """The first event of the window in which a user's event of this number is a target.

    It depends on that number alone, not on what came later or on the split, so that a model which
    is asked for events as they happen sees of each history what it saw in the evaluation.
    """
    return np.maximum(-(-(target + 1 - length) // stride), 0) * stride


@dataclasses.dataclass(frozen=True)
class PackedRows:
    """Windows packed into rows: row r holds windows[offsets[r]:offsets[r + 1]]."""

    windows: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def windows_of(self, row: int) -> np.ndarray:
        """The windows of a row, in order; none for a row beyond the last."""
        first, stop = self.offsets[np.minimum([row, row + 1], len(self))]
        return self.windows[first:stop]


def pack_rows(windows: np.ndarray, length: int, pack: bool = True, shift: int = 0) -> PackedRows:
    """Packs windows into rows of `length` places: longest first, each into the fullest that fits.

    Args:
      windows: as of `plan_windows`; those that need no places are left out.
      length: places in a row.
      pack: whether windows may share a row.
      shift: how many events at the end of a window take no place.
    """
    windows = windows[windows["stop"] - windows["start"] > shift]
    if not pack:
        return PackedRows(windows, np.arange(len(windows) + 1))
    lengths = windows["stop"] - windows["start"] - shift
    rows: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(length + 1)]  # rows by their free places
    rooms = 0  # bit r is set if with_room[r] is not empty
    for window in np.argsort(-lengths, kind="stable").tolist():
        need = int(lengths[window])
        fitting = rooms >> need
        if fitting:
            room = need + ((fitting & -fitting).bit_length() - 1)
            row = with_room[room].pop()
            if not with_room[room]:
                rooms &= ~(1 << room)
            rows[row].append(window)
        else:
            room, row = length, len(rows)
            rows.append([window])
        with_room[room - need].append(row)
        rooms |= 1 << (room - need)
    members = np.fromiter(itertools.chain.from_iterable(rows), np.int64, len(windows))
    return PackedRows(windows[members], np.cumsum([0, *map(len, rows)]))
