"""SQL expressions from a config: checked, put in order, and named by their key in errors.

Configs may come from somebody else, so an expression can do no more than compute: it is written
anew from its parsed tree, and what the engine itself understands of that text is checked node by
node (`_check_computes`).
"""

import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

import duckdb
import ibis
import sqlglot
from sqlglot import exp

from siren_rope_jax.base.errors import UserError, excerpt, suggestion

DIALECT = "duckdb"

_NODES = (  # of the engine's tree of an expression
    "BETWEEN",
    "CASE",
    "CAST",
    "COLLATE",
    "COLUMN_REF",
    "COMPARISON",
    "CONJUNCTION",
    "CONSTANT",
    "FUNCTION",
    "LAMBDA",
    "OPERATOR",
    "WINDOW",
)
_CURRENT = ("current_setting", "getenv", "getvariable", "version")  # of the engine, of the machine
_ENDLESS = ("array_resize", "generate_series", "list_resize", "range")  # lists of any length
_LENGTHENING = ("bitstring", "lpad", "repeat", "rpad")  # make a text as long as they are told
_LONGEST = 1_000_000


def quoted(column: str) -> str:
    """The column's name as SQL."""
    return exp.to_identifier(column, quoted=True).sql(DIALECT)


def resolve(expression: str, columns: Iterable[str], about: str) -> str:
    """Returns the expression with its columns spelled and quoted as in `columns`.

    It may use these columns, in any case, and window functions, but no queries, and no function
    that reads files or settings, returns several rows, or gives other values each time.

    Raises:
      UserError: an unknown column, or the text is not such an expression; `about` is its config
        key.
    """
    tree = _parse(expression, about)
    known = {column.lower(): column for column in columns}
    for column in tree.find_all(exp.Column):
        if column.name.lower() not in known:
            tip = suggestion(column.name, known.values())
            raise UserError(
                about, f"there is no column {column.name!r} for {excerpt(expression)}{tip}"
            )
        if column.table:
            part = f"{column.table}['{column.name}']"
            raise UserError(about, f"{excerpt(column.sql())} is no column; a part of one is {part}")
        column.set("this", exp.to_identifier(known[column.name.lower()], quoted=True))
    text = tree.sql(DIALECT, comments=False)
    _check_computes(text, set(known.values()), about)
    return text


def in_order(expressions: Mapping[str, str], about: str) -> list[str]:
    """Returns the names, each after those that its expression uses; refuses a circle of them."""
    lower = {name.lower(): name for name in expressions}
    needs = {
        name: {lower[used] for used in names_in(text, f"{about}.{name}") if used in lower}
        for name, text in expressions.items()
    }
    try:
        return list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        circle = ", ".join(sorted(set(error.args[1])))
        raise UserError(about, f"{circle} depend on each other in a circle") from error


def names_in(expression: str, about: str) -> set[str]:
    """The names of columns that an expression uses, in small letters."""
    return {column.name.lower() for column in _parse(expression, about).find_all(exp.Column)}


def select(
    table: ibis.Table, expressions: Mapping[str, str], step: str, keep: str = "*"
) -> ibis.Table:
    """Returns the table with the columns `keep` (SQL) and one for each (resolved) expression.

    `step` names the table in the query; two steps of one query need different names.
    """
    columns = [keep, *(f"({text}) AS {quoted(name)}" for name, text in expressions.items())]
    query = f'SELECT {", ".join(columns)} FROM "{step}"'
    return table.alias(step).sql(query, dialect=DIALECT)


def check(table: ibis.Table, name: str, text: str, about: str, run: bool = False) -> ibis.DataType:
    """Tries one (resolved) expression alone, so that an error can name it, and returns its type.

    With `run` it is evaluated for all rows of the table.

    Raises:
      UserError: the engine refuses the expression.
    """
    try:
        column = select(table, {name: text}, step="checked", keep="row")[name]
        if run:
            column.max().to_pyarrow()
        return column.type()
    except (duckdb.Error, sqlglot.errors.SqlglotError, ibis.IbisError) as error:
        line = next((line for line in str(error).splitlines() if line.strip()), "")
        raise UserError(about, f"cannot evaluate {excerpt(text)}: {line[:200]}") from error


