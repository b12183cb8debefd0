"""Where schedules of the services are run and judged; what is made for one serves the next."""

import asyncio
import atexit
import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import zip_longest
from pathlib import Path

from trimtab.runtime.memory import MemoryBus
from trimtab.store.blobs import BlobStore
from trimtab.testing.simulation import Dice, ScheduleStuckError, draw

from tests.simulation.outcome import Outcome
from tests.simulation.services.control import control_plane, decisions, deployments, tables, told
from tests.simulation.services.judge import Evidence, data_plane
from tests.simulation.services.processes import KINDS, Assembly, Site
from tests.simulation.services.world import CALM_S, CHAPTERS, LOOK_S, WHOLE, Chapter, Plan, World

MOST_FAULTS, STEPS = 12, 6_000


class Stand:
    """Where schedules are run. An undisturbed run goes through all hours once; schedules begin within it.

    Mutable: what it has made for one schedule serves the next.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._site = Site(folder / "undisturbed", folder / "shared")
        self._site.prepare()
        self._hours: dict[int, MemoryBus] = {}
        self._decided: dict[Chapter, Sequence[str]] = {}
        self._run_undisturbed()

    def _run_undisturbed(self) -> None:
        world = World(Plan(0, WHOLE), self._site, Assembly())
        self._site.disk.mkdir()

        async def run() -> None:
            await world.start()
            for hour in range(WHOLE.first, max(chapter.first for chapter in CHAPTERS)):
                if hour in {chapter.first for chapter in CHAPTERS}:
                    await self._keep(world, hour)
                await world.feed(hour)
            await self._keep(world, hour + 1)

        world.loop.run_until_complete(run())
        world.loop.end()

    async def _keep(self, world: World, hour: int) -> None:
        while world.bus.open or any(task.lag for one in world.cluster.status() for task in one.tasks):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
        await asyncio.sleep(CALM_S)
        self._hours[hour] = MemoryBus()
        self._hours[hour].copy_of(world.bus)
        for part in world.bus.compacted:
            self._hours[hour].compact(part, world.bus.end(part))

    def decided(self, chapter: Chapter) -> Sequence[str]:
        """What is decided by the end of a chapter in which nothing goes wrong."""
        if chapter not in self._decided:
            self._decided[chapter] = self._run(Plan(0, chapter), Assembly())[1]
        return self._decided[chapter]

    def simulate(self, plan: Plan, assembly: Assembly | None = None) -> Outcome:
        """Run a plan to its end. What it decides has to be what is decided where nothing goes wrong."""
        outcome, decided = self._run(plan, assembly or Assembly())
        pairs = zip_longest(decided, self.decided(plan.chapter))
        differ = [f"decided {one}, undisturbed {other}" for one, other in pairs if one != other]
        return outcome if outcome.findings else replace(outcome, findings=differ)

    def _run(self, plan: Plan, assembly: Assembly) -> tuple[Outcome, Sequence[str]]:
        disk = self._folder / "schedule"
        shutil.rmtree(disk, ignore_errors=True)
        disk.mkdir()
        site = replace(self._site, disk=disk)
        world = World(plan, site, assembly, self._hours[plan.chapter.first])
        for fault in plan.faults:
            world.loop.interrupts.setdefault(fault.step, []).append(partial(world.cluster.apply, fault))
        try:
            found = world.loop.run_until_complete(_played(world, plan)) or judged(world, plan, site)
        except ScheduleStuckError as error:
            found = [str(error)]
        decided = decisions(told(Evidence(world.bus, BlobStore(site.blobs), plan.chapter.first, plan.chapter.end)))
        outcome = Outcome(found, _digest(world), world.loop.steps)
        world.loop.end()
        return outcome, decided


async def _played(world: World, plan: Plan) -> Sequence[str]:
    """What stands in the way of an end. The last hour comes when all trouble is over."""
    await world.start()
    last = plan.chapter.end - 1
    for hour in range(plan.chapter.first, last):
        if left := await world.feed(hour):
            return left
    while world.troubled:  # noqa: ASYNC110 faults come by steps, not by events
        await asyncio.sleep(LOOK_S)
    return await world.feed(last) or await world.rest(plan.chapter.end)


def judged(world: World, plan: Plan, site: Site) -> Sequence[str]:
    """Everything that is not as it must be."""
    seen = Evidence(world.bus, BlobStore(site.blobs), plan.chapter.first, plan.chapter.end)
    events = told(seen)
    served = [None if one is None or one.champion is None else one.champion.version for one in world.serving().values()]
    registries = [one.process.name for one in world.cluster.replicas if KINDS[one.kind] == "registry"]
    return [
        *data_plane(seen, deployments(events)),
        *control_plane(seen, events, served, site, registries),
        *tables(seen, world.cluster.stages(), events),
    ]


def plan_of(seed: int) -> Plan:
    """The plan that belongs to a seed."""
    dice = Dice(seed)
    aim = dice.pick([None, *range(len(KINDS))])
    return Plan(seed, dice.pick(CHAPTERS), aim, draw(dice, most=MOST_FAULTS, steps=STEPS))


def _digest(world: World) -> str:
    made = hashlib.blake2b(repr((world.loop.trace, world.loop.steps)).encode(), digest_size=8)
    for topic in world.topics:
        for record in world.bus.records(topic):
            made.update(repr((record.partition, record.offset, record.key, record.value)).encode())
    return made.hexdigest()


@cache
def stand() -> Stand:
    """This process's."""
    folder = Path(tempfile.mkdtemp(prefix="trimtab-simulation-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Stand(folder)
