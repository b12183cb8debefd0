"""The functions that row expressions may call: an allow-list, each with its arguments and its polars form.

What has no value is NULL: ln(0), sqrt(-1), x / 0. Times are taken in UTC unless a zone is named.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from trimtab.loops.typed import NUMBERS, Kind

Build = Callable[..., pl.Expr]
_TIMES: tuple[Kind, ...] = ("time", "date")


@dataclass(frozen=True, slots=True)
class Function:
    """`takes`: the kinds of each argument; `optional`: how many of the last ones may be left out.

    `literal`: positions of arguments that have to be written out (they are handed to `build` as Python values).
    `gives` None: the common kind of the arguments. `usage` shows how it is called.
    """

    usage: str
    takes: tuple[tuple[Kind, ...], ...]
    gives: Kind | None
    build: Build
    optional: int = 0
    literal: frozenset[int] = frozenset()


def _where(value: pl.Expr, condition: pl.Expr) -> pl.Expr:
    return pl.when(condition).then(value)


def _number(x: pl.Expr) -> pl.Expr:
    return x.cast(pl.Float64)


def _log(x: pl.Expr, y: pl.Expr | None = None) -> pl.Expr:
    if y is None:
        return _logarithm(x, 10.0)
    return _logarithm(y, math.e) / _logarithm(x, math.e)


def _logarithm(x: pl.Expr, base: float) -> pl.Expr:
    positive = _where(_number(x), x > 0)
    return positive.log() if base == math.e else positive.log(base)


def _round(x: pl.Expr, digits: int = 0) -> pl.Expr:
    return _number(x).round(digits, mode="half_away_from_zero")


def _truncate(x: pl.Expr) -> pl.Expr:
    number = _number(x)
    return pl.when(number < 0).then(number.ceil()).otherwise(number.floor())


def _substring(text: pl.Expr, start: pl.Expr, length: pl.Expr | None = None) -> pl.Expr:
    first = start - 1
    if length is None:
        return text.str.slice(pl.max_horizontal(first, 0))
    end = pl.max_horizontal(first + pl.max_horizontal(length, 0), 0)
    begin = pl.max_horizontal(first, 0)
    return text.str.slice(begin, pl.max_horizontal(end - begin, 0))


def _split_part(text: pl.Expr, separator: str, number: int) -> pl.Expr:
    return text.str.split(separator).list.get(number - 1, null_on_oob=True)


def _in_zone(part: Callable[[pl.Expr], pl.Expr]) -> Build:
    def build(time: pl.Expr, zone: str | None = None) -> pl.Expr:
        return part(time if zone is None else time.dt.convert_time_zone(zone)).cast(pl.Int64)

    return build


def _clock(name: str, part: Callable[[pl.Expr], pl.Expr]) -> Function:
    return Function(
        f"{name}(at [, 'America/New_York'])", (("time",), ("text",)), "integer", _in_zone(part), 1, frozenset({1})
    )


def _calendar(name: str, part: Callable[[pl.Expr], pl.Expr]) -> Function:
    return Function(
        f"{name}(at [, 'America/New_York'])", (_TIMES, ("text",)), "integer", _in_zone(part), 1, frozenset({1})
    )


def _of_number(name: str, build: Build, gives: Kind | None = "number") -> Function:
    return Function(f"{name}(x)", (NUMBERS,), gives, build)


def _of_text(name: str, build: Build, gives: Kind = "text") -> Function:
    return Function(f"{name}(text)", (("text",),), gives, build)


def _of_two_texts(name: str, build: Build, gives: Kind) -> Function:
    return Function(f"{name}(text, 'part')", (("text",), ("text",)), gives, build, 0, frozenset({1}))


_ROUND = Function("round(x [, digits])", (NUMBERS, ("integer",)), "number", _round, 1, frozenset({1}))
_POW = Function("pow(x, y)", (NUMBERS, NUMBERS), "number", lambda x, y: _number(x).pow(_number(y)))
_SUBSTR = Function("substr(text, start [, length])", (("text",), ("integer",), ("integer",)), "text", _substring, 1)
_WEEKDAY = _calendar("weekday", lambda t: t.dt.weekday().cast(pl.Int64) - 1)
_DAY_OF_YEAR = _calendar("day_of_year", lambda t: t.dt.ordinal_day())

FUNCTIONS: Mapping[str, Function] = {
    "abs": _of_number("abs", lambda x: x.abs(), None),
    "sign": _of_number("sign", lambda x: x.sign().cast(pl.Int64), "integer"),
    "round": _ROUND,
    "floor": _of_number("floor", lambda x: _number(x).floor()),
    "ceil": _of_number("ceil", lambda x: _number(x).ceil()),
    "ceiling": _of_number("ceiling", lambda x: _number(x).ceil()),
    "trunc": _of_number("trunc", _truncate),
    "sqrt": _of_number("sqrt", lambda x: _where(_number(x), x >= 0).sqrt()),
    "exp": _of_number("exp", lambda x: _number(x).exp()),
    "ln": _of_number("ln", lambda x: _logarithm(x, math.e)),
    "log10": _of_number("log10", lambda x: _logarithm(x, 10.0)),
    "log2": _of_number("log2", lambda x: _logarithm(x, 2.0)),
    "log": Function("log(x) to base 10, or log(base, x)", (NUMBERS, NUMBERS), "number", _log, 1),
    "sin": _of_number("sin", lambda x: _number(x).sin()),
    "cos": _of_number("cos", lambda x: _number(x).cos()),
    "tan": _of_number("tan", lambda x: _number(x).tan()),
    "pi": Function("pi()", (), "number", lambda: pl.lit(math.pi)),
    "pow": _POW,
    "power": _POW,
    "lower": _of_text("lower", lambda s: s.str.to_lowercase()),
    "upper": _of_text("upper", lambda s: s.str.to_uppercase()),
    "length": _of_text("length", lambda s: s.str.len_chars().cast(pl.Int64), "integer"),
    "trim": _of_text("trim", lambda s: s.str.strip_chars(" ")),
    "ltrim": _of_text("ltrim", lambda s: s.str.strip_chars_start(" ")),
    "rtrim": _of_text("rtrim", lambda s: s.str.strip_chars_end(" ")),
    "substr": _SUBSTR,
    "substring": _SUBSTR,
    "left": Function("left(text, n)", (("text",), ("integer",)), "text", lambda s, n: s.str.head(n), 0, frozenset({1})),
    "right": Function(
        "right(text, n)", (("text",), ("integer",)), "text", lambda s, n: s.str.tail(n), 0, frozenset({1})
    ),
    "replace": Function(
        "replace(text, 'old', 'new')",
        (("text",), ("text",), ("text",)),
        "text",
        lambda s, old, new: s.str.replace_all(old, new, literal=True),
        0,
        frozenset({1, 2}),
    ),
    "split_part": Function(
        "split_part(text, 'separator', n)",
        (("text",), ("text",), ("integer",)),
        "text",
        _split_part,
        0,
        frozenset({1, 2}),
    ),
    "starts_with": _of_two_texts("starts_with", lambda s, part: s.str.starts_with(part), "boolean"),
    "ends_with": _of_two_texts("ends_with", lambda s, part: s.str.ends_with(part), "boolean"),
    "contains": _of_two_texts("contains", lambda s, part: s.str.contains(part, literal=True), "boolean"),
    "hour": _clock("hour", lambda t: t.dt.hour()),
    "minute": _clock("minute", lambda t: t.dt.minute()),
    "second": _clock("second", lambda t: t.dt.second()),
    "weekday": _WEEKDAY,
    "dow": _calendar("dow", lambda t: t.dt.weekday().cast(pl.Int64) % 7),
    "isodow": _calendar("isodow", lambda t: t.dt.weekday()),
    "day": _calendar("day", lambda t: t.dt.day()),
    "week": _calendar("week", lambda t: t.dt.week()),
    "month": _calendar("month", lambda t: t.dt.month()),
    "quarter": _calendar("quarter", lambda t: t.dt.quarter()),
    "year": _calendar("year", lambda t: t.dt.year()),
    "day_of_year": _DAY_OF_YEAR,
    "doy": _DAY_OF_YEAR,
    "epoch": Function("epoch(at)", (("time",),), "number", lambda t: t.dt.epoch("ms") / 1000),
}
VARIADIC: Mapping[str, tuple[str, Callable[..., pl.Expr]]] = {
    "coalesce": ("coalesce(a, b, ...)", pl.coalesce),
    "ifnull": ("ifnull(a, b)", pl.coalesce),
    "greatest": ("greatest(a, b, ...)", pl.max_horizontal),
    "least": ("least(a, b, ...)", pl.min_horizontal),
}
OTHERS: Mapping[str, str] = {
    "if": "if(condition, a [, b])",
    "iif": "iif(condition, a [, b])",
    "nullif": "nullif(a, b)",
    "concat": "concat(a, b, ...)",
}


def allowed() -> list[str]:
    """The names of all functions that a row expression may call.

    >>> "hour" in allowed(), "read_csv" in allowed()
    (True, False)
    """
    return sorted([*FUNCTIONS, *VARIADIC, *OTHERS, "cast"])
