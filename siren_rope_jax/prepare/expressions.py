"""SQL expressions from a config: checked, put in order, and named by their key in errors."""

from collections.abc import Iterable, Mapping

import duckdb
import ibis
import sqlglot
from sqlglot import exp

from siren_rope_jax.base.errors import UserError, suggestion

DIALECT = "duckdb"


def resolve(expression: str, columns: Iterable[str], about: str) -> str:
    """Returns the expression with its columns spelled and quoted as in `columns`.

    Args:
      expression: SQL over one row; it may use window functions but no queries.
      columns: the names that it may use; case does not matter.
      about: its config key, for errors.

    Raises:
      UserError: an unknown column, or the text is not an expression.
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
    """Returns the names so that each comes after those that its expression uses.

    Raises:
      UserError: they depend on each other; `about` is their config key.
    """
    lower = {name.lower(): name for name in expressions}
    needs = {
        name: {
            lower[column.name.lower()]
            for column in _parse(text, f"{about}.{name}").find_all(exp.Column)
            if column.name.lower() in lower
        }
        for name, text in expressions.items()
    }
    ordered: list[str] = []
    while len(ordered) < len(needs):
        ready = [n for n in needs if n not in ordered and needs[n] <= set(ordered)]
        if not ready:
            circle = sorted(set(needs) - set(ordered))
            raise UserError(about, f"{', '.join(circle)} depend on each other in a circle")
        ordered += ready
    return ordered


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

    Args:
      table: the rows to evaluate it for.
      name: of its column.
      text: the expression.
      about: its config key, for errors.
      run: whether to evaluate it for all rows, rather than only to find its type.

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
