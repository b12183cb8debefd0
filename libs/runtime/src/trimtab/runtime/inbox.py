"""Records on their way from the dispatcher to a task: one bounded queue an input."""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from trimtab.runtime.records import Read

MAX_BYTES = 16 * 1024 * 1024
"""How many bytes of values may wait in one inbox."""


class Chunk(NamedTuple):
    """Records of one fetch. `arrived_s` by the monotonic clock; `size` in bytes of values."""

    arrived_s: float
    records: Sequence[Read]
    size: int


class Inbox:
    """The queue of one input of one task, in offset order. Mutable: dispatcher and task share it on one event loop.

    `open`: the task takes records. `flowing`: the dispatcher brings some. `ended`: there is nothing further to bring.
    `position`: next offset that the task has not taken. `next_offset`: next offset that the dispatcher has to bring.
    `end`: next offset to be written there, as far as known. `active_s`: when a record last came or was taken.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._chunks: deque[Chunk] = deque()
        self._size = 0
        self.open = self.flowing = self.ended = False
        self.position = self.next_offset = self.end = self.waiting = 0
        self.active_s = 0.0

    def start(self, offset: int, now_s: float) -> None:
        """Begin at an offset."""
        self.stop()
        self.open = self.flowing = True
        self.position = self.next_offset = self.end = offset
        self.active_s = now_s

    def stop(self) -> None:
        """Forget what waits, and take nothing until the next start."""
        self._chunks.clear()
        self._size = self.waiting = 0
        self.open = self.flowing = self.ended = False

    def stand(self, offset: int, end: int) -> None:
        """Take nothing, and show how far behind that is."""
        self.stop()
        self.position = self.next_offset = offset
        self.end = end

    @property
    def head_ms(self) -> int:
        """When the record that comes next was written."""
        return self._chunks[0].records[0].timestamp

    def put(self, records: Sequence[Read], now_s: float) -> None:
        """Records that have just been fetched."""
        size = sum([len(record.value) for record in records if record.value is not None])
        self._chunks.append(Chunk(now_s, records, size))
        self._size += size
        self.waiting += len(records)
        self.next_offset = records[-1].offset + 1
        self.active_s = now_s

    @property
    def lag(self) -> int:
        """Records (and holes) between what was taken and the end."""
        return 0 if self.ended and not self.waiting else max(0, self.end - self.position)

    @property
    def full(self) -> bool:
        """Whether the dispatcher should bring no more for now."""
        return self.waiting >= self._limit or self._size >= MAX_BYTES

    @property
    def thirsty(self) -> bool:
        """Whether the dispatcher should bring more again."""
        return self.waiting * 2 <= self._limit and self._size * 2 <= MAX_BYTES

    def take(self, limit: int, now_s: float) -> Chunk:
        """Up to so many records of one fetch, at least one; they count as taken. Give back what is not used."""
        chunk = self._chunks.popleft()
        if len(chunk.records) > limit:
            share = chunk.size * limit // len(chunk.records)
            self._chunks.appendleft(Chunk(chunk.arrived_s, chunk.records[limit:], chunk.size - share))
            chunk = Chunk(chunk.arrived_s, chunk.records[:limit], share)
        self._size -= chunk.size
        self.waiting -= len(chunk.records)
        self.position = chunk.records[-1].offset + 1
        self.active_s = now_s
        return chunk

    def give_back(self, chunk: Chunk, used: int) -> None:
        """Put back all but the first so many records of the chunk taken last."""
        records = chunk.records[used:]
        size = chunk.size * len(records) // len(chunk.records)
        self._chunks.appendleft(Chunk(chunk.arrived_s, records, size))
        self._size += size
        self.waiting += len(records)
        self.position = records[0].offset
