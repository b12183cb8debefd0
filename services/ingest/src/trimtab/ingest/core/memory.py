"""Which event ids have been seen: packed chunks in a table, and an index over them.

An id is remembered as 16 bytes of its digest beside 16 bytes of its body's, or of each body that it had where it was
corrected. Each batch adds one chunk for every event and stretch of event time it touches, so the changelog gets one
record a batch and not one an event. A chunk is forgotten as a whole, once event time has left it behind for as long as
ids are remembered.

The index is derived from the table alone; it is a mutable cache for speed, made anew when a task opens.
"""

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from heapq import heappop, heappush

from trimtab.ingest.core.accept import DIGEST_BYTES
from trimtab.runtime.table import Table, TableSpec

STRETCHES = 32
"""Chunks cover this part of the time for which ids are remembered: what is forgotten is forgotten so much late."""
_PAIR = 2 * DIGEST_BYTES

ChunkKey = tuple[str, int, int]
"""(event, end of the stretch in ms, offset of the batch's first record): the same batch makes the same keys."""


def _encode_key(key: ChunkKey) -> bytes:
    return f"{key[0]}:{key[1]}:{key[2]}".encode()


def _decode_key(data: bytes) -> ChunkKey:
    event, end_ms, offset = data.decode().split(":")
    return event, int(end_ms), int(offset)


def _same(data: bytes) -> bytes:
    return data


SEEN: TableSpec[ChunkKey, bytes] = TableSpec("seen", _encode_key, _decode_key, _same, _same)


def id_digest(id_: bytes) -> bytes:
    """What is remembered of an id."""
    return blake2b(id_, digest_size=DIGEST_BYTES).digest()


def holds(bodies: bytes, body: bytes) -> bool:
    """Whether a body's digest is among some that follow each other.

    >>> holds(b"first of sixteenother of sixteen", b"other of sixteen"), holds(b"first of sixteen", b"st of sixteenoth")
    (True, False)
    """
    return bodies == body or any(
        bodies[start : start + DIGEST_BYTES] == body for start in range(0, len(bodies), DIGEST_BYTES)
    )


class Memory:
    """The ids of one task, by event. Mutable: the task that owns the table owns it alone."""

    def __init__(self, table: Table[ChunkKey, bytes]) -> None:
        self.table = table
        self._bodies: dict[str, dict[bytes, bytes]] = {}
        self._ends: dict[str, list[tuple[int, int]]] = {}
        for (event, end_ms, offset), chunk in table.items():
            self._index(event, end_ms, offset, chunk)

    def bodies(self, event: str) -> Mapping[bytes, bytes]:
        """The digests of bodies, all that an id had in a row, in any order, under the digests of their ids."""
        return self._bodies.setdefault(event, {})

    def remember(self, event: str, end_ms: int, offset: int, chunk: bytes) -> None:
        """Add a chunk of pairs (id's digest, body's digest)."""
        self.table.put((event, end_ms, offset), chunk)
        self._index(event, end_ms, offset, chunk)

    def forget(self, event: str, before_ms: int) -> None:
        """Drop the chunks whose stretch ended before that event time."""
        ends = self._ends.get(event, [])
        bodies = self._bodies.get(event, {})
        while ends and ends[0][0] < before_ms:
            end_ms, offset = heappop(ends)
            chunk = self.table.get((event, end_ms, offset))
            self.table.remove((event, end_ms, offset))
            for id_, body in _pairs(chunk or b""):
                known = bodies.pop(id_, body)
                if known != body:
                    bodies[id_] = without(known, body)

    def _index(self, event: str, end_ms: int, offset: int, chunk: bytes) -> None:
        heappush(self._ends.setdefault(event, []), (end_ms, offset))
        bodies = self._bodies.setdefault(event, {})
        for id_, body in _pairs(chunk):
            before = bodies.get(id_)
            bodies[id_] = body if before is None else before + body


def without(bodies: bytes, body: bytes) -> bytes:
    """The other digests of some that follow each other."""
    starts = range(0, len(bodies), DIGEST_BYTES)
    return b"".join(one for start in starts if (one := bodies[start : start + DIGEST_BYTES]) != body)


def _pairs(chunk: bytes) -> Iterator[tuple[bytes, bytes]]:
    for start in range(0, len(chunk), _PAIR):
        yield chunk[start : start + DIGEST_BYTES], chunk[start + DIGEST_BYTES : start + _PAIR]


def stretch_end_ms(at_ms: int, dedupe_ms: int) -> int:
    """The end of the stretch of event time in which an event is remembered.

    >>> stretch_end_ms(5, 3200), stretch_end_ms(100, 3200)
    (100, 200)
    """
    width = max(1, dedupe_ms // STRETCHES)
    return (at_ms // width + 1) * width
