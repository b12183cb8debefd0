"""Processes that run the same stages on one simulated bus, and what happens to them."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trimtab.runtime.bus import Declared
from trimtab.runtime.options import Options
from trimtab.runtime.session import Surroundings
from trimtab.runtime.stage import Stage
from trimtab.runtime.views import Views
from trimtab.runtime.worker import StageStatus, Worker
from trimtab.testing.simulation.bus import SimulatedBus
from trimtab.testing.simulation.faults import Fault, Kind
from trimtab.testing.simulation.loop import Process, SeededLoop
from trimtab.testing.simulation.wire import Fate

SESSION_S = 0.3
"""After so long in silence a group gives a member up."""
STORM_S = 0.5
"""A storm goes on for at least so long."""
MOST = 4
_BRISK = Options(flush_s=0.05, backoff_s=0.02, backoff_most_s=0.2, check_s=2.0, close_s=0.3)
_FATES = {Kind.LOSE: Fate.LOST, Kind.UNANSWERED: Fate.UNANSWERED, Kind.HOLD: Fate.HELD}


@dataclass(slots=True)
class Replica:
    """One process, its stages and their workers (none before its first step)."""

    process: Process
    stages: Sequence[Stage]
    workers: Sequence[Worker] = ()


class Cluster:
    """Mutable. `build` makes the stages of one process. `away`: how many processes are to come back still."""

    def __init__(self, bus: SimulatedBus, build: Callable[[], Sequence[Stage]]) -> None:
        self._bus, self._build = bus, build
        self._loop: SeededLoop = bus.loop
        self._names = 0
        self.replicas: list[Replica] = []
        self.away = 0

    def start(self, name: str | None = None) -> None:
        """Start a process: a new one, or in the place of one of this name."""
        self._names += 1
        made = name or f"process-{self._names}"
        replica = Replica(Process(made), self._build())
        self._loop.launch(replica.process, self._run(replica))
        self.replicas.append(replica)

    def apply(self, fault: Fault) -> None:
        """Let something go wrong, with one of the processes that run."""
        if fault.kind in _FATES:
            self._bus.wire.fates.append(_FATES[fault.kind])
            return
        if fault.kind is Kind.STORM:
            self._bus.wire.storm_s = self._loop.time() + STORM_S + fault.lasts_s
        elif fault.kind is Kind.JOIN:
            if len(self.replicas) < MOST:
                self.start()
        else:
            self._strike(fault)

    def _strike(self, fault: Fault) -> None:
        running = [replica for replica in self.replicas if not replica.process.halted]
        if running:
            happen = {Kind.KILL: self._kill, Kind.PAUSE: self._pause, Kind.LEAVE: self._leave}
            happen[fault.kind](running[fault.who % len(running)], fault.lasts_s)

    def status(self) -> list[StageStatus]:
        """Of all stages of all processes."""
        return [worker.status() for replica in self.replicas for worker in replica.workers]

    async def _run(self, replica: Replica) -> None:
        views = Views(self._bus)
        around = Surroundings(self._bus.now_ms, _BRISK)
        replica.workers = [Worker(stage, self._bus, views, around, Declared()) for stage in replica.stages]
        await asyncio.gather(*(worker.run() for worker in replica.workers))
        await views.keep(())

    def _kill(self, replica: Replica, back_after_s: float) -> None:
        self._loop.halt(replica.process)
        self.replicas.remove(replica)
        self.away += 1
        self._loop.call_later(back_after_s, self._come_back, replica.process.name)
        self._loop.call_later(SESSION_S, self._give_up, replica)

    def _come_back(self, name: str) -> None:
        self.away -= 1
        self.start(name)

    def _pause(self, replica: Replica, lasts_s: float) -> None:
        self._loop.halt(replica.process)
        self.away += 1
        self._loop.call_later(lasts_s, self._wake, replica)
        self._loop.call_later(SESSION_S, self._give_up, replica)

    def _wake(self, replica: Replica) -> None:
        self.away -= 1
        self._loop.resume(replica.process)

    def _leave(self, replica: Replica, _: float) -> None:
        """Close in order; the last one stays, and so does one that has only just been started."""
        if len(self.replicas) > 1 and replica.workers:
            for worker in replica.workers:
                worker.close()
            self.replicas.remove(replica)

    def _give_up(self, replica: Replica) -> None:
        """The coordinator has heard nothing of a process for too long."""
        if replica.process.halted:
            for stage in replica.stages:
                self._bus.expel(stage.group, replica.process)
