"""The types of a log's columns: found from all values of all files, never guessed from some.

docs/prepare.md says in one table what becomes of every kind of value.
"""

import dataclasses
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.datatypes as dt

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.prepare import checks, expressions
from siren_rope_jax.prepare.config import INTERNAL, PrepareConfig
from siren_rope_jax.prepare.values import WHOLE, as_text, is_number, is_whole, present

_PART = f"{INTERNAL}part"  # the column of the number of a part
_FIRST_ROWS = 1_000
TIMES = "decimal(38, 18)"
"""Of times that are numbers with a fraction, as text."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One file of a log.

    Attributes:
      path: of the file.
      table: its rows, in order, in columns of the types of the file.
      missing: texts that stand for a missing value.
    """

    path: Path
    table: ibis.Table
    missing: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Typed:
    """Files whose columns have the same types.

    Attributes:
      tables: the rows of each file.
      rows: how many each of them has.
      notes: what a reader of the log should know of its values.
    """

    tables: list[ibis.Table]
    rows: list[int]
    notes: list[str]


@dataclasses.dataclass(frozen=True)
class Found:
    """Files, and the types that represent every value of their columns exactly.

    Attributes:
      parts: the files.
      casts: the types of columns that get one: "integral" (integers of which some are written as
        1.0), "text" (of values of another type), or the name of a type.
      facts: what holds of the columns of each file.
      notes: those of `Typed`.
    """

    parts: list[Part]
    casts: dict[str, str]
    facts: list[dict[str, dict[str, Any]]]
    notes: list[str]

    def typed(self) -> Typed:
        """The files with columns of these types."""
        pairs = zip(self.parts, self.facts, strict=True)
        tables = [_cast(part, self.casts, of_part) for part, of_part in pairs]
        return Typed(tables, [of_part["rows"]["all"] for of_part in self.facts], self.notes)


def find_types(parts: Sequence[Part], config: PrepareConfig) -> Found:
    """Finds for each column one type in all parts, which represents every value exactly.

    Raises:
      UserError: two parts have columns of types that have nothing in common.
    """
    columns = parts[0].table.columns
    known = {own(name) for name in columns}
    identities = {alone(config.user, known), alone(config.item, known)}
    time = alone(config.time, known)
    apart = kept_apart(known, config)
    for part in parts:
        _refuse_inexact(part, identities, time)
    parts = _with_common_families(parts)
    facts = _facts_of_all(parts, identities)
    casts: dict[str, str] = {}
    notes = []
    for name in columns:
        of_parts = [of_part.get(name, {}) for of_part in facts]
        tests = {test for found in of_parts for test in found}
        held = {test: all(found.get(test, True) for found in of_parts) for test in tests}
        holds = defaultdict(lambda: True, held)  # of no rows, everything holds
        kind = parts[0].table[name].type()
        if kind.is_string():
            if own(name) in identities:
                casts[name] = _kind_of_identity(holds, name, parts)
            else:
                is_time, is_apart = own(name) == time, own(name) in apart
                casts[name] = _kind_of_text(holds, name, parts, is_time, is_apart)
            if marked := sum(found.get("marked", 0) for found in of_parts):
                notes.append(
                    f"{marked} values of column {name!r} are texts such as 'NULL'; they "
                    "count as missing"
                )
            if casts[name] == "integral":
                notes.append(f"column {name!r} has integers that are written as 1.0, which is 1")
        elif kind.is_integer():
            casts[name] = "int64" if holds["fits"] else "text"
        elif own(name) in identities and (kind.is_decimal() or kind.is_floating()):
            casts[name] = "int64" if holds["whole"] else "text"
        elif kind.is_decimal():
            scale = max(part.table[name].type().scale or 0 for part in parts)
            exact = "text" if own(name) in apart else f"decimal(38, {scale})"
            casts[name] = "float64" if holds["exact"] else exact
        elif kind.is_floating():
            casts[name] = "float64"
    return Found(parts, casts, facts, notes)


def own(name: str) -> str:
    """The name of a column as it compares: in small letters, without what `prepare` put before."""
    return name.removeprefix(INTERNAL).lower()


def alone(text: str, columns: set[str]) -> str:
    """The column that a text of the config names alone, perhaps as SQL; "" if it names none."""
    unquoted = text.strip()
    if text.lower() not in columns and re.fullmatch(r'"(""|[^"])+"', unquoted):
        text = unquoted[1:-1].replace('""', '"')
    return text.lower() if text.lower() in columns else ""


def kept_apart(columns: set[str], config: PrepareConfig) -> set[str]:
    """The columns of which no two texts may become one number: those that make up identities."""
    texts = [("config.user", config.user), ("config.item", config.item)]
    texts += [(checks.key_of(f"categorical/{n}"), text) for n, text in config.categorical.items()]
    return used_columns(texts, columns, config)


