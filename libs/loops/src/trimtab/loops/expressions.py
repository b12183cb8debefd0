"""Row expressions and aggregates as a declaration writes them: SQL, checked against an allow-list, run by polars.

There is no SELECT, no table, no query and no function outside `functions.FUNCTIONS`, so no expression opens a file
or an address. NULL behaves as in SQL; what has no value (x / 0, ln(0), a CAST that fails) is NULL. `/` never truncates.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import polars as pl
from sqlglot import exp

from trimtab.loops.errors import ExpressionError
from trimtab.loops.names import suggestion
from trimtab.loops.sql import parse, position
from trimtab.loops.translate import AGGREGATES, Translator
from trimtab.loops.typed import KINDS, NOUNS, NUMBERS, Kind, Typed

__all__ = [
    "AggregateCall",
    "AggregateExpression",
    "ExpressionError",
    "RowExpression",
    "check_aggregate",
    "check_row",
    "compile_aggregate",
    "compile_row",
]


@dataclass(frozen=True, slots=True)
class RowExpression:
    """A checked expression over the columns of one row. `columns`: those that it reads. `bare`: it is a column as such.

    >>> amount = compile_row("coalesce(amount, 0) * 2", {"amount": pl.Int64()})
    >>> amount(pl.DataFrame({"amount": [1, None]})).to_list()
    [2, 0]
    """

    sql: str
    expr: pl.Expr
    dtype: pl.DataType
    columns: tuple[str, ...]
    bare: bool = False

    def __call__(self, frame: pl.DataFrame) -> pl.Series:
        """Its values, one a row of the frame."""
        return frame.select(self.expr.alias("value"))["value"]


@dataclass(frozen=True, slots=True)
class AggregateCall:
    """One call of an aggregate. `argument` None: count(). `sql` is its canonical text: equal calls have equal texts."""

    sql: str
    function: str
    distinct: bool
    argument: RowExpression | None
    dtype: pl.DataType


@dataclass(frozen=True, slots=True)
class AggregateExpression:
    """A checked expression over aggregates. `expr` reads the columns named like its calls' `sql`.

    `plain`: it is one call and nothing else, so that `expr` need not be run.
    """

    sql: str
    calls: tuple[AggregateCall, ...]
    expr: pl.Expr
    dtype: pl.DataType
    plain: bool


def check_row(sql: str, columns: Mapping[str, pl.DataType]) -> pl.DataType:
    """The type of a row expression's values. Raises ExpressionError."""
    return compile_row(sql, columns).dtype


def check_aggregate(sql: str, columns: Mapping[str, pl.DataType]) -> pl.DataType:
    """The type of an aggregate expression's value. Raises ExpressionError."""
    return compile_aggregate(sql, columns).dtype


def compile_row(sql: str, columns: Mapping[str, pl.DataType]) -> RowExpression:
    """A row expression over columns of these types. Raises ExpressionError."""
    return _row(parse(sql), sql, columns)


def compile_aggregate(sql: str, columns: Mapping[str, pl.DataType]) -> AggregateExpression:
    """An expression over aggregates of columns of these types. Raises ExpressionError."""
    tree = parse(sql)
    translator = _AggregateTranslator(columns)
    found = translator.translate(tree)
    if not translator.calls:
        raise ExpressionError(0, "no aggregate in it", "count(), sum(x), avg(x), last(x), ...")
    plain = isinstance(tree, exp.Anonymous | exp.Filter)
    dtype = _dtype(tree, found)
    return AggregateExpression(sql, tuple(translator.calls.values()), found.expr.cast(dtype), dtype, plain)


def _row(tree: exp.Expr, sql: str, columns: Mapping[str, pl.DataType]) -> RowExpression:
    translator = Translator(columns)
    found = translator.translate(tree)
    dtype = _dtype(tree, found)
    expr = found.expr.cast(dtype)
    if not translator.used:
        expr = pl.when(pl.int_range(pl.len()) >= 0).then(expr)
    return RowExpression(sql, expr, dtype, tuple(translator.used), bare=isinstance(tree, exp.Column))


def _dtype(tree: exp.Expr, found: Typed) -> pl.DataType:
    if found.kind == "null":
        raise ExpressionError(position(tree), "it is always NULL", "an expression with a value")
    return KINDS[found.kind]


