"""Row expressions: their values, and what a person reads when one is wrong."""

import math
from collections.abc import Mapping

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trimtab.loops.columns import TIME
from trimtab.loops.expressions import ExpressionError, check_aggregate, check_row, compile_aggregate, compile_row

COLUMNS: Mapping[str, pl.DataType] = {
    "amount": pl.Float64(),
    "items": pl.Int64(),
    "country": pl.String(),
    "at": TIME,
    "seen_at": TIME,
    "new": pl.Boolean(),
    "date": pl.Date(),
}
FRAME = pl.DataFrame(
    {
        "amount": [10.0, 0.0, None, -7.5],
        "items": [3, 0, None, -7],
        "country": ["de", "Österreich", None, " x "],
        "at": [1_717_200_000_000, 0, None, 1_704_067_199_999],
        "seen_at": [1_717_199_998_500, 0, 0, 0],
        "new": [True, False, None, True],
        "date": [None, None, None, None],
    },
    schema=dict(COLUMNS),
)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("amount", [10.0, 0.0, None, -7.5]),
        ("amount * 2 + items", [23.0, 0.0, None, -22.0]),
        ("items / 2", [1.5, 0.0, None, -3.5]),
        ("10 / items", [10 / 3, None, None, 10 / -7]),
        ("items % 3", [0, 0, None, -1]),
        ("items % 0", [None, None, None, None]),
        ("-items", [-3, 0, None, 7]),
        ("1", [1, 1, 1, 1]),
        ("amount > 0", [True, False, None, False]),
        ("amount > 0 AND items > 5", [False, False, None, False]),
        ("amount > 0 OR TRUE", [True, True, True, True]),
        ("NOT new", [False, True, None, False]),
        ("new IS TRUE", [True, False, False, True]),
        ("amount IS NULL", [False, False, True, False]),
        ("amount IS NOT NULL", [True, True, False, True]),
        ("country IN ('de', 'fr')", [True, False, None, False]),
        ("items NOT IN (3, -7)", [False, True, None, False]),
        ("items BETWEEN 0 AND 3", [True, True, None, False]),
        ("country LIKE 'd_'", [True, False, None, False]),
        ("country ILIKE 'öster%'", [False, True, None, False]),
        ("country LIKE '.*'", [False, False, None, False]),
        ("CASE WHEN items > 0 THEN 'many' WHEN items = 0 THEN 'none' END", ["many", "none", None, None]),
        ("CASE items WHEN 3 THEN 1 ELSE 0.5 END", [1.0, 0.5, 0.5, 0.5]),
        ("coalesce(amount, items, 1)", [10.0, 0.0, 1.0, -7.5]),
        ("nullif(items, 0)", [3, None, None, -7]),
        ("if(new, amount, 0)", [10.0, 0.0, 0.0, -7.5]),
        ("if(new, 1)", [1, None, None, 1]),
        ("greatest(items, 1)", [3, 1, 1, 1]),
        ("least(items, amount)", [3.0, 0.0, None, -7.5]),
        ("abs(items)", [3, 0, None, 7]),
        ("round(amount)", [10.0, 0.0, None, -8.0]),
        ("round(amount / 4, 1)", [2.5, 0.0, None, -1.9]),
        ("floor(amount)", [10.0, 0.0, None, -8.0]),
        ("trunc(amount)", [10.0, 0.0, None, -7.0]),
        ("ln(amount)", [math.log(10), None, None, None]),
        ("log(amount)", [1.0, None, None, None]),
        ("log(2, items + 5)", [3.0, math.log2(5), None, None]),
        ("sqrt(amount)", [math.sqrt(10), 0.0, None, None]),
        ("pow(items, 2)", [9.0, 0.0, None, 49.0]),
        ("sign(items)", [1, 0, None, -1]),
        ("lower(country)", ["de", "österreich", None, " x "]),
        ("length(country)", [2, 10, None, 3]),
        ("trim(country)", ["de", "Österreich", None, "x"]),
        ("substr(country, 2)", ["e", "sterreich", None, "x "]),
        ("substr(country, 1, 2)", ["de", "Ös", None, " x"]),
        ("substr(country, 0, 2)", ["d", "Ö", None, " "]),
        ("left(country, 1)", ["d", "Ö", None, " "]),
        ("country || '-' || items", ["de-3", "Österreich-0", None, " x --7"]),
        ("concat(country, '!')", ["de!", "Österreich!", "!", " x !"]),
        ("split_part(country, 'e', 1)", ["d", "Öst", None, " x "]),
        ("hour(at)", [0, 0, None, 23]),
        ("hour(at, 'America/New_York')", [20, 19, None, 18]),
        ("minute(at)", [0, 0, None, 59]),
        ("weekday(at)", [5, 3, None, 6]),
        ("dow(at)", [6, 4, None, 0]),
        ("day_of_year(at)", [153, 1, None, 365]),
        ("month(at)", [6, 1, None, 12]),
        ("year(at, 'Asia/Tokyo')", [2024, 1970, None, 2024]),
        ("at - seen_at", [1.5, 0.0, None, 1_704_067_199.999]),
        ("at > '2024-01-01T00:00:00Z'", [True, False, None, False]),
        ("CAST(country AS DOUBLE)", [None, None, None, None]),
        ("CAST('12.7' AS INT) + items", [15, 12, None, 5]),
        ("CAST(amount AS TEXT)", ["10.0", "0.0", None, "-7.5"]),
        ("CAST('2024-06-01T02:00:00+02:00' AS TIMESTAMP) = at", [True, False, None, False]),
        ("items::double / 2", [1.5, 0.0, None, -3.5]),
        ('"amount" + 1', [11.0, 1.0, None, -6.5]),
    ],
)
def test_values(sql: str, expected: list[object]) -> None:
    values = compile_row(sql, COLUMNS)(FRAME).to_list()
    approximate = [pytest.approx(value) if isinstance(value, float) else value for value in expected]
    assert values == approximate


