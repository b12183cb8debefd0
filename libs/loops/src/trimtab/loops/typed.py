"""Polars expressions that know their kind, so that a wrong one is told before it runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from trimtab.loops.columns import TIME

Kind = Literal["integer", "number", "text", "boolean", "time", "date", "null"]

KINDS: dict[Kind, pl.DataType] = {
    "integer": pl.Int64(),
    "number": pl.Float64(),
    "text": pl.String(),
    "boolean": pl.Boolean(),
    "time": TIME,
    "date": pl.Date(),
    "null": pl.Null(),
}
NUMBERS: tuple[Kind, ...] = ("integer", "number")
NOUNS: dict[Kind, str] = {
    "integer": "a whole number",
    "number": "a number",
    "text": "a text",
    "boolean": "a boolean",
    "time": "a time",
    "date": "a date",
    "null": "NULL",
}


@dataclass(frozen=True, slots=True)
class Typed:
    """A polars expression and the kind of its values. `literal`: its value where the SQL wrote one."""

    expr: pl.Expr
    kind: Kind
    literal: str | int | float | bool | None = None


def kind_of(dtype: pl.DataType) -> Kind:
    """The kind of a column's values. Raises KeyError for a type that expressions do not know."""
    return next(kind for kind, known in KINDS.items() if known == dtype)


def common_kind(kinds: Sequence[Kind]) -> Kind | None:
    """The kind that holds values of all of these; None where they do not go together.

    >>> common_kind(["integer", "number", "null"]), common_kind(["text", "number"])
    ('number', None)
    """
    found = {kind for kind in kinds if kind != "null"}
    if not found:
        return "null"
    if found <= set(NUMBERS):
        return "number" if "number" in found else "integer"
    return found.pop() if len(found) == 1 else None
