"""Sorted rows of very many keys in a few large arrays: looked up and replaced for thousands of keys at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from trimtab.loops.partials import Columns, Floats, Ints

Number = TypeVar("Number", np.int64, np.float64)

_FIRST_ROWS = 1_024
_FIRST_KEYS = 64
_FEW = 64


def ranges(starts: Ints, lengths: Ints) -> Ints:
    """start, start + 1, ... of each range, one range after the other.

    >>> ranges(np.array([3, 10]), np.array([2, 1])).tolist()
    [3, 4, 10]
    """
    offsets = np.cumsum(lengths) - lengths
    found: Ints = np.repeat(starts - offsets, lengths) + np.arange(lengths.sum())
    return found


@dataclass(frozen=True, slots=True)
class Found:
    """Rows of several keys: which of the asked keys (by position) and the rows' `at` and columns."""

    of: Ints
    at: Ints
    columns: Columns


class Arena:
    """Per key (a small number) rows ascending by `at`, each with `width` float64 columns. Mutable.

    A key's rows lie together with some room behind them; a key that outgrows it moves to the end, and when half of the
    rows are left behind all are moved together. Several rows of a key may have the same `at`.
    """

    def __init__(self, width: int) -> None:
        self._at: Ints = np.zeros(_FIRST_ROWS, np.int64)
        self._columns: list[Floats] = [np.zeros(_FIRST_ROWS) for _ in range(width)]
        self._start: Ints = np.zeros(_FIRST_KEYS, np.int64)
        self._length: Ints = np.zeros(_FIRST_KEYS, np.int64)
        self._room: Ints = np.zeros(_FIRST_KEYS, np.int64)
        self._used = 0
        self._left = 0

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return int(self._length.sum())

    @property
    def nbytes(self) -> int:
        """Bytes held, the room for more included."""
        keyed = self._start.nbytes + self._length.nbytes + self._room.nbytes
        return self._at.nbytes + sum(column.nbytes for column in self._columns) + keyed

    def length(self, keys: Ints) -> Ints:
        """How many rows keys have."""
        self._know(keys)
        return self._length[keys]

    def find(self, keys: Ints, at: Ints) -> Ints:
        """Where the first row of each key with this `at` or a later one stands (or would)."""
        self._know(keys)
        if len(keys) <= _FEW:
            return self._find_few(keys, at)
        low = self._start[keys]
        high = low + self._length[keys]
        open_ = low < high
        while open_.any():
            middle = (low + high) >> 1
            before = open_ & (self._at[np.minimum(middle, len(self._at) - 1)] < at)
            low = np.where(before, middle + 1, low)
            high = np.where(open_ & ~before, middle, high)
            open_ = low < high
        return low

    def _find_few(self, keys: Ints, at: Ints) -> Ints:
        """`find` key by key: quicker for the ask of a single row."""
        found = np.empty(len(keys), np.int64)
        for key in set(keys.tolist()):
            start = int(self._start[key])
            chosen = keys == key
            found[chosen] = start + self._at[start : start + int(self._length[key])].searchsorted(at[chosen])
        return found

    def first(self, keys: Ints) -> Ints:
        """Where the first row of each key stands."""
        self._know(keys)
        return self._start[keys]

    def take(self, starts: Ints, ends: Ints) -> Found:
        """The rows from `starts` to `ends` (as `find` gives them), range after range."""
        lengths = np.maximum(ends - starts, 0)
        index = ranges(starts, lengths)
        of = np.repeat(np.arange(len(starts)), lengths)
        return Found(of, self._at[index], [column[index] for column in self._columns])

    def at_rows(self, index: Ints) -> tuple[Ints, list[Floats]]:
        """`at` and columns of single rows."""
        return self._at[index], [column[index] for column in self._columns]

    def tail(self, keys: Ints, at: Ints) -> tuple[Ints, Found]:
        """Where the rows of each key from `at` on begin, and these rows."""
        starts = self.find(keys, at)
        return starts, self.take(starts, self._start[keys] + self._length[keys])

    def replace_tail(self, keys: Ints, starts: Ints, rows: Found) -> None:
        """Each key's rows from its start on become `rows` (of: ascending positions in `keys`, at: ascending a key).

        `keys` are different ones.
        """
        counts = np.bincount(rows.of, minlength=len(keys))
        kept = starts - self._start[keys]
        needed = kept + counts
        outgrown = needed > self._room[keys]
        if outgrown.any():
            self._move(keys[outgrown], kept[outgrown], needed[outgrown])
        index = ranges(self._start[keys] + kept, counts)
        self._at[index] = rows.at
        for column, values in zip(self._columns, rows.columns, strict=True):
            column[index] = values
        self._length[keys] = needed
        self._compact_if_sparse()

    def cut(self, keys: Ints, counts: Ints) -> None:
        """Each key loses so many of its first rows. `keys` are different ones."""
        self._start[keys] += counts
        self._length[keys] -= counts
        self._room[keys] -= counts
        self._left += int(counts.sum())
        self._compact_if_sparse()

    def live(self, numbers: Sequence[int]) -> Floats:
        """All values in some columns that are not NaN."""
        index = ranges(self._start, self._length)
        values: Floats = np.concatenate([self._columns[number][index] for number in numbers])
        found: Floats = values[~np.isnan(values)]
        return found

    def map_columns(self, numbers: Sequence[int], change: Callable[[Floats], Floats]) -> None:
        """Changes the values of some columns, rows that were left behind included."""
        for number in numbers:
            self._columns[number] = change(self._columns[number])

    def _know(self, keys: Ints) -> None:
        highest = int(keys.max(initial=-1))
        if highest >= len(self._start):
            more = max(highest + 1, 2 * len(self._start)) - len(self._start)
            self._start = np.concatenate([self._start, np.zeros(more, np.int64)])
            self._length = np.concatenate([self._length, np.zeros(more, np.int64)])
            self._room = np.concatenate([self._room, np.zeros(more, np.int64)])

    def _move(self, keys: Ints, kept: Ints, needed: Ints) -> None:
        """Gives keys a larger place at the end and takes their kept rows there."""
        room = np.maximum(needed + needed // 2, 4)
        starts = self._used + np.cumsum(room) - room
        self._reserve(self._used + int(room.sum()))
        source, target = ranges(self._start[keys], kept), ranges(starts, kept)
        for array in (self._at, *self._columns):
            array[target] = array[source]
        self._left += int(self._room[keys].sum())
        self._start[keys], self._room[keys] = starts, room
        self._used += int(room.sum())

    def _reserve(self, rows: int) -> None:
        if rows > len(self._at):
            capacity = max(rows, 2 * len(self._at))
            self._at = _grown(self._at, self._used, capacity)
            self._columns = [_grown(column, self._used, capacity) for column in self._columns]

    def _compact_if_sparse(self) -> None:
        if self._left > self._used // 2 and self._used > _FIRST_ROWS:
            self._compact()

    def _compact(self) -> None:
        """Moves all rows together, each key with a little room."""
        room = np.where(self._length > 0, self._length + self._length // 4, 0)
        starts = np.cumsum(room) - room
        source, target = ranges(self._start, self._length), ranges(starts, self._length)
        used = int(room.sum())
        capacity = max(_FIRST_ROWS, used + used // 2)
        self._at = _moved(self._at, source, target, capacity)
        self._columns = [_moved(column, source, target, capacity) for column in self._columns]
        self._start, self._room, self._used, self._left = starts, room, used, 0


def _grown(array: NDArray[Number], used: int, capacity: int) -> NDArray[Number]:
    grown = np.zeros(capacity, array.dtype)
    grown[:used] = array[:used]
    return grown


def _moved(array: NDArray[Number], source: Ints, target: Ints, capacity: int) -> NDArray[Number]:
    moved = np.zeros(capacity, array.dtype)
    moved[target] = array[source]
    return moved
