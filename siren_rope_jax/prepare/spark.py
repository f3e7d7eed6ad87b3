"""Prepares with Spark: what joins, counts and sorts runs on its machines.

The machine that starts reads the files with DuckDB, and writes the prepared log, as without Spark.
What a row alone becomes is computed by DuckDB, too, in Spark's Python workers: so a text, a time or
a function means the same with either engine.
"""

import contextlib
import itertools
import os
import re
import resource
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import sqlglot
from ibis.backends.pyspark.datatypes import PySparkSchema
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession, functions
from sqlglot import exp

from siren_rope_jax.base.errors import UserError, one_line
from siren_rope_jax.prepare.config import PrepareConfig
from siren_rope_jax.prepare.engine import BATCH_ROWS, Compute, bounded

_ROWS = "siren_rope_jax_rows"  # in DuckDB: the rows of which a query computes others
_PLACE_BITS = 33  # of Spark's increasing ids: a row's place in its part, below the part's number

_SETTINGS = {
    "spark.sql.ansi.enabled": "true",  # too large a number is an error
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.execution.arrow.maxRecordsPerBatch": str(BATCH_ROWS),
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",  # old dates stay as they are
    "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
}


@contextlib.contextmanager
def session(config: PrepareConfig) -> Iterator[SparkSession]:
    """The active Spark session, or a new one, which ends here.

    Its machines are those of Spark's own configuration; without one, it is this machine.

    Raises:
      UserError: Spark does not start, or fails later.
    """
    active = SparkSession.getActiveSession()
    if active is None and not (shutil.which("java") or os.environ.get("JAVA_HOME")):
        raise UserError("--engine", "'spark' needs Java 17; install it, or set JAVA_HOME")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    try:
        memory = f"{max(int(1024 * config.memory_gb), 512)}m"
        builder = SparkSession.builder.appName(f"prepare {config.name}")
        builder = builder.config("spark.ui.showConsoleProgress", "false")
        spark = active or builder.config("spark.driver.memory", memory).getOrCreate()
    except (PySparkException, RuntimeError) as error:
        raise UserError("--engine", f"Spark does not start: {_gist(error)}") from error
    if active is None:
        spark.sparkContext.setLogLevel("OFF")  # what fails is said in one line
    try:
        yield spark.newSession()  # so that another's tables and settings stay as they are
    except (PySparkException, Py4JError) as error:
        raise UserError("input", f"cannot be prepared by Spark: {_gist(error)}") from error
    finally:
        if active is None:
            spark.stop()


