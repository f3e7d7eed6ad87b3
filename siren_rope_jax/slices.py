"""Groups of the evaluated events: by item seen or not, hour of day, time since the last, day."""

import numpy as np
from jaxtyping import Int

from siren_rope_jax.data.dataset import Events
from siren_rope_jax.data.schema import DAY, HOUR, NO_TIME, Categorical
from siren_rope_jax.metrics import auc, normalized_entropy

# (name, upper limit in seconds) of the time since the user's last event.
GAPS = (
    ("<1 min", 60),
    ("<10 min", 10 * 60),
    ("<1 h", HOUR),
    ("<6 h", 6 * HOUR),
    ("<1 d", DAY),
    ("<1 wk", 7 * DAY),
    ("longer", None),
)
FIRST_EVENT = "first event"
MAX_PERIODS = 92


def slices(
    item: Categorical, events: Events, everything: Events
) -> dict[str, dict[str, Int[np.ndarray, " M"]]]:
    """Groups of the evaluated events: name -> group -> positions; empty groups are left out.

    "hour", "gap" and "day" hold events with a known time. A log that spans more than 92 days is
    cut into periods of several whole days, named by their first.

    Args:
      item: the feature that identifies the item.
      events: the evaluated events.
      everything: all events of the log, in global order.
    """
    ids = events.rows[f"categorical/{item.name}"]
    seen = (ids > 0) & (ids <= item.known)
    time = events.rows["time"]
    known = np.flatnonzero(time != NO_TIME)
    local = time[known] + events.rows["utc_offset"][known]
    day = local // DAY
    width = -(-int(np.ptp(day) + 1) // MAX_PERIODS) if len(day) else 1
    first = int(day.min(initial=np.iinfo(np.int64).max))
    gap = seconds_since_last(everything)[events.event[known]]
    limits = [limit for _, limit in GAPS if limit is not None]
    bucket = np.where(gap < 0, len(GAPS), np.searchsorted(limits, gap, side="right"))
    gap_names = [name for name, _ in GAPS] + [FIRST_EVENT]
    return {
        "item": {
            name: rows
            for name, rows in (("seen", np.flatnonzero(seen)), ("unseen", np.flatnonzero(~seen)))
            if len(rows)
        },
        "hour": {str(h): known[rows] for h, rows in _groups(local // HOUR % 24)},
        "gap": {gap_names[b]: known[rows] for b, rows in _groups(bucket)},
        "day": {
            str(np.datetime64(first + p * width, "D")): known[rows]
            for p, rows in _groups((day - first) // width)
        },
    }


def seconds_since_last(everything: Events) -> Int[np.ndarray, " E"]:
    """Seconds since the same user's last earlier event with a time; -1 where there is none.

    Args:
      everything: all events of a log, in global order.
    """
    gap = np.full(len(everything.event), -1, np.int64)
    known = np.flatnonzero(everything.rows["time"] != NO_TIME)
    time, user = everything.rows["time"][known], everything.user[known]
    same = user[1:] == user[:-1]
    gap[known[1:][same]] = np.diff(time)[same]
    return gap


def _groups(keys: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """The distinct keys in ascending order, each with the positions where it stands."""
    order = np.argsort(keys, kind="stable")
    distinct, starts = np.unique(keys[order], return_index=True)
    parts = np.split(order, starts)[1:]
    return [(int(key), part) for key, part in zip(distinct, parts, strict=True)]


def slice_metrics(labels: np.ndarray, scores: np.ndarray) -> dict[str, float | int | None]:
    """NE (by the slice's own base rate), AUC, and what calibration needs, to six digits."""
    present = labels >= 0
    labels, scores = labels[present], scores[present].astype(np.float64)
    if len(labels) == 0:
        return {"ne": None, "auc": None, "count": 0, "rate": None, "mean_score": None}
    values = {
        "ne": normalized_entropy(labels, scores),
        "auc": auc(labels, scores),
        "rate": labels.mean(),
        "mean_score": scores.mean(),
    }
    rounded = {k: None if np.isnan(v) else round(float(v), 6) for k, v in values.items()}
    return {**rounded, "count": len(labels)}
