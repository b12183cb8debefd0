"""What `trimtab up` says about itself to `status` and `down`: one file, replaced whole at each change."""

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from trimtab.cli.cluster.programs import SERVICES
from trimtab.cli.errors import ClusterError
from trimtab.cli.processes import Identity

Phase = Literal["starting", "ready", "not ready", "waiting", "stopped"]


class AlreadyUpError(ClusterError):
    """Another supervisor keeps this folder's cluster."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"the cluster in {folder} is up already; see `trimtab status`, or stop it with `trimtab down`")


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One process. `since_s`: when it came into this phase (s since the epoch). `exit_code`: of its last end."""

    name: str
    replica: int
    phase: Phase
    since_s: float
    who: Identity | None = None
    url: str | None = None
    log: str = ""
    restarts: int = 0
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class ClusterState:
    """The whole local cluster. `supervisor` is the process that keeps it."""

    supervisor: Identity
    bootstrap: str
    processes: tuple[ProcessState, ...]
    embedded: bool = True
    zipkin: str | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the services are there, and every process answers as ready."""
        return all_ready(self.processes)

    def urls(self, name: str) -> list[str]:
        """The addresses of a service's replicas."""
        return [process.url for process in self.processes if process.name == name and process.url]


def all_ready(processes: Sequence[ProcessState]) -> bool:
    """Whether services are among these, which are started last, and every process answers as ready."""
    return any(one.name in SERVICES for one in processes) and all(one.phase == "ready" for one in processes)


class StateFile:
    """`run/cluster.json`, and `run/cluster.lock`, which is locked exactly as long as a supervisor lives."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "run" / "cluster.json"
        self._lock = folder / "run" / "cluster.lock"

    def write(self, state: ClusterState) -> None:
        """Replace the file."""
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(asdict(state), indent=1))
        part.replace(self._path)

    def read(self) -> ClusterState | None:
        """What the last supervisor wrote; None when there was none or it wrote another version's form."""
        try:
            return parse(self._path.read_text())
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Try to be the one supervisor of this folder; yields whether that worked."""
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def is_held(self) -> bool:
        """Whether a supervisor lives."""
        with self.held() as free:
            return not free


def parse(text: str) -> ClusterState:
    """Read the file's text. Raises ValueError, TypeError or KeyError when it is of another form."""
    data = json.loads(text)
    processes = [ProcessState(**{**entry, "who": _identity(entry["who"])}) for entry in data["processes"]]
    supervisor = Identity(**data["supervisor"])
    return ClusterState(**{**data, "supervisor": supervisor, "processes": tuple(processes)})


def _identity(entry: dict[str, float] | None) -> Identity | None:
    return None if entry is None else Identity(pid=int(entry["pid"]), created=entry["created"])


def taken_over(state: ClusterState, supervisor: Identity) -> ClusterState:
    """What is known while another supervisor clears away after that of a state: nothing of it serves any more."""
    stopped = [ProcessState(one.name, one.replica, "stopped", one.since_s, one.who) for one in state.processes]
    return replace(state, supervisor=supervisor, processes=tuple(stopped))


def left_behind(state: ClusterState) -> Sequence[Identity]:
    """The processes that the state names, in the order in which to end them: what was started last, first."""
    return [process.who for process in reversed(state.processes) if process.who is not None]
