"""What a label join keeps: asks that wait for their label, and label events that asks may still need."""

from collections.abc import Iterator
from typing import Protocol

import msgspec

ChunkKey = tuple[str, int]
"""(by, bucket): the values of the label's `by`, and a stretch of event time."""


class PendingAsk(msgspec.Struct, array_like=True, gc=False):
    """An ask. Mutable: it settles. `revision` -1: not yet settled. `payload` is the caller's and comes back with it."""

    key: str
    at_ms: int
    payload: bytes
    revision: int = -1
    settled_ms: int = 0
    label: float | str | None = None


class KeptEvent(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A label event. `id` tells a correction from another event; numbers and texts are the label's arguments."""

    id: int
    at_ms: int
    numbers: list[float]
    texts: list[str | None]


class Chunk(msgspec.Struct, gc=False):
    """Asks by key and events by id, both of one `by` and bucket, in the order in which they came. Mutable."""

    asks: dict[str, PendingAsk] = msgspec.field(default_factory=dict)
    events: dict[int, KeptEvent] = msgspec.field(default_factory=dict)


class Chunks(Protocol):
    """Where chunks live: a durable table, or memory. A chunk that was changed is `put` again."""

    def get(self, key: ChunkKey) -> Chunk | None: ...
    def put(self, key: ChunkKey, value: Chunk) -> None: ...
    def remove(self, key: ChunkKey) -> None: ...
    def items(self) -> Iterator[tuple[ChunkKey, Chunk]]: ...


class MemoryChunks:
    """Chunks of a backtest. Mutable."""

    def __init__(self) -> None:
        self._chunks: dict[ChunkKey, Chunk] = {}

    def get(self, key: ChunkKey) -> Chunk | None:
        return self._chunks.get(key)

    def put(self, key: ChunkKey, value: Chunk) -> None:
        self._chunks[key] = value

    def remove(self, key: ChunkKey) -> None:
        self._chunks.pop(key, None)

    def items(self) -> Iterator[tuple[ChunkKey, Chunk]]:
        return iter(self._chunks.items())


class _Packed(msgspec.Struct, array_like=True):
    asks: list[PendingAsk]
    events: list[KeptEvent]


_DECODER = msgspec.msgpack.Decoder(_Packed)
_ENCODER = msgspec.msgpack.Encoder()


def encode_key(key: ChunkKey) -> bytes:
    """`by`, U+001E and the bucket.

    >>> decode_key(encode_key(("JFK", 12)))
    ('JFK', 12)
    """
    return f"{key[0]}\x1e{key[1]}".encode()


def decode_key(data: bytes) -> ChunkKey:
    """The inverse of `encode_key`."""
    by, _, bucket = data.decode().rpartition("\x1e")
    return by, int(bucket)


def encode(chunk: Chunk) -> bytes:
    """MessagePack without names: an ask takes about 40 bytes besides its key."""
    return _ENCODER.encode(_Packed(list(chunk.asks.values()), list(chunk.events.values())))


def decode(data: bytes) -> Chunk:
    """The inverse of `encode`."""
    packed = _DECODER.decode(data)
    return Chunk({ask.key: ask for ask in packed.asks}, {event.id: event for event in packed.events})
