"""A set of declared aggregates as a plan: which values of an event they take, which partials they share, how they end.

Windows behave as in SQL: over no events count() is 0 and everything else NULL; NULL values are left out.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trimtab.loops.columns import TIME
from trimtab.loops.expressions import AggregateCall, AggregateExpression, RowExpression, compile_aggregate
from trimtab.loops.partials import (
    Columns,
    Count,
    First,
    Floats,
    Highest,
    Last,
    Lowest,
    Newest,
    Partial,
    Segments,
    Spread,
    Total,
)

Objects = NDArray[np.object_]
ArgumentKind = Literal["number", "text", "hash"]

SET_SIZE = 1_024
"""count(DISTINCT x) is exact up to so many values; beyond, it is an estimate with an error of about 3%."""


@dataclass(frozen=True, slots=True)
class Argument:
    """A value of an event that aggregates take. "hash": only whether two are equal matters, so 53 bits of a hash do."""

    row: RowExpression
    kind: ArgumentKind


@dataclass(frozen=True, slots=True)
class Bound:
    """A partial, the positions of its arguments in the plan and of its columns in a row of the plan."""

    partial: Partial
    arguments: tuple[int, ...]
    columns: slice


@dataclass(frozen=True, slots=True)
class Value:
    """A declared value: its expression and where each of its calls' results comes from."""

    name: str
    expression: AggregateExpression
    sources: tuple["Source", ...]


@dataclass(frozen=True, slots=True)
class Source:
    """The result of one call: `finish` over the columns of a partial (codes if `is_text`), or the size of a set."""

    call: AggregateCall
    columns: slice
    finish: Callable[[Columns], Floats] | None = None
    set: int = -1
    is_text: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """All aggregates of one group, label or latest value over the same events.

    `sets`: positions of the arguments of count(DISTINCT). `text_columns`: those whose numbers are codes of texts.
    """

    arguments: tuple[Argument, ...]
    bounds: tuple[Bound, ...]
    sets: tuple[int, ...]
    values: tuple[Value, ...]
    text_columns: tuple[int, ...]

    @property
    def width(self) -> int:
        """How many columns a row of partials has."""
        return int(self.bounds[-1].columns.stop)

    @property
    def column_names(self) -> list[str]:
        """The columns' names."""
        return [name for bound in self.bounds for name in bound.partial.names]

    def evaluate(self, frame: pl.DataFrame) -> list[pl.Series]:
        """The arguments' values: Float64, for texts String, NULL where there is none."""
        found = frame.select_seq(argument.row.expr.alias(str(at)) for at, argument in enumerate(self.arguments))
        kinds = [argument.kind for argument in self.arguments]
        return [_transported(series, kind) for series, kind in zip(found.get_columns(), kinds, strict=True)]

    def lift(self, at_ms: Floats, arguments: Columns) -> Columns:
        """A row of partials for each event; texts arrive as codes."""
        rows: list[Floats] = []
        for bound in self.bounds:
            rows.extend(bound.partial.lift(at_ms, [arguments[position] for position in bound.arguments]))
        return rows

    def merge(self, columns: Columns, segments: Segments) -> Columns:
        """A row of partials for each segment."""
        rows: list[Floats] = []
        for bound in self.bounds:
            rows.extend(bound.partial.merge(columns[bound.columns], segments))
        return rows

    def finish(self, columns: Columns, set_sizes: Columns, texts: Sequence[str]) -> dict[str, Floats | Objects]:
        """The declared values by name. Texts: objects (None: NULL). Others: float64 (NaN: NULL), booleans 0 or 1."""
        results: dict[str, Floats | Objects] = {}
        for value in self.values:
            for source in value.sources:
                if source.call.sql not in results:
                    results[source.call.sql] = _result(source, columns, set_sizes, texts)
        found = {value.name: results[value.sources[0].call.sql] for value in self.values if value.expression.plain}
        return found | self._computed(results)

    def _computed(self, results: Mapping[str, Floats | Objects]) -> dict[str, Floats | Objects]:
        computed = [value for value in self.values if not value.expression.plain]
        if not computed:
            return {}
        calls = {source.call.sql: source.call for value in computed for source in value.sources}
        frame = pl.DataFrame([_series(sql, results[sql], call.dtype) for sql, call in calls.items()])
        found = frame.select_seq(value.expression.expr.alias(value.name) for value in computed)
        return {series.name: plain_values(series) for series in found.get_columns()}


