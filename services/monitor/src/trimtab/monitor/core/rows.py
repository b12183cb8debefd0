"""Partial sums in columns: what the three steps of the monitor pass to each other and keep."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_TYPES = ("<u1", "<u2", "<u4", "<i8")
_LIMITS = (2**8 - 1, 2**16 - 1, 2**32 - 1, 2**64)
_WIDEST = 3
_COLUMNS = ("seen_ms", "asked_ms", "version", "signal", "bin", "count", "units")


def no_ints() -> Ints:
    """An empty column."""
    return np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Rows:
    """Counts and exact sums by (when it became known, when it was asked, model version, signal, bin).

    `seen_ms` and `asked_ms` are starts of buckets of event time; for what a prediction itself shows they are equal, for
    what its label shows `seen_ms` is when the label settled. `version` 0: no model. `signal` indexes names that travel
    beside the rows. `units` are sums in units of `bin` (see `exact`). Rows add: two with equal keys are one with added
    `count` and `units`, in whatever order they come.
    """

    seen_ms: Ints = field(default_factory=no_ints)
    asked_ms: Ints = field(default_factory=no_ints)
    version: Ints = field(default_factory=no_ints)
    signal: Ints = field(default_factory=no_ints)
    bin: Ints = field(default_factory=no_ints)
    count: Ints = field(default_factory=no_ints)
    units: Ints = field(default_factory=no_ints)

    def __len__(self) -> int:
        return len(self.seen_ms)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_] | slice) -> "Rows":
        """The rows at `index`."""
        return Rows(*(getattr(self, name)[index] for name in _COLUMNS))

    def added(self) -> "Rows":
        """The same sums with one row a key, in the order of the keys."""
        if len(self) < 2:
            return self
        order = np.lexsort((self.bin, self.signal, self.version, self.asked_ms, self.seen_ms))
        keys = [getattr(self, name)[order] for name in _COLUMNS[:5]]
        first = np.ones(len(order), np.bool_)
        first[1:] = np.logical_or.reduce([k[1:] != k[:-1] for k in keys])
        starts = np.flatnonzero(first)
        added = (np.add.reduceat(column[order], starts) for column in (self.count, self.units))
        return Rows(*(k[starts] for k in keys), *added)

    def by_seen(self) -> Iterator[tuple[int, "Rows"]]:
        """The rows of each bucket of `seen_ms`; they must be in the order of the keys."""
        if not len(self):
            return
        if self.seen_ms[0] == self.seen_ms[-1]:
            yield int(self.seen_ms[0]), self
            return
        starts = np.flatnonzero(np.diff(self.seen_ms, prepend=self.seen_ms[0] - 1))
        ends = np.append(starts[1:], len(self))
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            yield int(self.seen_ms[start]), self.take(slice(start, end))

    def pack(self) -> bytes:
        """The columns one after the other, each less its minimum in the narrowest type that holds it."""
        parts = [len(self).to_bytes(4, "little")]
        if not len(self):
            return parts[0]
        columns = np.array([getattr(self, name) for name in _COLUMNS])
        lows, highs = columns.min(axis=1).tolist(), columns.max(axis=1).tolist()
        for column, low, high in zip(columns, lows, highs, strict=True):
            code = next(i for i, limit in enumerate(_LIMITS) if high - low <= limit)
            narrow = (column - low).astype(_TYPES[code]) if code < _WIDEST else column.astype("<i8")
            parts += [bytes([code]), low.to_bytes(8, "little", signed=True), narrow.tobytes()]
        return b"".join(parts)


def unpack(data: bytes) -> Rows:
    """The inverse of `Rows.pack`."""
    count, place = int.from_bytes(data[:4], "little"), 4
    columns = list[Ints]()
    for _ in _COLUMNS if count else ():
        code, low = data[place], int.from_bytes(data[place + 1 : place + 9], "little", signed=True)
        column = np.frombuffer(data, _TYPES[code], count, place + 9).astype(np.int64)
        columns.append(column if code == _WIDEST else column + low)
        place += 9 + count * np.dtype(_TYPES[code]).itemsize
    return Rows(*columns)


def joined(parts: Sequence[Rows]) -> Rows:
    """All rows of `parts`, not yet added."""
    if len(parts) == 1:
        return parts[0]
    return Rows(*(np.concatenate([no_ints(), *(getattr(p, name) for p in parts)]) for name in _COLUMNS))
