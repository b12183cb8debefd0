"""Follows `loop.declared`: starts, replaces and stops the stages of each loop while the process runs on."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import structlog

from trimtab.contracts import topics
from trimtab.contracts.control import LoopDeclared
from trimtab.runtime.bus import Bus, Declared
from trimtab.runtime.control import Refused, as_written
from trimtab.runtime.errors import EdgeAwayError, StageInvalidError
from trimtab.runtime.host.service import LoopWork, Service, declared_topics
from trimtab.runtime.records import Read
from trimtab.runtime.session import Surroundings
from trimtab.runtime.stage import Stage, View
from trimtab.runtime.views import Views
from trimtab.runtime.worker import Worker

log = structlog.get_logger(__name__)

Work = Callable[[LoopDeclared], LoopWork | None]


class LoopsView:
    """The newest declaration of each loop. `changed` is set whenever one came or went."""

    topic: str = topics.LOOP_DECLARED
    clock: Literal["marks", "none"] = "none"
    writers: Mapping[str, int] = MappingProxyType({})

    def __init__(self) -> None:
        self.declared: dict[str, LoopDeclared] = {}
        self.changed = asyncio.Event()

    def apply(self, records: Sequence[Read]) -> Sequence[Refused]:
        """Fold records; those that keep no schema (written by hand) are left out and given back."""
        events, refused = as_written(self.topic, records)
        for one in events:
            if isinstance(one.event, LoopDeclared):
                self.declared[one.loop] = one.event
            else:
                self.declared.pop(one.loop, None)
        self.changed.set()
        return refused


@dataclass(slots=True)
class Running:
    """Stages at work: one loop's, or those that serve all loops."""

    workers: list[Worker]
    tasks: list[asyncio.Task[None]]

    async def stop(self) -> None:
        """Let transactions end, then stop."""
        for worker in self.workers:
            worker.close()
        await asyncio.gather(*self.tasks)


@dataclass(slots=True)
class LoopState:
    """A loop in this process. `reason`: why it is refused."""

    version: int
    digest: str
    state: str
    reason: str | None = None
    running: Running | None = None
    views: Sequence[View] = ()


class Loops:
    """Keeps the stages of this process's loops as the newest declarations say."""

    def __init__(self, service: Service, bus: Bus, views: Views, around: Surroundings) -> None:
        self._service, self._bus, self._views, self._around = service, bus, views, around
        self._shared: Running | None = None
        self._view = LoopsView()
        self._keepers: dict[str, asyncio.Event] = {}
        self.states: dict[str, LoopState] = {}

    def start(self) -> None:
        """Start what serves all loops, and begin to read declarations."""
        for view in self._shared_views():
            self._views.start(view)
        self._shared = self._start(self._service.stages, Declared())

    async def follow(self) -> None:
        """Act on declarations until cancelled. Loops do not wait for each other."""
        if self._service.work is None:
            return
        await self._views.start(self._view).ready.wait()
        async with asyncio.TaskGroup() as group:
            while True:
                self._view.changed.clear()
                for name in self._view.declared.keys() - self._keepers.keys():
                    self._keepers[name] = asyncio.Event()
                    group.create_task(self._keep(name, self._service.work), name=f"loop {name}")
                for keeper in self._keepers.values():
                    keeper.set()
                await self._view.changed.wait()

    async def _keep(self, name: str, work: Work) -> None:
        """Keep one loop as its newest declaration says, until it has ended."""
        while (declared := self._view.declared.get(name)) is not None:
            self._keepers[name].clear()
            known = self.states.get(name)
            if known is None or (known.version, known.digest) != (declared.version, declared.digest):
                await self._replace(declared, work)
                await self._drop_views()
            else:
                await self._keepers[name].wait()
        del self._keepers[name]
        await self._end(name)
        await self._drop_views()

    async def stop(self) -> None:
        """Stop everything."""
        running = [state.running for state in self.states.values() if state.running is not None]
        await asyncio.gather(*(one.stop() for one in [*running, *([self._shared] if self._shared else [])]))

    def workers(self) -> list[tuple[str | None, Worker]]:
        """All workers with their loop."""
        shared = [(None, worker) for worker in (self._shared.workers if self._shared else [])]
        return shared + [(name, worker) for name, state in self._running() for worker in state.workers]

    def _running(self) -> list[tuple[str, Running]]:
        return [(name, state.running) for name, state in self.states.items() if state.running is not None]

    def _shared_views(self) -> list[View]:
        found = [view for stage in self._service.stages for view in stage.views]
        return [*found, *self._service.views, *([self._view] if self._service.work is not None else [])]

    async def _drop_views(self) -> None:
        used = [view for state in self.states.values() for view in state.views]
        await self._views.keep([*self._shared_views(), *used])

    async def _replace(self, declared: LoopDeclared, work: Work) -> None:
        """Start a version; the one before runs on until the new one's views have been read."""
        before = self.states.get(declared.loop)
        state = LoopState(declared.version, declared.digest, "starting")
        state.running, state.views = (None, ()) if before is None else (before.running, before.views)
        self.states[declared.loop] = state
        try:
            found = work(declared)
            views = [] if found is None else [*found.views, *(view for stage in found.stages for view in stage.views)]
            state.views = [*state.views, *views]
            read = [self._views.start(view).ready for view in views]
            if found is not None:
                await self._prepare(declared, found)
            await asyncio.gather(*(one.wait() for one in read))
        except Exception as error:
            state.views = () if before is None else before.views
            state.state, state.reason = "refused", f"{type(error).__name__}: {error}"
            log.error("loop refused", loop=declared.loop, version=declared.version, error=state.reason, exc_info=error)
            return
        if state.running is not None:
            await state.running.stop()
        state.running = None if found is None else self._start(found.stages, declared_topics(declared))
        state.state, state.views = "unused" if found is None else "running", views
        if found is not None:
            found.started()
        log.info("loop started", loop=declared.loop, version=declared.version, state=state.state)

    async def _prepare(self, declared: LoopDeclared, work: LoopWork) -> None:
        """Prepare; again and again while the log does not answer, which says nothing about the declaration."""
        delay_s = self._around.options.backoff_s
        while True:
            try:
                await work.prepare()
            except EdgeAwayError as error:
                log.warning("loop waits for the log", loop=declared.loop, error=str(error))
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, self._around.options.backoff_most_s)
            else:
                return

    async def _end(self, name: str) -> None:
        state = self.states.pop(name)
        if state.running is not None:
            await state.running.stop()
        self._service.ended(name)
        log.info("loop ended", loop=name)

    def _start(self, stages: Sequence[Stage], declared: Declared) -> Running:
        groups = [stage.group for stage in stages]
        if len(set(groups)) < len(groups):
            raise StageInvalidError(groups[0], "two stages of one loop have the same group")
        workers = [Worker(stage, self._bus, self._views, self._around, declared) for stage in stages]
        tasks = [asyncio.create_task(worker.run(), name=worker.stage.group) for worker in workers]
        return Running(workers, tasks)
