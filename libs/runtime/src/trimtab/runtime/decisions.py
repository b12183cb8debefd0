"""What a person decides of a task, from outside: park it, let it try again, pass over one record, move it.

A decision is one transaction in the task's changelog under the task's own transactional id. That fences whoever runs
the task, so nothing the owner had not committed comes after it, and it stands whole or not at all; the owner opens the
task again and finds it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec

from trimtab.runtime import parking, position
from trimtab.runtime.bus import Bus, Part, Reader
from trimtab.runtime.errors import (
    FencedError,
    PositionOutOfRangeError,
    TaskBusyError,
    TaskUnfitError,
    TopicMissingError,
)
from trimtab.runtime.parking import Parked, RecordAt, Skipped
from trimtab.runtime.position import Position
from trimtab.runtime.records import Out, Read

ATTEMPTS = 5
NOWHERE = Position({}, {}, {})
"""Of a task that has never committed anything."""
_POLL_S = 0.5


class TaskId(Protocol):
    """Which task is meant. As text: its transactional id."""

    @property
    def group(self) -> str: ...
    @property
    def changelog(self) -> str: ...
    @property
    def partition(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Decision:
    """Who decides, when and why."""

    by: str
    at_ms: int
    why: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a task's changelog says of it."""

    position: Position = NOWHERE
    parked: Parked | None = None
    skipped: Sequence[Skipped] = ()

    def after(self, record: Read) -> "Found":
        """The same with one changelog record more."""
        key, value = record.key, record.value
        if key == position.KEY:
            return replace(self, position=NOWHERE if value is None else position.decode(value))
        if key == parking.KEY:
            return replace(self, parked=None if value is None else parking.decode(value))
        if parking.is_skipped(key) and value is not None:
            return replace(self, skipped=[*self.skipped, parking.decode_skipped(value)])
        return self


Change = Callable[[Found], Awaitable[Sequence[Out]]]
"""What to write to the changelog, by what is found there. Raises what speaks against it."""


class Changelog:
    """Reads what a task's changelog says of it, again and again. Made by `reading`."""

    def __init__(self, bus: Bus, part: Part, reader: Reader) -> None:
        self._bus, self._part, self._reader = bus, part, reader
        self._found = Found()

    async def found(self) -> Found:
        """As it is now."""
        end = (await self._bus.catalog.bounds([self._part]))[self._part][1]
        while self._reader.positions()[self._part] < end:
            for record in (await self._reader.poll(_POLL_S)).get(self._part, ()):
                self._found = self._found.after(record)
        return self._found


@asynccontextmanager
async def reading(bus: Bus, task: TaskId) -> AsyncIterator[Changelog]:
    """A task's changelog, for a `with`. Raises TopicMissingError."""
    part = Part(task.changelog, task.partition)
    if not await bus.catalog.describe([part.topic]):
        raise TopicMissingError(part.topic)
    begin = (await bus.catalog.bounds([part]))[part][0]
    reader = await bus.reader({part: begin})
    try:
        yield Changelog(bus, part, reader)
    finally:
        await reader.close()


async def write(bus: Bus, task: TaskId, change: Change) -> Found:
    """Write a change, and give back what was found before. Raises TaskBusyError, and what the change raises."""
    part, transactions = Part(task.changelog, task.partition), bus.transactions(str(task), task.group)
    async with reading(bus, task) as changelog:
        await change(await changelog.found())  # nobody is fenced for what does not fit anyway
        try:
            for _ in range(ATTEMPTS):
                await transactions.open()
                found = await changelog.found()
                try:
                    await transactions.commit({part: await change(found)}, {})
                except FencedError:
                    continue
                return found
        finally:
            await transactions.close()
    raise TaskBusyError(str(task))


async def park(bus: Bus, task: TaskId, decision: Decision) -> None:
    """Let a task stand still from here on. Raises TaskUnfitError where it does already."""

    async def change(found: Found) -> Sequence[Out]:
        if found.parked is not None:
            raise TaskUnfitError(str(task), "is parked already")
        parked = Parked(decision.why, decision.at_ms, found.position.offsets, decision.by)
        return [Out(task.changelog, parking.KEY, parking.encode(parked))]

    await write(bus, task, change)


async def retry(bus: Bus, task: TaskId) -> Parked:
    """Let a parked task go on where it stands. Raises TaskUnfitError where it is not parked."""

    async def change(found: Found) -> Sequence[Out]:
        _parked(task, found)
        return [Out(task.changelog, parking.KEY, None)]

    return _parked(task, await write(bus, task, change))


async def skip(bus: Bus, task: TaskId, at: RecordAt, decision: Decision) -> Skipped:
    """Let a parked task go on behind the one record over which it gave up, and keep that record in its changelog.

    Raises TaskUnfitError where this is not the record.
    """
    kept: list[Skipped] = []

    async def change(found: Found) -> Sequence[Out]:
        parked = _parked(task, found)
        if parked.record != at or parked.offsets != found.position.offsets:
            raise TaskUnfitError(str(task), f"did not give up over {at.topic} {at.offset}: {parked.told(str(task))}")
        record = await _record(bus, Part(at.topic, task.partition), at.offset)
        one = Skipped(
            decision.by,
            decision.at_ms,
            decision.why,
            at.topic,
            at.offset,
            record.key,
            record.value,
            tuple(record.headers),
        )
        kept[:] = [one]
        ids = {at.topic: (await bus.catalog.describe([at.topic]))[at.topic].id, **found.position.topic_ids}
        moved = {**found.position.offsets, at.topic: at.offset + 1}
        placed = msgspec.structs.replace(found.position, offsets=moved, topic_ids=ids)
        return [
            Out(task.changelog, parking.skipped_key(at.topic, at.offset), parking.encode(one)),
            Out(task.changelog, position.KEY, position.encode(placed)),
            Out(task.changelog, parking.KEY, None),
        ]

    await write(bus, task, change)
    return kept[0]


def _parked(task: TaskId, found: Found) -> Parked:
    if found.parked is None:
        raise TaskUnfitError(str(task), "is not parked")
    return found.parked


async def _record(bus: Bus, part: Part, offset: int) -> Read:
    """The record at an offset. Raises PositionOutOfRangeError."""
    reader = await bus.reader({part: offset})
    try:
        while reader.positions()[part] <= offset:
            for record in (await reader.poll(_POLL_S)).get(part, ()):
                if record.offset == offset:
                    return record
    finally:
        await reader.close()
    raise PositionOutOfRangeError("reader", part.topic, offset)
