"""What runs the queries of `prepare` once a log has been read: an engine on this machine.

`spark` has another one, on many. Both run the same Ibis expressions.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import duckdb
import ibis
import pyarrow as pa
from sqlglot import exp

from siren_rope_jax.base.errors import UserError, check
from siren_rope_jax.base.extras import needs
from siren_rope_jax.prepare.config import PrepareConfig
from siren_rope_jax.prepare.readers import engine_said

Compute = Callable[[ibis.Table, bool], ibis.Table]
"""Makes other columns of a table, row by row; if asked to, tries every expression on all rows."""

ENGINES = ("duckdb", "spark")
BATCH_ROWS = 1 << 16


class Engine(Protocol):
    """What differs between engines. The tables are their own."""

    def take(self, name: str, table: ibis.Table) -> ibis.Table:
        """Returns the rows that DuckDB has read, "events" say, as a table of this engine."""

    def keep(self, name: str, table: ibis.Table) -> ibis.Table:
        """Computes a table and stores it under this name, in place of another."""

    def by_row(self, name: str, table: ibis.Table, compute: Compute) -> ibis.Table:
        """Stores `compute(table)`: what every row becomes, by the rules and functions of DuckDB.

        Raises:
          UserError: an expression fails, or needs other rows than the engine can give it.
        """

    def numbered(
        self, name: str, table: ibis.Table, order: Sequence[Any], column: str, first: int
    ) -> ibis.Table:
        """Stores a table as `keep`, with its rows' numbers in this order, int32 from `first`.

        No two rows may be equal in the order.
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

    def __init__(self, con: ibis.BaseBackend, config: PrepareConfig) -> None:
        self._con, self._config = con, config

    def take(self, name: str, table: ibis.Table) -> ibis.Table:
        return table

    def keep(self, name: str, table: ibis.Table) -> ibis.Table:
        return self._con.create_table(name, table, overwrite=True)

    def by_row(self, name: str, table: ibis.Table, compute: Compute) -> ibis.Table:
        table = self._con.create_view(f"{name}_rows", table)  # one short name
        with bounded(self._config):
            try:
                return self.keep(name, compute(table, False))
            except duckdb.OutOfMemoryException:
                raise
            except duckdb.Error:
                compute(table, True)
                raise  # it is not about an expression

    def numbered(
        self, name: str, table: ibis.Table, order: Sequence[Any], column: str, first: int
    ) -> ibis.Table:
        number = (first + ibis.row_number().over(order_by=order)).cast("int32")
        return self.keep(name, table.mutate(**{column: number}))

    def in_duckdb(self, table: ibis.Table) -> ibis.Table:
        return table

    def stream(self, ordered: ibis.Table) -> Iterator[pa.RecordBatch]:
        return ordered.to_pyarrow_batches(chunk_size=BATCH_ROWS)

    def percent(self) -> float:
        return self._con.con.query_progress()


@contextlib.contextmanager
def bounded(config: PrepareConfig) -> Iterator[None]:
    """Lets an allocation fail before the process takes all memory of the machine.

    The engine heeds its own limit for tables, but not for the texts that an expression makes. This
    one is far above what a log needs; it holds on Linux, where /proc says what is used already.
    """
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[5])
    except (ImportError, OSError):
        yield
        return
    used, of_threads = pages * resource.getpagesize(), config.threads or os.cpu_count() or 1
    limit = used + int(2e9 * config.memory_gb) + (1 << 30) + (of_threads << 26)
    old, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [x for x in (old, hard) if x != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([limit, *limits]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (old, hard))


@contextlib.contextmanager
def opened(
    name: str, scratch: Path, config: PrepareConfig, files: Sequence[Path]
) -> Iterator[tuple[ibis.BaseBackend, Engine]]:
    """DuckDB, which reads the log, and the engine of this name for all that follows.

    They keep their files in the folder `scratch`, which is there while they are needed.

    Raises:
      UserError: there is no such engine, it cannot be had, or it fails.
    """
    check(name in ENGINES, "engine", " or ".join(map(repr, ENGINES)))
    if name == "duckdb":
        with _duckdb(scratch, config, files) as duck:
            yield duck, DuckDB(duck, config)
    else:
        with needs("spark"):
            from siren_rope_jax.prepare.spark import Spark, session
        with session(config) as spark, _duckdb(scratch, config, files) as duck:
            yield duck, Spark(spark, duck, config, scratch / "spark")


@contextlib.contextmanager
def _duckdb(
    scratch: Path, config: PrepareConfig, files: Sequence[Path]
) -> Iterator[ibis.BaseBackend]:
    """The database engine, which keeps its files in the folder `scratch` while it is needed.

    It reads the `files` through links in that folder, and nothing else.
    """
    settings: dict[str, Any] = {
        "memory_limit": f"{config.memory_gb}GB",
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    if config.threads:
        settings["threads"] = config.threads
    scratch.mkdir()
    con = ibis.duckdb.connect(
        scratch / "log.duckdb",
        temp_directory=str(scratch / "spill"),
        preserve_insertion_order=True,  # so that `row` numbers the rows as in the file
        **settings,
    )
    con.raw_sql("SET TimeZone = 'UTC'")
    # An expression from somebody else's config can reach nothing but the log.
    for setting, paths in (
        ("directories", [scratch]),
        ("paths", [path.resolve() for path in files]),  # of links, engines from 1.5 on see these
    ):
        allowed = ", ".join(exp.Literal.string(str(path)).sql("duckdb") for path in paths)
        con.raw_sql(f"SET allowed_{setting} = [{allowed}]")
    con.raw_sql("SET enable_external_access = false")
    with contextlib.suppress(duckdb.InvalidInputException):  # of a notebook without ipywidgets
        con.raw_sql("SET enable_progress_bar = true")  # so that it knows how far a query is
        con.raw_sql("SET enable_progress_bar_print = false")
    con.raw_sql("SET lock_configuration = true")
    try:
        yield con
    except (duckdb.OutOfMemoryException, MemoryError) as error:
        raise UserError(
            "config.memory_gb",
            f"{config.memory_gb} is too little for this log and for what its expressions make, or "
            f"the disk of {scratch.parents[1]} is full: {str(error).partition(chr(10))[0]}",
        ) from error
    except duckdb.Error as error:
        raise UserError("input", f"cannot be prepared: {engine_said(error)}") from error
    finally:
        con.disconnect()
        shutil.rmtree(scratch)
