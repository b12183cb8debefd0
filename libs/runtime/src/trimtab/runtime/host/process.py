"""The process of a service, from start to end."""

import asyncio
import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
import uvloop

from trimtab.runtime import logs
from trimtab.runtime.clock import wall_ms
from trimtab.runtime.host.http import create_app, listen, server
from trimtab.runtime.host.loops import Loops
from trimtab.runtime.host.service import Service
from trimtab.runtime.host.status import Status
from trimtab.runtime.kafka import KafkaBus
from trimtab.runtime.kafka.broken import expect_cuts
from trimtab.runtime.metrics import Metrics
from trimtab.runtime.options import Options
from trimtab.runtime.session import Surroundings
from trimtab.runtime.settings import RuntimeSettings
from trimtab.runtime.tracing import NO_TRACING
from trimtab.runtime.views import Views

if TYPE_CHECKING:
    from trimtab.runtime.spans import SpanExport

log = structlog.get_logger(__name__)

_TICK_S = 1.0
_COLLECT_AFTER = 50_000
"""New objects between two garbage collections. A batch makes thousands that nothing refers to in a circle; at Python's
own 700 looking through them again and again took a seventh of a busy service's time."""


def run(service: Service, settings: RuntimeSettings) -> None:
    """Run a service until SIGTERM or SIGINT; exit code 1 when it failed."""
    gc.enable()  # whoever started this process may have imported without
    logs.configure(service.name, settings.replica, settings.log_level)
    expect_cuts()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(serve(service, settings))
        except Exception as error:
            log.error("service failed", error=f"{type(error).__name__}: {error}", exc_info=error)
            sys.exit(1)


async def serve(service: Service, settings: RuntimeSettings, *, options: Options | None = None) -> None:
    """Run a service until SIGTERM or SIGINT. Raises what made it fail."""
    stop = asyncio.Event()
    metrics = Metrics()
    spans = _spans(service.name, settings)
    tracing = NO_TRACING if spans is None else spans.tracing()
    around = Surroundings(wall_ms, options or Options(), metrics.record, tracing)
    async with AsyncExitStack() as stack:
        if spans is not None:
            stack.callback(spans.close)
        instance = f"{service.name}-{settings.replica}"
        bus = await stack.enter_async_context(KafkaBus(settings.kafka.connection(), instance=instance))
        for resource in service.resources:
            await stack.enter_async_context(resource)
        # Not before: until now nothing has to be ended in order, so a signal ends the process at once.
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await _Process(service, settings, bus, around, metrics).run(stop)


def _spans(name: str, settings: RuntimeSettings) -> "SpanExport | None":
    """Where spans go, if they go anywhere; else OpenTelemetry is not even imported."""
    if settings.otlp.endpoint is None and settings.zipkin.endpoint is None:
        return None
    from trimtab.runtime.spans import export

    return export(name, settings.replica, settings.otlp.endpoint, settings.zipkin.endpoint)


class _Process:
    def __init__(
        self, service: Service, settings: RuntimeSettings, bus: KafkaBus, around: Surroundings, metrics: Metrics
    ) -> None:
        self._service, self._settings, self._bus = service, settings, bus
        self._views = Views(bus, metrics.record)
        self._loops = Loops(service, bus, self._views, around)
        self._status = Status(service, self._loops, self._views)
        self._server = server(create_app(service, self._status, metrics, settings.http.max_body_bytes))

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set or something that must run has ended."""
        sock = listen(self._settings.http.host, self._settings.http.port)
        self._loops.start()
        work = [
            self._task("http", self._server.serve(sockets=[sock])),
            self._task("loops", self._loops.follow()),
            self._task("status", self._tick()),
            *(self._task(one.name, one.run(self._bus)) for one in self._service.projections),
            *(self._task("background", _run(one())) for one in self._service.background),
        ]
        announced = self._announce(sock)
        log.info("service started", address=announced)
        stopping = self._task("stop", stop.wait())
        try:
            await _first(stopping, self._views.failed, work)
        finally:
            self._status.stopping = True
            log.info("service stopping")
            await self._end([stopping, *work])
            sock.close()
        log.info("service stopped")

    def _task(self, name: str, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        return asyncio.create_task(work, name=name)

    async def _end(self, work: "list[asyncio.Task[Any]]") -> None:
        self._server.should_exit = True
        http = next(task for task in work if task.get_name() == "http")
        others = [task for task in work if task is not http]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.gather(self._loops.stop(), asyncio.wait([http], timeout=10.0))
        await self._views.keep(())

    async def _tick(self) -> None:
        """Once a second: rates; once, when ready: leave what lives for ever out of garbage collections."""
        loop, frozen = asyncio.get_running_loop(), False
        last_s = loop.time()
        while True:
            await asyncio.sleep(_TICK_S)
            now_s = loop.time()
            self._status.rates.tick([stage for _, stage in self._status.stages()], now_s - last_s)
            last_s = now_s
            if not frozen and not self._status.unready():
                gc.collect()
                gc.freeze()
                gc.set_threshold(_COLLECT_AFTER)
                frozen = True

    def _announce(self, sock: socket.socket) -> str:
        """Write where the service is to data_dir/run/<service>-<replica>.json."""
        host, port = sock.getsockname()[:2]
        folder: Path = self._settings.data_dir / "run"
        folder.mkdir(parents=True, exist_ok=True)
        told = {"service": self._service.name, "replica": self._settings.replica, "host": host, "port": port}
        target = folder / f"{self._service.name}-{self._settings.replica}.json"
        draft = target.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(told | {"pid": os.getpid()}))
        draft.replace(target)
        return f"http://{host}:{port}"


async def _run(work: Any) -> None:
    await work


async def _first(
    stopping: "asyncio.Task[Any]", failed: "asyncio.Future[None]", work: "list[asyncio.Task[Any]]"
) -> None:
    """Return when told to stop; raise what any of the work raised. Work may also simply be done."""
    pending: set[asyncio.Future[Any]] = {stopping, failed, *work}
    while not stopping.done():
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for one in done:
            if one is not stopping:
                one.result()
        if next(task for task in work if task.get_name() == "http").done() and not stopping.done():
            raise RuntimeError("the HTTP server ended by itself")