def used_columns(
    texts: Iterable[tuple[str, str]], columns: set[str], config: PrepareConfig
) -> set[str]:
    """The columns and derived columns that texts of the config, (key, text), are made of."""
    derived = {name.lower(): (f"config.derived.{name}", t) for name, t in config.derived.items()}
    todo, found = list(texts), set[str]()
    while todo:
        about, text = todo.pop()
        name = alone(text, {*columns, *derived})
        for used in ({name} if name else expressions.names_in_key(text, about)) - found:
            found.add(used)
            if used in derived:
                todo.append(derived[used])
    return found


def _with_common_families(parts: Sequence[Part]) -> list[Part]:
    """Where types differ, the columns of all parts become text; those without values follow."""
    changes: list[dict[str, ibis.Value]] = [{} for _ in parts]
    for name in parts[0].table.columns:
        kinds = [part.table[name].type() for part in parts]
        if len({_family(kind) for kind in kinds}) == 1 and not _differ_in_time(kinds):
            continue
        empty = [_is_empty(part, name) for part in parts]
        filled = [kind for kind, nothing in zip(kinds, empty, strict=True) if not nothing]
        families = {_family(kind) for kind in filled}
        wanted = filled[0] if len(families) == 1 else dt.string
        if _differ_in_time(filled):
            wanted = dt.Timestamp(scale=9)  # of UTC, as are those without a zone
        for part, change, kind, nothing in zip(parts, changes, kinds, empty, strict=True):
            if nothing:
                change[name] = ibis.null(wanted)
            elif wanted.is_timestamp():
                value = part.table[name]  # in UTC, whatever its zone
                change[name] = (value.cast("timestamp(6)") if kind.timezone else value).cast(wanted)
            elif len(families) > 1:
                if _family(kind) not in _AS_TEXT:
                    others = ", ".join(sorted({str(k) for k in filled}))
                    raise UserError(
                        part.path,
                        f"has column {name!r} of type {kind}; over all files it has {others}, "
                        "which have nothing in common",
                    )
                change[name] = as_text(part.table[name])
    return [
        dataclasses.replace(part, table=part.table.mutate(**change)) if change else part
        for part, change in zip(parts, changes, strict=True)
    ]


def _is_empty(part: Part, name: str) -> bool:
    value = part.table[name]
    if value.type().is_string():
        value = present(value, part.missing)
    return not value.count().to_pyarrow().as_py()


def _differ_in_time(kinds: Sequence[dt.DataType]) -> bool:
    """Whether they are timestamps of several units, or some with a zone and some without."""
    return len(set(kinds)) > 1 and all(kind.is_timestamp() for kind in kinds)


_AS_TEXT = ("string", "integer", "floating", "decimal", "boolean", "timestamp", "date", "uuid")


def _family(kind: dt.DataType) -> str:
    for family in _AS_TEXT:
        if getattr(kind, f"is_{family}")():
            return family
    return str(kind)


def _facts_of_all(parts: Sequence[Part], identities: set[str]) -> list[dict[str, dict[str, Any]]]:
    """The facts of each part; those with the same types, such as days of one log, in one query."""
    facts: dict[int, dict[str, dict[str, Any]]] = {}
    alike: dict[Any, list[int]] = {}
    for number, part in enumerate(parts):
        alike.setdefault((part.table.schema(), part.missing), []).append(number)
    for numbers in alike.values():
        tables = [parts[n].table.mutate(**{_PART: ibis.literal(n, "int64")}) for n in numbers]
        table = ibis.union(*tables) if len(tables) > 1 else tables[0]
        facts |= _facts(table, parts[numbers[0]].missing, identities)
    nothing: dict[str, dict[str, Any]] = {"rows": {"all": 0}}
    return [facts.get(number, nothing) for number in range(len(parts))]


def _facts(
    table: ibis.Table, missing: Sequence[str], identities: set[str]
) -> dict[int, dict[str, dict[str, Any]]]:
    """By part: what holds of all values of a column, and how many rows there are ("rows")."""
    # What some of the first rows refute need not be asked of all: half of the work with texts.
    found = _ask(table.limit(_FIRST_ROWS), missing, identities, refuted=set())
    refuted = {key for facts in found.values() for key, holds in facts.items() if holds is False}
    of_parts: dict[int, dict[str, dict[str, Any]]] = {}
    for part, facts in _ask(table, missing, identities, refuted).items():
        for (name, test), value in facts.items():
            of_parts.setdefault(part, {}).setdefault(name, {})[test] = value
    return of_parts


