"""How the cluster is: asks every service for its state."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import httpx

from trimtab.cli.cluster.address import Addresses
from trimtab.cli.cluster.state import ClusterState, Phase, ProcessState, all_ready
from trimtab.runtime.task import STANDING

TIMEOUT_S = 1.5
SCORING = "predictor.score."


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """One task of a stage. `lag`: records it is behind. `progress_ms`: event time it has reached; None: unknown yet.

    `records`: given to its step since the process started. `idle`: nothing is on its way to it. `positions`: next
    offset by input. `reason`: why it failed or stands still. All that follows from progress and positions is committed.
    """

    group: str
    partition: int
    state: str
    reason: str | None
    lag: int | None
    progress_ms: int | None
    idle: bool
    events_per_s: float
    records: int
    positions: Mapping[str, int]

    @property
    def stands(self) -> bool:
        """Whether only a person gets it to run again."""
        return self.state in STANDING


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """A process with what it says of itself. `reasons`: why it is not ready, and what a person has to mend."""

    process: ProcessState
    tasks: Sequence[TaskStatus] = ()
    reasons: Sequence[str] = ()

    @property
    def rate(self) -> float | None:
        """Records a second that its tasks take, in all."""
        return sum(task.events_per_s for task in self.tasks) if self.tasks else None

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
    """What serves a loop. `champion`: version, None before the first model. `since_ms`: event time of its deployment.

    `sequence`: of that deployment, 0 before the first. `refused`: deployments that the predictor would not take.
    `training_failed`: how the last training failed, if it did, as the registry tells it.
    """

    name: str
    champion: int | None
    shadows: Sequence[int]
    since_ms: int | None
    sequence: int
    refused: Sequence[str]
    training_failed: str | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """Everything at one moment. `kafka`: its address. `embedded`: it is the local cluster's own."""

    kafka: str
    embedded: bool
    services: Sequence[ServiceStatus]
    loops: Sequence[LoopStatus]
    zipkin: str | None = None

    @property
    def ready(self) -> bool:
        """Whether the services are there, and every process answers as ready."""
        return all_ready([one.process for one in self.services])


class StatusReader:
    """Asks services over HTTP, all at once. Use it in a `with`."""

    def __init__(self, transport: httpx.BaseTransport | None = None) -> None:
        self._client = httpx.Client(timeout=TIMEOUT_S, trust_env=False, transport=transport)
        self._threads = ThreadPoolExecutor(8)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown()
        self._client.close()

    def read(self, cluster: ClusterState) -> Status:
        """The state of a local cluster now."""
        services = list(self._threads.map(self._service, cluster.processes))
        return Status(cluster.bootstrap, cluster.embedded, services, self._loops(services), cluster.zipkin)

    def elsewhere(self, addresses: Addresses) -> Status:
        """The state now of services that something else runs: as far as they say it themselves."""
        places = [(name, *place) for name, urls in addresses.services.items() for place in enumerate(urls)]
        services = list(self._threads.map(self._stranger, places))
        return Status(addresses.kafka.bootstrap_servers, False, services, self._loops(services))

    def tasks(self, url: str) -> Sequence[TaskStatus]:
        """The tasks that the service at this address runs; none when it does not answer."""
        answer = self._get(f"{url}/status")
        return tasks_of(answer) if answer else ()

    def loop(self, url: str, name: str) -> LoopStatus | None:
        """What the predictor at this address serves a loop with; None when it does not."""
        answer = self._get(f"{url}/v1/loops/{name}/deployment")
        return loop_of(name, answer) if answer else None

    def _loops(self, services: Sequence[ServiceStatus]) -> list[LoopStatus]:
        predictor = next((one for one in services if one.process.name == "predictor"), None)
        if predictor is None:
            return []
        names = sorted({task.group.removeprefix(SCORING) for task in predictor.tasks if task.group.startswith(SCORING)})
        found = [self.loop(predictor.process.url, name) for name in names if predictor.process.url]
        urls = [one.process.url for one in services if one.process.name == "registry" and one.process.url]
        failures = self._failures(urls[0]) if urls and names else {}
        return [replace(loop, training_failed=failures.get(loop.name)) for loop in found if loop is not None]

    def _failures(self, url: str) -> Mapping[str, str]:
        """How the last training of each loop failed, of those where it did."""
        answer = self._get(f"{url}/v1/loops?limit=500")
        told = {loop["loop"]: loop.get("training_failed") for loop in (answer or {"items": []})["items"]}
        return {
            name: f"{failed['at'][:16].replace('T', ' ')} {failed['reason']}: {failed['error']}"
            for name, failed in told.items()
            if failed is not None
        }

    def _service(self, process: ProcessState) -> ServiceStatus:
        if process.who is None or process.url is None or not process.url.startswith("http:"):
            return ServiceStatus(process)
        answer = self._get(f"{process.url}/status")
        return ServiceStatus(process, tasks_of(answer), answer["reasons"]) if answer else ServiceStatus(process)

    def _stranger(self, place: tuple[str, int, str]) -> ServiceStatus:
        name, replica, url = place
        answer = self._get(f"{url}/status")
        if answer is None:
            process = ProcessState(name, replica, "stopped", 0.0, url=url)
            return ServiceStatus(process, reasons=[f"nothing answers at {url}"])
        phase: Phase = "ready" if answer["ready"] else "not ready"
        process = ProcessState(name, replica, phase, 0.0, url=url)
        return ServiceStatus(process, tasks_of(answer), answer["reasons"])

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
        TaskStatus(stage["group"], **{name: task[name] for name in _OF_TASK})
        for stage in answer["stages"]
        for task in stage["tasks"]
    ]


def loop_of(name: str, answer: Mapping[str, Any]) -> LoopStatus:
    """A predictor's answer to GET /v1/loops/{loop}/deployment."""
    champion = answer["champion"]
    return LoopStatus(
        name=name,
        champion=None if champion is None else champion["version"],
        shadows=[model["version"] for model in answer["shadows"]],
        since_ms=answer["effective_at_ms"],
        sequence=answer["sequence"] or 0,
        refused=[f"deployment {refused['sequence']}: {refused['reason']}" for refused in answer["refused"]],
    )


_OF_TASK = tuple(name for name in TaskStatus.__slots__ if name != "group")
