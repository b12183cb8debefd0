"""Keeps programs running: starts them, watches whether they are ready, starts them again when they end.

One coroutine a program; processes, probes and the clock come in through ports, so that the rules run in tests on fakes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Protocol

from trimtab.cli.cluster.backoff import Backoff
from trimtab.cli.cluster.programs import Program
from trimtab.cli.cluster.state import Phase, ProcessState
from trimtab.cli.processes import Identity

LOOK_S = 0.1
PROBE_STARTING_S = 0.3
PROBE_READY_S = 2.0
STOP_S = 20.0


class Child(Protocol):
    """A started process."""

    @property
    def who(self) -> Identity: ...

    def ended(self) -> int | None:
        """Its exit code, None while it runs."""

    def terminate(self) -> None:
        """Ask it to end."""

    def kill(self) -> None:
        """End it and all that it started."""


class Clock(Protocol):
    """Time in s since the epoch."""

    def now_s(self) -> float: ...
    async def sleep(self, seconds: float) -> None: ...


Launch = Callable[[Program], Child]
Probe = Callable[[Program], Awaitable[bool]]
OnChange = Callable[[Sequence[ProcessState]], None]


class Supervisor:
    """Mutable by design: it is the one owner of its processes. `on_change` gets all states whenever one changes."""

    def __init__(self, *, launch: Launch, probe: Probe, clock: Clock, on_change: OnChange, backoff: Backoff) -> None:
        self._launch = launch
        self._probe = probe
        self._clock = clock
        self._on_change = on_change
        self._backoff = backoff
        self._states: dict[str, ProcessState] = {}
        self._children: dict[str, Child] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()

    @property
    def states(self) -> Sequence[ProcessState]:
        """All programs, in the order in which they were started."""
        return tuple(self._states.values())

    def start(self, program: Program) -> None:
        """Keep this program running from now on."""
        state = ProcessState(program.name, program.replica, "starting", self._clock.now_s())
        self._states[program.id] = replace(state, url=program.url, log=str(program.log))
        self._keepers[program.id] = asyncio.create_task(self._keep(program))

    async def until_ready(self, program: Program) -> None:
        """Wait until the program answers as ready; it may be started again meanwhile."""
        while self._states[program.id].phase != "ready":
            self._changed.clear()
            await self._changed.wait()

    async def failed(self) -> None:
        """Wait until a keeper itself fails, and raise what it raised (a program that cannot even be started)."""
        done, _ = await asyncio.wait(self._keepers.values(), return_when=asyncio.FIRST_COMPLETED)
        for keeper in done:
            keeper.result()

    async def stop(self, programs: Sequence[Program]) -> None:
        """End these programs together: asked first, killed when they have not ended after STOP_S."""
        for program in programs:
            if (keeper := self._keepers.pop(program.id, None)) is not None:
                keeper.cancel()
        await asyncio.gather(*(self._end(program) for program in programs))

    async def _keep(self, program: Program) -> None:
        crashes = 0
        while True:
            child = self._launch(program)
            self._children[program.id] = child
            self._become(program, replace(self._states[program.id], phase="starting", who=child.who))
            code, ready_s = await self._watch(program, child)
            child.kill()  # the process has ended; what it had started itself has not
            state = self._states[program.id]
            crashes = self._backoff.crashes(crashes, ready_s)
            ended = replace(state, phase="waiting", who=None, exit_code=code, restarts=state.restarts + 1)
            self._become(program, ended)
            await self._clock.sleep(self._backoff.delay_s(crashes))

    async def _watch(self, program: Program, child: Child) -> tuple[int, float]:
        """Wait for the end of the child; note meanwhile whether it is ready.

        Its exit code, and the seconds since it was ready for the first time: the last probe may have met its end.
        """
        next_probe_s = self._clock.now_s()
        ready_at_s: float | None = None
        while (code := child.ended()) is None:
            if self._clock.now_s() >= next_probe_s:
                ready = await self._probe(program)
                self._note(program, ready)
                if ready and ready_at_s is None:
                    ready_at_s = self._clock.now_s()
                next_probe_s = self._clock.now_s() + (PROBE_READY_S if ready else PROBE_STARTING_S)
            await self._clock.sleep(LOOK_S)
        return code, 0.0 if ready_at_s is None else self._clock.now_s() - ready_at_s

    def _note(self, program: Program, ready: bool) -> None:
        state = self._states[program.id]
        phase: Phase = "ready" if ready else ("starting" if state.phase == "starting" else "not ready")
        if phase != state.phase:
            self._become(program, replace(state, phase=phase))

    async def _end(self, program: Program) -> None:
        child = self._children.pop(program.id, None)
        if child is not None:
            child.terminate()
            deadline_s = self._clock.now_s() + STOP_S
            while child.ended() is None and self._clock.now_s() < deadline_s:
                await self._clock.sleep(LOOK_S)
            child.kill()
            while child.ended() is None:
                await self._clock.sleep(LOOK_S)
            state = self._states[program.id]
            self._become(program, replace(state, phase="stopped", who=None, exit_code=child.ended()))

    def _become(self, program: Program, state: ProcessState) -> None:
        self._states[program.id] = replace(state, since_s=self._clock.now_s())
        self._on_change(self.states)
        self._changed.set()
