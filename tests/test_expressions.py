"""What expressions of a config may use: columns and the listed functions, and nothing else."""

import datetime

import duckdb
import ibis
import pytest

from siren_rope_jax.prepare import expressions
from siren_rope_jax.prepare.functions import OF_A_ROW, OF_WINDOWS, TAKING_LAMBDAS
from tests.refusals import refused

COLUMNS = ("row", "u", "i", "x", "at", "words", "j")


@pytest.fixture(scope="module")
def log() -> ibis.Table:
    con = ibis.duckdb.connect()
    con.raw_sql("SET TimeZone = 'UTC'")
    con.raw_sql(
        "CREATE TABLE log AS SELECT r AS row, r % 2 AS u, 'i' || r AS i, r + 0.5::DOUBLE AS x, "
        "TIMESTAMP '2024-05-01 08:30:00' + to_days(r::INT) AS at, ['a', i] AS words, "
        """'{"a": 7}' AS j FROM range(4) AS t(r)"""
    )
    return con.table("log")


def values(log: ibis.Table, expression: str) -> list[object]:
    text = expressions.resolve(expression, COLUMNS, "config.dense.y")
    expressions.check(log, "y", text, "config.dense.y", run=True)
    made = expressions.select(log, {"y": text}, step="tried").order_by("row")
    return made.y.to_pyarrow().to_pylist()


def test_the_engine_has_every_function_and_no_listed_one_depends_on_more_than_its_arguments():
    con = duckdb.connect()
    found = con.execute("SELECT function_name, function_type, stability FROM duckdb_functions()")
    kinds: dict[str, set[str]] = {}
    for name, kind, stability in found.fetchall():
        kinds.setdefault(name, set()).add(kind)
        if name in OF_A_ROW | OF_WINDOWS:
            assert stability in ("CONSISTENT", None), name  # None: of a macro
    for name in OF_WINDOWS:
        if "aggregate" not in kinds.get(name, ()):  # a word of the parser, such as lag
            tree = serialized(con, f"{name}(1) OVER ()")
            assert '"class":"WINDOW"' in tree and "WINDOW_AGGREGATE" not in tree, name
    for name in OF_A_ROW:
        assert kinds.get(name, set()) & {"scalar", "macro"}, name
    assert not OF_A_ROW & OF_WINDOWS
    assert TAKING_LAMBDAS <= OF_A_ROW


def serialized(con: duckdb.DuckDBPyConnection, expression: str) -> str:
    return con.execute("SELECT json_serialize_sql(?)", [f"SELECT {expression}"]).fetchall()[0][0]


