"""How a task stands still: it waits for what a person writes into its changelog, and shows how far behind it is."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from trimtab.runtime import parking
from trimtab.runtime.bus import Bus, Part, Reader
from trimtab.runtime.inbox import Inbox
from trimtab.runtime.parking import Parked

_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Standing:
    """A parked task. `end`: its changelog was read up to there."""

    parked: Parked
    changelog: Part
    end: int

    async def show(self, bus: Bus, inboxes: Mapping[str, Inbox]) -> None:
        """Let the task's inboxes say where it stands, and how far behind that is."""
        bounds = await bus.catalog.bounds([Part(topic, self.changelog.partition) for topic in inboxes])
        for part, (begin, end) in bounds.items():
            inboxes[part.topic].stand(self.parked.offsets.get(part.topic, begin), end)

    async def until_decided(self, bus: Bus, inboxes: Mapping[str, Inbox], closing: asyncio.Event) -> None:
        """Return when somebody has written to the changelog, or when the task is to close."""
        reader = await bus.reader({self.changelog: self.end})
        try:
            while not closing.is_set() and not await self._news(reader):
                await self.show(bus, inboxes)
        finally:
            await reader.close()

    async def _news(self, reader: Reader) -> bool:
        """Whether a record came that is not the one by which the task was parked."""
        own = (parking.KEY, parking.encode(self.parked))
        found = await reader.poll(_LOOK_S)
        return any((record.key, record.value) != own for records in found.values() for record in records)


async def until_moved(bus: Bus, changelog: Part, end: int | None, closing: asyncio.Event) -> None:
    """Return when somebody has written to the changelog of a task that was refused, or when it is to close.

    `end`: the changelog was read up to there; None: only what comes from now on counts.
    """
    if not await bus.catalog.describe([changelog.topic]):
        await closing.wait()
        return
    there = (await bus.catalog.bounds([changelog]))[changelog][1]
    reader = await bus.reader({changelog: there if end is None else min(end, there)})
    try:
        while not closing.is_set() and not await reader.poll(_LOOK_S):
            pass
    finally:
        await reader.close()
