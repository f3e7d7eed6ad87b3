"""SQL expressions from a config: checked, put in order, and named by their key in errors.

Configs may come from somebody else, so an expression can do no more than compute: it is written
anew from its parsed tree, and what the engine itself understands of that text is checked node by
node (`_check_computes`): columns of the log, and functions of `functions`.
"""

import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Set
from graphlib import CycleError, TopologicalSorter
from typing import Any

import duckdb
import ibis
import sqlglot
from sqlglot import exp

from siren_rope_jax.base.errors import UserError, excerpt, suggestion
from siren_rope_jax.prepare import checks
from siren_rope_jax.prepare.functions import OF_A_ROW, OF_WINDOWS, TAKING_LAMBDAS
from siren_rope_jax.prepare.values import is_number

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
_NAMES_AND_VALUES = (
    sqlglot.TokenType.VAR,
    sqlglot.TokenType.IDENTIFIER,
    sqlglot.TokenType.STRING,
    sqlglot.TokenType.NUMBER,
)
# Far longer ones would be refused for want of memory, but only after a minute.
_LENGTHENING = ("lpad", "repeat", "rpad")
_LONGEST = 1_000_000


def quoted(column: str) -> str:
    """The column's name as SQL."""
    return exp.to_identifier(column, quoted=True).sql(DIALECT)


def resolve(expression: str, columns: Iterable[str], about: str) -> str:
    """Returns the expression with its columns spelled and quoted as in `columns`.

    It may use these columns, in any case, and the functions of `functions`, but no queries.

    Raises:
      UserError: an unknown column, or the text is not such an expression; `about` is its config
        key.
    """
    known = {column.lower(): column for column in columns}
    tree = _parse(expression, about, known.values())
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
    try:
        text = tree.sql(DIALECT, comments=False)
        _check_computes(text, set(known.values()), about)
    except RecursionError as error:
        raise UserError(about, f"{excerpt(expression)} exceeds the depth of expressions") from error
    return text


def in_order(expressions: Mapping[str, str], about: str, columns: Iterable[str] = ()) -> list[str]:
    """Returns the names, each after those that its expression uses; refuses a circle of them.

    The `columns`, which expressions may use too, are for messages.
    """
    lower = {name.lower(): name for name in expressions}
    known = [*columns, *expressions]
    needs = {
        name: {lower[used] for used in names_in(text, f"{about}.{name}", known) if used in lower}
        for name, text in expressions.items()
    }
    try:
        return list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        circle = ", ".join(sorted(set(error.args[1])))
        raise UserError(about, f"{circle} depend on each other in a circle") from error


def names_in(expression: str, about: str, columns: Iterable[str] = ()) -> set[str]:
    """The names that an expression uses, in small letters; those of `columns` are for messages."""
    tree = _parse(expression, about, columns)
    return {column.name.lower() for column in tree.find_all(exp.Column)}


def names_in_key(text: str, about: str) -> set[str]:
    """As `names_in`, of a key that may also be the bare name of a column.

    What is no expression, such as "user id", is such a name; whether there is a column of this
    name is asked elsewhere.
    """
    try:
        return names_in(text, about)
    except UserError:
        return {text.lower()}


def select(
    table: ibis.Table, expressions: Mapping[str, str], step: str, keep: str = "*"
) -> ibis.Table:
    """Returns the table with the columns `keep` (SQL) and one for each (resolved) expression.

    `step` names the table in the query; two steps of one query need different names.
    """
    columns = [keep, *(f"({text}) AS {quoted(name)}" for name, text in expressions.items())]
    query = f'SELECT {", ".join(columns)} FROM "{step}"'
    return table.alias(step).sql(query, dialect=DIALECT)


def check(
    table: ibis.Table,
    name: str,
    text: str,
    about: str,
    run: bool = False,
    where: checks.Where | None = None,
) -> ibis.DataType:
    """Tries one (resolved) expression alone, so that an error can name it, and returns its type.

    With `run` it is evaluated for all rows of the table. With `where`, an error can name the value
    for which a column is text.

    Raises:
      UserError: the engine refuses the expression.
    """
    try:
        column = select(table, {name: text}, step="checked", keep="row")[name]
        if run:
            column.max().to_pyarrow()
        return column.type()
    except (duckdb.OutOfMemoryException, MemoryError):
        raise  # the expression may be right, and the limit too low
    except Exception as error:  # for a type that Ibis does not know, it may be any
        lines = (line for line in str(error).splitlines() if line.strip())
        line = next(lines, "the result is of a type that cannot be used here")
        if where and "VARCHAR" in line:
            line = why_text(table, text, where) or line
        raise UserError(about, f"cannot evaluate {excerpt(text)}: {line[:200]}") from error


def why_text(table: ibis.Table, text: str, where: checks.Where) -> str:
    """Why a column of a (resolved) expression is text, though there are numbers in it; or ""."""
    used = {column.name for column in _parse(text, "", ()).find_all(exp.Column)}
    for name in table.columns:
        if name in used and table[name].type().is_string():
            fits = is_number(table[name])
            row = checks.first_row(table, table[name].notnull() & ~fits)
            if row and checks.first_row(table, fits):
                value = checks.value_in(table, row, name)
                return (
                    f"column {name!r} is text, as {value!r} in {where(row)} is no number; if that "
                    "stands for a missing value, add it to config.formats.*.missing"
                )
    return ""


