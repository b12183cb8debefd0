"""Sorted Parquet files merged in event-time order, a chunk at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from trimtab.loops.conform import TIME_MS


@dataclass(frozen=True, slots=True)
class Source:
    """A Parquet file of one event, sorted by `TIME_MS`."""

    event: str
    file: Path
    count: int


def merged(sources: Sequence[Source], rows: int) -> Iterator[Sequence[tuple[str, pl.DataFrame]]]:
    """Parts that follow each other in time: the rows of each source, none as late as any row of a later part.

    At most about `rows` of each source are held, more only where that many share one instant.
    """
    cursors = [_Cursor(source, rows) for source in sources]
    while any(cursor.left for cursor in cursors):
        for cursor in cursors:
            cursor.fill()
        ends = [cursor.last_ms for cursor in cursors if cursor.more]
        part = [(cursor.event, cursor.take(min(ends, default=None))) for cursor in cursors]
        if any(frame.height for _, frame in part):
            yield [(event, frame) for event, frame in part if frame.height]


class _Cursor:
    """How far one source is read. Mutable; lives for one merge."""

    def __init__(self, source: Source, rows: int) -> None:
        self.event = source.event
        self._source = source
        self._rows = rows
        self._next = 0
        self._held = pl.DataFrame()

    @property
    def more(self) -> bool:
        """Whether rows are still in the file."""
        return self._next < self._source.count

    @property
    def left(self) -> bool:
        return self.more or self._held.height > 0

    @property
    def last_ms(self) -> int:
        return int(self._held[TIME_MS][-1])

    def fill(self) -> None:
        """Reads on until `rows` are held that do not all share one instant, or the file ends."""
        while self.more and (self._held.height < self._rows or self._held[TIME_MS][0] == self.last_ms):
            read = pl.scan_parquet(self._source.file).slice(self._next, self._rows).collect()
            self._next += read.height
            self._held = pl.concat([self._held, read]) if self._held.height else read

    def take(self, before_ms: int | None) -> pl.DataFrame:
        """The held rows earlier than a time (None: all)."""
        size = self._held.height
        if size and before_ms is not None:
            size = int(self._held[TIME_MS].search_sorted(before_ms, side="left"))
        taken, self._held = self._held[:size], self._held[size:]
        return taken