class _AggregateTranslator(Translator):
    """Over the results of aggregates; columns stand inside the aggregates only."""

    def __init__(self, columns: Mapping[str, pl.DataType]) -> None:
        super().__init__({})
        self._inner = columns
        self.calls: dict[str, AggregateCall] = {}

    def translate(self, node: exp.Expr) -> Typed:
        if isinstance(node, exp.Filter):
            return self._aggregate(node.this, node.expression.this)
        if isinstance(node, exp.Column):
            if node.name not in self._inner:
                right = suggestion(node.name, self._inner)
                raise ExpressionError(position(node), f"unknown column `{node.name}`", right)
            what = f"`{node.name}` stands outside an aggregate"
            raise ExpressionError(position(node), what, f"last({node.name}), sum({node.name}), ...")
        return super().translate(node)

    def function(self, node: exp.Anonymous) -> Typed:
        if str(node.this).lower() in AGGREGATES:
            return self._aggregate(node, None)
        if str(node.this).lower() in _SYNONYMS:
            raise ExpressionError(position(node), f"`{node.this}` is not known", _SYNONYMS[str(node.this).lower()])
        return super().function(node)

    def _aggregate(self, node: exp.Expr, condition: exp.Expr | None) -> Typed:
        name = str(node.this).lower() if isinstance(node, exp.Anonymous) else ""
        if name not in AGGREGATES:
            raise ExpressionError(position(node), "FILTER belongs to an aggregate", "sum(x) FILTER (WHERE y > 0)")
        arguments, distinct = _arguments(node)
        if len(arguments) > 1 or (name != "count" and (not arguments or distinct)) or (distinct and not arguments):
            raise ExpressionError(position(node), f"not how `{name}` is called", AGGREGATES[name])
        argument = self._argument(arguments[0] if arguments else None, condition)
        kind = self._result(node, name, argument)
        sql = f"{name}({'DISTINCT ' if distinct else ''}{argument.sql if argument else ''})"
        self.calls.setdefault(sql, AggregateCall(sql, name, distinct, argument, KINDS[kind]))
        return Typed(pl.col(sql), kind)

    def _argument(self, node: exp.Expr | None, condition: exp.Expr | None) -> RowExpression | None:
        """The argument; where the condition is not true it is NULL, which aggregates leave out."""
        if node is None and condition is None:
            return None
        argument = _row(node if node is not None else exp.true(), "", self._inner)
        if condition is None:
            return replace(argument, sql=node.sql() if node is not None else "")
        where = Translator(self._inner)
        truth = where.typed(condition, ("boolean",), "WHERE").expr
        text = f"CASE WHEN {condition.sql()} THEN {node.sql() if node is not None else 'TRUE'} END"
        columns = tuple(dict.fromkeys([*argument.columns, *where.used]))
        return RowExpression(text, pl.when(truth).then(argument.expr), argument.dtype, columns)

    def _result(self, node: exp.Expr, name: str, argument: RowExpression | None) -> Kind:
        if name == "count":
            return "integer"
        assert argument is not None  # noqa: S101 - `_aggregate` refuses other calls without an argument
        kind = next(kind for kind, dtype in KINDS.items() if dtype == argument.dtype)
        allowed = _ALLOWED.get(name)
        if allowed is not None and kind not in allowed:
            raise ExpressionError(position(node), f"`{name}` cannot be taken of {NOUNS[kind]}", _INSTEAD.get(name, ""))
        if name in {"avg", "stddev"}:
            return "number"
        return "integer" if name == "sum" and kind == "boolean" else kind


def _arguments(node: exp.Expr) -> tuple[list[exp.Expr], bool]:
    """The arguments of a call, and whether they are DISTINCT. count(*) is count()."""
    arguments: list[exp.Expr] = node.expressions
    if len(arguments) == 1 and isinstance(arguments[0], exp.Distinct):
        return list(arguments[0].expressions), True
    if len(arguments) == 1 and isinstance(arguments[0], exp.Star) and str(node.this).lower() == "count":
        return [], False
    return list(arguments), False


_ALLOWED: Mapping[str, tuple[Kind, ...]] = {
    "sum": (*NUMBERS, "boolean"),
    "avg": (*NUMBERS, "boolean"),
    "stddev": (*NUMBERS, "boolean"),
    "min": (*NUMBERS, "time", "boolean"),
    "max": (*NUMBERS, "time", "boolean"),
}
_INSTEAD: Mapping[str, str] = {"min": "first(x)", "max": "last(x)", "sum": "count(x)"}
_SYNONYMS: Mapping[str, str] = {
    "mean": "avg(x)",
    "std": "stddev(x)",
    "stdev": "stddev(x)",
    "stddev_samp": "stddev(x)",
    "count_distinct": "count(DISTINCT x)",
    "n_unique": "count(DISTINCT x)",
    "median": "avg(x)",
    "latest": "last(x)",
}
