"""What the events and requests of an exported model have: its keys, and what their values are."""

from collections.abc import Mapping
from typing import Any, Literal

from siren_rope_jax.base.times import MAX_TIME, MAX_UTC_OFFSET, MIN_TIME
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.data.schema import (
    PREFIXES,
    Categorical,
    Dense,
    OrdinalLabel,
    Schema,
    bare_names,
)

Rule = Literal["given", "given or null", "optional"]
"""Whether an event has a key: always, and with a value; always; or as it may be."""


def columns(log: PreparedLog, kind: str) -> dict[str, dict[str, Any]]:
    """The columns of a log by the keys of an event, in the order of the model's arguments.

    Each has its group, the log's own expression for its values ("": none is noted), and whether a
    past event ("histories") and a request ("requests") have it; a column without an entry of these
    is refused there.

    Args:
      log: the log of a run.
      kind: of the run; a request for a list has a time, and no item.
    """
    schema, config, names = log.schema, config_of(log), keys(log.schema)
    found = _clock(schema, config)
    for group, prefix in PREFIXES.items():
        for column in getattr(schema, group):
            name = column if isinstance(column, str) else column.name
            text = config.get(group, {}).get(name, "")
            text = config.get("item", "") if (group, name) == ("categorical", "item") else text
            rule = _rule(group, name)
            rules = {"histories": "optional" if group == "context" else rule, "requests": rule}
            if kind == "retrieval":
                del rules["requests"]
            what = {"group": prefix, "expression": text, **rules, **_details(column)}
            found[names[f"{prefix}/{name}"]] = what
    return found


def keys(schema: Schema) -> dict[str, str]:
    """The key of every column in an event: "x", or "dense/x" where another group has an "x", too.

    The item is always "item".
    """
    grouped = [c for c in schema.event_dtype.names or () if "/" in c]
    names = bare_names(["time", "utc_offset", *grouped])
    return {c: names[c] for c in grouped}


def config_of(log: PreparedLog) -> Mapping[str, Any]:
    """The config that prepared a log from a file; empty if it was made otherwise."""
    config = log.report.get("config", {})
    return config if "derived" in config else {}


def _clock(schema: Schema, config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    time: dict[str, Any] = {"group": "time", "expression": "", "unit": "Unix seconds"}
    time |= {"range": (MIN_TIME, MAX_TIME - 1), "histories": "optional", "requests": "given"}
    if not schema.has_utc_offset or schema.time_zone:
        return {"time": time}
    offset = {"group": "utc_offset", "expression": config.get("utc_offset", ""), "unit": "seconds"}
    offset |= {"range": (-MAX_UTC_OFFSET, MAX_UTC_OFFSET), "histories": "given"}
    return {"time": time, "utc_offset": offset | {"requests": "optional"}}


def _rule(group: str, name: str) -> Rule:
    if group == "categorical":
        return "given" if name == "item" else "given or null"
    return "given" if group in ("dense", "context") else "optional"


def _details(column: Categorical | Dense | OrdinalLabel | str) -> dict[str, Any]:
    """What the loader needs to know to make a number or an id of a value."""
    if isinstance(column, str):
        return {"values": (0, 1)}
    if isinstance(column, Categorical):
        return {"most": column.most}
    scale = {"mean": column.mean, "std": column.std}
    return scale | ({"values": column.values} if isinstance(column, OrdinalLabel) else {})
