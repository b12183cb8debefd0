"""What a simulated process runs: bare stages, or a service as its process hosts it."""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from trimtab.runtime.bus import Declared
from trimtab.runtime.host.loops import Loops
from trimtab.runtime.host.service import Service
from trimtab.runtime.options import Options
from trimtab.runtime.session import Surroundings
from trimtab.runtime.stage import Stage
from trimtab.runtime.views import Views
from trimtab.runtime.worker import Worker
from trimtab.testing.simulation.bus import SimulatedBus

_BRISK = Options(
    flush_s=0.05, marks_s=0.05, marks_rest_s=0.05, backoff_s=0.02, backoff_most_s=0.2, check_s=2.0, close_s=0.3
)


class Program(Protocol):
    """What one process runs."""

    async def run(self) -> None:
        """Until closed. What it raises ends the process."""

    def workers(self) -> Sequence[Worker]:
        """Of its stages; none before its first step."""

    def close(self) -> None:
        """Let transactions end and `run` return."""


class StagesProgram:
    """Stages, and nothing around them."""

    def __init__(self, bus: SimulatedBus, stages: Sequence[Stage]) -> None:
        self._bus, self._stages = bus, stages
        self._workers: Sequence[Worker] = ()

    async def run(self) -> None:
        """All of them."""
        views = Views(self._bus)
        around = Surroundings(self._bus.now_ms, _BRISK)
        self._workers = [Worker(stage, self._bus, views, around, Declared()) for stage in self._stages]
        await asyncio.gather(*(worker.run() for worker in self._workers))
        await views.keep(())

    def workers(self) -> Sequence[Worker]:
        """Of each stage."""
        return self._workers

    def close(self) -> None:
        """Close them in order."""
        for worker in self._workers:
            worker.close()


class ServiceProgram:
    """A service with its stages, views, loops, projections and background work; without its HTTP."""

    def __init__(self, bus: SimulatedBus, service: Service) -> None:
        self._bus, self._service = bus, service
        self._loops: Loops | None = None
        self._closing = asyncio.Event()

    async def run(self) -> None:
        """Follow declarations, project, until closed."""
        views = Views(self._bus)
        self._loops = Loops(self._service, self._bus, views, Surroundings(self._bus.now_ms, _BRISK))
        self._loops.start()
        projecting = [one.run(self._bus) for one in self._service.projections]
        work = [self._loops.follow(), *projecting, *(one() for one in self._service.background)]
        running = [asyncio.ensure_future(one) for one in work]
        closing = asyncio.create_task(self._closing.wait())
        unfinished: set[asyncio.Future[Any]] = {*running, views.failed, closing}
        while not closing.done():
            ended, unfinished = await asyncio.wait(unfinished, return_when=asyncio.FIRST_COMPLETED)
            for one in ended:
                one.result()
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._loops.stop()
        await views.keep(())

    def workers(self) -> Sequence[Worker]:
        """Of each stage, those of the loops that it works for among them."""
        return [] if self._loops is None else [worker for _, worker in self._loops.workers()]

    def close(self) -> None:
        """Stop in order."""
        self._closing.set()
