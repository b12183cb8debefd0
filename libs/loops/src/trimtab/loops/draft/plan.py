"""What a draft decided: the events with their rows, and the parts of the declaration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from trimtab.loops import expressions
from trimtab.loops.columns import TIME
from trimtab.loops.draft.samples import Column, Kind
from trimtab.loops.errors import ExpressionError
from trimtab.loops.model import Task

DTYPES: Mapping[Kind, pl.DataType] = {
    "time": TIME,
    "integer": pl.Int64(),
    "number": pl.Float64(),
    "boolean": pl.Boolean(),
    "text": pl.String(),
}

Value = str | int | float | bool


def quoted(column: Column) -> str:
    """A column's name in an expression: in quotes where it would be read as something else."""
    types = {column.name: DTYPES[column.kind]}
    try:
        plain = expressions.check_row(column.name, types) == types[column.name]
    except ExpressionError:
        plain = False
    return column.name if plain else f'"{column.name}"'


def literal(value: Value) -> str:
    """A value in an expression.

    >>> literal("it's"), literal(1)
    ("'it''s'", '1')
    """
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


@dataclass(frozen=True, slots=True)
class EventDraft:
    """One event: `rows` in the order of their times, `columns` by name; `id` None: the digest of the body."""

    name: str
    time: str
    id: str | None
    rows: pl.DataFrame
    columns: Mapping[str, Column]


@dataclass(frozen=True, slots=True)
class LabelDraft:
    """The label: the last value of a column, or (column None) whether the event `of` comes at all.

    `positive`: the value that counts as true, where the column is not true or false itself.
    """

    of: str
    by: Sequence[str]
    within_ms: int
    column: Column | None = None
    positive: Value | None = None

    @property
    def value(self) -> str:
        """The aggregate that gives the label."""
        if self.column is None:
            return "count() > 0"
        return f"last({quoted(self.column)}){self._is_positive}"

    @property
    def average(self) -> str | None:
        """An aggregate that tells how the label was lately; None where it has no mean."""
        if self.column is None or (self.column.kind == "text" and self.positive is None):
            return None
        return f"avg({quoted(self.column)}{self._is_positive})"

    def positives(self, rows: pl.DataFrame) -> int:
        """How many of the label event's rows are true."""
        if self.column is None:
            return rows.height
        if self.positive is not None:
            return int((rows[self.column.name] == self.positive).sum())
        return int(rows[self.column.name].sum()) if self.column.kind == "boolean" else 0

    @property
    def _is_positive(self) -> str:
        return "" if self.positive is None else f" = {literal(self.positive)}"


@dataclass(frozen=True, slots=True)
class GroupDraft:
    """Windowed aggregates by an entity."""

    name: str
    of: str
    by: str
    windows: Sequence[str]
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class LatestDraft:
    """The newest values of an event by an entity."""

    name: str
    of: str
    by: str
    values: Sequence[str]
    max_age_ms: int


@dataclass(frozen=True, slots=True)
class Outline:
    """What was decided about the events: which asks, which tells the label, and what has a history of its own."""

    name: str
    task: Task
    events: Sequence[EventDraft]
    asks: EventDraft
    key: str
    label: LabelDraft
    entities: Sequence[str]

    @property
    def labels(self) -> EventDraft:
        return next(event for event in self.events if event.name == self.label.of)

    @property
    def others(self) -> Sequence[EventDraft]:
        """Events that neither ask nor tell the label."""
        return [event for event in self.events if event.name not in (self.asks.name, self.label.of)]

    @property
    def span_ms(self) -> int:
        """From the first question to the last."""
        times = self.asks.rows[self.asks.time].dt.epoch("ms")
        return max(1, int(times[-1]) - int(times[0])) if times.len() else 1

    @property
    def labelled(self) -> int:
        """Questions with a label."""
        return self.asks.rows.height if self.label.column is None else self.labels.rows.height


@dataclass(frozen=True, slots=True)
class Draft:
    """A whole draft. `notes`: (guess, reason) in the order of their making."""

    outline: Outline
    row: Mapping[str, str]
    categorical: Sequence[str]
    groups: Sequence[GroupDraft]
    latest: Sequence[LatestDraft]
    notes: Sequence[tuple[str, str]]