def _ask(
    table: ibis.Table,
    missing: Sequence[str],
    identities: set[str],
    refuted: set[tuple[str, str]],
) -> dict[int, dict[tuple[str, str], Any]]:
    """By part, column and test: what it finds, in one query without the tests that are refuted."""
    tests: dict[tuple[str, str], ibis.Value] = {("rows", "all"): table.count()}
    told = [text for text in missing if text]
    for name in table.columns:
        value, kind = table[name], table[name].type()
        if name == _PART:
            continue
        if kind.is_string():
            absent = value.isnull() | value.isin(missing)
            fits = {
                "int64": (value.try_cast("int64").cast("string") == value).fill_null(False),
                "boolean": value.lower().isin(["true", "false"]),
                "float64": is_number(value),
            }
            for test, ok in fits.items():
                tests[name, test] = (absent | ok).all()
            tests[name, "marked"] = value.isin(told).sum() if told else ibis.literal(0).max()
            tests[name, "absent"] = value.isin(missing).sum()
        elif kind.is_integer():
            largest = dt.int64.bounds.upper
            if kind.is_unsigned_integer() and kind.nbytes >= 8:
                tests[name, "fits"] = (value <= largest).all()
        elif own(name) in identities and (kind.is_decimal() or kind.is_floating()):
            number = value.isnan().ifelse(ibis.null(kind), value) if kind.is_floating() else value
            tests[name, "whole"] = is_whole(number, 1e18).all()
        elif kind.is_decimal():
            tests[name, "exact"] = (value.cast("float64").cast(kind) == value).all()
    asked = [key for key in tests if key not in refuted]
    numbered = {str(n): tests[key] for n, key in enumerate(asked)}
    found: dict[int, dict[tuple[str, str], Any]] = {}
    for row in table.group_by(_PART).aggregate(**numbered).to_pyarrow().to_pylist():
        facts: dict[tuple[str, str], Any] = dict.fromkeys(refuted, False)
        part = row.pop(_PART)
        for key, value in zip(asked, row.values(), strict=True):
            # NULLs alone have none of the texts that are counted, and all else holds of them.
            of_nulls: Any = 0 if key[1] in ("marked", "absent") else True
            facts[key] = of_nulls if value is None else value
        found[part] = facts
    return found


def _kind_of_identity(holds: Mapping[str, bool], name: str, parts: Sequence[Part]) -> str:
    """What a text column of users or items becomes, by what holds of all its values."""
    if holds["int64"]:
        return "int64"
    whole = holds["float64"] and _all(parts, name, lambda text: text.re_search(WHOLE))
    return "integral" if whole else "string"


def _kind_of_text(
    holds: Mapping[str, bool], name: str, parts: Sequence[Part], is_time: bool, apart: bool
) -> str:
    """What another text column becomes; if `apart`, no two of its texts may fall together."""
    if holds["int64"]:
        return "int64"
    for kind in ("boolean", "float64"):
        if holds[kind] and not (apart and _fall_together(parts, name, kind)):
            if not is_time or kind != "float64":
                return kind
            # To try the exact type on all values, too, would take as long as all else together.
            finite = _all(parts, name, lambda text: ~text.try_cast("float64").isinf())
            return TIMES if finite else kind
    return "string"


def _all(parts: Sequence[Part], name: str, test: Callable[[Any], Any]) -> bool:
    """Whether a test holds of all values of a column."""
    found = (test(present(part.table[name], part.missing)).all() for part in parts)
    return all(value.to_pyarrow().as_py() is not False for value in found)


def _refuse_inexact(part: Part, identities: set[str], time: str) -> None:
    """Refuses ids and times that are floats beyond the integers that their type can tell apart."""
    for name in part.table.columns:
        value = part.table[name]
        if own(name) in {*identities, time} and value.type().is_floating():
            bits = {2: 11, 4: 24}.get(value.type().nbytes, 53)
            beyond = (value.abs() > 2.0**bits) & ~value.isnan()
            if own(name) == time:
                beyond &= ~value.isinf()  # which is reported as a time
            if beyond.any().to_pyarrow().as_py():
                raise UserError(
                    part.path,
                    f"column {name!r} has numbers beyond 2^{bits} as {value.type()}, which cannot "
                    "tell neighbours apart; write them as text, integers or float64",
                )


def _fall_together(parts: Sequence[Part], name: str, kind: str) -> bool:
    """Whether two values of a text column would become one."""
    tables = [p.table.select(value=present(p.table[name], p.missing)) for p in parts]
    text = (ibis.union(*tables) if len(tables) > 1 else tables[0]).value
    fewer = text.nunique() != text.try_cast(kind).nunique()
    return bool(fewer.to_pyarrow().as_py())


def _cast(part: Part, casts: Mapping[str, str], facts: Mapping[str, Any]) -> ibis.Table:
    columns = {}
    for name, cast in casts.items():
        value = part.table[name]
        if value.type().is_string() and facts.get(name, {}).get("absent"):
            value = present(value, part.missing)
        if value.type().is_floating():
            value = value.isnan().ifelse(ibis.null("float64"), value)
        if cast == "integral":
            value = value.re_replace(r"\.0+$", "").cast("int64")
        elif cast == "text":
            value = as_text(value)
        else:
            value = value.cast(cast)
        columns[name] = value
    return part.table.mutate(**columns) if columns else part.table