def compile_plan(values: Mapping[str, str], columns: Mapping[str, pl.DataType]) -> Plan:
    """The plan of declared values (name → SQL) over an event's columns. Raises ExpressionError."""
    expressions = {name: compile_aggregate(sql, columns) for name, sql in values.items()}
    builder = _Builder()
    found = [Value(name, one, tuple(map(builder.source, one.calls))) for name, one in expressions.items()]
    return Plan(
        tuple(builder.arguments.values()),
        tuple(builder.bounds.values()),
        tuple(builder.sets),
        tuple(found),
        tuple(builder.text_columns),
    )


def whole_plan(names: Sequence[str], columns: Mapping[str, pl.DataType]) -> Plan:
    """The plan of `latest`: the fields of the newest event as they stand there, NULL included."""
    builder = _Builder()
    rows = {name: RowExpression(name, pl.col(name), columns[name], (name,)) for name in names}
    positions = [builder.argument(row, "text" if row.dtype == pl.String else "number") for row in rows.values()]
    bound = builder.bind("whole", Last(("newest_ms", *names), whole=True), tuple(positions), offset=1)
    values = []
    for number, (name, row) in enumerate(rows.items(), start=1):
        call = AggregateCall(f"last({name})", "last", False, row, row.dtype)
        expression = AggregateExpression(name, (call,), pl.col(call.sql), row.dtype, plain=True)
        at = slice(bound.columns.start + number, bound.columns.start + number + 1)
        values.append(Value(name, expression, (Source(call, at, _only, is_text=row.dtype == pl.String),)))
    bounds = (bound,)
    return Plan(tuple(builder.arguments.values()), bounds, (), tuple(values), tuple(builder.text_columns))


def distinct_counts(ids: NDArray[np.int64], hashes: Floats, count: int) -> Floats:
    """How many different hashes each segment has. `ids` need not be sorted; NaN hashes are left out."""
    present = ~np.isnan(hashes)
    ids, hashes = ids[present], hashes[present]
    order = np.lexsort((hashes, ids))
    ids, hashes = ids[order], hashes[order]
    new = np.ones(len(ids), np.bool_)
    new[1:] = (ids[1:] != ids[:-1]) | (hashes[1:] != hashes[:-1])
    return np.bincount(ids[new], minlength=count).astype(np.float64)


def plain_values(series: pl.Series) -> Floats | Objects:
    """A series as `finish` gives it: texts as objects, all others as float64 with NaN for NULL, times in ms."""
    if series.dtype == pl.String:
        return np.array(series.to_list(), dtype=object)
    return _numbers(series)


class _Builder:
    """Collects what several values share. Lives for one `compile_plan`."""

    def __init__(self) -> None:
        self.arguments: dict[tuple[str, ArgumentKind], Argument] = {}
        self.bounds: dict[str, Bound] = {}
        self.sets: list[int] = []
        self.text_columns: list[int] = []
        self._width = 0

    def source(self, call: AggregateCall) -> Source:
        if not self.bounds:
            self.bind("newest", Newest(), ())
        if call.distinct:
            return self._set(call)
        if call.argument is None:
            partial: Partial = Count(("count",))
            bound = self.bind("count()", partial, ())
        else:
            text = call.argument.dtype == pl.String and call.function in {"first", "last"}
            number = call.argument if text or call.function != "count" else _presence(call.argument)
            family = _FAMILY[call.function]
            position = self.argument(number, "text" if text else "number")
            bound = self.bind(f"{family}({call.argument.sql})", _made(family, call.argument.sql), (position,), offset=1)
        return Source(call, bound.columns, _finisher(call.function, bound.partial), is_text=call.dtype == pl.String)

    def argument(self, row: RowExpression, kind: ArgumentKind) -> int:
        self.arguments.setdefault((row.sql, kind), Argument(row, kind))
        return list(self.arguments).index((row.sql, kind))

    def bind(self, key: str, partial: Partial, arguments: tuple[int, ...], offset: int = 0) -> Bound:
        """`offset`: where among the partial's columns its arguments' values stand."""
        if key not in self.bounds:
            start = self._width
            self._width += len(partial.names)
            self.bounds[key] = Bound(partial, arguments, slice(start, self._width))
            kinds = [argument.kind for argument in self.arguments.values()]
            texts = [number for number, position in enumerate(arguments) if kinds[position] == "text"]
            self.text_columns.extend(start + offset + number for number in texts)
        return self.bounds[key]

    def _set(self, call: AggregateCall) -> Source:
        assert call.argument is not None  # noqa: S101 - the parser refuses count(DISTINCT)
        position = self.argument(call.argument, "hash")
        if position not in self.sets:
            self.sets.append(position)
        return Source(call, slice(0, 0), set=self.sets.index(position))


