"""Values as texts, and which texts are numbers."""

from collections.abc import Sequence
from typing import Any

import ibis

_EXACT = 2.0**53  # up to here a double represents every integer
WHOLE = r"^(0|-?[1-9]\d{0,17})(\.0+)?$"
"""An integer, perhaps written as 1.0."""


def as_text(value: ibis.Value) -> ibis.Value:
    """The value as text, the same for equal numbers of all types: 1, 1.0 and 1.00 are "1"."""
    kind = value.type()
    if kind.is_floating():
        whole = is_whole(value, _EXACT)
        text = whole.ifelse(value.try_cast("int64").cast("string"), value.cast("string"))
        return value.isnan().ifelse(ibis.null("string"), text)
    if kind.is_decimal() and kind.scale != 0:
        return value.cast("string").re_replace(r"\.?0+$", "")
    return value.cast("string")


def is_whole(value: Any, most: float) -> Any:
    """Whether a number is an integer, and no larger; the engine cannot round a huge one down."""
    inside = value.abs() <= most
    return inside & (inside.ifelse(value, 0).floor() == value)


def is_number(text: ibis.Value) -> ibis.Value:
    """Whether the text is a number that can be a double: not "007", "1_000" or 20 digits."""
    number = text.try_cast("float64")
    exact = (number.abs() < _EXACT) | number.isinf()
    leading_zero = text.substr(0, 2).between("00", "09")
    return (exact & ~leading_zero & ~text.contains("_")).fill_null(False)


def present(value: ibis.Value, missing: Sequence[str]) -> ibis.Value:
    """The text, or NULL if it is one of those that stand for a missing value."""
    return value.isin(missing).ifelse(ibis.null("string"), value) if missing else value
