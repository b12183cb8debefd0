"""A task's tables and position, read back from its changelog."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from trimtab.runtime import marks, parking, position
from trimtab.runtime.bus import Bus, Part
from trimtab.runtime.parking import Parked
from trimtab.runtime.position import Position
from trimtab.runtime.records import Read
from trimtab.runtime.schemas import Published, Resolver
from trimtab.runtime.stage import Stage
from trimtab.runtime.table import Table

_POLL_S = 1.0


class Restored:
    """Tables and position of one task, as far as they have been read.

    `parked`: the task stands still. `error`: the first that a table's decoder raised; such a table is of no use.
    `end`: of the changelog, next offset after what was read.
    """

    def __init__(self, stage: Stage, partition: int) -> None:
        self.tables: dict[str, Table[Any, Any]] = {spec.name: Table(spec) for spec in stage.tables}
        self.position: Position | None = None
        self.parked: Parked | None = None
        self.error: Exception | None = None
        self.entries = self.end = 0
        self._changelog = Part(stage.changelog, partition)
        self._by_topic = {spec.topic: self.tables[spec.name] for spec in stage.tables if spec.topic is not None}
        self.parts = [self._changelog, *(Part(topic, partition) for topic in self._by_topic)]

    def apply(self, part: Part, records: Sequence[Read]) -> None:
        """Records of one of `parts`, in order."""
        if part == self._changelog:
            self._apply_changelog(records)
            return
        table = self._by_topic[part.topic]
        for record in records:
            if record.key is not None and not marks.is_mark(record):
                self._load(table, record.key, record.value)

    def _apply_changelog(self, records: Sequence[Read]) -> None:
        for record in records:
            if record.key == position.KEY:
                self.position = position.decode(record.value) if record.value is not None else None
            elif record.key == parking.KEY:
                self.parked = parking.decode(record.value) if record.value is not None else None
            elif record.key is not None and not record.key.startswith(position.RESERVED):
                name, key = position.split_entry_key(record.key)
                self._load(self.tables.get(name), key, record.value)

    def _load(self, table: Table[Any, Any] | None, key: bytes, value: bytes | None) -> None:
        """Read on after an entry that cannot be decoded: behind it may stand that the task is parked."""
        self.entries += 1
        try:
            if table is not None:
                table.load(key, value)
        except Exception as error:  # noqa: BLE001 the task raises it, unless it is parked
            self.error = self.error or error


async def restore(stage: Stage, partition: int, bus: Bus) -> Restored:
    """Read a task's state up to the present end. The task must have fenced its earlier owners before.

    The end is that of all records, not of the committed ones: others' transactions may be open in a topic that is
    output and table at once, and may stand before ours.
    """
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
            await asyncio.sleep(0)
    finally:
        await reader.close()
    return found


def _behind(positions: Mapping[Part, int], bounds: Mapping[Part, tuple[int, int]]) -> bool:
    return any(positions[part] < end for part, (_, end) in bounds.items())