def _parse(expression: str, about: str) -> exp.Expression:
    try:
        tokens = sqlglot.tokenize(expression, dialect=DIALECT)
        trees = sqlglot.parse(expression, dialect=DIALECT)
    except (sqlglot.errors.SqlglotError, RecursionError) as error:
        line = str(error).splitlines()[0]
        problem = f"{excerpt(expression)} is not an SQL expression: {line}"
        raise UserError(about, problem) from error
    # To the engine, x! is a factorial; the parser takes it for NOT x.
    if any(t.token_type is sqlglot.TokenType.NOT and t.text == "!" for t in tokens):
        raise UserError(about, f"{excerpt(expression)} has a '!'; write NOT x, or factorial(x)")
    tree = trees[0] if len(trees) == 1 else None
    if tree is None or isinstance(tree, exp.Alias | exp.DDL | exp.DML) or tree.find(exp.Query):
        raise UserError(about, f"{excerpt(expression)} must be one SQL expression, not a query")
    return tree


def _check_computes(text: str, columns: set[str], about: str) -> None:
    """Refuses a text of which the engine makes anything but a value, from the columns alone."""
    ask = _engine().execute("SELECT json_serialize_sql(?)", [f"SELECT ({text})"])
    parsed = json.loads(ask.fetchall()[0][0])
    statements = parsed.get("statements", [])
    node = statements[0]["node"] if len(statements) == 1 else {}
    selected = node.get("select_list", [])
    if len(selected) != 1 or node.get("from_table", {}).get("type") != "EMPTY":
        why = parsed.get("error_message", "it is not one expression")
        raise UserError(about, f"{excerpt(text)} is not an SQL expression: {why}")
    nodes = list(_nodes(selected[0]))
    bound = {
        name.this
        for of_lambda in sqlglot.parse_one(text, dialect=DIALECT).find_all(exp.Lambda)
        for name in of_lambda.expressions
    }
    for of_tree in nodes:
        kind = of_tree["class"]
        if kind not in _NODES:
            raise UserError(about, f"{excerpt(text)} must compute a value; {kind} is not possible")
        if kind == "COLUMN_REF" and (name := of_tree["column_names"][-1]) not in {*columns, *bound}:
            raise UserError(about, f"{name} is no column of the log; it cannot be used here")
        if kind == "FUNCTION":
            _check_function(of_tree["function_name"].lower(), about)
            _check_length(of_tree, about)


def _check_function(name: str, about: str) -> None:
    kinds, stabilities = _functions().get(name, (set(), set()))
    if not kinds:
        tip = suggestion(name, _functions()) if name.isidentifier() else ""
        raise UserError(about, f"there is no function {name!r}{tip.partition('; known')[0]}")
    if "scalar" not in kinds and "macro" not in kinds:
        if "aggregate" in kinds:
            raise UserError(about, f"{name} must say over which rows: add OVER (...)")
        raise UserError(about, f"{name} returns rows, not a value; it cannot be used here")
    if name in _CURRENT or {"VOLATILE", "CONSISTENT_WITHIN_QUERY"} & stabilities:
        raise UserError(about, f"{name} depends on more than the log; it cannot be used here")
    if name in _ENDLESS or name == "unnest":
        raise UserError(about, f"{name} makes lists, not a value; it cannot be used here")


def _check_length(call: Mapping[str, Any], about: str) -> None:
    name = call["function_name"].lower()
    lengths = [argument.get("value", {}).get("value") for argument in call["children"]]
    for length in lengths if name in _LENGTHENING else ():
        if isinstance(length, int) and length > _LONGEST:
            raise UserError(about, f"{name} may not make more than {_LONGEST}, but has {length}")


def _nodes(tree: Any) -> Iterator[Mapping[str, Any]]:
    """All nodes of the engine's tree: objects with a class."""
    if isinstance(tree, list):
        for item in tree:
            yield from _nodes(item)
    elif isinstance(tree, dict):
        if "class" in tree:
            yield tree
        for item in tree.values():
            yield from _nodes(item)


@functools.cache
def _engine() -> duckdb.DuckDBPyConnection:
    """An engine that has no data and only answers questions about SQL."""
    return duckdb.connect(":memory:", config={"threads": 1})


@functools.cache
def _functions() -> dict[str, tuple[set[str], set[str]]]:
    """The kinds (scalar, aggregate, ...) and stabilities of every function, by name."""
    query = (
        "SELECT function_name, list(DISTINCT function_type), list(DISTINCT stability) "
        "FROM duckdb_functions() GROUP BY function_name"
    )
    rows = _engine().execute(query).fetchall()
    return {name.lower(): (set(kinds), set(stable)) for name, kinds, stable in rows}
