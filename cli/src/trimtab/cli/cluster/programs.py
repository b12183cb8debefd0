"""What the local cluster consists of: every program with its command, environment, log and address."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trimtab.cli.cluster.keys import KeyFiles

SERVICES: Mapping[str, int] = {
    "ingest": 8401,
    "feature": 8402,
    "predictor": 8403,
    "monitor": 8404,
    "retrain-controller": 8405,
    "trainer": 8406,
    "registry": 8407,
}
"""The services and the ports they get when nobody else has them."""

KAFKA_PORT = 9092
ZIPKIN_PORT = 9411

TRACE_SHARE = "0.1"
"""With a tracing server of one's own: a detector's look, 50 events at least, then holds one that a trace leads from."""

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
"""Seven processes share the cores; a pool of threads in each makes all of them slower."""


@dataclass(frozen=True, slots=True)
class Program:
    """One process to keep running. `health`: the path that answers 200 over HTTP when it is ready.

    `module`: what `argv` runs, where it is one of Python's: it can be forked from a process that has loaded much of it.
    """

    name: str
    argv: tuple[str, ...]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    replica: int = 0
    port: int | None = None
    health: str = "/ready"
    scheme: str = "http"
    module: str | None = None

    @property
    def id(self) -> str:
        """Name and replica, as its log file is called."""
        return f"{self.name}-{self.replica}"

    @property
    def url(self) -> str | None:
        """Its address, if it has one."""
        return None if self.port is None else f"{self.scheme}://127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where things are: one folder, one Kafka, perhaps a tracing server."""

    folder: Path
    bootstrap: str
    keys: KeyFiles
    zipkin: str | None = None

    def environment(self, service: str, replica: int, port: int) -> dict[str, str]:
        """The settings of one service, as environment variables."""
        env = {
            "TRIMTAB_DATA_DIR": str(self.folder),
            "TRIMTAB_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap,
            "TRIMTAB_STORE__URL": (self.folder / "blobs").as_uri(),
            "TRIMTAB_REGISTRY__DATABASE_URL": f"sqlite:///{self.folder / 'registry.db'}",
            "TRIMTAB_HTTP__PORT": str(port),
            "TRIMTAB_REPLICA": str(replica),
            **self.keys.environment(service),
        }
        if self.zipkin is not None:
            env["TRIMTAB_ZIPKIN__ENDPOINT"] = f"{self.zipkin}/api/v2/spans"
            env["TRIMTAB_TRACE_SHARE"] = TRACE_SHARE
        return env

    def service(self, name: str, replica: int, port: int, inherited: Mapping[str, str]) -> Program:
        """A service as a program. What the user's own environment says about it wins over the local defaults."""
        local = self.environment(name, replica, port)
        chosen = {key: inherited[key] for key in _OVERRIDABLE if key in inherited}
        module = f"trimtab.{name.replace('-', '_')}"
        return Program(
            name=name,
            argv=(sys.executable, "-m", module),
            module=module,
            log=self.folder / "logs" / f"{name}-{replica}.log",
            env={**ONE_THREAD, **inherited, **local, **chosen, "PYTHONUNBUFFERED": "1"},
            replica=replica,
            port=port,
        )


_OVERRIDABLE: Sequence[str] = (
    "TRIMTAB_STORE__URL",
    "TRIMTAB_REGISTRY__DATABASE_URL",
    "TRIMTAB_ZIPKIN__ENDPOINT",
    "TRIMTAB_TRACE_SHARE",
)
