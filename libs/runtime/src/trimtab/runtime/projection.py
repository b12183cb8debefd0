"""A projection: topics folded into somebody's database, with the position in the same database transaction."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from trimtab.runtime import marks
from trimtab.runtime.bus import Bus, Part
from trimtab.runtime.errors import PositionOutOfRangeError, TopicMissingError
from trimtab.runtime.records import Read

Load = Callable[[], Awaitable[Mapping[Part, int]]]
"""The next offset of each partition as the database has it; partitions it does not name are read from the start."""
Apply = Callable[[Mapping[Part, Sequence[Read]], Mapping[Part, int]], Awaitable[None]]
"""Fold records, and store the positions that follow them, in one database transaction."""

_POLL_S = 1.0


@dataclass(frozen=True, slots=True)
class ProjectionStatus:
    """How far a projection is. `lag`: records behind the end as it was when it began."""

    name: str
    ready: bool
    lag: int


class Projection:
    """Reads every partition of its topics, in no group. Each replica projects for itself.

    At least once, exactly once in effect: a batch is read again after a crash unless its positions were stored. An
    exception of `apply` ends the process.
    """

    def __init__(self, name: str, topics: Sequence[str], load: Load, apply: Apply) -> None:
        self.name = name
        self.ready = asyncio.Event()
        self._topics, self._load, self._apply = topics, load, apply
        self._positions: dict[Part, int] = {}
        self._ends: dict[Part, int] = {}
        self._moved = asyncio.Condition()

    async def run(self, bus: Bus) -> None:
        """Follow the topics until cancelled. Raises PositionOutOfRangeError, TopicMissingError."""
        bounds = await bus.catalog.bounds(await self._parts(bus))
        known = await self._load()
        self._positions = {part: known.get(part, begin) for part, (begin, _) in bounds.items()}
        self._ends = {part: end for part, (_, end) in bounds.items()}
        for part, offset in self._positions.items():
            if not bounds[part][0] <= offset <= bounds[part][1]:
                raise PositionOutOfRangeError(self.name, part.topic, offset)
        reader = await bus.reader(self._positions)
        try:
            await self._note(self._positions)
            while True:
                fetched = await reader.poll(_POLL_S)
                if fetched:
                    positions = {part: records[-1].offset + 1 for part, records in fetched.items()}
                    await self._apply(_without_marks(fetched), positions)
                await self._note(dict(reader.positions()))
        finally:
            await reader.close()

    async def reached(self, part: Part, offset: int) -> None:
        """Wait until the record at this offset has been applied."""
        async with self._moved:
            await self._moved.wait_for(lambda: self._positions.get(part, 0) > offset)

    def status(self) -> ProjectionStatus:
        """How far it is."""
        lag = sum(max(0, end - self._positions.get(part, 0)) for part, end in self._ends.items())
        return ProjectionStatus(self.name, self.ready.is_set(), lag)

    async def _parts(self, bus: Bus) -> list[Part]:
        found = await bus.catalog.describe(self._topics)
        for topic in self._topics:
            if topic not in found:
                raise TopicMissingError(topic)
        return [Part(topic, number) for topic in self._topics for number in range(found[topic].partitions)]

    async def _note(self, positions: dict[Part, int]) -> None:
        async with self._moved:
            self._positions = positions
            self._moved.notify_all()
        if all(positions[part] >= end for part, end in self._ends.items()):
            self.ready.set()


def _without_marks(fetched: Mapping[Part, Sequence[Read]]) -> dict[Part, Sequence[Read]]:
    return {part: [one for one in records if not marks.is_mark(one)] for part, records in fetched.items()}
