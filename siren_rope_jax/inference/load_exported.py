"""Opens an exported model. It needs jax, numpy and flatbuffers, nothing else.

Of every user there are past events, oldest first, and requests, the same number for each. They have
the keys of the columns in schema.json; values are what the expression of a column makes of a row of
the raw log, not what that row has. A category that the model does not know counts as missing, and
so does None. Times are Unix seconds; those of past events may be missing, and no request is before
the last one. Local time follows the time zone in schema.json or, if there is none, "utc_offset"
(local time minus UTC, in seconds), which a request has from the last event if it has none itself;
in a log without either it is UTC. What cannot be answered raises a ValueError.

Numbers of users and of requests are padded to powers of 2; each that is new takes some seconds.
"""

import datetime
import json
import math
import numbers
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import jax.export
import numpy as np

LARGEST = float(np.finfo(np.float32).max)
Rows = list[list[dict[str, Any]]]
"""The events of each user."""
_NUMERIC_OUTCOMES = ("action", "ordinal", "regression")


class Model:
    """The model in a folder: by default, in that of this file. README.md there shows a call."""

    def __init__(self, folder: str | Path | None = None) -> None:
        here = Path(folder or Path(__file__).parent)
        self.schema = json.loads((here / "schema.json").read_text(encoding="utf-8"))
        self.weights = jax.device_put(dict(np.load(here / "weights.npz")))
        function = jax.export.deserialize(bytearray((here / "model.stablehlo").read_bytes()))
        self.function = jax.jit(function.call)
        zone = self.schema["time_zone"]
        self.zone = ZoneInfo(zone) if zone else None  # of the system, or of the package tzdata
        self.columns = self.schema["columns"]
        self.rules = {
            argument: {key: c[argument] for key, c in self.columns.items() if argument in c}
            for argument in ("histories", "requests")
        }
        names = {c: c.removeprefix("categorical/") for c in self._keys("categorical")}
        paths = {c: here / "vocabulary" / f"{name}.json" for c, name in names.items()}
        self.values = {c: json.loads(path.read_text("utf-8")) for c, path in paths.items()}
        self.ids = {c: {v: n for n, v in enumerate(x, 1)} for c, x in self.values.items()}

    def score(self, histories: Rows, requests: Rows) -> np.ndarray:
        """Of a ranking model: predictions [users, requests, tasks], tasks as in schema.json.

        Those of the binary ones are probabilities, the others are in the unit of the label; of an
        ordinal one it is the mean of its values by their probabilities.
        """
        self._check_kind("ranking", "recommend")
        return self._call(histories, requests)

    def recommend(
        self, histories: Rows, requests: Rows, k: int = 10, filter_seen: bool | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of a retrieval model: the k best items for each request, and their scores.

        A list is never longer than the model has items. `filter_seen` leaves out the items of the
        history; None: as schema.json says. If too few items are left, a list ends in None.
        """
        self._check_kind("retrieval", "score")
        most = self.schema["most_listed"]
        if not isinstance(k, numbers.Integral) or isinstance(k, bool) or not 1 <= k <= most:
            raise ValueError(f"k is {k!r:.60}; it must be a whole number from 1 to {most}")
        if filter_seen not in (True, False, None):
            raise ValueError(f"filter_seen is {filter_seen!r:.60}; it must be True, False or None")
        filtered = self.schema["filter_seen"] if filter_seen is None else filter_seen
        ids, scores = (x[..., :k] for x in self._call(histories, requests, filtered))
        return np.array([None, *self.values["item"]], dtype=object)[ids], scores

    def _call(self, histories: Rows, requests: Rows, filter_seen: bool = False) -> Any:
        """What the exported function returns for these users and requests."""
        self._check(histories, requests)
        past, asked = _padded(histories), _padded(requests)
        last = [row[-1].get("utc_offset", 0) if row else 0 for row in past]
        asked = [
            [{"utc_offset": offset} | event for event in row]
            for offset, row in zip(last, asked, strict=True)
        ]
        seen = [row[self._start(len(row)) :] for row in past]
        history = self._arrays(seen, self.schema["length"])
        history["events"] = np.array([len(row) for row in seen], np.int32)
        history["seen"] = self._distinct_items(past if filter_seen else [[]] * len(past))
        request = self._arrays(asked, _power_of_2(len(requests[0])))
        of_history, of_request = self.schema["arguments"]
        found = self.function(
            self.weights, {n: history[n] for n in of_history}, {n: request[n] for n in of_request}
        )
        return jax.tree.map(lambda x: np.asarray(x)[: len(requests), : len(requests[0])], found)

    def _distinct_items(self, rows: Rows) -> np.ndarray:
        """The ids of each row's items, padded with 0."""
        ids = [sorted({self._id("item")(event) for event in row} - {0}) for row in rows]
        width = _power_of_2(max(map(len, ids)))
        return np.array([own + [0] * (width - len(own)) for own in ids], np.int32)

    def _check_kind(self, needed: str, instead: str) -> None:
        if (kind := self.schema["kind"]) != needed:
            raise ValueError(f"the model is a {kind} model; use {instead}, or a {needed} model")

    def _check(self, histories: Rows, requests: Rows) -> None:
        """Refuses what would be answered by nonsense."""
        arguments = {"histories": histories, "requests": requests}
        for name, rows in arguments.items():
            lists = isinstance(rows, list | tuple) and all(
                isinstance(x, list | tuple) for x in rows
            )
            if not lists:
                raise ValueError(f"{name} must be a list that has a list of dicts for every user")
        counts = {len(row) for row in requests}
        if len(histories) != len(requests) or len(counts) != 1 or 0 in counts:
            right = "for the users of histories, and the same number for each, 1 or more"
            raise ValueError(f"requests must be {right}")
        for user in range(len(requests)):
            if self.schema["kind"] == "retrieval" and not histories[user]:
                raise ValueError(
                    f"histories[{user}] is empty; a retrieval model needs a past event"
                )
            latest = -math.inf
            for name, rows in arguments.items():
                for n, event in enumerate(rows[user]):
                    where = f"{name}[{user}][{n}]"
                    self._check_event(where, event, name)
                    time = latest if _is_missing(event.get("time")) else event["time"]
                    if time < latest:
                        right = f"at least {latest}, that of a past event before it"
                        raise ValueError(f"{where}: time is {time}; it must be {right}")
                    latest = time if name == "histories" else latest

    def _check_event(self, where: str, event: Any, argument: str) -> None:
        """Refuses an event whose keys or values are not those of the columns."""
        if not isinstance(event, dict):
            raise ValueError(f"{where} is {event!r:.60}; it must be a dict of an event's values")
        rules = self.rules[argument]
        for key in event:
            if key not in rules:
                known = ", ".join(rules)
                raise ValueError(f"{where} has the key {key!r:.60}; its keys must be of {known}")
        for key, rule in rules.items():
            there = key in event or rule == "optional"
            if not there or not self._fits(key, event.get(key), rule):
                found = f"is {event[key]!r:.60}" if key in event else "is not given"
                right = self._right(key) + ("" if rule == "given" else ", or None")
                raise ValueError(f"{where}: {key} {found}; it must be {right}")

    def _fits(self, key: str, value: Any, rule: str) -> bool:
        """Whether a value is one of a column."""
        column = self.columns[key]
        if _is_missing(value):
            return rule != "given"
        if key in self.ids:
            is_list, known = isinstance(value, list | tuple | set | np.ndarray), self._types(key)
            values: Any = value if is_list else [value]
            fit = all(_type(x) in known or _is_missing(x) for x in values)
            return is_list == bool(column["most"]) and fit
        least, most = column.get("range", (-LARGEST, LARGEST))
        if _type(value) not in ("number", "truth value") or not least <= value <= most:
            return False
        return "values" not in column or np.float32(value) in map(np.float32, column["values"])

    def _right(self, key: str) -> str:
        """What the values of a column are."""
        column = self.columns[key]
        if key in self.ids:
            types = " or ".join(self._types(key))
            return f"a list, each a {types}" if column["most"] else f"a {types}"
        if "values" in column:
            return f"one of {', '.join(f'{value:g}' for value in column['values'])}"
        least, most = column.get("range", (-LARGEST, LARGEST))
        return f"{column.get('unit', 'a number')} from {least:.10g} to {most:.10g}"

    def _types(self, key: str) -> list[str]:
        """Those that a category may have: that of the model's own values, if it knows any."""
        return [_type(value) for value in self.values[key][:1]] or ["text", "number", "truth value"]

    def _start(self, events: int) -> int:
        """The first event that is seen, as in an evaluation: a multiple of the stride."""
        retrieval = self.schema["kind"] == "retrieval"
        beyond = events + 1 - (self.schema["length"] + retrieval)
        return max(math.ceil(beyond / self.schema["stride"]), 0) * self.schema["stride"]

    def _offset(self, event: dict[str, Any]) -> int:
        """Local time minus UTC, in seconds."""
        if self.zone is None or "time" not in event:
            return event.get("utc_offset", 0)
        local = datetime.datetime.fromtimestamp(event["time"], self.zone)
        return int((local.utcoffset() or datetime.timedelta()).total_seconds())

    def _arrays(self, rows: Rows, width: int) -> dict[str, np.ndarray]:
        """All features and times of events, padded to a width."""
        padded = [[*row, *[{}] * (width - len(row))] for row in rows]

        def table(columns: list[Any], dtype: Any) -> np.ndarray:
            values = [[[column(event) for column in columns] for event in row] for row in padded]
            return np.array(values, dtype).reshape(len(rows), width, len(columns))

        seconds = table([lambda e: math.floor(e.get("time", 0))], np.int64)[..., 0]
        return {
            "categorical": table([x for c in self.ids for x in self._places(c)], np.int32),
            "dense": table(self._standard("dense"), np.float32),
            "context": table(self._standard("context"), np.float32),
            "actions": table(self._actions(), np.float32),
            "day": (seconds // 86_400).astype(np.int32),
            "second": (seconds % 86_400).astype(np.int32),
            "utc_offset": table([self._offset], np.int32)[..., 0],
            "time_is_known": table([lambda e: "time" in e], bool)[..., 0],
        }

    def _places(self, key: str) -> list[Any]:
        """One for a value; of a list, as many as it has places: its ids ascend, then there is 0."""
        most = self.columns[key]["most"]
        if not most:
            return [self._id(key)]

        def place(event: dict[str, Any], n: int) -> int:
            ids = sorted({self.ids[key].get(value, 0) for value in event.get(key, ())} - {0})
            return ids[n] if n < len(ids) else 0

        return [partial(place, n=n) for n in range(most)]

    def _id(self, key: str) -> Any:
        return lambda event: self.ids[key].get(event.get(key), 0)

    def _actions(self) -> list[Any]:
        """What the user did: two columns for each binary label, and two for each other action."""
        tasks, others = self._keys("task"), self._keys(*_NUMERIC_OUTCOMES)
        return [
            *[lambda e, t=task: e.get(t) == 1 for task in tasks],
            *[lambda e, t=task: e.get(t) == 0 for task in tasks],
            *self._standard(*_NUMERIC_OUTCOMES),
            *[lambda e, key=key: key in e for key in others],
        ]

    def _standard(self, *groups: str) -> list[Any]:
        """Numbers on the scale of the model; 0, the mean, where there is none."""

        def standard(event: dict[str, Any], key: str, mean: float, std: float) -> float:
            return (event[key] - mean) / std if key in event else 0.0

        own = {key: self.columns[key] for key in self._keys(*groups)}
        return [partial(standard, key=k, mean=c["mean"], std=c["std"]) for k, c in own.items()]

    def _keys(self, *groups: str) -> list[str]:
        """Those of the columns of some groups."""
        return [key for key, column in self.columns.items() if column["group"] in groups]


def _padded(rows: Rows) -> Rows:
    """The events without missing values; and empty rows, as few sizes are compiled."""
    given = [[{k: v for k, v in e.items() if not _is_missing(v)} for e in row] for row in rows]
    return given + [[]] * (_power_of_2(len(rows)) - len(rows))


def _power_of_2(size: int) -> int:
    """The least one that is not below a size."""
    return 1 << max(size - 1, 0).bit_length()


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float | np.floating) and math.isnan(value))


def _type(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "truth value"
    if isinstance(value, str):
        return "text"
    return "number" if isinstance(value, numbers.Real) else type(value).__name__
