"""A whole service, as its process hosts it, on any bus and with its HTTP in this process."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import httpx

from trimtab.runtime.bus import Bus
from trimtab.runtime.clock import wall_ms
from trimtab.runtime.host.http import create_app
from trimtab.runtime.host.loops import Loops
from trimtab.runtime.host.service import Service
from trimtab.runtime.host.status import Status
from trimtab.runtime.metrics import Metrics
from trimtab.runtime.session import Surroundings
from trimtab.runtime.views import Views
from trimtab.testing.stages import QUICK


class Hosted:
    """A service at work. Use as an asynchronous context manager; `http` asks it as a client would.

    What fails inside it answers 500, as in a process.
    """

    def __init__(self, service: Service, bus: Bus) -> None:
        self._service, self._bus = service, bus
        self._stack = AsyncExitStack()
        self._work: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> "Hosted":
        metrics = Metrics()
        self._views = Views(self._bus, metrics.record)
        self._loops = Loops(self._service, self._bus, self._views, Surroundings(wall_ms, QUICK, metrics.record))
        self.status = Status(self._service, self._loops, self._views)
        for resource in self._service.resources:
            await self._stack.enter_async_context(resource)
        self._loops.start()
        self._work = [
            asyncio.create_task(self._loops.follow()),
            *(asyncio.create_task(one.run(self._bus)) for one in self._service.projections),
            *(asyncio.ensure_future(one()) for one in self._service.background),
        ]
        app = create_app(self._service, self.status, metrics)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        client = httpx.AsyncClient(transport=transport, base_url=f"http://{self._service.name}")
        self.http = await self._stack.enter_async_context(client)
        return self

    def runs(self, loop: str) -> bool:
        """Whether it works for the newest version of a loop (a service that works for all loops alike always does)."""
        state = self._loops.states.get(loop)
        return self._service.work is None or (state is not None and state.state == "running")

    async def __aexit__(self, *_: object) -> None:
        for one in self._work:
            one.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        await self._loops.stop()
        await self._views.keep(())
        await self._stack.aclose()
