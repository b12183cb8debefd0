"""The cluster that is mistreated: `trimtab`'s own commands on a folder, and its processes one by one."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, TypeVar

import httpx
import psutil
from trimtab.cli.cluster.adapters import LocalChild, launch
from trimtab.cli.cluster.address import Addresses
from trimtab.cli.cluster.keys import KeyFiles
from trimtab.cli.cluster.programs import SERVICES, Cluster
from trimtab.cli.cluster.state import ClusterState, ProcessState, StateFile
from trimtab.cli.cluster.status import TaskStatus, tasks_of
from trimtab.cli.processes import Identity, free_port
from trimtab.cli.replay.services import RUNNING
from trimtab.runtime.kafka.connection import Connection
from trimtab.testing.clusters import Cluster as CommandLine
from trimtab.testing.clusters import answers_ready

PATIENCE_S = 120.0
LOOK_S = 0.05
BRIEF_S = 0.01
OPENING = {"opening", "restoring"}
"""What a task does before it works, for a second at most."""
BROKER = "kafka"
T = TypeVar("T")


class Size(TypedDict, total=False):
    """Of a cluster: its own brokers, and replicas of each service."""

    brokers: int
    replicas: int


class StuckError(Exception):
    """Something that has to come back did not."""

    def __init__(self, what: str, folder: Path) -> None:
        super().__init__(f"{what} is not back after {PATIENCE_S:.0f} s; the logs are in {folder / 'logs'}")


class Spare:
    """A further replica of a service, which nobody supervises."""

    def __init__(self, name: str, child: LocalChild, url: str) -> None:
        self.name, self.url, self._child = name, url, child

    @property
    def is_ready(self) -> bool:
        """Whether it says so."""
        return self._child.ended() is None and answers_ready(self.url)

    @property
    def has_work(self) -> bool:
        """Whether it runs tasks: before that nobody would miss it."""
        answer = httpx.get(f"{self.url}/status", timeout=5.0, trust_env=False).json()
        return any(task.state == RUNNING for task in tasks_of(answer))

    def kill(self) -> None:
        """SIGKILL."""
        self._child.kill()

    def end(self) -> None:
        """SIGTERM, and wait; SIGKILL for one that does not end."""
        self._child.terminate()
        deadline_s = time.monotonic() + PATIENCE_S
        while self._child.ended() is None and time.monotonic() < deadline_s:
            time.sleep(LOOK_S)
        self._child.kill()
        self._child.ended()


@dataclass(frozen=True, slots=True)
class Victims:
    """One folder's cluster. It is up within `up`.

    `kafka`: the address, for its services, of a broker that is not its own; `direct`: the one for everybody else.
    `brokers`: of its own; None: as `trimtab up` has it. `replicas`: of each service.
    """

    folder: Path
    kafka: str | None = None
    direct: str | None = None
    brokers: int | None = None
    replicas: int = 1

    @property
    def _commands(self) -> CommandLine:
        return CommandLine(self.folder)

    @contextmanager
    def up(self) -> Iterator[None]:
        """For a `with`; whatever became of it, nothing of it runs afterwards."""
        try:
            self.start()
            yield
        finally:
            try:
                self._commands.run("down", bootstrap=self.kafka)
            finally:
                self._commands.kill()

    def start(self) -> None:
        """`trimtab up`."""
        brokers = [] if self.brokers is None else ["--brokers", str(self.brokers)]
        replicas = [word for name in SERVICES for word in ("--replicas", f"{name}={self.replicas}")]
        self._commands.ok("up", "--detach", *brokers, *replicas, bootstrap=self.kafka)

    def stop(self) -> None:
        """`trimtab down`."""
        self._commands.ok("down", bootstrap=self.kafka)

    def apply(self, loop: Path) -> None:
        """`trimtab apply`."""
        self._commands.ok("apply", str(loop), bootstrap=self.direct)

    @property
    def state(self) -> ClusterState:
        """What its supervisor says."""
        state = StateFile(self.folder).read()
        assert state is not None, "`trimtab up` has written it"
        return state

    @property
    def addresses(self) -> Addresses:
        """Where everything is."""
        state = self.state
        return Addresses(Connection(self.direct or state.bootstrap), {name: state.urls(name) for name in SERVICES})

    @property
    def is_ready(self) -> bool:
        """Whether the brokers and all services answer as ready, asked now."""
        processes = self.state.processes
        services = [one for one in processes if one.name != BROKER]
        return len(services) == len(SERVICES) * self.replicas and all(_is_up(one) for one in processes)

    def process(self, name: str, replica: int = 0) -> ProcessState:
        """A broker or a service, as its supervisor knows it."""
        return next(one for one in self.state.processes if (one.name, one.replica) == (name, replica))

    def pid(self, name: str, replica: int = 0) -> int:
        """Its number, once it runs. Raises StuckError."""
        found = self.until(lambda: self.process(name, replica).who, f"a process for {name}")
        return found.pid

    def serving_brokers(self) -> Sequence[Identity | None]:
        """The brokers' processes."""
        return [one.who for one in self.state.processes if one.name == BROKER]

    def signal(self, name: str, number: signal.Signals, replica: int = 0) -> int:
        """Send it to a broker or a service; returns who that was."""
        pid = self.pid(name, replica)
        os.kill(pid, number)
        return pid

    def until_another(self, name: str, before: int, replica: int = 0) -> None:
        """Wait until its successor has been started. Raises StuckError."""

        def found() -> bool:
            who = self.process(name, replica).who
            return who is not None and who.pid != before

        self.until(found, f"a new {name}")

    def until_opening(self, name: str, before: int, replica: int = 0) -> None:
        """Wait until its successor opens a task, or restores its tables. Raises StuckError."""
        self.until_another(name, before, replica)
        url = self.process(name, replica).url or ""
        self.until(lambda: any(task.state in OPENING for task in _tasks(url)), f"a restore in {name}", BRIEF_S)

    def kill_supervisor(self) -> None:
        """SIGKILL to `trimtab up`; returns when it is gone, and all that it had started."""
        os.kill(self.state.supervisor.pid, signal.SIGKILL)
        self.until(lambda: not StateFile(self.folder).is_held() and not self._commands.processes(), "an empty machine")

    def spare(self, name: str, replica: int) -> Spare:
        """A further replica that has work."""
        made = self.started(name, replica)
        self.until(lambda: made.is_ready and made.has_work, f"replica {replica} of {name}")
        return made

    def started(self, name: str, replica: int) -> Spare:
        """Start a further replica with the settings that `trimtab up` gives one."""
        cluster = Cluster(self.folder, self.state.bootstrap, KeyFiles(self.folder / "keys"))
        program = cluster.service(name, replica, free_port(), os.environ)
        return Spare(name, launch(program), program.url or "")

    def until(self, found: Callable[[], T | None], what: str, look_s: float = LOOK_S) -> T:
        """Look again and again until something is found. Raises StuckError."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not (it := found()):
            if time.monotonic() > deadline_s:
                raise StuckError(what, self.folder)
            time.sleep(look_s)
        return it


def _tasks(url: str) -> list[TaskStatus]:
    """The tasks of a service; none while it does not answer yet."""
    try:
        return tasks_of(httpx.get(f"{url}/status", timeout=5.0, trust_env=False).json())
    except httpx.TransportError:
        return []


def _is_up(process: ProcessState) -> bool:
    if process.name == BROKER:
        return process.phase == "ready"
    return process.who is not None and psutil.pid_exists(process.who.pid) and answers_ready(process.url or "")
