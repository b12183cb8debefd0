"""Keyed state of one task, made durable by a changelog in the same transaction as the task's outputs."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from trimtab.contracts.codec import Schema

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class TableSpec(Generic[K, V]):
    """How a table is called and how its entries become bytes and come back.

    `topic`: where its entries are written. None: the stage's own changelog (entries are prefixed with the name).
    A name: that topic, which is then output and changelog at once (the feature service's `<loop>.online`); its keys
    and values stand there exactly as encoded, and restore reads this task's partition of it.
    `schema`: the Avro schema in which `decode` wants the values of such a topic, whichever version wrote them.
    """

    name: str
    encode_key: Callable[[K], bytes]
    decode_key: Callable[[bytes], K]
    encode: Callable[[V], bytes]
    decode: Callable[[bytes], V]
    topic: str | None = None
    schema: Schema | None = None


class Table(Generic[K, V]):
    """A dict that remembers what changed since the last transaction.

    Mutable by design: a task owns it alone, and a failed transaction throws the whole table away and restores it from
    the log. A value that is changed in place has to be `put` again, or the change is not durable.
    """

    __slots__ = ("_entries", "_touched", "spec")

    def __init__(self, spec: TableSpec[K, V], entries: Mapping[K, V] | None = None) -> None:
        self.spec = spec
        self._entries: dict[K, V] = dict(entries or {})
        self._touched: dict[K, None] = {}

    def get(self, key: K) -> V | None:
        """The value, or None where there is none."""
        return self._entries.get(key)

    def put(self, key: K, value: V) -> None:
        """Set a value; it is written with the next transaction."""
        self._entries[key] = value
        self._touched[key] = None

    def remove(self, key: K) -> None:
        """Drop a key; a tombstone is written with the next transaction."""
        if self._entries.pop(key, None) is not None:
            self._touched[key] = None

    def items(self) -> Iterator[tuple[K, V]]:
        """All entries, in the order in which their keys first came."""
        return iter(self._entries.items())

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def load(self, key: bytes, value: bytes | None) -> None:
        """Apply one changelog entry while restoring; marks nothing as touched."""
        if value is None:
            self._entries.pop(self.spec.decode_key(key), None)
        else:
            self._entries[self.spec.decode_key(key)] = self.spec.decode(value)

    def flush(self) -> Iterator[tuple[bytes, bytes | None]]:
        """The entries touched since the last flush, in the order of their first touch, encoded; None is a tombstone."""
        spec = self.spec
        for key in self._touched:
            value = self._entries.get(key)
            yield spec.encode_key(key), None if value is None else spec.encode(value)
        self._touched.clear()
