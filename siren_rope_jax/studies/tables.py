"""Markdown tables of means, deviations and intervals, from the dicts of report.json."""

from collections.abc import Mapping, Sequence
from typing import Any

from siren_rope_jax.base.text import number


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table, followed by an empty line."""
    cells = [list(header), ["---", *["---:"] * (len(header) - 1)], *map(list, rows)]
    return [*(f"| {' | '.join(row)} |" for row in cells), ""]


def fewer(of: Mapping[str, Any] | None, planned: int) -> str:
    """The number of seeds behind a value, as " (n = 2)"; empty where it is the planned number."""
    return f" (n = {len(of['seeds'])})" if of and len(of["seeds"]) < planned else ""


def plus_minus(
    spread: Mapping[str, Any] | None, digits: int, unit: str = "", factor: float = 1
) -> str:
    """A mean and its standard deviation, if it has one; a dash where there is no mean."""
    if spread is None or spread["mean"] is None:
        return "–"
    text = number(spread["mean"], digits, factor)
    if spread["sd"] is not None:
        text += f" ± {number(spread['sd'], digits, factor)}"
    return text + unit


def interval(delta: Mapping[str, float | None], certain: bool = False) -> str:
    """A difference with its interval, which are "value", "low" and "high"; in bold if certain."""
    value, low, high = delta["value"], delta["low"], delta["high"]
    if value is None:
        return "–"
    text = f"{value:+.4f}"
    if low is not None and high is not None:
        text += f" [{low:+.4f}, {high:+.4f}]"
    return f"**{text}**" if certain else text
