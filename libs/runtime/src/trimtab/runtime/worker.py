"""A worker: one process's share of a stage. One dispatcher drains the group's consumer into its tasks' inboxes."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from trimtab.runtime.bus import Bus, Consumer, Declared, Fetched, Membership, Part, TopicInfo
from trimtab.runtime.errors import BusSilentError, PositionOutOfRangeError, RefusalError, StageInvalidError
from trimtab.runtime.position import check_topics
from trimtab.runtime.session import Surroundings
from trimtab.runtime.stage import Stage
from trimtab.runtime.task import Place, Task, TaskStatus
from trimtab.runtime.unreadable import Unreadable
from trimtab.runtime.views import Views

log = structlog.get_logger(__name__)

_POLL_S, _JOINING_S = 0.2, 0.02
"""How long a poll may take: the latter until the group has given out its tasks, which are opened only after a poll."""
AWAITED_REST_S = 0.05
"""Where the beginnings of grains of time are awaited, fetches rest no longer: they bring the news."""


@dataclass(frozen=True, slots=True)
class StageStatus:
    """How a stage is in this process. `state`: "joining" until the tasks that the group has given out are there.

    `unreadable`: partitions that its tasks and views cannot read to the end, told for a person.
    """

    group: str
    state: str
    tasks: tuple[TaskStatus, ...]
    unreadable: tuple[str, ...] = ()


def check(stage: Stage) -> None:
    """Raises StageInvalidError where a stage contradicts itself."""
    outputs = {output.topic: output for output in stage.outputs}
    names = [spec.name for spec in stage.tables]
    problems = {
        "it has no inputs": not stage.inputs,
        "two tables have one name": len(set(names)) < len(names),
        "a table's name must be text without \\0": any(not name or "\x00" in name for name in names),
        "a table's topic must not be an input": any(
            spec.topic in {i.topic for i in stage.inputs} for spec in stage.tables
        ),
        "a table's topic has another number of partitions than the stage": any(
            spec.topic in outputs and outputs[spec.topic].partitions != stage.partitions
            for spec in stage.tables
            if spec.topic is not None
        ),
        "an input with clock = marks must name its writers": any(
            source.clock == "marks" and not source.writers for source in stage.inputs
        ),
    }
    for problem, found in problems.items():
        if found:
            raise StageInvalidError(stage.group, problem)


class Worker:
    """Runs the tasks of one stage that the group gives to this process.

    `views`: the process's view readers, shared between stages. Exactly once: a batch's outputs, table changes and
    position are one transaction.
    """

    def __init__(self, stage: Stage, bus: Bus, views: Views, around: Surroundings, declared: Declared) -> None:
        check(stage)
        self.stage = stage
        self._bus, self._around = bus, around
        self._consumer: Consumer | None = None
        self._units: frozenset[int] | None = None
        self._closing = asyncio.Event()
        self._tasks: dict[int, tuple[Task, asyncio.Task[None]]] = {}
        self._ending: dict[int, asyncio.Task[None]] = {}
        readers = [views.start(view) for view in stage.views]
        self._unreadable = Unreadable(bus.catalog, around.options.open_s)
        self._told: Mapping[Part, str] = {}
        self._place = Place(bus, self._joined, readers, declared)

    async def run(self) -> None:
        """Run until closed. When the consumer fails it joins again; tasks see to themselves."""
        delay_s = self._around.options.backoff_s
        while not self._closing.is_set():
            try:
                await self._serve()
            except Exception as error:
                log.error(
                    "consumer failed", group=self.stage.group, error=f"{type(error).__name__}: {error}", exc_info=error
                )
                try:
                    await asyncio.wait_for(self._closing.wait(), delay_s)
                except TimeoutError:
                    delay_s = min(delay_s * 2, self._around.options.backoff_most_s)

    def close(self) -> None:
        """Let running transactions end, leave the group, and `run` return."""
        self._closing.set()

    def status(self) -> StageStatus:
        """How it is now."""
        tasks = tuple(task.status() for _, (task, _) in sorted(self._tasks.items()))
        there = self._units is not None and self._units <= self._tasks.keys()
        return StageStatus(
            self.stage.group,
            "joined" if there else "joining",
            tasks,
            tuple(self._told[part] for part in sorted(self._told)),
        )

    def _joined(self) -> Consumer:
        if self._consumer is None:
            raise StageInvalidError(self.stage.group, "a task was started before its worker joined the group")
        return self._consumer

    async def _serve(self) -> None:
        topics = [source.topic for source in self.stage.inputs]
        membership = Membership(self.stage.group, topics, self.stage.partitions, self._assigned)
        self._consumer = consumer = await self._bus.consumer(membership)
        watch = asyncio.create_task(self._watch_topics(), name=f"{self.stage.group} topics")
        try:
            while not self._closing.is_set():
                self._reconcile()
                consumer.rest(self._rest_s())
                self._dispatch(await consumer.poll(_JOINING_S if self._units is None else _POLL_S))
                if watch.done():
                    watch.result()
        finally:
            watch.cancel()
            await self._end_all()
            self._consumer, self._units = None, None
            await consumer.close()

    def _rest_s(self) -> float:
        """How long fetches may rest: half as long as transactions do, where all tasks work on events of now."""
        is_live = all(task.is_live for task, _ in self._tasks.values())
        rest_s = self.stage.live_interval_ms / 2000
        if self.stage.awaited_grain_ms is not None:
            rest_s = min(rest_s, AWAITED_REST_S)
        return rest_s if is_live else 0.0

    def _assigned(self, units: frozenset[int]) -> None:
        """Called by the consumer, within the rebalance: tasks that stay go on, the others wait for `_reconcile`."""
        self._units = units
        if self._consumer is not None:
            for partition in units & self._tasks.keys():
                self._tasks[partition][0].resume(self._consumer)

    def _reconcile(self) -> None:
        units = self._units or frozenset()
        for partition, (task, running) in list(self._tasks.items()):
            if running.done():
                log.error("task ended by itself", task=task.name, error=str(running))
                del self._tasks[partition]
        for partition in units - self._tasks.keys() - self._ending.keys():
            task = Task(self.stage, partition, self._place, self._around)
            self._tasks[partition] = (task, asyncio.create_task(task.run(), name=task.name))
        for partition in self._tasks.keys() - units:
            self._ending[partition] = asyncio.create_task(self._end(partition, *self._tasks.pop(partition)))

    async def _end(self, partition: int, task: Task, running: asyncio.Task[None]) -> None:
        """Let a task finish its transaction; it is cut off when that takes too long."""
        task.close()
        try:
            await asyncio.wait([running], timeout=self._around.options.close_s)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            self._ending.pop(partition, None)

    async def _end_all(self) -> None:
        for partition in list(self._tasks):
            self._ending[partition] = asyncio.create_task(self._end(partition, *self._tasks.pop(partition)))
        await asyncio.gather(*self._ending.values(), return_exceptions=True)

    def _dispatch(self, fetched: Fetched) -> None:
        now_s = asyncio.get_running_loop().time()
        for part, records in fetched.records.items():
            task = self._task(part)
            if task is not None and (box := task.inboxes[part.topic]).flowing:
                task.put(part.topic, records, now_s)
                if box.full:
                    self._joined().pause(part)
                    box.flowing = False
        for part, end in fetched.ends.items():
            if (task := self._task(part)) is not None:
                task.note_end(part.topic, end, ended=part in fetched.ended)
        for part, offset in fetched.lost.items():
            if (task := self._task(part)) is not None:
                task.refuse(PositionOutOfRangeError(task.name, part.topic, offset))

    def _task(self, part: Part) -> Task | None:
        found = self._tasks.get(part.partition)
        return None if found is None else found[0]

    async def _watch_topics(self) -> None:
        """Compare the topics with what was declared, and with what they were when the tasks opened; try their ends."""
        while True:
            await asyncio.sleep(self._around.options.check_s)
            known = dict(self._place.declared.topics)
            for task, _ in self._tasks.values():
                known |= task.topics
            try:
                found = await self._bus.catalog.describe(list(known))
                check_topics(found, dict.fromkeys(known), Declared(known))
                self._tell(await self._unreadable.look(self._read_by(found), asyncio.get_running_loop().time()))
            except BusSilentError as error:
                log.warning("topics not checked", group=self.stage.group, error=str(error))
            except RefusalError as refusal:
                for task, _ in self._tasks.values():
                    task.refuse(refusal)

    def _read_by(self, found: Mapping[str, TopicInfo]) -> list[Part]:
        """The partitions that this stage's tasks and views read."""
        own = {source.topic for source in self.stage.inputs} | {self.stage.changelog}
        own |= {spec.topic for spec in self.stage.tables if spec.topic is not None}
        parts = {Part(topic, partition) for topic in own & found.keys() for partition in self._tasks}
        viewed = {view.topic for view in self.stage.views} & found.keys()
        return [*parts, *(Part(topic, at) for topic in viewed - own for at in range(found[topic].partitions))]

    def _tell(self, unreadable: Mapping[Part, str]) -> None:
        for part in unreadable.keys() - self._told.keys():
            log.error("partition unreadable", group=self.stage.group, error=unreadable[part])
        self._told = unreadable