def _parse(expression: str, about: str, columns: Iterable[str]) -> exp.Expression:
    """The tree of an expression; `columns` are those that it may use, for messages."""
    try:
        tokens = sqlglot.tokenize(expression, dialect=DIALECT)
        trees = sqlglot.parse(expression, dialect=DIALECT)
    except (sqlglot.errors.SqlglotError, RecursionError) as error:
        said = _word_of_sql(expression, columns) or str(error).splitlines()[0]
        problem = f"{excerpt(expression)} is not an SQL expression: {said}"
        raise UserError(about, problem) from error
    # To the engine, x! is a factorial; the parser takes it for NOT x.
    if any(t.token_type is sqlglot.TokenType.NOT and t.text == "!" for t in tokens):
        raise UserError(about, f"{excerpt(expression)} has a '!'; write NOT x, or factorial(x)")
    tree = trees[0] if len(trees) == 1 else None
    if tree is None or isinstance(tree, exp.Alias | exp.DDL | exp.DML) or tree.find(exp.Query):
        said = _word_of_sql(expression, columns)
        problem = f"{excerpt(expression)} must be one SQL expression, not a query"
        raise UserError(about, f"{problem}{said and '; '}{said}")
    return tree


def _word_of_sql(expression: str, columns: Iterable[str]) -> str:
    """What to do about a column whose name, without quotation marks, is a word of SQL."""
    known = {column.lower(): column for column in columns}
    try:
        tokens = sqlglot.tokenize(expression, dialect=DIALECT)
    except sqlglot.errors.SqlglotError:
        return ""
    words = [token.text for token in tokens if token.token_type not in _NAMES_AND_VALUES]
    word = next((word for word in words if word.lower() in known), "")
    column = known.get(word.lower(), "")
    return word and f"{word} is a word of SQL; if it is the column, write {quoted(column)}"


def _check_computes(text: str, columns: Set[str], about: str) -> None:
    """Refuses a text of which the engine makes anything but a value, from the columns alone."""
    ask = _engine().execute("SELECT json_serialize_sql(?)", [f"SELECT ({text})"])
    parsed = json.loads(ask.fetchall()[0][0])
    statements = parsed.get("statements", [])
    node = statements[0]["node"] if len(statements) == 1 else {}
    selected = node.get("select_list", [])
    if len(selected) != 1 or node.get("from_table", {}).get("type") != "EMPTY":
        why = parsed.get("error_message", "it is not one expression")
        raise UserError(about, f"{excerpt(text)} is not an SQL expression: {why}")
    for of_tree, known in _nodes(selected[0], columns):
        kind = of_tree["class"]
        if kind not in _NODES:
            raise UserError(about, f"{excerpt(text)} must compute a value; {kind} is not possible")
        if kind == "COLUMN_REF" and (name := of_tree["column_names"][-1]) not in known:
            raise UserError(about, f"{name} is no column of the log; it cannot be used here")
        if kind in ("FUNCTION", "WINDOW"):
            name = of_tree["function_name"].lower()
            _check_function(name, kind == "WINDOW", about)
            for argument in of_tree["children"] if name in _LENGTHENING else ():
                length = argument.get("value", {}).get("value")
                if isinstance(length, int) and length > _LONGEST:
                    raise UserError(about, f"{name} may make {_LONGEST:,} at most, not {length:,}")


def _check_function(name: str, over: bool, about: str) -> None:
    allowed = OF_WINDOWS if over else OF_A_ROW
    if name in allowed:
        return
    if name in OF_WINDOWS:
        raise UserError(about, f"{name} must say over which rows: add OVER (...)")
    names = (other for other in allowed if other.isidentifier())
    tip = suggestion(name, names).partition("; known")[0]  # they are hundreds
    raise UserError(about, f"no function {name!r} can be used here{' with OVER' * over}{tip}")


def _nodes(tree: Any, columns: Set[str]) -> Iterator[tuple[Mapping[str, Any], Set[str]]]:
    """All nodes of the engine's tree, objects with a class, and the columns that each may name."""
    todo = [(tree, columns)]
    while todo:
        item, known = todo.pop()
        if isinstance(item, dict):
            if "class" in item:
                yield item, known
            children = item.get("children", [])
            if item.get("function_name", "").lower() in TAKING_LAMBDAS and len(children) > 1:
                # Of this argument alone, the engine does not look for the names in the log.
                function, bound = children[1], _parameters(children[1])
                if bound:
                    todo.append((function["expr"], known | bound))
                    item = {**item, "children": [children[0], *children[2:]]}
            item = list(item.values())
        if isinstance(item, list):
            todo.extend((part, known) for part in reversed(item))


def _parameters(function: Mapping[str, Any]) -> set[str]:
    """What `x -> ...` or `(x, y) -> ...` calls its arguments; nothing if it is something else."""
    if function["class"] != "LAMBDA":
        return set()
    left = function["lhs"]
    names = left["children"] if left.get("function_name") == "row" else [left]
    if any(name["class"] != "COLUMN_REF" or len(name["column_names"]) > 1 for name in names):
        return set()
    return {name["column_names"][0] for name in names}


@functools.cache
def time_zones() -> frozenset[str]:
    """The names of the time zones that the engine knows."""
    return frozenset(
        name for (name,) in _engine().execute("SELECT name FROM pg_timezone_names()").fetchall()
    )


@functools.cache
def _engine() -> duckdb.DuckDBPyConnection:
    """An engine that has no data and only answers questions about SQL."""
    return duckdb.connect(":memory:", config={"threads": 1})
