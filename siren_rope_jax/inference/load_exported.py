"""Opens an exported model. It needs jax, numpy and flatbuffers, nothing else.

Of every user there are past events, oldest first, and requests, the same number for each. They have
the keys of the columns in schema.json; values are what the expression of a column makes of a row of
the raw log, not what that row has. A category that the model does not know counts as missing.
Times are Unix seconds; those of past events may be missing, and no request is before the last one.
Local time follows the time zone in schema.json or, if there is none, "utc_offset" (local time minus
UTC, in seconds), which a request has from the last event if it has none itself. What cannot be
answered raises a ValueError.
"""

import datetime
import json
import math
import numbers
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import jax.export
import numpy as np

MIN_TIME, MAX_TIME = -2_145_916_800, 4_102_444_800  # 1902 and 2100, Unix seconds
_NUMERIC_OUTCOMES = ("action", "ordinal", "regression")
Rows = list[list[dict[str, Any]]]
"""The events of each user."""
Value = str | numbers.Number | np.generic | None
"""Of a categorical feature."""


class Model:
    """The model in a folder: by default, in that of this file. README.md there shows a call."""

    def __init__(self, folder: str | Path | None = None) -> None:
        here = Path(folder or Path(__file__).parent)
        self.schema = json.loads((here / "schema.json").read_text(encoding="utf-8"))
        self.weights = dict(np.load(here / "weights.npz"))
        function = jax.export.deserialize(bytearray((here / "model.stablehlo").read_bytes()))
        self.function = function.call
        self.columns = self.schema["columns"]
        names = {c: c.removeprefix("categorical/") for c in self._keys("categorical")}
        paths = {c: here / "vocabulary" / f"{name}.json" for c, name in names.items()}
        self.values = {c: json.loads(path.read_text("utf-8")) for c, path in paths.items()}
        self.ids = {c: {v: n for n, v in enumerate(x, 1)} for c, x in self.values.items()}

    def score(self, histories: Rows, requests: Rows) -> np.ndarray:
        """Of a ranking model: predictions [users, requests, tasks], tasks as in schema.json.

        Those of the binary ones are probabilities, the others are in the unit of the label; of an
        ordinal one it is the mean of its values by their probabilities.
        """
        return np.asarray(self._call(histories, requests))

    def recommend(
        self, histories: Rows, requests: Rows, k: int = 10, filter_seen: bool | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of a retrieval model: the k best items for each request, and their scores.

        `filter_seen` leaves out the items of the history; None: as schema.json says. If too few
        items are left, a list ends in None.
        """
        filtered = self.schema["filter_seen"] if filter_seen is None else filter_seen
        found = self._call(histories, requests, histories if filtered else [[] for _ in histories])
        ids, scores = (np.asarray(x)[..., :k] for x in found)
        return np.array([None, *self.values["item"]], dtype=object)[ids], scores

    def _call(self, histories: Rows, requests: Rows, left_out: Rows | None = None) -> Any:
        """What the exported function returns, without the items of some events of each user."""
        schema = self.schema
        self._check(histories, requests)
        seen = [history[self._start(len(history)) :] for history in histories]
        last = [history[-1].get("utc_offset", 0) if history else 0 for history in histories]
        requests = [
            [{"utc_offset": offset} | event for event in row]
            for offset, row in zip(last, requests, strict=True)
        ]
        history = self._arrays(seen, schema["length"])
        history["events"] = np.array([len(events) for events in seen], np.int32)
        if left_out is not None:
            history["seen"] = self._distinct_items(left_out)
        asked = self._arrays(requests, len(requests[0]))
        of_history, of_request = schema["arguments"]
        return self.function(
            self.weights, {n: history[n] for n in of_history}, {n: asked[n] for n in of_request}
        )

    def _distinct_items(self, rows: Rows) -> np.ndarray:
        """The ids of each row's items, padded with 0 to a power of 2, as few sizes are compiled."""
        ids = [sorted({self._id("item")(event) for event in row} - {0}) for row in rows]
        width = 1 << max(max(map(len, ids)) - 1, 0).bit_length()
        return np.array([own + [0] * (width - len(own)) for own in ids], np.int32)

    def _check(self, histories: Rows, requests: Rows) -> None:
        """Refuses what would be answered by nonsense."""
        counts = {len(row) for row in requests}
        if len(histories) != len(requests) or len(counts) != 1 or 0 in counts:
            raise ValueError(
                "every user needs a history and the same number of requests, 1 or more"
            )
        if self.schema["kind"] == "retrieval" and not all(histories):
            raise ValueError("every user needs a past event")
        for event in (event for row in [*histories, *requests] for event in row):
            self._check_event(event)
        for history, row in zip(histories, requests, strict=True):
            times = [event["time"] for event in history if event.get("time") is not None]
            for earlier, later in pairwise(times):
                if later < earlier:
                    raise ValueError(f"past events go from old to new, not {later} after {earlier}")
            for event in row:
                if event.get("time") is None:
                    raise ValueError(f"a request needs a time, in Unix seconds: {event}")
                if times and event["time"] < times[-1]:
                    raise ValueError(f"a request is before its past, {times[-1]}: {event}")

    def _check_event(self, event: Any) -> None:
        """Refuses an event whose values are not what the columns of the schema take."""
        if not isinstance(event, dict):
            raise ValueError(f"every user has a list of events, each a dict, not {event!r}")
        time: Any = event.get("time", 0)
        is_second = isinstance(time, numbers.Real) and MIN_TIME <= float(time) < MAX_TIME
        if time is not None and not is_second:
            raise ValueError(f"times are Unix seconds from 1902 to 2100: {event}")
        for name in self.ids:
            value: Any = event.get(name)
            is_list = self.columns[name]["most"] and value is not None
            if is_list and isinstance(value, Value):
                raise ValueError(f"{name} must be a list of values: {event}")
            if not all(isinstance(x, Value) for x in (value if is_list else [value])):
                right = "a list of values without lists in it" if is_list else "one value"
                raise ValueError(f"{name} must be {right}: {event}")
        labels = {key: c["values"] for key, c in self.columns.items() if "values" in c}
        for name in (*labels, *self._keys("dense", "context", "action", "regression")):
            if not isinstance(event.get(name, 0), numbers.Real | np.bool_ | None):
                raise ValueError(f"{name} must be a number: {event}")
        for name, values in labels.items():
            given = event.get(name)
            if _is_known(given) and np.float32(given) not in np.array(values, np.float32):
                raise ValueError(f"{name} must be one of {values}, or missing: {event}")

    def _start(self, events: int) -> int:
        """The first event that is seen, as in an evaluation: a multiple of the stride."""
        retrieval = self.schema["kind"] == "retrieval"
        beyond = events + 1 - (self.schema["length"] + retrieval)
        return max(math.ceil(beyond / self.schema["stride"]), 0) * self.schema["stride"]

    def _offset(self, event: dict[str, Any]) -> int:
        """Local time minus UTC, in seconds."""
        zone = self.schema["time_zone"]
        if not zone or event.get("time") is None:
            return event.get("utc_offset", 0)
        local = datetime.datetime.fromtimestamp(event["time"], ZoneInfo(zone))
        return int((local.utcoffset() or datetime.timedelta()).total_seconds())

    def _arrays(self, rows: Rows, width: int) -> dict[str, np.ndarray]:
        """All features and times of events, padded to a width."""
        padded = [[*row, *[{}] * (width - len(row))] for row in rows]

        def table(columns: list[Any], dtype: Any) -> np.ndarray:
            values = [[[column(event) for column in columns] for event in row] for row in padded]
            return np.array(values, dtype).reshape(len(rows), width, len(columns))

        seconds = table([lambda e: e.get("time") or 0], np.int64)[..., 0]
        return {
            "categorical": table([x for c in self.ids for x in self._columns(c)], np.int32),
            "dense": table(self._standard("dense"), np.float32),
            "context": table(self._standard("context"), np.float32),
            "actions": table(self._actions(), np.float32),
            "day": (seconds // 86_400).astype(np.int32),
            "second": (seconds % 86_400).astype(np.int32),
            "utc_offset": table([self._offset], np.int32)[..., 0],
            "time_is_known": table([lambda e: e.get("time") is not None], bool)[..., 0],
        }

    def _columns(self, name: str) -> list[Any]:
        """One for a value; of a list, as many as it has places: its ids ascend, then there is 0."""
        most = self.columns[name]["most"]
        if not most:
            return [self._id(name)]

        def place(event: dict[str, Any], n: int) -> int:
            values = () if event.get(name) is None else event[name]
            ids = sorted({self.ids[name].get(value, 0) for value in values} - {0})
            return ids[n] if n < len(ids) else 0

        return [partial(place, n=n) for n in range(most)]

    def _id(self, name: str) -> Any:
        return lambda event: self.ids[name].get(event.get(name), 0)

    def _actions(self) -> list[Any]:
        """What the user did: two columns for each binary label, and two for each other action."""
        tasks, others = self._keys("task"), self._keys(*_NUMERIC_OUTCOMES)
        return [
            *[lambda e, t=task: e.get(t) == 1 for task in tasks],
            *[lambda e, t=task: e.get(t) == 0 for task in tasks],
            *self._standard(*_NUMERIC_OUTCOMES),
            *[lambda e, key=key: _is_known(e.get(key)) for key in others],
        ]

    def _standard(self, *groups: str) -> list[Any]:
        """Numbers on the scale of the model; 0, the mean, where there is none."""

        def standard(event: dict[str, Any], key: str, mean: float, std: float) -> float:
            return (event[key] - mean) / std if _is_known(event.get(key)) else 0.0

        own = {key: self.columns[key] for key in self._keys(*groups)}
        return [partial(standard, key=k, mean=c["mean"], std=c["std"]) for k, c in own.items()]

    def _keys(self, *groups: str) -> list[str]:
        """Those of the columns of some groups."""
        return [key for key, column in self.columns.items() if column["group"] in groups]


def _is_known(x: Any) -> bool:
    return x is not None and not math.isnan(x)