@pytest.mark.parametrize(
    ("sql", "position", "words"),
    [
        ("amonut > 0", 0, ["unknown column `amonut`", "`amount`"]),
        ("amount + Country", 9, ["unknown column `Country`", "`country`"]),
        ("hours(at)", 0, ["`hours` is no allowed function", "`hour`"]),
        ("amount IN (SELECT 1 FROM read_csv('/etc/passwd'))", 0, ["not a query"]),
        ("SELECT 1", 7, ["SELECT is not allowed"]),
        ("(SELECT max(x) FROM t)", 8, ["not allowed"]),
        ("read_csv('http://example.org/x')", 0, ["`read_csv` is no allowed function"]),
        ("read_parquet(country)", 0, ["no allowed function"]),
        ("amount > 'x'", 9, ["cannot be compared"]),
        ("amount + country", 9, ["arithmetic needs a number, not a text"]),
        ("amount = NULL", 0, ["never true", "IS NULL"]),
        ("NULL", 0, ["always NULL"]),
        ("amount AND new", 0, ["a condition needs a boolean, not a number"]),
        ("count() > 0", 0, ["`count` is an aggregate"]),
        ("hour(country)", 5, ["`hour` needs a time, not a text"]),
        ("hour(at, 'America/NewYork')", 9, ["unknown time zone", "America/New_York"]),
        ("hour(at, country)", 9, ["has to be written out"]),
        ("hour()", 0, ["0 arguments", "hour(at"]),
        ("substr(country)", 0, ["1 arguments", "substr(text, start"]),
        ("amount +", 7, ["trouble at `+`"]),
        ("(amount", 1, ["no SQL expression"]),
        ("amount items", 7, ["unexpected `items`"]),
        ("amount; items", 6, ["more than one expression"]),
        ("country = 'de", 10, ["quote is not closed"]),
        ("", 0, ["empty"]),
        ("t.amount", 0, ["columns have no table", "`amount`"]),
        ("country SIMILAR TO '(a+)+'", 0, ["SIMILARTO is not allowed"]),
        ("country RLIKE '(a+)+$'", 0, ["not allowed"]),
        ("regexp_like(country, '(a+)+$')", 0, ["no allowed function"]),
        ("country LIKE country", 13, ["written-out pattern"]),
        ("items IN (items)", 10, ["written-out values"]),
        ("CASE WHEN new THEN 1 ELSE 'x' END", 26, ["different kinds"]),
        ("CAST(amount AS JSON)", 5, ["no CAST to JSON", "DOUBLE"]),
        ("sum(amount) OVER (PARTITION BY country)", 0, ["not allowed"]),
        ("extract(hour FROM at)", 13, ["hour(ts) instead"]),
        ("current_timestamp", 0, ["unknown column"]),
        ("interval '1 day'", 0, ["INTERVAL is not allowed"]),
        ("at > 'yesterday'", 5, ["not a time", "2024-05-31"]),
        ("amount[1]", 0, ["not allowed"]),
        ("@amount", 0, ["not allowed"]),
        ("*", 0, ["not allowed"]),
        ("ATTACH 'x.db'", 7, []),
        ("COPY t TO 'x'", 5, []),
        ("(" * 500 + "1" + ")" * 500, 0, ["nested too deeply"]),
        (" + ".join(["1"] * 900), 0, ["nested too deeply"]),
        ("1 + " * 2000, 4000, ["longer than"]),
    ],
)
def test_errors_say_where_and_what_would_be_right(sql: str, position: int, words: list[str]) -> None:
    with pytest.raises(ExpressionError) as caught:
        check_row(sql, COLUMNS)
    assert caught.value.position == position
    assert all(word in str(caught.value) for word in words), str(caught.value)


