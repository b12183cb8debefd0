"""Mergeable partial aggregates, in columns.

A partial is a few float64 columns, one row an event, grain or window. `lift` makes the rows of single events, `merge`
adds rows that belong together, `finish` makes the value. NaN is NULL. Rows are merged strictly in their order, so that
cutting a stream into other batches gives the same bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Columns = Sequence[Floats]


@dataclass(frozen=True)
class Segments:
    """Which rows belong together: `ids` [rows] ascending in 0..count-1; a segment may have no rows."""

    ids: Ints
    count: int

    @cached_property
    def starts(self) -> Ints:
        """Where the rows of each non-empty segment begin."""
        if not len(self.ids):
            return np.empty(0, np.int64)
        new = np.ones(len(self.ids), np.bool_)
        new[1:] = self.ids[1:] != self.ids[:-1]
        return new.nonzero()[0]

    def sums(self, values: Floats) -> Floats:
        """Per segment the sum of its rows, added one after the other."""
        sums: Floats = np.bincount(self.ids, weights=values, minlength=self.count).astype(np.float64, copy=False)
        return sums

    def scattered(self, values: NDArray[np.generic], empty: float) -> Floats:
        """Values of the non-empty segments at their places, `empty` at the others."""
        found = np.full(self.count, empty)
        if len(values):
            found[self.ids[self.starts]] = values
        return found

    def lowest(self, values: Floats) -> Floats:
        """Per segment the least value that is not NaN, NaN where there is none."""
        return self.scattered(np.fmin.reduceat(values, self.starts) if len(values) else values, np.nan)

    def highest(self, values: Floats) -> Floats:
        """Per segment the greatest value that is not NaN, NaN where there is none."""
        return self.scattered(np.fmax.reduceat(values, self.starts) if len(values) else values, np.nan)

    def last_of(self, chosen: NDArray[np.bool_]) -> tuple[Ints, Ints]:
        """(segments, rows): the last chosen row of each segment that has one."""
        rows = np.flatnonzero(chosen)
        ids = self.ids[rows]
        last = np.concatenate([ids[1:] != ids[:-1], [True]]) if len(ids) else np.empty(0, np.bool_)
        return ids[last], rows[last]

    def first_of(self, chosen: NDArray[np.bool_]) -> tuple[Ints, Ints]:
        """(segments, rows): the first chosen row of each segment that has one."""
        rows = np.flatnonzero(chosen)
        ids = self.ids[rows]
        first = np.concatenate([[True], ids[1:] != ids[:-1]]) if len(ids) else np.empty(0, np.bool_)
        return ids[first], rows[first]

    def picked(self, values: Floats, segments: Ints, rows: Ints) -> Floats:
        """The values of some rows at the places of their segments, NaN at the others."""
        found = np.full(self.count, np.nan)
        found[segments] = values[rows]
        return found


class Partial(Protocol):
    """`names`: of its columns. `arguments`: how many values of an event it takes."""

    @property
    def names(self) -> Sequence[str]: ...

    def lift(self, at_ms: Floats, arguments: Columns) -> Columns:
        """One row an event."""
        ...

    def merge(self, columns: Columns, segments: Segments) -> Columns:
        """One row a segment; an empty segment gets what nothing gives."""
        ...


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest event time, NaN without one."""

    names: Sequence[str] = ("newest_ms",)

    def lift(self, at_ms: Floats, _arguments: Columns) -> Columns:
        return [at_ms]

    def merge(self, columns: Columns, segments: Segments) -> Columns:
        return [segments.highest(columns[0])]


@dataclass(frozen=True, slots=True)
class Count:
    """How many events; with an argument: how many where it is not NULL."""

    names: Sequence[str]

    def lift(self, at_ms: Floats, arguments: Columns) -> Columns:
        return [(~np.isnan(arguments[0])).astype(np.float64) if arguments else np.ones(len(at_ms))]

    def merge(self, columns: Columns, segments: Segments) -> Columns:
        return [segments.sums(columns[0])]

    def finish(self, columns: Columns) -> Floats:
        """0 for nothing."""
        return columns[0]


