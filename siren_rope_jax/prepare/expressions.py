"""SQL expressions from a config: checked, put in order, and named by their key in errors."""

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

import duckdb
import ibis
import sqlglot
from sqlglot import exp

from siren_rope_jax.base.errors import UserError, suggestion

DIALECT = "duckdb"


def resolve(expression: str, columns: Iterable[str], about: str) -> str:
    """Returns the expression with its columns spelled and quoted as in `columns`.

    It may use these columns, in any case, and window functions, but no queries.

    Raises:
      UserError: an unknown column, or the text is not an expression; `about` is its config key.
    """
    tree = _parse(expression, about)
    for function in tree.find_all(exp.AggFunc):
        if not function.find_ancestor(exp.Window):
            raise UserError(
                about, f"{function.sql(DIALECT)} must say over which rows: add OVER (...)"
            )
    known = {column.lower(): column for column in columns}
    for column in tree.find_all(exp.Column):
        if column.name.lower() not in known:
            tip = suggestion(column.name, known.values())
            raise UserError(about, f"there is no column {column.name!r} for {expression!r}{tip}")
        column.set("this", exp.to_identifier(known[column.name.lower()], quoted=True))
        column.set("table", None)
    return tree.sql(DIALECT)


def in_order(expressions: Mapping[str, str], about: str) -> list[str]:
    """Returns the names, each after those that its expression uses; refuses a circle of them."""
    lower = {name.lower(): name for name in expressions}
    needs = {
        name: {
            lower[column.name.lower()]
            for column in _parse(text, f"{about}.{name}").find_all(exp.Column)
            if column.name.lower() in lower
        }
        for name, text in expressions.items()
    }
    try:
        return list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        circle = ", ".join(sorted(set(error.args[1])))
        raise UserError(about, f"{circle} depend on each other in a circle") from error


def select(
    table: ibis.Table, expressions: Mapping[str, str], step: str, keep: str = "*"
) -> ibis.Table:
    """Returns the table with the columns `keep` (SQL) and one for each (resolved) expression.

    `step` names the table in the query; two steps of one query need different names.
    """
    columns = [keep, *(f'({text}) AS "{name}"' for name, text in expressions.items())]
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
    except (duckdb.Error, sqlglot.errors.SqlglotError) as error:
        line = next(line for line in str(error).splitlines() if line.strip())
        raise UserError(about, f"cannot evaluate {text!r}: {line}") from error


def _parse(expression: str, about: str) -> exp.Expression:
    try:
        trees = sqlglot.parse(expression, dialect=DIALECT)
    except sqlglot.errors.SqlglotError as error:
        line = str(error).splitlines()[0]
        raise UserError(about, f"{expression!r} is not an SQL expression: {line}") from error
    tree = trees[0] if len(trees) == 1 else None
    if tree is None or isinstance(tree, exp.Alias | exp.DDL | exp.DML) or tree.find(exp.Query):
        raise UserError(about, f"{expression!r} must be one SQL expression, not a query")
    return tree
