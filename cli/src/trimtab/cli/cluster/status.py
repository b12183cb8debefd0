"""How the cluster is: asks every service for its state, and compares with the last time it asked."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from trimtab.cli.cluster.state import ClusterState, ProcessState

TIMEOUT_S = 1.5


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """One task of a stage. `lag`: records it is behind. `progress_ms`: event time it has reached; None: unknown yet.

    `read`: records given to its step since the process started.
    """

    group: str
    partition: int
    state: str
    lag: int | None
    progress_ms: int | None
    read: int


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """A process with what it says of itself; `rate`: records a second since the last look."""

    process: ProcessState
    tasks: Sequence[TaskStatus] = ()
    rate: float | None = None

    @property
    def lag(self) -> int | None:
        """Records that the tasks are behind, in all."""
        known = [task.lag for task in self.tasks if task.lag is not None]
        return sum(known) if known else None

    @property
    def progress_ms(self) -> int | None:
        """The event time that every task with a clock has reached."""
        return min((task.progress_ms for task in self.tasks if task.progress_ms is not None), default=None)


@dataclass(frozen=True, slots=True)
class LoopStatus:
    """What serves a loop. `champion`: version, None before the first model."""

    name: str
    version: int | None
    champion: int | None
    shadows: Sequence[int]
    since: str | None


@dataclass(frozen=True, slots=True)
class Status:
    """Everything at one moment."""

    cluster: ClusterState
    services: Sequence[ServiceStatus]
    loops: Sequence[LoopStatus]


class StatusReader:
    """Asks services over HTTP, all at once. Use it in a `with`."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._client = httpx.Client(timeout=TIMEOUT_S, trust_env=False)
        self._threads = ThreadPoolExecutor(8)
        self._last: dict[str, tuple[float, int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown()
        self._client.close()

    def read(self, cluster: ClusterState) -> Status:
        """The state of everything now."""
        asked = self._threads.map(self._tasks, cluster.processes)
        services = [self._service(*pair) for pair in zip(cluster.processes, asked, strict=True)]
        predictors = cluster.urls("predictor")
        return Status(cluster, services, self.loops(predictors[0]) if predictors else [])

    def tasks(self, url: str) -> Sequence[TaskStatus]:
        """The tasks that the service at this address runs; none when it does not answer."""
        answer = self._get(f"{url}/status")
        return tasks_of(answer) if answer else ()

    def loops(self, url: str) -> Sequence[LoopStatus]:
        """What the predictor at this address serves; nothing when it does not answer."""
        answer = self._get(f"{url}/v1/loops")
        return loops_of(answer) if answer else ()

    def _service(self, process: ProcessState, tasks: Sequence[TaskStatus]) -> ServiceStatus:
        return ServiceStatus(process, tasks, self._rate(process, sum(task.read for task in tasks)) if tasks else None)

    def _rate(self, process: ProcessState, read: int) -> float | None:
        name = f"{process.name}-{process.replica}"
        now_s = self._now_s()
        before_s, before = self._last.get(name, (now_s, read))
        self._last[name] = (now_s, read)
        return (read - before) / (now_s - before_s) if now_s > before_s and read >= before else None

    def _tasks(self, process: ProcessState) -> Sequence[TaskStatus]:
        if process.who is None or process.url is None or not process.url.startswith("http:"):
            return ()
        return self.tasks(process.url)

    def _get(self, url: str) -> Mapping[str, Any] | None:
        try:
            answer = self._client.get(url)
        except httpx.HTTPError:
            return None
        if answer.status_code != httpx.codes.OK or "json" not in answer.headers.get("content-type", ""):
            return None
        content: Mapping[str, Any] = answer.json()
        return content


def tasks_of(answer: Mapping[str, Any]) -> list[TaskStatus]:
    """The tasks in a service's answer to GET /status."""
    return [
        TaskStatus(stage["group"], task["partition"], task["state"], task["lag"], task["progress_ms"], task["read"])
        for stage in answer.get("stages", ())
        for task in stage["tasks"]
    ]


def loops_of(answer: Mapping[str, Any]) -> list[LoopStatus]:
    """The loops in a predictor's answer to GET /v1/loops."""
    return [
        LoopStatus(loop["name"], loop["version"], loop["champion"], loop["shadows"], loop["since"])
        for loop in answer.get("loops", ())
    ]
