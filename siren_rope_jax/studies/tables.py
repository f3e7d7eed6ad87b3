"""Markdown tables of means, deviations and intervals, from the dicts of report.json."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import t as student_t

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


def interval(delta: Mapping[str, float | None], seeds: int = 1) -> str:
    """A difference with its bootstrap interval over users, in bold where that excludes zero.

    With three seeds or more, the 95 % t-interval of the mean over seeds must exclude zero as well.
    With two, that interval is 12.7 standard errors wide on either side and hardly ever excludes
    zero, so bold then disregards the seeds, as it does for a single one.

    `delta` holds "difference", "low", "high" and, of several seeds, "sd", the deviation over them.
    """
    difference, low, high = delta["difference"], delta["low"], delta["high"]
    if difference is None:
        return "–"
    sd = delta["sd"] if seeds > 1 else None
    text = f"{difference:+.4f}" + ("" if sd is None else f" ± {sd:.4f}")
    if low is None or high is None:
        return text
    certain = low > 0 or high < 0
    if sd is not None and seeds > 2:
        reach = student_t.ppf(0.975, seeds - 1) * sd / math.sqrt(seeds)
        certain = certain and abs(difference) > reach
    text += f" [{low:+.4f}, {high:+.4f}]"
    return f"**{text}**" if certain else text


def differences(of: Mapping[str, Any] | None, metrics: Sequence[str], planned: int) -> list[str]:
    """A cell for each metric's difference; empty cells where nothing was compared."""
    if of is None:
        return [""] * len(metrics)
    return [interval(of[metric], len(of["seeds"])) + fewer(of, planned) for metric in metrics]
