"""SQL expressions from a config: checked against the columns, put in order, blamed by name."""

from collections.abc import Iterable, Mapping

import duckdb
import ibis
import sqlglot
from sqlglot import exp

from siren_rope_jax.base.errors import UserError, suggestion

DIALECT = "duckdb"


def resolve(expression: str, columns: Iterable[str], where: str) -> str:
    """Returns the expression with its columns spelled and quoted as in `columns`.

    Args:
      expression: SQL over one row; window functions allowed, queries not.
      columns: the names it may use; case does not matter.
      where: the config key, for messages.

    Raises:
      UserError: no such column, or no expression.
    """
    tree = _parse(expression, where)
    for function in tree.find_all(exp.AggFunc):
        if not function.find_ancestor(exp.Window):
            raise UserError(
                f"{where}: {function.sql(DIALECT)} must say over which rows: OVER (...)"
            )
    known = {column.lower(): column for column in columns}
    for column in tree.find_all(exp.Column):
        if column.name.lower() not in known:
            raise UserError(
                f"{where}: no column {column.name!r} in {expression!r}"
                f"{suggestion(column.name, known.values())}"
            )
        column.set("this", exp.to_identifier(known[column.name.lower()], quoted=True))
        column.set("table", None)
    return tree.sql(DIALECT)


def in_order(expressions: Mapping[str, str], where: str) -> list[str]:
    """Returns the names such that each comes after those that its expression uses.

    Raises:
      UserError: they go round in a circle.
    """
    lower = {name.lower(): name for name in expressions}
    needs = {
        name: {
            lower[column.name.lower()]
            for column in _parse(text, f"{where}.{name}").find_all(exp.Column)
            if column.name.lower() in lower
        }
        for name, text in expressions.items()
    }
    ordered: list[str] = []
    while len(ordered) < len(needs):
        ready = [n for n in needs if n not in ordered and needs[n] <= set(ordered)]
        if not ready:
            circle = sorted(set(needs) - set(ordered))
            raise UserError(f"{where}: {', '.join(circle)} need each other in a circle")
        ordered += ready
    return ordered


def select(
    table: ibis.Table, expressions: Mapping[str, str], step: str, keep: str = "*"
) -> ibis.Table:
    """Returns the table with columns `keep` (SQL) and one for each (resolved) expression.

    `step` names what is selected from; two steps of one query need two names.
    """
    columns = [keep, *(f'({text}) AS "{name}"' for name, text in expressions.items())]
    query = f'SELECT {", ".join(columns)} FROM "{step}"'
    return table.alias(step).sql(query, dialect=DIALECT)


def check(table: ibis.Table, name: str, text: str, where: str, run: bool = False) -> ibis.DataType:
    """Tries one (resolved) expression alone, so that a mistake in it is told by its name.

    Args:
      table: what it is over.
      name: of the column it would be.
      text: the expression.
      where: the config key, for messages.
      run: whether to evaluate it for all rows, not only to look at its type.

    Returns:
      its type.

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
        raise UserError(f"{where}: cannot evaluate {text!r}: {line}") from error


def _parse(expression: str, where: str) -> exp.Expression:
    try:
        trees = sqlglot.parse(expression, dialect=DIALECT)
    except sqlglot.errors.SqlglotError as error:
        line = str(error).splitlines()[0]
        raise UserError(f"{where}: {expression!r} is no SQL expression: {line}") from error
    tree = trees[0] if len(trees) == 1 else None
    if tree is None or isinstance(tree, exp.Alias | exp.DDL | exp.DML) or tree.find(exp.Query):
        raise UserError(f"{where}: {expression!r} must be one SQL expression, no query")
    return tree
