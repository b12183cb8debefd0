"""Checked SQL tree → typed polars expression. Whatever is not translated here does not exist."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import ClassVar
from zoneinfo import available_timezones

import polars as pl
from sqlglot import exp

from trimtab.loops.columns import TIME
from trimtab.loops.errors import ExpressionError
from trimtab.loops.functions import FUNCTIONS, OTHERS, VARIADIC, Function, allowed
from trimtab.loops.names import suggestion
from trimtab.loops.sql import position
from trimtab.loops.typed import KINDS, NOUNS, NUMBERS, Kind, Typed, common_kind, kind_of

AGGREGATES: Mapping[str, str] = {
    "count": "count(), count(x) or count(DISTINCT x)",
    "sum": "sum(x)",
    "avg": "avg(x)",
    "min": "min(x)",
    "max": "max(x)",
    "stddev": "stddev(x)",
    "first": "first(x)",
    "last": "last(x)",
}
_CASTS: Mapping[str, Kind] = {
    "INT": "integer", "BIGINT": "integer", "SMALLINT": "integer", "TINYINT": "integer",
    "DOUBLE": "number", "FLOAT": "number", "DECIMAL": "number",
    "TEXT": "text", "VARCHAR": "text", "CHAR": "text",
    "BOOLEAN": "boolean", "TIMESTAMP": "time", "TIMESTAMPTZ": "time", "DATE": "date",
}  # fmt: skip
_MINUS = "time - time"


class Translator:
    """Translates the nodes of row expressions over typed columns. One lives for one expression.

    `used`: the columns that the expression read, in the order in which they came.
    """

    def __init__(self, columns: Mapping[str, pl.DataType]) -> None:
        self._columns = columns
        self.used: dict[str, None] = {}

    def translate(self, node: exp.Expr) -> Typed:
        """Raises ExpressionError with the position of what is not allowed, unknown or of the wrong kind."""
        method = self._METHODS.get(type(node))
        if method is None:
            name = type(node).__name__
            raise ExpressionError(position(node), f"{name.upper()} is not allowed here", "a row expression or CASE")
        return method(self, node)

    def typed(self, node: exp.Expr, kinds: Sequence[Kind], what: str) -> Typed:
        """The translation of a node that has to be of one of some kinds (NULL always is)."""
        found = self.translate(node)
        if found.kind in kinds or found.kind == "null":
            return found
        wanted = " or ".join(dict.fromkeys(NOUNS[kind] for kind in kinds if kind != "integer" or len(kinds) == 1))
        raise ExpressionError(position(node), f"{what} needs {wanted}, not {NOUNS[found.kind]}")

    def function(self, node: exp.Anonymous) -> Typed:
        """A function by its name. Aggregates are refused here; AggregateTranslator has them."""
        name = str(node.this).lower()
        if name in FUNCTIONS:
            return self._plain(node, FUNCTIONS[name])
        if name in VARIADIC:
            return self._variadic(node, *VARIADIC[name])
        if name in OTHERS:
            return self._other(node, name)
        if name in AGGREGATES:
            right = "a group's `values` or the label's `value`"
            raise ExpressionError(position(node), f"`{name}` is an aggregate, and this is a row expression", right)
        raise ExpressionError(position(node), f"`{name}` is no allowed function", suggestion(name, allowed()))

    def _column(self, node: exp.Column) -> Typed:
        name = node.name
        if node.table:
            raise ExpressionError(position(node), f"`{node.sql()}`: columns have no table", f"`{name}`")
        if name not in self._columns:
            raise ExpressionError(position(node), f"unknown column `{name}`", suggestion(name, self._columns))
        self.used.setdefault(name)
        return Typed(pl.col(name), kind_of(self._columns[name]))

    def _literal(self, node: exp.Literal) -> Typed:
        text = str(node.this)
        if node.is_string:
            return Typed(pl.lit(text), "text", text)
        if text.isdigit() and int(text) < 2**63:
            return Typed(pl.lit(int(text), dtype=pl.Int64), "integer", int(text))
        return Typed(pl.lit(float(text)), "number", float(text))

    def _boolean(self, node: exp.Boolean) -> Typed:
        return Typed(pl.lit(bool(node.this)), "boolean", bool(node.this))

    def _null(self, _node: exp.Null) -> Typed:
        return Typed(pl.lit(None), "null")

    def _paren(self, node: exp.Paren) -> Typed:
        return self.translate(node.this)

    def _negative(self, node: exp.Neg) -> Typed:
        found = self.typed(node.this, NUMBERS, "the sign")
        literal = -found.literal if isinstance(found.literal, int | float) else None
        return Typed(-found.expr, found.kind, literal)

    def _arithmetic(self, node: exp.Binary) -> Typed:
        left, right = self.translate(node.this), self.translate(node.expression)
        if isinstance(node, exp.Sub) and left.kind == "time" and right.kind == "time":
            return Typed((left.expr - right.expr).dt.total_milliseconds() / 1000, "number")
        for operand, found in ((node.this, left), (node.expression, right)):
            if found.kind not in (*NUMBERS, "null"):
                raise ExpressionError(position(operand), f"arithmetic needs a number, not {NOUNS[found.kind]}")
        kind: Kind = "integer" if left.kind == right.kind == "integer" else "number"
        return _ARITHMETIC[type(node)](left.expr, right.expr, kind)

    def _comparison(self, node: exp.Binary) -> Typed:
        left, right = self._comparable(node.this, node.expression)
        return Typed(_COMPARISONS[type(node)](left, right), "boolean")

    def _comparable(self, *nodes: exp.Expr) -> tuple[pl.Expr, ...]:
        found = [self.translate(node) for node in nodes]
        for node, one in zip(nodes, found, strict=True):
            if one.kind == "null":
                raise ExpressionError(position(node), "a comparison with NULL is never true", "IS NULL or IS NOT NULL")
        found = _as_times(nodes, found)
        if common_kind([one.kind for one in found]) is None:
            kinds = " and ".join(NOUNS[one.kind] for one in found)
            raise ExpressionError(position(nodes[-1]), f"{kinds} cannot be compared", "CAST(x AS ...) on one side")
        return tuple(one.expr for one in found)

    def _and(self, node: exp.And) -> Typed:
        return Typed(self._truth(node.this) & self._truth(node.expression), "boolean")

    def _or(self, node: exp.Or) -> Typed:
        return Typed(self._truth(node.this) | self._truth(node.expression), "boolean")

    def _not(self, node: exp.Not) -> Typed:
        return Typed(~self._truth(node.this), "boolean")

    def _truth(self, node: exp.Expr) -> pl.Expr:
        return self.typed(node, ("boolean",), "a condition").expr.cast(pl.Boolean)

    def _is(self, node: exp.Is) -> Typed:
        if isinstance(node.expression, exp.Null):
            return Typed(self.translate(node.this).expr.is_null(), "boolean")
        if isinstance(node.expression, exp.Boolean):
            return Typed(self._truth(node.this).eq_missing(pl.lit(bool(node.expression.this))), "boolean")
        raise ExpressionError(position(node.expression), "IS compares with NULL, TRUE or FALSE only", "=")

    def _in(self, node: exp.In) -> Typed:
        items = node.expressions
        if not items or node.args.get("query") or node.args.get("field"):
            raise ExpressionError(position(node), "IN needs a list of values, not a query", "x IN ('a', 'b')")
        for item in items:
            if not isinstance(item.this if isinstance(item, exp.Neg) else item, exp.Literal):
                raise ExpressionError(position(item), "IN takes written-out values only", "x IN ('a', 'b')")
        value, *options = self._comparable(node.this, *items)
        return Typed(pl.any_horizontal([value == option for option in options]), "boolean")

    def _between(self, node: exp.Between) -> Typed:
        value, low, high = self._comparable(node.this, node.args["low"], node.args["high"])
        return Typed((value >= low) & (value <= high), "boolean")

    def _like(self, node: exp.Like | exp.ILike) -> Typed:
        text = self.typed(node.this, ("text",), "LIKE")
        pattern = self.translate(node.expression)
        if not isinstance(pattern.literal, str):
            raise ExpressionError(position(node.expression), "LIKE takes a written-out pattern only", "x LIKE 'ab%'")
        return Typed(text.expr.str.contains(_regex(pattern.literal, isinstance(node, exp.ILike))), "boolean")

    def _joined(self, node: exp.DPipe) -> Typed:
        parts = [self.translate(part) for part in (node.this, node.expression)]
        return Typed(pl.concat_str([_as_text(part) for part in parts]), "text")

    def _case(self, node: exp.Case) -> Typed:
        subject = node.this
        branches = node.args["ifs"]
        values = [branch.args["true"] for branch in branches]
        default = node.args.get("default")
        results, kind = self._unified([*values, *([default] if default is not None else [])])
        conditions = [self._condition(subject, branch.this) for branch in branches]
        expr = results[len(values)] if default is not None else pl.lit(None)
        for condition, result in reversed(list(zip(conditions, results, strict=False))):
            expr = pl.when(condition).then(result).otherwise(expr)
        return Typed(expr, kind)

    def _condition(self, subject: exp.Expr | None, node: exp.Expr) -> pl.Expr:
        if subject is None:
            return self._truth(node)
        left, right = self._comparable(subject, node)
        return left == right

    def _unified(self, nodes: Sequence[exp.Expr]) -> tuple[list[pl.Expr], Kind]:
        """Values that have to be of one kind, cast to it."""
        found = [self.translate(node) for node in nodes]
        kind = common_kind([one.kind for one in found])
        if kind is None:
            other = next(node for node, one in zip(nodes, found, strict=True) if one.kind != found[0].kind)
            kinds = " and ".join(dict.fromkeys(NOUNS[one.kind] for one in found))
            raise ExpressionError(position(other), f"values of different kinds: {kinds}", "CAST(x AS ...)")
        return [one.expr.cast(KINDS[kind]) for one in found], kind

    def _cast(self, node: exp.Cast) -> Typed:
        name = node.to.this.name if isinstance(node.to, exp.DataType) else str(node.to)
        kind = _CASTS.get(name)
        if kind is None:
            right = "INT, DOUBLE, TEXT, BOOLEAN, TIMESTAMP or DATE"
            raise ExpressionError(position(node), f"no CAST to {name}", right)
        return Typed(_converted(self.translate(node.this), kind), kind)

    def _plain(self, node: exp.Anonymous, function: Function) -> Typed:
        arguments = node.expressions
        most = len(function.takes)
        if not most - function.optional <= len(arguments) <= most:
            raise ExpressionError(position(node), f"{len(arguments)} arguments are not what it takes", function.usage)
        values: list[object] = []
        kinds: list[Kind] = []
        for number, argument in enumerate(arguments):
            found = self.typed(argument, function.takes[number], f"`{node.this}`")
            kinds.append(found.kind)
            values.append(_literal(argument, found, function) if number in function.literal else found.expr)
        kind = function.gives or common_kind(kinds) or "number"
        return Typed(function.build(*values), kind)

    def _variadic(self, node: exp.Anonymous, usage: str, build: Callable[..., pl.Expr]) -> Typed:
        if not node.expressions:
            raise ExpressionError(position(node), f"`{node.this}` needs arguments", usage)
        exprs, kind = self._unified(node.expressions)
        return Typed(build(*exprs), kind)

    def _other(self, node: exp.Anonymous, name: str) -> Typed:
        arguments = node.expressions
        if name == "concat" and arguments:
            parts = [_as_text(self.translate(argument)) for argument in arguments]
            return Typed(pl.concat_str(parts, ignore_nulls=True), "text")
        if name == "nullif" and len(arguments) == 2:
            kind = self.translate(arguments[0]).kind
            left, right = self._comparable(*arguments)
            return Typed(pl.when((left != right).fill_null(value=True)).then(left), kind)
        if name in {"if", "iif"} and len(arguments) in {2, 3}:
            condition = self._truth(arguments[0])
            results, kind = self._unified(arguments[1:])
            return Typed(pl.when(condition).then(results[0]).otherwise((*results, pl.lit(None))[1]), kind)
        raise ExpressionError(position(node), f"{len(arguments)} arguments are not what it takes", OTHERS[name])

    _METHODS: ClassVar[dict[type[exp.Expr], Callable[..., Typed]]] = {
        exp.Column: _column,
        exp.Literal: _literal,
        exp.Boolean: _boolean,
        exp.Null: _null,
        exp.Paren: _paren,
        exp.Neg: _negative,
        exp.And: _and,
        exp.Or: _or,
        exp.Not: _not,
        exp.Is: _is,
        exp.In: _in,
        exp.Between: _between,
        exp.Like: _like,
        exp.ILike: _like,
        exp.DPipe: _joined,
        exp.Case: _case,
        exp.Cast: _cast,
        exp.TryCast: _cast,
        exp.Anonymous: lambda self, node: self.function(node),
        **dict.fromkeys((exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod), _arithmetic),
        **dict.fromkeys((exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE), _comparison),
    }


def _modulo(left: pl.Expr, right: pl.Expr) -> pl.Expr:
    rest = left.abs() % pl.when(right != 0).then(right.abs())
    return pl.when(left < 0).then(-rest).otherwise(rest)


_ARITHMETIC: Mapping[type[exp.Expr], Callable[[pl.Expr, pl.Expr, Kind], Typed]] = {
    exp.Add: lambda left, right, kind: Typed(left + right, kind),
    exp.Sub: lambda left, right, kind: Typed(left - right, kind),
    exp.Mul: lambda left, right, kind: Typed(left * right, kind),
    exp.Div: lambda left, right, _: Typed(left / pl.when(right != 0).then(right), "number"),
    exp.Mod: lambda left, right, kind: Typed(_modulo(left, right), kind),
}
_COMPARISONS: Mapping[type[exp.Expr], Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    exp.EQ: lambda left, right: left == right,
    exp.NEQ: lambda left, right: left != right,
    exp.GT: lambda left, right: left > right,
    exp.GTE: lambda left, right: left >= right,
    exp.LT: lambda left, right: left < right,
    exp.LTE: lambda left, right: left <= right,
}


def _as_times(nodes: Sequence[exp.Expr], found: Sequence[Typed]) -> list[Typed]:
    """Written-out texts beside a time are times."""
    if not any(one.kind == "time" for one in found):
        return list(found)
    return [
        _as_time(node, one) if isinstance(one.literal, str) else one for node, one in zip(nodes, found, strict=True)
    ]


def _as_time(node: exp.Expr, text: Typed) -> Typed:
    try:
        at = datetime.fromisoformat(str(text.literal))
    except ValueError as error:
        raise ExpressionError(position(node), "not a time", "'2024-05-31T12:00:00Z'") from error
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return Typed(pl.lit(at.astimezone(UTC), dtype=TIME), "time")


def _literal(node: exp.Expr, found: Typed, function: Function) -> object:
    if found.literal is None:
        raise ExpressionError(position(node), "this argument has to be written out", function.usage)
    if "New_York" in function.usage and found.literal not in available_timezones():
        right = suggestion(str(found.literal), sorted(available_timezones()))
        raise ExpressionError(position(node), f"unknown time zone '{found.literal}'", right[:80])
    return found.literal


def _as_text(found: Typed) -> pl.Expr:
    return found.expr if found.kind == "text" else _converted(found, "text")


def _converted(found: Typed, kind: Kind) -> pl.Expr:
    """CAST; what cannot be converted is NULL."""
    if found.kind == "text" and kind == "time":
        return found.expr.str.to_datetime("%+", time_unit="ms", time_zone="UTC", strict=False)
    if found.kind == "text" and kind == "date":
        return found.expr.str.to_date("%Y-%m-%d", strict=False)
    if found.kind == "text" and kind == "boolean":
        folded = found.expr.str.to_lowercase()
        return pl.when(folded == "true").then(statement=True).when(folded == "false").then(statement=False)
    if found.kind == "text" and kind == "integer":
        return found.expr.cast(pl.Float64, strict=False).cast(pl.Int64, strict=False)
    return found.expr.cast(KINDS[kind], strict=False)


def _regex(pattern: str, any_case: bool) -> str:
    """LIKE's pattern as an anchored regular expression (which polars matches in linear time)."""
    parts = {"%": ".*", "_": "."}
    body = "".join(parts.get(character) or re.escape(character) for character in pattern)
    return f"(?s{'i' if any_case else ''})^{body}$"
