"""The types of a newer file's columns: those that they have in a log, whatever the file holds.

A file may be small: an id among integers that is none, or a column of texts that all look like
integers today, must not change what the other values mean.
"""

import dataclasses
from collections.abc import Mapping

import ibis

from siren_rope_jax.base.errors import UserError, one_line
from siren_rope_jax.data.schema import PREFIXES
from siren_rope_jax.prepare import checks
from siren_rope_jax.prepare.column_types import Found, Part, alone, kept_apart, own, used_columns
from siren_rope_jax.prepare.config import PrepareConfig
from siren_rope_jax.prepare.values import WHOLE, as_text, is_number, present

_FITTED = ("int64", "float64", "boolean")
_IDS = "ids"  # texts, of which those of whole numbers are written as integers are
_NUMBERS = ("decimal", *_FITTED)


def as_in_log(found: Found, known: Mapping[str, str], config: PrepareConfig) -> Found:
    """Gives the columns that the config uses the types that they have in a log.

    - Text stays text, so "007" is not 7.
    - Columns of ids have the type of the log. A value that it cannot represent is missing, as an
      unknown one would be; if the column is the user or the item, all its values are text then.
    - Columns of numbers hold numbers, integers or not, and those of true and false hold these.

    Args:
      found: the types that the file alone suggests.
      known: the types of the log's columns, by name, as `RawLog.columns` has them.
      config: that of the log.

    Raises:
      UserError: a value is no number, or not true or false, where all of the log's are.
    """
    types = {own(name): kind for name, kind in known.items()}
    columns = {own(name) for name in found.parts[0].table.columns}
    identities = {alone(config.user, columns), alone(config.item, columns)}
    time, apart = alone(config.time, columns), kept_apart(columns, config)
    used = used_columns(_texts(config), columns, config)
    for name, cast in found.casts.items():
        given = {"integral": "int64", "text": "string"}.get(cast, cast)
        kind = types.get(own(name), given)
        if own(name) not in used or given == kind:
            continue
        if kind == "string" or (own(name) in apart and kind in _FITTED):
            as_given = own(name) in identities and _misfit(found, name, kind)
            given_text = _IDS if kind == "int64" else "string"
            found = _with(found, name, given_text if as_given else kind)
        elif own(name) == time:
            continue  # a time means the same as text and as a number of any type
        elif given == "int64" and kind == "float64":
            found = _with(found, name, kind)
        elif given in ("string", "boolean") and kind.startswith(_NUMBERS):
            truth = kind == "boolean"
            if misfit := _misfit(found, name, "boolean" if truth else "float64"):
                part, row, value = misfit
                right = f"only {'true and false' if truth else 'numbers'} in the log"
                what = f"column {name!r} is {one_line(value, 60)!r} in row {row}"
                raise UserError(part.path, f"{what}; this column has {right}")
    return found


def _texts(config: PrepareConfig) -> list[tuple[str, str]]:
    """All texts of the config that columns appear in, with their keys."""
    keys = ("user", "item", "time", "tie_breaker", "utc_offset")
    texts = [(f"config.{key}", text) for key in keys if (text := getattr(config, key))]
    for group in PREFIXES:
        of_group = getattr(config, group).items()
        texts += [(f"config.{group}.{name}", text) for name, text in of_group]
    return texts


def _with(found: Found, name: str, kind: str) -> Found:
    """The same, with this column of this type; values that do not fit are missing."""
    parts = []
    for part in found.parts:
        fitted = _fitted(_text(part, name), kind)
        parts.append(dataclasses.replace(part, table=part.table.mutate(**{name: fitted})))
    return dataclasses.replace(
        found, parts=parts, casts=found.casts | {name: "string" if kind == _IDS else kind}
    )


def _text(part: Part, name: str) -> ibis.Value:
    value = part.table[name]
    return present(value, part.missing) if value.type().is_string() else as_text(value)


def _fitted(text: ibis.Value, kind: str) -> ibis.Value:
    """Texts as values of a type; NULL where one is not."""
    if kind == "string":
        return text
    if kind == _IDS:
        return text.re_search(WHOLE).ifelse(text.re_replace(r"\.0+$", ""), text)
    fits = {
        "int64": text.re_search(WHOLE) | (text.try_cast("int64").cast("string") == text),
        "float64": is_number(text),
        "boolean": text.lower().isin(["true", "false"]),
    }[kind]
    text = fits.ifelse(text, ibis.null("string"))
    return (text.re_replace(r"\.0+$", "") if kind == "int64" else text).cast(kind)


def _misfit(found: Found, name: str, kind: str) -> tuple[Part, int, str] | None:
    """The first value of a column that is not of this type: the file, its row, and the text."""
    for part in found.parts:
        text = _text(part, name)
        rows = part.table.select(text=text, fits=_fitted(text, kind).notnull())
        rows = rows.mutate(row=1 + ibis.row_number())
        if row := checks.first_row(rows, rows.text.notnull() & ~rows.fits):
            return part, row, checks.value_in(rows, row, "text")
    return None