@pytest.mark.parametrize(
    ("expression", "first"),
    [
        ("2 + 3 * -u - 7 // 2 % 2 ** 3 + x / 2", -0.75),
        ("(u & 1) | (u << 2) + xor(u, 1) + ~u", 0),
        ("5 IN (1, 2) OR x BETWEEN 0 AND 1 AND NOT x IS NULL", True),
        ("x IS DISTINCT FROM u", True),
        ("CASE u WHEN 0 THEN 'even' ELSE 'odd' END", "even"),
        ("if(x > 1, 1, 2) + ifnull(x, 1) + coalesce(NULL, 1)", 3.5),
        ("greatest(least(x, 9), nullif(u, 0))", 0.5),
        ("try_cast(i AS INTEGER)", None),
        ("TRY(CAST(i AS INTEGER))", None),
        ("factorial(4) + round(ln(exp(x)), 1) + @(-1)", 25.5),
        ("log2(8) + log10(100) + sqrt(4) + pow(2, 2)", 11.0),
        ("isnan(x) OR isinf(x)", False),
        ("i LIKE 'i%' AND i NOT ILIKE 'J!%' ESCAPE '!' AND i GLOB 'i*'", True),
        ("i SIMILAR TO 'i[0-9]' AND i ~ 'i.' AND i ^@ 'i'", True),
        ("upper(trim(i)) || lpad(i, 4, '.') || repeat(i, 2)", "I0..i0i0i0"),
        ("concat_ws('-', left(i, 1), right(i, 1), substr(i, 1, 1))", "i-0-i"),
        ("trim(both 'i' from i) || position('0' in i)", "02"),
        ("split_part('a,b', ',', 2) || len(string_split('a,b', ','))", "b2"),
        ("regexp_extract(i, '([0-9])', 1) || regexp_replace(i, '[0-9]', 'n')", "0in"),
        ("printf('%03d', row) || format('{:.1f}', x)", "0000.5"),
        ("md5('a')", "0cc175b9c0f1b6a831c399e269772661"),
        ("levenshtein(i, 'k0') + jaccard('ab', 'ab')", 2.0),
        ("epoch(strptime('01/05/2024', '%d/%m/%Y'))", 1714521600.0),
        ("epoch(make_timestamp(2024, 5, 1, 0, 0, 0)) - epoch(at)", -30600.0),
        ("year(at) + extract(hour FROM at) + isodow(at)", 2035),
        ("strftime(at, '%a %H')", "Wed 08"),
        ("date_diff('day', DATE '2024-04-30', at::DATE)", 1),
        ("date_trunc('month', at) + INTERVAL 1 DAY", datetime.datetime(2024, 5, 2)),
        ("epoch(at + INTERVAL (u) HOUR) - epoch_ms(at) / 1000", 0.0),
        ("hour(at AT TIME ZONE 'UTC' AT TIME ZONE 'Europe/Berlin')", 10),
        ("dayname(last_day(at))", "Friday"),
        ("words[2] || len(words[1:1]) || list_contains(words, 'a')", "i01true"),
        ("list_sum(list_transform([1, 2], lambda y: y + u))", 3),
        ("list_sum(list_transform([1, 2], y -> y + u))", 3),
        ("list_reduce([1, 2], (a, b) -> a + b)", 3),
        ("len(list_filter(words, w -> len(list_filter(words, v -> v = w)) = 1))", 2),
        ("{'a': x}.a + struct_extract({'b': 1}, 'b') + {'c': 2}['c']", 3.5),
        ("map_extract(MAP {'a': x}, 'a')[1]", 0.5),
        ("CAST(j ->> '$.a' AS INTEGER) + CAST(json_extract(j, '$.a') AS INTEGER)", 14),
        ("row_number() OVER (ORDER BY row)", 1),
        ("lag(x, 1, -1) OVER (PARTITION BY u ORDER BY row)", -1.0),
        ("lead(x) OVER (ORDER BY row) - first_value(x) OVER (ORDER BY row)", 1.0),
        ("count(*) OVER () + count(*) FILTER (x > 1) OVER ()", 7),
        ("sum(x) OVER (ORDER BY row ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)", 0.5),
        ("median(x) OVER () + quantile_cont(x, 0.5) OVER ()", 4.0),
        ("arg_max(i, x) OVER ()", "i3"),
        ("len(list(x) OVER ())", 4),
        ("string_agg(i, ',') OVER (ORDER BY row DESC)", "i3,i2,i1,i0"),
        ("bool_and(x > 0) OVER () AND any_value(x) OVER () > 0", True),
        ("avg(x) OVER (PARTITION BY u) + stddev_pop(x) OVER (PARTITION BY u)", 2.5),
    ],
)
def test_expressions_that_compute(log, expression, first):
    assert values(log, expression)[0] == first


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        # What the engine, the machine or the time is.
        ("json_serialize_plan('SELECT current_setting(''memory_limit'')', optimize := true)",
         "json_serialize_plan"),
        ("json_serialize_sql('SELECT 1')", "json_serialize_sql"),
        ("age(at)", "age"),
        ("pg_conf_load_time()", "pg_conf_load_time"),
        ("pg_catalog.pg_postmaster_start_time()", "pg_postmaster_start_time"),
        ("inet_server_addr()", "inet_server_addr"),
        ("current_user", "current_user"),
        ("user", "user"),
        ("session_user", ""),
        ("current_setting('threads')", "current_setting"),
        ("getvariable('a')", "getvariable"),
        ("current_date", "CURRENT_DATE"),
        ("current_time", "CURRENT_TIME"),
        ("current_timestamp", "CURRENT_TIMESTAMP"),
        ("localtimestamp", ""),
        ("current_catalog", ""),
        ("today()", ""),
        ("get_current_timestamp()", "get_current_timestamp"),
        ("uuidv7()::VARCHAR", "uuidv7"),
        ("txid_current()", "txid_current"),
        # By way of a lambda, or of what looks like one.
        ('list_transform([1], "CURRENT_DATE" -> 1)[1] + epoch(current_date)', "CURRENT_DATE"),
        ("""length(CAST(("CURRENT_DATE" -> '$') AS VARCHAR))""", "CURRENT_DATE"),
        ("""list_transform("CURRENT_DATE" -> '$', y -> y)""", "CURRENT_DATE"),
        ("""list_transform([1], y -> "CURRENT_DATE" -> '$')""", "CURRENT_DATE"),
        ("list_transform([1], y -> random())", "random"),
        ("list_transform([1], (y, n) -> getenv('HOME'))", "getenv"),
        ("list_transform([1], random() -> 1)", "random"),
        ("list_aggregate([1], 'reservoir_quantile', 0.5)", "list_aggregate"),
        # Rows, and lists of any length.
        ("unnest([1])", "unnest"),
        ("range(3)", "range"),
        ("list_resize([1], 9)", "list_resize"),
        # Within a window, an order, or a filter.
        ("sum(random()) OVER ()", "random"),
        ("sum(x) OVER (PARTITION BY random())", "random"),
        ("sum(x) OVER (ORDER BY random())", "random"),
        ("sum(x) FILTER (random() > 1) OVER ()", "random"),
        ("lag(x, random()::INT) OVER ()", "random"),
        ("sum(x) OVER (ROWS BETWEEN random()::INT PRECEDING AND CURRENT ROW)", "random"),
        ("reservoir_quantile(x, 0.5) OVER ()", "reservoir_quantile"),
        ("lower(i) OVER ()", "lower"),
        # Of several rows, without saying which.
        ("sum(x)", "OVER (...)"),
        ("row_number()", "OVER (...)"),
        ("quantile_cont(x, 0.5)", "OVER (...)"),
        # The nearest name.
        ("regexp_extrakt(i, 'a')", "'regexp_extract'"),
        ("medain(x) OVER ()", "'median'"),
        # Of no use as a value.
        ("row(u, i)", "row"),
        ("(u, i)", "row"),
        ("union_value(k := 1)", "union_value"),
        ("repeat(i, 2000000)", "1,000,000"),
        ("x = ANY(words)", "SUBQUERY"),
        ("x" + " + x" * 30_000, "depth"),
    ],
)  # fmt: skip
def test_expressions_that_reach_further(log, expression, named):
    with refused("config.dense.y", named):
        values(log, expression)


