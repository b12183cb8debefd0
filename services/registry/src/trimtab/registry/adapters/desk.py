"""Commands by HTTP: into the log, answered from the projection."""

import asyncio
from collections.abc import Mapping, Sequence

import structlog

from trimtab.contracts.control import RegistryCommand
from trimtab.registry.adapters.database import Projected
from trimtab.registry.adapters.queries import Queries
from trimtab.registry.core.answers import CommandFacts
from trimtab.runtime.bus import Part
from trimtab.runtime.control import written
from trimtab.runtime.edge import Edge
from trimtab.runtime.records import Read
from trimtab.store.errors import DatabaseAwayError

log = structlog.get_logger(__name__)

SOURCE = "registry.http"
AGAIN_S = 1.0
"""So often a database that is away is asked whether it is back."""


class Desk:
    """Takes commands and waits until the database holds what became of them.

    The same command id twice is one command: the second call gets the first one's answer.
    """

    def __init__(self, edge: Edge, queries: Queries, projected: Projected, *, patience_s: float) -> None:
        self._edge, self._queries, self._projected = edge, queries, projected
        self._patience_s = patience_s
        self._moved = asyncio.Condition()

    async def positions(self) -> Mapping[Part, int]:
        """For the projection: where it goes on."""
        return await asyncio.to_thread(self._projected.positions)

    async def apply(self, records: Mapping[Part, Sequence[Read]], positions: Mapping[Part, int]) -> None:
        """For the projection: write, however long the database is away, then let those who wait look."""
        told = False
        while True:
            try:
                await asyncio.to_thread(self._projected.apply, records, positions)
                break
            except DatabaseAwayError as error:
                if not told:
                    log.error("the database is away: the projection waits", reason=error.reason)
                told = True
                await asyncio.sleep(AGAIN_S)
        if told:
            log.info("the database is back")
        async with self._moved:
            self._moved.notify_all()

    async def settle(self, command: RegistryCommand) -> CommandFacts | None:
        """Record a command and wait for its answer; None when it was recorded but is not answered in time.

        Raises EdgeAwayError.
        """
        known = await self._answered(command)
        if known is not None:
            return known
        await self._edge.send([written(command, id=command.command_id, source=SOURCE, trace=None)])
        try:
            async with asyncio.timeout(self._patience_s):
                return await self._wait_for_answer(command)
        except TimeoutError:
            return None

    async def _wait_for_answer(self, command: RegistryCommand) -> CommandFacts:
        async with self._moved:
            while (answer := await self._answered(command)) is None:
                await self._moved.wait()
        return answer

    async def _answered(self, command: RegistryCommand) -> CommandFacts | None:
        found = await asyncio.to_thread(self._queries.command, command.loop, command.command_id)
        return found if found is not None and found.outcome is not None else None