def _gist(error: Exception) -> str:
    """What DuckDB said in a worker, or else the first line of Spark's message."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return one_line(_of_worker(error) or next(iter(lines), type(error).__name__), 300)


def _of_worker(error: Exception) -> str:
    """What DuckDB said in a worker, if that is what failed."""
    lines = str(error).splitlines()
    return next((line for line in lines if re.match(r"_?duckdb\.", line)), "")


def _url(path: Path) -> str:
    """As Hadoop takes it, which leaves blanks and other signs as they are."""
    return f"file://{path}"


def _batches(files: Sequence[Path]) -> Iterator[pa.RecordBatch]:
    for file in files:  # one after the other, for they may be many
        with pq.ParquetFile(file) as opened:
            yield from opened.iter_batches(BATCH_ROWS)


class Spark:
    """Stores tables as Parquet in a folder, which all machines of Spark must be able to reach."""

    def __init__(
        self, spark: SparkSession, duck: ibis.BaseBackend, config: PrepareConfig, folder: Path
    ) -> None:
        self._spark, self._duck, self._folder = spark, duck, folder
        self._con = ibis.pyspark.connect(spark)
        self._config = config
        self._numbers = itertools.count()
        for key, value in _SETTINGS.items():
            spark.conf.set(key, value)
        folder.mkdir()

    def take(self, name: str, table: ibis.Table) -> ibis.Table:
        _check_types(table, f"the {name}")
        path = self._folder / f"taken_{name}.parquet"
        self._duck.to_parquet(table, path)
        return self._opened(path)

    def keep(self, name: str, table: ibis.Table) -> ibis.Table:
        return self._opened(self._written(name, self._spark.sql(self._con.compile(table))))

    def by_row(self, name: str, table: ibis.Table, compute: Compute) -> ibis.Table:
        table = self._con.create_view(f"{name}_rows", table, overwrite=True)
        like = self._duck.create_table(_ROWS, schema=table.schema(), overwrite=True)
        computed = compute(like, False)
        _check_types(computed, "what is computed")
        query = sqlglot.parse_one(self._duck.compile(computed), dialect="duckdb")
        for source in query.find_all(exp.Table):
            source.set("db", None)  # that of this process, which workers do not have
            source.set("catalog", None)
        rows = self._spark.sql(self._con.compile(table))
        windows = list(query.find_all(exp.Window))
        for window in windows:
            parts = window.args.get("partition_by") or []
            if not any(isinstance(part, exp.Column) and part.name == "user" for part in parts):
                raise UserError(
                    "--engine",
                    "with 'spark' a window needs PARTITION BY user, which "
                    f"{one_line(window.sql('duckdb'), 100)} lacks; use 'duckdb'",
                )
        if windows:
            rows = rows.repartition("user")
        schema = computed.schema()
        run = _evaluator(
            query.sql("duckdb"), schema.to_pyarrow(), self._config.memory_gb, whole=bool(windows)
        )
        try:
            rows = rows.mapInArrow(run, PySparkSchema.from_ibis(schema))
            return self._opened(self._written(name, rows))
        except PySparkException as error:
            if _of_worker(error):
                with bounded(self._config):
                    compute(self.in_duckdb(table), True)
            raise  # it is not about an expression

    def numbered(
        self, name: str, table: ibis.Table, order: Sequence[Any], column: str, first: int
    ) -> ibis.Table:
        # A window over all rows would bring these to one machine; a sort leaves them on many.
        ordered = self._spark.sql(self._con.compile(table.order_by(order)))
        placed = ordered.withColumn(column, functions.monotonically_increasing_id())
        stored = self._opened(self._written(name, placed))
        part = (stored[column] >> _PLACE_BITS).cast("int32")
        place = stored[column] & ((1 << _PLACE_BITS) - 1)
        counted = stored.group_by(part=part).aggregate(rows=stored.count()).to_pyarrow()
        rows = dict(zip(*(values.to_pylist() for values in counted.columns), strict=True))
        sizes = [rows.get(number, 0) for number in range(1 + max(rows, default=0))]
        begins = ibis.literal(list(itertools.accumulate(sizes, initial=first)), "array<int64>")
        return stored.mutate(**{column: (begins[part] + place).cast("int32")})

    def in_duckdb(self, table: ibis.Table) -> ibis.Table:
        path = self._written("for_duckdb", self._spark.sql(self._con.compile(table)))
        return self._duck.read_parquet([str(file) for file in sorted(path.glob("*.parquet"))])

    def stream(self, ordered: ibis.Table) -> Iterator[pa.RecordBatch]:
        rows = self._spark.sql(self._con.compile(ordered))
        path = self._written(f"ordered_{next(self._numbers)}", rows)
        # Every file has a part of the rows; its name says which one.
        return _of_equal_size(_batches(sorted(path.glob("*.parquet"))))

    def percent(self) -> float:
        status = self._spark.sparkContext.statusTracker()
        stages = [status.getStageInfo(stage) for stage in status.getActiveStageIds()]
        tasks = sum(stage.numTasks for stage in stages if stage)
        done = sum(stage.numCompletedTasks for stage in stages if stage)
        return 100.0 * done / tasks if tasks else -1.0

    def _written(self, name: str, rows: Any) -> Path:
        path = self._folder / name
        rows.write.mode("overwrite").parquet(_url(path))
        return path

    def _opened(self, path: Path) -> ibis.Table:
        name = f"siren_rope_jax_{next(self._numbers)}"
        glob = re.sub(r"([\[\]{}*?\\])", r"\\\1", _url(path))  # of this path alone
        self._spark.read.parquet(glob).createOrReplaceTempView(name)
        return self._con.table(name)


def _check_types(table: ibis.Table, what: str) -> None:
    """Refuses columns that Spark would change, or cannot hold; and lists of values."""
    for name, kind in table.schema().items():
        small = not kind.is_unsigned_integer()
        coarse = not (kind.is_timestamp() and (kind.scale or 0) > 6)
        fits = kind.is_numeric() or kind.is_string() or kind.is_boolean() or kind.is_date()
        if not ((fits or kind.is_timestamp()) and small and coarse):
            lacking = "lists" if kind.is_array() else f"type for {kind}"
            about = f"'spark' has no {lacking}, which column {name!r} of {what} has"
            raise UserError("--engine", f"{about}; use 'duckdb'")


def _evaluator(
    query: str, schema: pa.Schema, memory_gb: float, whole: bool
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """What a worker does with its rows: all of them at once if `whole`, else batch by batch.

    It is a closure, so a worker needs DuckDB and Arrow, but not this package. As with `bounded`,
    an expression cannot take all memory of its machine.
    """
    limit = int(2e9 * memory_gb) + (2 << 30)

    def evaluate(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        settings: dict[str, Any] = {
            "threads": 1,
            "memory_limit": f"{memory_gb}GB",
            "enable_external_access": False,
        }
        old, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limits = [x for x in (old, hard) if x != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_DATA, (min([limit, *limits]), hard))
        try:
            with duckdb.connect(config=settings) as engine:
                engine.execute("SET TimeZone = 'UTC'")
                engine.execute("SET lock_configuration = true")
                tables = [list(batches)] if whole else ([batch] for batch in batches)
                for some in tables:
                    if some:
                        engine.register(_ROWS, pa.Table.from_batches(some))
                        found = engine.sql(query).to_arrow_table()
                        yield from found.cast(schema).to_batches()
        finally:  # others may use the worker
            resource.setrlimit(resource.RLIMIT_DATA, (old, hard))

    return evaluate


def _of_equal_size(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of `BATCH_ROWS`; the last one may be shorter."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += len(batch)
        while rows >= BATCH_ROWS:
            (joined,) = pa.Table.from_batches(held).combine_chunks().to_batches()
            yield joined.slice(0, BATCH_ROWS)
            held, rows = [joined.slice(BATCH_ROWS)], rows - BATCH_ROWS
    if rows:
        yield from pa.Table.from_batches(held).combine_chunks().to_batches()
