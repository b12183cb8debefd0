"""What a schedule of the services depends on, and its world: two processes of each service, and users who send."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from trimtab.contracts import control, topics
from trimtab.predictor.adapters.deployments import DeploymentsView
from trimtab.predictor.core import Deployment
from trimtab.runtime import marks
from trimtab.runtime.bus import Part
from trimtab.runtime.marks import Mark
from trimtab.runtime.memory import MemoryBus
from trimtab.runtime.records import Out
from trimtab.testing.declarations import declared
from trimtab.testing.simulation import Cluster, Dice, Fault, SeededLoop

from tests.simulation.oracle import unfinished
from tests.simulation.services.processes import KINDS, Assembly, Site, program, specs
from tests.simulation.services.stream import BEGAN_MS, HOUR_MS, START_MS, Event, Ride, between, body, loop, topic_of

MOST_STEPS = 400_000
REPLICAS = 2
PIECES, PACE_S = 3, 0.2
"""Users send an hour in so many pieces, each within so long."""
COPIES = 0.05
PATIENCE_S = 120.0
"""Virtual: an hour of events, and the end, take no longer than this, faults included."""
CALM_S, LOOK_S = 0.4, 0.05
CLOSING_HOURS = 3
RIDES = loop().name
DECIDERS = [topics.group(*one) for one in (("retrain-controller", "decide"), ("trainer", "fit"), ("registry", "fold"))]


@dataclass(frozen=True, slots=True)
class Chapter:
    """A stretch of hours, from where an undisturbed run has them begin."""

    first: int
    end: int


WHOLE = Chapter(0, 27)
CHAPTERS = (Chapter(17, 20), Chapter(24, 27))


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run depends on, and nothing else. `aim`: whose processes are struck; None: anybody's."""

    seed: int
    chapter: Chapter
    aim: int | None = None
    faults: Sequence[Fault] = ()

    def __str__(self) -> str:
        aim = "any process" if self.aim is None else f"processes of {KINDS[self.aim]}"
        hours = f"hours {self.chapter.first} to {self.chapter.end}"
        lines = [f"seed {self.seed}, {hours}, strikes at {aim}", *map(str, self.faults)]
        return "\n  ".join(lines)

    def with_faults(self, faults: Sequence[Fault]) -> "Plan":
        """The same with other faults."""
        return replace(self, faults=faults)

    def shorter(self) -> Iterator["Plan"]:
        """The same with an hour less at its end."""
        if self.chapter.end > self.chapter.first + 2:
            yield replace(self, chapter=replace(self.chapter, end=self.chapter.end - 1))