@dataclass(frozen=True, slots=True)
class Total:
    """The sum of the values that are not NULL, and how many they are."""

    names: Sequence[str]

    def lift(self, _at_ms: Floats, arguments: Columns) -> Columns:
        missing = np.isnan(arguments[0])
        return [np.where(missing, 0.0, arguments[0]), (~missing).astype(np.float64)]

    def merge(self, columns: Columns, segments: Segments) -> Columns:
        return [segments.sums(columns[0]), segments.sums(columns[1])]

    def total(self, columns: Columns) -> Floats:
        """NULL for nothing, as in SQL."""
        return np.where(columns[1] > 0, columns[0], np.nan)

    def mean(self, columns: Columns) -> Floats:
        """NULL for nothing."""
        found = np.full(len(columns[0]), np.nan)
        np.divide(columns[0], columns[1], out=found, where=columns[1] > 0)
        return found


@dataclass(frozen=True, slots=True)
class Lowest:
    """The least value."""

    names: Sequence[str]

    def lift(self, _at_ms: Floats, arguments: Columns) -> Columns:
        return [arguments[0]]

    def merge(self, columns: Columns, segments: Segments) -> Columns:
        return [segments.lowest(columns[0])]

    def finish(self, columns: Columns) -> Floats:
        """NULL for nothing."""
        return columns[0]


@dataclass(frozen=True, slots=True)
class Highest:
    """The greatest value."""

    names: Sequence[str]

    def lift(self, _at_ms: Floats, arguments: Columns) -> Columns:
        return [arguments[0]]

    def merge(self, columns: Columns, segments: Segments) -> Columns:
        return [segments.highest(columns[0])]

    def finish(self, columns: Columns) -> Floats:
        """NULL for nothing."""
        return columns[0]


@dataclass(frozen=True, slots=True)
class Spread:
    """Count, origin, and first and second moment about the origin, which is the first value that came.

    About an origin among the data the moments do not cancel (Chan, Golub, LeVeque, "Algorithms for computing the sample
    variance", 1983, section 3: shifted data); merging moves every row to the first one's origin.
    """

    names: Sequence[str]

    def lift(self, _at_ms: Floats, arguments: Columns) -> Columns:
        present = ~np.isnan(arguments[0])
        nothing = np.zeros(len(present))
        return [present.astype(np.float64), arguments[0], nothing, nothing]

    def merge(self, columns: Columns, segments: Segments) -> Columns:
        n, origin, first, second = columns
        new_origin = segments.picked(origin, *segments.first_of(n > 0))
        shift = np.where(n > 0, origin - new_origin[segments.ids], 0.0)
        return [
            segments.sums(n),
            new_origin,
            segments.sums(first + n * shift),
            segments.sums(second + 2 * shift * first + n * shift * shift),
        ]

    def finish(self, columns: Columns) -> Floats:
        """The sample standard deviation (n - 1), NULL for fewer than two values, as SQL's STDDEV_SAMP."""
        n, _, first, second = columns
        found = np.full(len(n), np.nan)
        many = n > 1
        squares = second[many] - first[many] * first[many] / n[many]
        found[many] = np.sqrt(np.maximum(squares, 0.0) / (n[many] - 1))
        return found


@dataclass(frozen=True, slots=True)
class First:
    """The value of the oldest event with one; of several at the same instant the one that came first."""

    names: Sequence[str]

    def lift(self, at_ms: Floats, arguments: Columns) -> Columns:
        return [np.where(np.isnan(arguments[0]), np.nan, at_ms), arguments[0]]

    def merge(self, columns: Columns, segments: Segments) -> Columns:
        at_ms, value = columns
        oldest = segments.lowest(at_ms)
        found = segments.first_of(at_ms == oldest[segments.ids])
        return [oldest, segments.picked(value, *found)]

    def finish(self, columns: Columns) -> Floats:
        """NULL for nothing."""
        return columns[1]


@dataclass(frozen=True, slots=True)
class Last:
    """The values of the newest event; of several at the same instant the one that came last (a correction wins).

    With one value, events where it is NULL are left out, as by every aggregate. `whole`: the newest event counts
    whatever is NULL in it, as `latest` has it; its own time is the first column.
    """

    names: Sequence[str]
    whole: bool = False

    def lift(self, at_ms: Floats, arguments: Columns) -> Columns:
        return [at_ms if self.whole else np.where(np.isnan(arguments[0]), np.nan, at_ms), *arguments]

    def merge(self, columns: Columns, segments: Segments) -> Columns:
        at_ms, *values = columns
        newest = segments.highest(at_ms)
        found = segments.last_of(at_ms == newest[segments.ids])
        return [newest, *(segments.picked(value, *found) for value in values)]

    def finish(self, columns: Columns) -> Floats:
        """NULL for nothing."""
        return columns[1]
