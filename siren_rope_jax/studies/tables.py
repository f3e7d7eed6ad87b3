"""Markdown tables of numbers with a spread, from the dicts of report.json."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import t as student_t

from siren_rope_jax.base.text import number


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table, and an empty one."""
    cells = [list(header), ["---", *["---:"] * (len(header) - 1)], *map(list, rows)]
    return [*(f"| {' | '.join(row)} |" for row in cells), ""]


def fewer(of: Mapping[str, Any] | None, planned: int) -> str:
    """How many seeds something is made of, where those are not all."""
    return f" (n = {len(of['seeds'])})" if of and len(of["seeds"]) < planned else ""


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


def interval(delta: Mapping[str, float | None], seeds: int = 1) -> str:
    """A difference with its bootstrap interval over users, bold where that excludes zero.

    Of three seeds or more, the 95 % t-interval of the mean over seeds must exclude it too. Of two
    that one reaches 12.7 standard errors to either side and would exclude next to nothing, so that
    bold says nothing of the seeds, as with a single one.

    Args:
      delta: "difference", "low" and "high"; of several seeds also "sd", of its values by seed.
      seeds: how many have one.
    """
    difference, low, high = delta["difference"], delta["low"], delta["high"]
    if difference is None:
        return "–"
    sd = delta["sd"] if seeds > 1 else None
    text = f"{difference:+.4f}" + ("" if sd is None else f" ± {sd:.4f}")
    if low is None or high is None:
        return text
    sure = low > 0 or high < 0
    if sd is not None and seeds > 2:
        sure = sure and abs(difference) > student_t.ppf(0.975, seeds - 1) * sd / math.sqrt(seeds)
    text += f" [{low:+.4f}, {high:+.4f}]"
    return f"**{text}**" if sure else text


def differences(of: Mapping[str, Any] | None, metrics: Sequence[str], planned: int) -> list[str]:
    """The intervals of several metrics; empty cells where there is nothing to compare."""
    if of is None:
        return [""] * len(metrics)
    return [interval(of[metric], len(of["seeds"])) + fewer(of, planned) for metric in metrics]
