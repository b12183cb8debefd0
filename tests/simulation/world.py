"""One schedule: a cluster runs the pipeline while a plan's faults happen, until everything has been read."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from trimtab.runtime import marks
from trimtab.runtime.bus import Part
from trimtab.runtime.marks import Mark
from trimtab.runtime.memory import MemoryBus
from trimtab.runtime.records import Out, Read
from trimtab.runtime.stage import Stage
from trimtab.testing.simulation import (
    Cluster,
    Dice,
    Fault,
    ScheduleStuckError,
    SeededLoop,
    SimulatedBus,
    StagesProgram,
    draw,
)
from trimtab.testing.stages import topics_of

from tests.simulation.oracle import findings, unfinished
from tests.simulation.outcome import Outcome
from tests.simulation.pipeline import BEGAN_MS, EVENTS_MS, RAW, SUMMED, Pipeline, Shape, pipeline, raw

PROCESSES, MOST_FAULTS, STEPS = 2, 10, 1_200
EVENTS, CHUNK = 36, 6
PACE_S = 0.1
"""Users send a chunk within so long."""
PATIENCE_S = 60.0
"""Virtual: after the last fault everything has to come to its end within so long."""
CALM_S = 0.3
LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run depends on, and nothing else."""

    seed: int
    faults: Sequence[Fault] = ()
    shape: Shape = field(default_factory=Shape)
    events: int = EVENTS

    def __str__(self) -> str:
        lines = [f"seed {self.seed}, {self.events} events, {self.shape}", *map(str, self.faults)]
        return "\n  ".join(lines)

    def with_faults(self, faults: Sequence[Fault]) -> "Plan":
        """The same with other faults."""
        return replace(self, faults=faults)

    def shorter(self) -> Iterator["Plan"]:
        """The same with fewer events."""
        if self.events > CHUNK:
            yield replace(self, events=self.events - CHUNK)


@dataclass(frozen=True, slots=True)
class Build:
    """What is put together: the real runtime on the simulated bus, or one with a bug in it."""

    pipeline: Pipeline = pipeline
    bus: Callable[[SeededLoop, dict[str, int], int], SimulatedBus] = SimulatedBus


SOUND = Build()


def plan_of(seed: int) -> Plan:
    """The plan that belongs to a seed."""
    dice = Dice(seed)
    return Plan(seed, draw(dice, most=MOST_FAULTS, steps=STEPS), Shape(dice.pick([2, 2, 4]), dice.pick([2, 2, 5])))


def simulate(plan: Plan, build: Build = SOUND) -> Outcome:
    """Run a plan to its end."""
    loop = SeededLoop(Dice(plan.seed))
    stages = build.pipeline(plan.shape)
    bus = build.bus(loop, topics_of(stages), BEGAN_MS)
    bus.compacted = compacted(stages)
    world = _World(plan, stages, bus, Cluster(bus, [lambda _: StagesProgram(bus, build.pipeline(plan.shape))]))
    for fault in plan.faults:
        loop.interrupts.setdefault(fault.step, []).append(partial(world.cluster.apply, fault))
    try:
        found = loop.run_until_complete(world.run()) or findings(bus, stages, world.seen)
    except ScheduleStuckError as error:
        found = [str(error)]
    outcome = Outcome(found, _digest(loop, bus, topics_of(stages)), loop.steps)
    loop.end()
    return outcome


def compacted(stages: Sequence[Stage]) -> Sequence[Part]:
    """Where tables and positions are kept."""
    return [
        Part(topic, number)
        for stage in stages
        for topic in (stage.changelog, *(spec.topic for spec in stage.tables if spec.topic is not None))
        for number in range(stage.partitions)
    ]


def _digest(loop: SeededLoop, bus: MemoryBus, topics: dict[str, int]) -> str:
    made = hashlib.blake2b(repr((loop.trace, loop.steps)).encode(), digest_size=8)
    for topic in topics:
        for record in bus.records(topic):
            made.update(repr((record.partition, record.offset, record.key, record.value)).encode())
    return made.hexdigest()


@dataclass(frozen=True, slots=True)
class _World:
    plan: Plan
    stages: Sequence[Stage]
    bus: SimulatedBus
    cluster: Cluster
    seen: list[Read] = field(default_factory=list)

    async def run(self) -> Sequence[str]:
        """Findings that stand in the way of an end."""
        for _ in range(PROCESSES):
            self.cluster.start(0)
        reading = asyncio.create_task(self._read_along())
        await self._feed(0, self.plan.events - CHUNK)
        while self._troubled():  # noqa: ASYNC110 faults come by steps, not by events
            await asyncio.sleep(LOOK_S)
        await self._feed(self.plan.events - CHUNK, self.plan.events)
        self._mark(None)
        left = await self._drain()
        reading.cancel()
        return left

    def _troubled(self) -> bool:
        return bool(self.bus.loop.interrupts or self.cluster.away or self.bus.wire.under_way)

    async def _feed(self, first: int, end: int) -> None:
        """Users' producers: any partition, some events twice, and marks that say how far they are.

        The last chunk comes when all trouble is over: what is wrong in a task's memory shows in its answers.
        """
        dice = self.bus.loop.dice
        for start in range(first, end, CHUNK):
            for id in range(start, start + CHUNK):
                copies = 1 + dice.chance(0.2)
                self.bus.append([raw(id, dice.below(self.plan.shape.partitions)) for _ in range(copies)])
            self._mark(EVENTS_MS + start + CHUNK - 1)
            await asyncio.sleep(dice.unit() * PACE_S)

    def _mark(self, at_ms: int | None) -> None:
        key, headers = marks.key_of("users"), marks.headers_of(Mark("users", at_ms))
        self.bus.append([Out(RAW, key, None, headers, number) for number in range(self.plan.shape.partitions)])

    async def _read_along(self) -> None:
        reader = await self.bus.reader({Part(SUMMED, number): 0 for number in range(self.plan.shape.partitions)})
        while True:
            for records in (await reader.poll(1.0)).values():
                self.seen.extend(records)

    async def _drain(self) -> Sequence[str]:
        """Wait until nothing moves any more; what is unfinished when patience ends."""
        loop = self.bus.loop
        until_s, calm_since_s, written = loop.time() + PATIENCE_S, loop.time(), -1
        while loop.time() < until_s:
            await asyncio.sleep(LOOK_S)
            if written != self.bus.written or self.bus.open or unfinished(self.stages, self.cluster.status()):
                calm_since_s, written = loop.time(), self.bus.written
            elif loop.time() > calm_since_s + CALM_S:
                return []
        left = unfinished(self.stages, self.cluster.status())
        return [*left, *(f"transaction {id} is open" for id in sorted(self.bus.open))] or ["it never comes to rest"]