_FAMILY: Mapping[str, str] = {
    "count": "present",
    "sum": "total",
    "avg": "total",
    "min": "min",
    "max": "max",
    "stddev": "spread",
    "first": "first",
    "last": "last",
}


def _made(family: str, sql: str) -> Partial:
    if family == "present":
        return Count((f"count({sql})",))
    if family == "total":
        return Total((f"sum({sql})", f"count({sql})"))
    if family == "spread":
        return Spread((f"spread({sql}).n", f"spread({sql}).origin", f"spread({sql}).m1", f"spread({sql}).m2"))
    if family == "first":
        return First((f"first({sql})_ms", f"first({sql})"))
    if family == "last":
        return Last((f"last({sql})_ms", f"last({sql})"))
    return Lowest((f"min({sql})",)) if family == "min" else Highest((f"max({sql})",))


def _finisher(function: str, partial: Partial) -> Callable[[Columns], Floats]:
    if isinstance(partial, Total):
        return partial.total if function == "sum" else partial.mean
    assert isinstance(partial, Count | Spread | First | Last | Lowest | Highest)  # noqa: S101 - all that _made makes
    return partial.finish


def _only(columns: Columns) -> Floats:
    return columns[0]


def _presence(row: RowExpression) -> RowExpression:
    """1 where the expression has a value: all that count(x) needs of it, whatever its type."""
    expr = pl.when(row.expr.is_not_null()).then(1.0)
    return RowExpression(f"({row.sql}) IS NOT NULL", expr, pl.Float64(), row.columns)


def _result(source: Source, columns: Columns, set_sizes: Columns, texts: Sequence[str]) -> Floats | Objects:
    if source.finish is None:
        return set_sizes[source.set]
    values = source.finish(columns[source.columns])
    if not source.is_text:
        return values
    return np.array([None if np.isnan(code) else texts[int(code)] for code in values], dtype=object)


def _series(name: str, values: Floats | Objects, dtype: pl.DataType) -> pl.Series:
    if dtype == pl.String:
        return pl.Series(name, list(values), dtype=pl.String)
    series = pl.Series(name, values, nan_to_null=True)
    return series if dtype == pl.Float64 else series.cast(pl.Int64).cast(dtype)


def _numbers(series: pl.Series) -> Floats:
    """Any values but texts as float64: NaN for NULL, times in ms. (Methods of a series are queries of their own.)"""
    if series.dtype == TIME:
        series = series.cast(pl.Int64)
    numbers: Floats = series.cast(pl.Float64).to_numpy()
    return numbers


def _transported(series: pl.Series, kind: ArgumentKind) -> pl.Series:
    if kind == "text":
        return series
    return pl.Series(_hashes(series) if kind == "hash" else _numbers(series), nan_to_null=True)


def _hashes(series: pl.Series) -> Floats:
    """A number in [0, 1) for each value, the same in every process and for ever; NaN for NULL."""
    if series.dtype != pl.String:
        return _mixed(_numbers(series))
    known: dict[str | None, float] = {text: _hash(text) for text in series.unique().to_list() if text is not None}
    known[None] = np.nan
    return np.array([known[text] for text in series.to_list()], dtype=np.float64)


def _hash(text: str) -> float:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def _mixed(numbers: Floats) -> Floats:
    """The bits of numbers, well mixed (the finaliser of splitmix64: Steele, Lea, Flood, OOPSLA 2014); NaN stays NaN."""
    bits = (numbers + 0.0).view(np.uint64)  # -0.0 + 0.0 is 0.0: they are equal
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed = ((bits ^ (bits >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2**53
    return np.where(np.isnan(numbers), np.nan, mixed)
