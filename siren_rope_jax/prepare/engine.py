"""What runs the queries of `prepare` once a log has been read: an engine on this machine.

`spark` has another one, on many. Both run the same Ibis expressions.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import duckdb
import ibis
import pyarrow as pa

Compute = Callable[[ibis.Table, bool], ibis.Table]
"""Makes other columns of a table, row by row; if told so, tries every expression on all rows."""

BATCH_ROWS = 1 << 16


class Engine(Protocol):
    """What differs between engines. The tables are their own."""

    def take(self, table: ibis.Table) -> ibis.Table:
        """Returns the rows that DuckDB has read as a table of this engine."""

    def keep(self, name: str, table: ibis.Table) -> ibis.Table:
        """Computes a table and stores it under this name, in place of another."""

    def by_row(self, name: str, table: ibis.Table, compute: Compute) -> ibis.Table:
        """Stores `compute(table)`: what every row becomes, by the rules and functions of DuckDB.

        Raises:
          UserError: an expression fails, or needs other rows than the engine can give it.
        """

    def in_duckdb(self, table: ibis.Table) -> ibis.Table:
        """Returns a stored table as one of DuckDB."""

    def stream(self, ordered: ibis.Table) -> Iterator[pa.RecordBatch]:
        """Streams a table that is in an order, in batches of `BATCH_ROWS`; the last is shorter.

        Sums over batches, such as means, are thus the same with every engine.
        """

    def percent(self) -> float:
        """How far the running query is; negative if that is unknown."""


class DuckDB:
    """Computes on this machine, and uses its disk for what does not fit into memory."""

    def __init__(self, con: ibis.BaseBackend) -> None:
        self._con = con

    def take(self, table: ibis.Table) -> ibis.Table:
        return table

    def keep(self, name: str, table: ibis.Table) -> ibis.Table:
        return self._con.create_table(name, table, overwrite=True)

    def by_row(self, name: str, table: ibis.Table, compute: Compute) -> ibis.Table:
        table = self._con.create_view(f"{name}_rows", table)  # one short name
        try:
            return self.keep(name, compute(table, False))
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error:
            compute(table, True)
            raise  # it is not about an expression

    def in_duckdb(self, table: ibis.Table) -> ibis.Table:
        return table

    def stream(self, ordered: ibis.Table) -> Iterator[pa.RecordBatch]:
        return ordered.to_pyarrow_batches(chunk_size=BATCH_ROWS)

    def percent(self) -> float:
        return self._con.con.query_progress()
