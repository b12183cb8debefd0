"""Processes on one simulated bus, and what happens to them."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from trimtab.runtime.stage import Stage
from trimtab.runtime.worker import StageStatus
from trimtab.testing.simulation.bus import SimulatedBus
from trimtab.testing.simulation.faults import Fault, Kind
from trimtab.testing.simulation.loop import Process, SeededLoop
from trimtab.testing.simulation.programs import Program
from trimtab.testing.simulation.wire import Fate

SESSION_S = 0.3
"""After so long in silence a group gives a member up."""
STORM_S = 0.5
"""A storm goes on for at least so long."""
MOST = 4
"""Of one kind."""
RESTART_S = 0.1
"""A process that ended by itself is started again after so long."""
_FATES = {Kind.LOSE: Fate.LOST, Kind.UNANSWERED: Fate.UNANSWERED, Kind.HOLD: Fate.HELD}
Make = Callable[[str], Program]
"""The program of a process of this name."""


@dataclass(slots=True)
class Replica:
    """One process. `kind`: which of the cluster's programs it runs."""

    process: Process
    kind: int
    program: Program


class Cluster:
    """Mutable. `kinds`: what its processes run. `away`: how many processes are to come back still.

    `aim`: the one kind whose processes are killed, paused and multiplied; None: all of them.
    """

    def __init__(self, bus: SimulatedBus, kinds: Sequence[Make], aim: int | None = None) -> None:
        self._bus, self._kinds, self._aim = bus, kinds, aim
        self._loop: SeededLoop = bus.loop
        self._names = 0
        self.replicas: list[Replica] = []
        self.away = 0

    def start(self, kind: int, name: str | None = None) -> None:
        """Start a process of a kind: a new one, or in the place of one of this name."""
        self._names += 1
        made = name or f"process-{self._names}"
        replica = Replica(Process(made), kind, self._kinds[kind](made))
        self._loop.launch(replica.process, self._run(replica))
        self.replicas.append(replica)

    def apply(self, fault: Fault) -> None:
        """Let something go wrong, with one of the processes that run."""
        if fault.kind in _FATES:
            self._bus.wire.fates.append(_FATES[fault.kind])
        elif fault.kind is Kind.STORM:
            self._bus.wire.storm_s = self._loop.time() + STORM_S + fault.lasts_s
        elif fault.kind is Kind.COMPACT:
            self._bus.clean()
        elif fault.kind is Kind.JOIN:
            self._join(fault.who % len(self._kinds) if self._aim is None else self._aim)
        else:
            self._strike(fault)

    def status(self) -> list[StageStatus]:
        """Of all stages of all processes."""
        return [worker.status() for replica in self.replicas for worker in replica.program.workers()]

    def stages(self) -> Mapping[str, Stage]:
        """What is at work, by group."""
        workers = [worker for replica in self.replicas for worker in replica.program.workers()]
        return {worker.stage.group: worker.stage for worker in workers}

    def _of_kind(self, kind: int) -> int:
        return Counter(replica.kind for replica in self.replicas)[kind]

    def _join(self, kind: int) -> None:
        if self._of_kind(kind) < MOST:
            self.start(kind)

    def _strike(self, fault: Fault) -> None:
        aimed = [replica for replica in self.replicas if self._aim in (None, replica.kind)]
        running = [replica for replica in aimed if not replica.process.halted]
        if running:
            happen = {Kind.KILL: self._kill, Kind.PAUSE: self._pause, Kind.LEAVE: self._leave}
            happen[fault.kind](running[fault.who % len(running)], fault.lasts_s)

    async def _run(self, replica: Replica) -> None:
        try:
            await replica.program.run()
        except Exception:  # noqa: BLE001 whatever ends a process, its supervisor starts it again
            self._kill(replica, RESTART_S)

    def _kill(self, replica: Replica, back_after_s: float) -> None:
        self._loop.halt(replica.process)
        self.replicas.remove(replica)
        self.away += 1
        self._loop.call_later(back_after_s, self._come_back, replica)
        self._loop.call_later(SESSION_S, self._give_up, replica)

    def _come_back(self, replica: Replica) -> None:
        self.away -= 1
        self.start(replica.kind, replica.process.name)

    def _pause(self, replica: Replica, lasts_s: float) -> None:
        self._loop.halt(replica.process)
        self.away += 1
        self._loop.call_later(lasts_s, self._wake, replica)
        self._loop.call_later(SESSION_S, self._give_up, replica)

    def _wake(self, replica: Replica) -> None:
        self.away -= 1
        self._loop.resume(replica.process)

    def _leave(self, replica: Replica, _: float) -> None:
        """Close in order; the last one of its kind stays, and so does one that has only just been started."""
        if self._of_kind(replica.kind) > 1 and replica.program.workers():
            replica.program.close()
            self.replicas.remove(replica)

    def _give_up(self, replica: Replica) -> None:
        """The coordinator has heard nothing of a process for too long."""
        if replica.process.halted:
            self._bus.expel(replica.process)
