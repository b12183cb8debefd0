"""Run whole stages on a bus in memory until nothing moves any more."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from trimtab.runtime import marks
from trimtab.runtime.bus import Bus, Declared
from trimtab.runtime.clock import Now, wall_ms
from trimtab.runtime.memory import MemoryBus
from trimtab.runtime.options import Options
from trimtab.runtime.records import Out, Record
from trimtab.runtime.session import Surroundings
from trimtab.runtime.stage import Stage
from trimtab.runtime.task import STANDING
from trimtab.runtime.tracing import NO_TRACING, Tracing
from trimtab.runtime.views import Views
from trimtab.runtime.worker import Worker

QUICK = Options(flush_s=0.05, marks_s=0.01, marks_rest_s=0.01, backoff_s=0.01, backoff_most_s=0.05, check_s=0.2)
"""Impatient: for tests."""


class Running:
    """Stages at work. Use as an asynchronous context manager; leaving it closes them in order."""

    def __init__(
        self,
        stages: Sequence[Stage],
        bus: Bus,
        *,
        now_ms: Now = wall_ms,
        options: Options = QUICK,
        declared: Declared | None = None,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._stages, self._bus = stages, bus
        self._around = Surroundings(now_ms, options, tracing=tracing)
        self._declared = declared or Declared()
        self.workers: list[Worker] = []
        self._running: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Running":
        self._views = Views(self._bus)
        self.workers = [Worker(stage, self._bus, self._views, self._around, self._declared) for stage in self._stages]
        self._running = [asyncio.create_task(worker.run()) for worker in self.workers]
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.close()
        await asyncio.gather(*self._running)
        await self._views.keep(())

    async def kill(self) -> None:
        """Stop without any goodbye, as far as one process can do that to itself."""
        for running in self._running:
            running.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._running = []

    async def until(self, condition: Callable[[], bool], *, timeout_s: float = 30.0) -> None:
        """Wait for a condition, looking every few ms. Raises TimeoutError with the state of the stages."""
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():  # noqa: ASYNC110 conditions are over many tasks' states
                    await asyncio.sleep(0.005)
        except TimeoutError as error:
            state = [worker.status() for worker in self.workers]
            raise TimeoutError(f"not within {timeout_s} s; the stages: {state}") from error

    def settled(self) -> bool:
        """Whether every task runs, has read everything, and has said so (or stands still for good)."""
        return all(_settled(worker) for worker in self.workers)


def _settled(worker: Worker) -> bool:
    status = worker.status()
    stage = worker.stage
    clocked = any(source.clock != "none" for source in stage.inputs)
    return len(status.tasks) == stage.partitions and all(
        task.state in STANDING
        or (task.state == "running" and task.transactions > 0 and task.lag == 0 and (task.idle or not clocked))
        for task in status.tasks
    )


def topics_of(stages: Iterable[Stage]) -> dict[str, int]:
    """Every topic the stages name, with its partitions (a view's topic that nobody writes: one)."""
    found: dict[str, int] = {}
    for stage in stages:
        found |= {source.topic: stage.partitions for source in stage.inputs}
        found[stage.changelog] = stage.partitions
        found |= {output.topic: output.partitions for output in stage.outputs}
        found |= {spec.topic: stage.partitions for spec in stage.tables if spec.topic is not None}
    for stage in stages:
        for view in stage.views:
            found.setdefault(view.topic, 1)
    return found


async def run_stages(
    stages: Sequence[Stage],
    records: Mapping[str, Sequence[Out]] | Sequence[Out],
    *,
    bus: MemoryBus | None = None,
    now_ms: Now = wall_ms,
    timeout_s: float = 30.0,
) -> MemoryBus:
    """Write records to a bus in memory, run the stages until they have read everything, and give the bus back.

    A given `bus` keeps its topics, tables and positions, so a second call goes on where the first one ended. Users'
    topics count as idle at their end, so event time goes up to the newest event.
    """
    used = bus or MemoryBus(now_ms=now_ms)
    for topic, partitions in topics_of(stages).items():
        if not await used.catalog.describe([topic]):
            used.create(topic, partitions)
    used.append(_flat(records))
    used.append(_idle_marks(stages))
    async with Running(stages, used, now_ms=now_ms) as running:
        await running.until(running.settled, timeout_s=timeout_s)
        before = -1
        while before != (before := used.written):
            await asyncio.sleep(2 * QUICK.flush_s)
            await running.until(running.settled, timeout_s=timeout_s)
    return used


def data(bus: MemoryBus, topic: str) -> list[Record]:
    """The records of a topic without marks, partition by partition."""
    return [record for record in bus.records(topic) if not marks.is_mark(record)]


def _flat(records: Mapping[str, Sequence[Out]] | Sequence[Out]) -> list[Out]:
    if not isinstance(records, Mapping):
        return list(records)
    return [
        Out(topic, out.key, out.value, out.headers, out.partition) for topic, outs in records.items() for out in outs
    ]


def _idle_marks(stages: Sequence[Stage]) -> list[Out]:
    """Let users' topics say at once that nothing more comes, instead of waiting a second for it."""
    mark = marks.Mark("test", None)
    return [
        Out(source.topic, marks.key_of(mark.task), None, marks.headers_of(mark), partition)
        for stage in stages
        for source in stage.inputs
        if source.clock == "reported"
        for partition in range(stage.partitions)
    ]