class World:
    """A cluster, and users who send what happens. Mutable."""

    def __init__(self, plan: Plan, site: Site, assembly: Assembly, before: MemoryBus | None = None) -> None:
        self.loop = SeededLoop(Dice(plan.seed), most_steps=MOST_STEPS)
        known = specs(RIDES, list(loop().events), loop().partitions)
        self.topics = {name: count for name, (count, _) in known.items()}
        self.bus = assembly.bus(self.loop, self.topics, BEGAN_MS)
        if plan.aim is not None:
            self.bus.wire.aim = KINDS[plan.aim]
        if before is not None:
            self.bus.copy_of(before)
        self.bus.compacted = [
            Part(name, number) for name, (count, compacted) in known.items() if compacted for number in range(count)
        ]
        self.cluster = Cluster(self.bus, [partial(program, kind, site, self.bus, assembly) for kind in KINDS], plan.aim)

    async def start(self) -> None:
        """Declare the loop where it is not, and start the processes."""
        if not self.bus.records(topics.LOOP_DECLARED):
            value = control.encode(declared(loop()))
            self.bus.append([Out(topics.LOOP_DECLARED, RIDES.encode(), value)])
        for kind in range(len(KINDS)):
            for _ in range(REPLICAS):
                self.cluster.start(kind)

    async def feed(self, hour: int) -> Sequence[str]:
        """Users' producers send an hour: any partition, some events twice, and marks that say how far they are."""
        events, dice = list(between(hour, hour + 1)), self.loop.dice
        for piece in range(PIECES):
            some = events[piece * len(events) // PIECES : (piece + 1) * len(events) // PIECES]
            self.bus.append([self._sent(one) for event in some for one in [event] * (1 + dice.chance(COPIES))])
            self.mark(some[-1].at)
            await asyncio.sleep(dice.unit() * PACE_S)
        self.mark(START_MS + (hour + 1) * HOUR_MS - 1)
        return await self.until(lambda: self._told(hour), f"hour {hour}")

    def _sent(self, event: Event) -> Out:
        """Copies of a ride anywhere; a payment's corrections after it, in its partition."""
        topic, partitions = topics.source(RIDES, topic_of(event)), loop().partitions
        if isinstance(event, Ride):
            return Out(topic, None, body(event), (), self.loop.dice.below(partitions))
        return Out(topic, event.id.encode(), body(event))

    def mark(self, at_ms: int | None) -> None:
        """Say on every source how far users are; None: nothing more comes."""
        key, headers = marks.key_of("users"), marks.headers_of(Mark("users", at_ms))
        sources = [topics.source(RIDES, event) for event in loop().events]
        self.bus.append([Out(topic, key, None, headers, number) for topic in sources for number in range(2)])

    def events(self, topic: str) -> list[Any]:
        """Control events of a topic."""
        return [control.decode(topic, one.value or b"") for one in self.bus.records(topic) if not marks.is_mark(one)]

    def _told(self, hour: int) -> Sequence[str]:
        """What is still missing before the next hour may come: an hour of lead, and no retrain open."""
        reached = max((one.at_ms for one in self.events(topics.TIME_ADVANCED)), default=START_MS)
        if reached < START_MS + hour * HOUR_MS:
            return ["time has not advanced"]
        return [*self._undecided(), *self.open(), *self._unheard()]

    def _undecided(self) -> Sequence[str]:
        """Control events that those who decide have not read."""
        return [
            f"{stage.group} has not read all of {source.topic}"
            for stage in self.cluster.stages().values()
            if stage.group in DECIDERS
            for source in stage.inputs
            if self.bus.after(part := Part(source.topic, 0), self.bus.read_by(stage.group, part), 1)[0]
        ]

    def _unheard(self) -> Sequence[str]:
        """Predictors that neither serve by the newest deployment yet nor refused it. Who is halted cannot say."""
        newest = max((one.sequence for one in self.events(topics.DEPLOYMENT_CHANGED)), default=0)
        heard = {name: max(_sequence(view.deployments.newest()), *view.refused, 0) for name, view in self._views()}
        behind = [name for name, sequence in heard.items() if sequence < newest]
        return [f"{name} has not heard of deployment {newest}" for name in behind]

    def serving(self) -> Mapping[str, Deployment | None]:
        """By which deployment each predictor serves."""
        return {name: view.deployments.newest() for name, view in self._views()}

    def _views(self) -> Sequence[tuple[str, DeploymentsView]]:
        return [
            (f"{replica.process.name} {number}", view)
            for replica in self.cluster.replicas
            if KINDS[replica.kind] == "predictor" and not replica.process.halted
            for number, worker in enumerate(replica.program.workers())
            for view in worker.stage.views
            if isinstance(view, DeploymentsView)
        ]

    def open(self) -> Sequence[str]:
        """Requests without an end, and models without a verdict."""
        asked = {one.request_id for one in self.events(topics.RETRAIN_REQUESTED)}
        ended = {one.request_id for name in (topics.MODEL_TRAINED, topics.TRAINING_FAILED) for one in self.events(name)}
        trained = {one.request_id for one in self.events(topics.MODEL_TRAINED)}
        judged = {one.request_id for one in self.events(topics.MODEL_REGISTERED)}
        return [f"{one} is open" for one in sorted(asked - ended)] + [
            f"the model of {one} has no verdict" for one in sorted(trained - judged)
        ]

    async def until(self, missing: Callable[[], Sequence[str]], what: str) -> Sequence[str]:
        """Wait until nothing is missing; what is when patience ends."""
        until_s = self.loop.time() + PATIENCE_S
        while left := missing():
            if self.loop.time() > until_s:
                return [f"{what}: {one}" for one in left]
            await asyncio.sleep(LOOK_S)
        return []

    async def rest(self, end: int) -> Sequence[str]:
        """Let users say that windows have closed and that nothing more comes; wait until nothing moves any more."""
        self.mark(START_MS + (end + CLOSING_HOURS) * HOUR_MS)
        self.mark(None)
        until_s, calm_since_s, written = self.loop.time() + PATIENCE_S, self.loop.time(), -1
        while self.loop.time() < until_s:
            await asyncio.sleep(LOOK_S)
            if written != self.bus.written or self.bus.open or self.unfinished():
                calm_since_s, written = self.loop.time(), self.bus.written
            elif self.loop.time() > calm_since_s + CALM_S:
                return []
        return [*self.unfinished(), *(f"transaction {id} is open" for id in sorted(self.bus.open))] or ["no rest"]

    def unfinished(self) -> Sequence[str]:
        """Tasks that are not where they should be in the end."""
        return unfinished(list(self.cluster.stages().values()), self.cluster.status())

    @property
    def troubled(self) -> bool:
        """Whether anything goes wrong still."""
        return bool(self.loop.interrupts or self.cluster.away or self.bus.wire.under_way)


def _sequence(deployment: Deployment | None) -> int:
    return 0 if deployment is None else deployment.sequence
