"""A task's tables and position, read back from its changelog."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from trimtab.contracts.specs import REMOVED_TOLD_MS
from trimtab.runtime import marks, parking, position
from trimtab.runtime.bus import Bus, Part
from trimtab.runtime.clock import Now
from trimtab.runtime.errors import RestoreTooLongError
from trimtab.runtime.parking import Parked
from trimtab.runtime.position import Position
from trimtab.runtime.records import Read
from trimtab.runtime.schemas import Published, Resolver
from trimtab.runtime.stage import Stage
from trimtab.runtime.table import Table

_POLL_S = 1.0
MOST_WAITING = 200_000
"""Values that wait to be decoded; beyond, all are. So many small ones take some 50 MB."""
A_TURN = 2_000
"""Values decoded between two looks at the other tasks of the process."""
LONGEST_MS = REMOVED_TOLD_MS // 2
"""Of a restore, by the wall clock: a machine may have slept. Who has read that an entry was written, and comes to its
removal only after the log has dropped that, would bring the entry back."""


class Restored:
    """Tables and position of one task, as far as they have been read.

    Of each key the newest value waits, encoded, and when it is asked for, or many wait, it is decoded: a log may hold
    thirty times what lives, most of it written over or removed. `parked`: the task stands still. `end`: of the
    changelog, next offset after what was read.
    """

    def __init__(self, stage: Stage, partition: int) -> None:
        self.position: Position | None = None
        self.parked: Parked | None = None
        self.entries = self.end = 0
        self._tables: dict[str, Table[Any, Any]] = {spec.name: Table(spec) for spec in stage.tables}
        self._changelog = Part(stage.changelog, partition)
        self._by_topic = {spec.topic: self._tables[spec.name] for spec in stage.tables if spec.topic is not None}
        self.parts = [self._changelog, *(Part(topic, partition) for topic in self._by_topic)]
        self._waiting: dict[Part, dict[bytes, bytes]] = {part: {} for part in self.parts}
        self._begun = False
        self._unread: dict[tuple[str, bytes], Exception] = {}

    @property
    def tables(self) -> dict[str, Table[Any, Any]]:
        """All, with everything that was read."""
        for _ in self.settle():
            pass
        return self._tables

    @property
    def error(self) -> Exception | None:
        """What a table's decoder raised of a value that stands; such a table is of no use."""
        for _ in self.settle():
            pass
        return next(iter(self._unread.values()), None)

    @property
    def waiting(self) -> int:
        """How many values wait to be decoded."""
        return sum(map(len, self._waiting.values()))

    def apply(self, part: Part, records: Sequence[Read]) -> None:
        """Records of one of `parts`, in order."""
        own, waiting = part == self._changelog, self._waiting[part]
        for record in records:
            key, value = record.key, record.value
            if key is None or (own and self._take(key, value)) or (value is None and marks.is_mark(record)):
                continue
            self.entries += 1
            if value is not None:
                waiting[key] = value
                continue
            waiting.pop(key, None)  # and if it comes again it stands last
            if self._begun:
                self._load(part, key, None)

    def settle(self) -> Iterator[None]:
        """Decode what waits, some at each turn."""
        for part, waiting in self._waiting.items():
            values = iter(waiting.items())
            while some := list(islice(values, A_TURN)):
                self._begun = True
                for key, value in some:
                    self._load(part, key, value)
                yield
            waiting.clear()

    def _take(self, key: bytes, value: bytes | None) -> bool:
        """Whether a record of the changelog is the runtime's own."""
        if not key.startswith(position.RESERVED):
            return False
        if key == position.KEY:
            self.position = position.decode(value) if value is not None else None
        elif key == parking.KEY:
            self.parked = parking.decode(value) if value is not None else None
        return True

    def _load(self, part: Part, key: bytes, value: bytes | None) -> None:
        """Read on after an entry that cannot be decoded: behind it may stand that the task is parked."""
        if part == self._changelog:
            name, entry = position.split_entry_key(key)
            table = self._tables.get(name)
        else:
            entry, table = key, self._by_topic[part.topic]
        try:
            if table is not None:
                table.load(entry, value)
            self._unread.pop((part.topic, key), None)
        except Exception as error:  # noqa: BLE001 the task raises it, unless it is parked
            self._unread[part.topic, key] = error


async def restore(stage: Stage, partition: int, bus: Bus, now_ms: Now) -> Restored:
    """Read a task's state up to the present end. The task must have fenced its earlier owners before.

    The end is that of all records, not of the committed ones: others' transactions may be open in a topic that is
    output and table at once, and may stand before ours. Raises RestoreTooLongError.
    """
    began_ms = now_ms()
    found, published = Restored(stage, partition), Published(bus)
    resolvers = {spec.topic: Resolver(spec.schema, published) for spec in stage.tables if spec.schema is not None}
    bounds = await bus.catalog.bounds(found.parts)
    found.end = bounds[Part(stage.changelog, partition)][1]
    reader = await bus.reader({part: begin for part, (begin, _) in bounds.items()})
    try:
        while _behind(reader.positions(), bounds):
            for part, records in (await reader.poll(_POLL_S)).items():
                resolver = resolvers.get(part.topic)
                found.apply(part, records if resolver is None else await resolver.resolved(records))
            if found.waiting > MOST_WAITING:
                await _settled(found)
            await asyncio.sleep(0)
    finally:
        await reader.close()
    if (spent_ms := now_ms() - began_ms) > LONGEST_MS:
        raise RestoreTooLongError(stage.changelog, partition, spent_ms, LONGEST_MS)
    await _settled(found)
    return found


async def _settled(found: Restored) -> None:
    for _ in found.settle():
        await asyncio.sleep(0)


def _behind(positions: Mapping[Part, int], bounds: Mapping[Part, tuple[int, int]]) -> bool:
    return any(positions[part] < end for part, (_, end) in bounds.items())