@pytest.mark.parametrize(
    "expression",
    [
        "When > 3",
        "CASE WHEN When > 3 THEN 1 END",
        "strptime(when, '%d.%m.%Y')",
        "sum(When) OVER ()",
        "Desc + 1",
        "Select",
    ],
)
def test_a_column_that_is_a_word_of_sql_is_written_in_double_quotes(expression):
    columns = ["x", "When", "Desc", "Select"]
    column = next(column for column in columns[1:] if column.lower() in expression.lower())
    with refused("config.dense.y", f'"{column}"'):
        expressions.resolve(expression, columns, "config.dense.y")
    with refused("config.derived.y", f'"{column}"'):
        expressions.in_order({"y": expression}, "config.derived", columns)
    assert expressions.resolve(f'"{column}"', columns, "config.dense.y") == f'"{column}"'


def test_other_mistakes_are_not_put_down_to_words_of_sql():
    for expression in ("x +* 2", "'when' +* 2", '"When" +* 2'):
        with pytest.raises(ValueError) as caught:
            expressions.resolve(expression, ["x", "When"], "config.dense.y")
        assert "word of SQL" not in str(caught.value)


def test_a_refusal_lists_no_hundreds_of_functions():
    with pytest.raises(ValueError) as caught:
        expressions.resolve("zzzzzzzz(x)", COLUMNS, "config.dense.y")
    assert "known" not in str(caught.value) and len(str(caught.value)) < 100


@pytest.mark.parametrize(
    "expression",
    [
        "CAST(u AS UNION(a INTEGER, b VARCHAR))",
        "CAST({'a': u} AS STRUCT(a nonsense))",
        "CAST(u AS nonsense)",
        "CAST('1' AS BIT)",
        "CAST(u AS BIGNUM)",
        "CAST('12:00' AS TIMETZ)",
        "CAST(u AS ENUM('a'))",
        "list_transform([1], 5 -> 1)",
        "list_filter(words, words)",
        "MAP {'a': {'b': [x]}}",
        "{'a': u, 'b': [i]}",
        "i COLLATE nothing",
        "lag(x) OVER (ROWS BETWEEN 1 FOLLOWING AND 1 PRECEDING)",
        "grouping(x)",
        "sqrt(i)",
        "-" * 50 + "x",
    ],
)
def test_whatever_else_is_wrong_is_about_the_key(log, expression):
    """Types that Ibis or the parser do not know, too: a value, or one line about the key."""
    try:
        values(log, expression)
    except expressions.UserError as error:
        assert error.about == "config.dense.y" and error.problem
