"""A local cluster for measuring: `trimtab`'s own commands on a folder, or its broker with single services."""

import asyncio
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from trimtab.cli.broker import EmbeddedBroker, user_jars, wait_until_answering
from trimtab.cli.cluster import programs
from trimtab.cli.cluster.adapters import launch
from trimtab.cli.cluster.address import Addresses
from trimtab.cli.cluster.keys import KeyFiles
from trimtab.cli.cluster.state import ClusterState, StateFile
from trimtab.cli.processes import Identity, end, free_port, identity
from trimtab.cli.settings import ClusterSettings
from trimtab.cli.topics import topic_admin
from trimtab.contracts import topics
from trimtab.runtime.kafka.connection import Connection
from trimtab.testing.clusters import Cluster, answers, answers_ready

READY_S = 120.0
STOP_S = 20.0
LOOK_S = 0.05


class NotReadyInTimeError(Exception):
    """A service did not become ready."""

    def __init__(self, name: str, log: Path) -> None:
        super().__init__(f"{name} was not ready after {READY_S:.0f} s; see {log}")


@dataclass(frozen=True, slots=True)
class Local:
    """One folder's cluster."""

    folder: Path

    def command(self, *arguments: str, bootstrap: str | None = None) -> None:
        """Run a `trimtab` command; with `bootstrap`, where only a broker is up. Raises CommandFailedError."""
        Cluster(self.folder).ok(*arguments, bootstrap=bootstrap)

    @contextmanager
    def up(self) -> Iterator["Running"]:
        """Everything, as `trimtab up` starts it."""
        began_s = time.monotonic()
        self.command("up", "--detach")
        try:
            yield Running(self, time.monotonic() - began_s)
        finally:
            self.command("down")

    @contextmanager
    def broker(self) -> Iterator["Broker"]:
        """The broker alone, on the same log, with what services need to start."""
        broker = EmbeddedBroker(self.folder, user_jars(ClusterSettings(), Console(stderr=True)))
        command = broker.prepare()
        process = broker.start(command)
        try:
            wait_until_answering(process, command.port, broker.log)
            KeyFiles(self.folder / "keys").ensure()
            asyncio.run(_control_topics(Connection(command.bootstrap)))
            yield Broker(self.folder, command.bootstrap, psutil.Process(process.pid))
        finally:
            who = identity(process.pid)
            end(who or Identity(process.pid, 0.0), STOP_S)
            process.wait()


@dataclass(frozen=True, slots=True)
class Running:
    """A cluster that is up. `start_s`: how long that took."""

    local: Local
    start_s: float

    @property
    def state(self) -> ClusterState:
        """What its supervisor says."""
        state = StateFile(self.local.folder).read()
        assert state is not None, "`trimtab up` has written it"
        return state

    @property
    def addresses(self) -> Addresses:
        """Where everything is."""
        state = self.state
        return Addresses(Connection(state.bootstrap), {name: state.urls(name) for name in programs.SERVICES})

    def processes(self) -> dict[str, psutil.Process]:
        """The broker and the services, by name."""
        return {one.name: psutil.Process(one.who.pid) for one in self.state.processes if one.who is not None}

    def restart_s(self, name: str) -> float:
        """Kill a service hard; seconds until its successor is ready, the supervisor's pause included."""
        before = self.processes()[name]
        began_s = time.monotonic()
        before.kill()
        while not self._is_back(name, before.pid):
            if time.monotonic() > began_s + READY_S:
                raise NotReadyInTimeError(name, self.local.folder / "logs" / f"{name}-0.log")
            time.sleep(LOOK_S)
        return time.monotonic() - began_s

    def _is_back(self, name: str, old: int) -> bool:
        [now] = [one for one in self.state.processes if one.name == name]
        return now.who is not None and now.who.pid != old and answers_ready(now.url or "")


@dataclass(frozen=True, slots=True)
class Alone:
    """A service that runs with nothing but the broker beside it. `start_s`: from its start until it answered."""

    url: str
    process: psutil.Process
    start_s: float


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker that is up."""

    folder: Path
    bootstrap: str
    process: psutil.Process

    @contextmanager
    def service(self, name: str) -> Iterator[Alone]:
        """One service, with the settings that `trimtab up` gives it."""
        cluster = programs.Cluster(self.folder, self.bootstrap, KeyFiles(self.folder / "keys"))
        program = cluster.service(name, 0, free_port(), os.environ)
        began_s = time.monotonic()
        child = launch(program)
        try:
            while not answers(program.url or ""):
                if child.ended() is not None or time.monotonic() > began_s + READY_S:
                    raise NotReadyInTimeError(name, program.log)
                time.sleep(LOOK_S)
            yield Alone(program.url or "", psutil.Process(child.who.pid), time.monotonic() - began_s)
        finally:
            end(child.who, STOP_S)
            child.ended()


async def _control_topics(kafka: Connection) -> None:
    async with topic_admin(kafka) as admin:
        await admin.ensure(topics.control())


def total(values: Mapping[str, float]) -> float:
    """Of all processes together."""
    return round(sum(values.values()), 1)
