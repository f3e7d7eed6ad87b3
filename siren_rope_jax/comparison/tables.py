"""Markdown tables of numbers with a spread, from the dicts of report.json."""

from collections.abc import Mapping, Sequence
from typing import Any


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table, and an empty one."""
    cells = [list(header), ["---", *["---:"] * (len(header) - 1)], *map(list, rows)]
    return [*(f"| {' | '.join(row)} |" for row in cells), ""]


def fewer(of: Mapping[str, Any] | None, planned: int) -> str:
    """How many seeds something is made of, where those are not all."""
    return f" (n = {len(of['seeds'])})" if of and len(of["seeds"]) < planned else ""


def number(value: float | None, digits: int, factor: float = 1) -> str:
    """A number, or a dash."""
    return "–" if value is None else f"{value * factor:.{digits}f}"


def plus_minus(
    spread: Mapping[str, Any] | None, digits: int, unit: str = "", factor: float = 1
) -> str:
    """A mean with its standard deviation, where it has one."""
    if spread is None or spread["mean"] is None:
        return "–"
    text = number(spread["mean"], digits, factor)
    if spread["sd"] is not None:
        text += f" ± {number(spread['sd'], digits, factor)}"
    return text + unit


def interval(delta: Mapping[str, float | None]) -> str:
    """A difference with its interval, bold where that excludes zero."""
    difference, low, high = delta["difference"], delta["low"], delta["high"]
    if difference is None:
        return "–"
    if low is None or high is None:
        return f"{difference:+.4f}"
    text = f"{difference:+.4f} [{low:+.4f}, {high:+.4f}]"
    return f"**{text}**" if low > 0 or high < 0 else text


def differences(of: Mapping[str, Any] | None, metrics: Sequence[str], planned: int) -> list[str]:
    """The intervals of several metrics; empty cells where there is nothing to compare."""
    if of is None:
        return [""] * len(metrics)
    return [interval(of[metric]) + fewer(of, planned) for metric in metrics]
