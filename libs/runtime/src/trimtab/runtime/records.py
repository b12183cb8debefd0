"""Records as they are read and as they are to be written.

Both are msgspec structs rather than dataclasses: the hot path makes one a message, and a frozen dataclass costs
eight times as much.
"""

from typing import Protocol

import msgspec

Headers = tuple[tuple[str, bytes], ...]


class Read(Protocol):
    """What a step may ask of a record. aiokafka's ConsumerRecord has these names too: tests may give one."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...
    @property
    def timestamp(self) -> int: ...


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record at its place in the log. `timestamp` is the broker's append time in ms since the epoch."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp: int = 0


class Out(msgspec.Struct, frozen=True, gc=False):
    """A record to be written. Without a `partition` it goes to murmur2(key) modulo the topic's partitions."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None