@given(st.text(max_size=60))
def test_any_text_is_an_expression_or_an_expression_error(text: str) -> None:
    error = _error(text)
    assert error is None or 0 <= error.position <= len(text)


def _error(sql: str) -> ExpressionError | None:
    try:
        check_row(sql, COLUMNS)
    except ExpressionError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("sql", "dtype"),
    [
        ("items", pl.Int64()),
        ("items / 2", pl.Float64()),
        ("items + amount", pl.Float64()),
        ("hour(at)", pl.Int64()),
        ("country", pl.String()),
        ("new", pl.Boolean()),
        ("at", TIME),
    ],
)
def test_types_are_known_before_anything_runs(sql: str, dtype: pl.DataType) -> None:
    assert check_row(sql, COLUMNS) == dtype
    assert compile_row(sql, COLUMNS)(FRAME).dtype == dtype


def test_an_expression_names_the_columns_it_reads() -> None:
    assert compile_row("amount > 0 AND country = 'de' OR amount < -5", COLUMNS).columns == ("amount", "country")
    assert compile_row("amount", COLUMNS)(FRAME.clear()).to_list() == []
    assert compile_row("1 + 1", COLUMNS)(FRAME.clear()).to_list() == []


@pytest.mark.parametrize(
    ("sql", "calls", "dtype"),
    [
        ("count()", ["count()"], pl.Int64()),
        ("count(*)", ["count()"], pl.Int64()),
        ("sum(amount) / count()", ["sum(amount)", "count()"], pl.Float64()),
        ("last(amount) > 15", ["last(amount)"], pl.Boolean()),
        ("count(DISTINCT country)", ["count(DISTINCT country)"], pl.Int64()),
        ("sum(items) - sum(items)", ["sum(items)"], pl.Int64()),
        ("avg(new)", ["avg(new)"], pl.Float64()),
        ("last(country)", ["last(country)"], pl.String()),
        ("coalesce(stddev(amount), 0)", ["stddev(amount)"], pl.Float64()),
        ("count() FILTER (WHERE new)", ["count(CASE WHEN new THEN TRUE END)"], pl.Int64()),
    ],
)
def test_aggregates_and_the_calls_in_them(sql: str, calls: list[str], dtype: pl.DataType) -> None:
    found = compile_aggregate(sql, COLUMNS)
    assert [call.sql for call in found.calls] == calls
    assert found.dtype == dtype


@pytest.mark.parametrize(
    ("sql", "position", "words"),
    [
        ("amount", 0, ["`amount` stands outside an aggregate", "last(amount)"]),
        ("sum(amount) > items", 14, ["`items` stands outside"]),
        ("sum(amonut)", 4, ["`amount`"]),
        ("sum(country)", 0, ["cannot be taken of a text", "count(x)"]),
        ("min(country)", 0, ["first(x)"]),
        ("sum()", 0, ["sum(x)"]),
        ("sum(DISTINCT amount)", 0, ["sum(x)"]),
        ("count(amount, items)", 0, ["count(DISTINCT x)"]),
        ("sum(sum(amount))", 4, ["is an aggregate"]),
        ("mean(amount)", 0, ["avg(x)"]),
        ("1 + 1", 0, ["no aggregate"]),
        ("sum(amount) OVER ()", 0, ["not allowed"]),
        ("count() FILTER (WHERE amount)", 22, ["WHERE needs a boolean"]),
        ("(SELECT count(*) FROM t)", 8, ["not allowed"]),
    ],
)
def test_errors_in_aggregates(sql: str, position: int, words: list[str]) -> None:
    with pytest.raises(ExpressionError) as caught:
        check_aggregate(sql, COLUMNS)
    assert caught.value.position == position
    assert all(word in str(caught.value) for word in words), str(caught.value)
