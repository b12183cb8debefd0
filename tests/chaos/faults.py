"""The faults, each as what is done to a running cluster, and what makes one follow another."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from flow import Reader, Sender
from orders import Stream
from trimtab.cli.cluster.programs import SERVICES
from victims import BROKER, LOOK_S, PATIENCE_S, Spare, StuckError, Victims

if TYPE_CHECKING:
    from network import Network

CALM_S, WARM_S = 2.0, 10.0
"""Between two faults everything flows for so long, at least (the latter after a broker's start: its JVM compiles)."""
STEADY_S, MOST_S = 1.5, 60.0
"""After such a start also until no partition has been silent for so long within the last WARM_S, and MOST_S at most."""
BEHIND_S, FAR_BEHIND_S = 1.5, 15.0
"""The flow is back when everything has been predicted that was sent so long ago (the latter on a crowded machine),"""
SILENT_S = 3.0
"""and when outcomes have come so recently in every partition."""
FROZEN_S = 10.0
"""Longer than a session, which is 6 s: its tasks have gone to another when it wakes up."""
KEEPERS = ("ingest", "feature", "predictor", "monitor")
"""The services with tasks of each loop."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything a fault needs.

    `rng`: chance, from the campaign's seed. `network`: before the broker, where one is. `behind_s`: of a flow that is
    back, see BEHIND_S.
    """

    victims: Victims
    sender: Sender
    reader: Reader
    stream: Stream
    rng: np.random.Generator
    network: "Network | None" = None
    behind_s: float = BEHIND_S

    async def begun(self) -> None:
        """Wait for the first outcomes. Raises StuckError."""
        await self._until(lambda: self.reader.outcomes.silent_since_s > 0, time.monotonic())

    async def warmed(self) -> bool:
        """Wait until brokers that have been started do not stall the flow by themselves any more; whether it came."""
        deadline_s = time.monotonic() + MOST_S
        await asyncio.sleep(WARM_S)
        while self.longest_gap_s(time.monotonic() - WARM_S, time.monotonic()) > STEADY_S:
            if time.monotonic() > deadline_s:
                return False
            await asyncio.sleep(LOOK_S)
        return True

    def longest_gap_s(self, since_s: float, until_s: float) -> float:
        """The longest time without a new prediction, or without a new outcome, in any partition."""
        return max(seen.longest_gap_s(since_s, until_s) for seen in (self.reader.predictions, self.reader.outcomes))

    async def recovered(self, since_s: float) -> float:
        """Wait until all is ready and flows; returns the seconds since then. Raises StuckError."""
        await self._until(lambda: self._flows(since_s) and self.victims.is_ready, since_s)
        return time.monotonic() - since_s

    async def flowing(self, since_s: float) -> float:
        """The same, whoever is not ready."""
        await self._until(lambda: self._flows(since_s), since_s)
        return time.monotonic() - since_s

    async def _until(self, holds: Callable[[], bool], since_s: float) -> None:
        deadline_s = since_s + PATIENCE_S
        while not await asyncio.to_thread(holds):
            if time.monotonic() > deadline_s:
                raise StuckError("the flow", self.victims.folder)
            await asyncio.sleep(LOOK_S)

    def _flows(self, since_s: float) -> bool:
        now_s = time.monotonic()
        due = self.sender.due(since_s, now_s - self.behind_s)
        caught_up = due is not None and self.reader.through(self.stream.orders) >= due
        return caught_up and self.reader.outcomes.silent_since_s > now_s - SILENT_S


Blow = Callable[[Scene], Awaitable[float]]
"""Does it, and returns the seconds from then until the flow was back."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`name`: as the table shows it. `about`: what is done."""

    name: str
    about: str
    blow: Blow


@dataclass(frozen=True, slots=True)
class Injected:
    """One fault that was made: its stretch of the stream, and what the flow suffered."""

    fault: str
    stretch: int
    stall_s: float
    recovery_s: float


async def inject(fault: Fault, scene: Scene) -> Injected:
    """Make one fault, and wait until it is over."""
    scene.stream.stretch += 1
    began_s, brokers = time.monotonic(), scene.victims.serving_brokers()
    recovery_s = await fault.blow(scene)
    over_s = time.monotonic()
    await (asyncio.sleep(CALM_S) if scene.victims.serving_brokers() == brokers else scene.warmed())
    stall_s = scene.longest_gap_s(began_s, over_s)
    return Injected(fault.name, scene.stream.stretch, round(stall_s, 2), round(recovery_s, 2))


async def nothing(scene: Scene) -> float:
    """Let it flow, for comparison."""
    await asyncio.sleep(3 * CALM_S)
    return await scene.recovered(time.monotonic())


def kill(name: str) -> Blow:
    """SIGKILL to a service or the broker; its supervisor starts it again."""

    async def blow(scene: Scene) -> float:
        struck_s = await strike(scene, name)
        return await scene.recovered(struck_s)

    return blow


async def strike(scene: Scene, name: str, number: signal.Signals = signal.SIGKILL, replica: int = 0) -> float:
    """Send a signal; returns when."""
    await asyncio.to_thread(scene.victims.signal, name, number, replica)
    return time.monotonic()


async def kill_all(scene: Scene) -> float:
    """SIGKILL to all services, one right after the other, in any order."""
    struck_s = [await strike(scene, str(name)) for name in scene.rng.permutation(list(SERVICES))]
    return await scene.recovered(struck_s[0])


async def kill_restoring(scene: Scene) -> float:
    """SIGKILL to a service with tables, and again while its successor restores them."""
    name = any_keeper(scene)
    before = scene.victims.pid(name)
    struck_s = await strike(scene, name)
    await asyncio.to_thread(scene.victims.until_opening, name, before)
    await strike(scene, name)
    return await scene.recovered(struck_s)


def any_keeper(scene: Scene) -> str:
    """A service with tasks of the loop."""
    return str(scene.rng.choice(KEEPERS))


async def freeze(scene: Scene) -> float:
    """SIGSTOP to a worker until another has its tasks, then SIGCONT: it must not write any more."""
    name = any_keeper(scene)
    async with spares(scene, name, 1):
        struck_s = await strike(scene, name, signal.SIGSTOP)
        await asyncio.sleep(CALM_S)
        flowing_s = await scene.flowing(struck_s)
        await asyncio.sleep(max(0.0, struck_s + FROZEN_S - time.monotonic()))
        awake_s = await strike(scene, name, signal.SIGCONT)
        return max(flowing_s, await scene.recovered(awake_s))


async def kill_for_good(scene: Scene) -> float:
    """SIGKILL to a worker that nobody starts again; the others take its tasks when its session ends."""
    async with spares(scene, any_keeper(scene), 1) as [spare]:
        spare.kill()
        struck_s = time.monotonic()
        await asyncio.sleep(CALM_S)
        return await scene.recovered(struck_s)


async def scale(scene: Scene) -> float:
    """A service with one, three, and one replica again; recovery is counted from when the last one has gone."""
    async with spares(scene, any_keeper(scene), 2):
        await scene.recovered(time.monotonic())
        await asyncio.sleep(CALM_S)
    return await scene.recovered(time.monotonic())


async def restart(scene: Scene) -> float:
    """`trimtab down`, `trimtab up`."""
    began_s = time.monotonic()
    await asyncio.to_thread(scene.victims.stop)
    await asyncio.to_thread(scene.victims.start)
    return await scene.recovered(began_s)


async def kill_supervisor(scene: Scene) -> float:
    """SIGKILL to `trimtab up` itself, which takes everything with it, and up again."""
    began_s = time.monotonic()
    await asyncio.to_thread(scene.victims.kill_supervisor)
    await asyncio.to_thread(scene.victims.start)
    return await scene.recovered(began_s)


@asynccontextmanager
async def spares(scene: Scene, name: str, count: int) -> AsyncIterator[Sequence[Spare]]:
    """Further replicas of a service for a `with`, ended cleanly one after the other."""
    started = list[Spare]()
    try:
        for replica in range(scene.victims.replicas, scene.victims.replicas + count):
            started.append(await asyncio.to_thread(scene.victims.spare, name, replica))
            await scene.recovered(time.monotonic())
        yield started
    finally:
        for spare in started:
            await asyncio.to_thread(spare.end)


UNDISTURBED = Fault("none", "everything flows, for comparison", nothing)
KILLS = [Fault(f"kill {name}", "SIGKILL; its supervisor starts it again", kill(name)) for name in SERVICES]
FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for fault in [
        *KILLS,
        Fault("freeze a worker", "SIGSTOP beyond its session while another takes its tasks, then SIGCONT", freeze),
        Fault("kill the broker", "SIGKILL; its supervisor starts it again", kill(BROKER)),
        Fault(
            "kill trimtab up", "SIGKILL to the supervisor, which takes everything with it; up again", kill_supervisor
        ),
        Fault("restart", "trimtab down, trimtab up", restart),
        Fault("scale 1-3-1", "two further replicas of a service come and go", scale),
        Fault("kill for good", "SIGKILL to a replica that nobody starts again", kill_for_good),
        Fault("kill twice", "SIGKILL, and again while its successor restores its tasks", kill_restoring),
        Fault("kill all services", "SIGKILL to all seven within a second", kill_all),
    ]
}


def rounds(wanted: Sequence[Fault], rng: np.random.Generator) -> Iterator[Fault]:
    """The wanted faults again and again, each round in another order; the first begins undisturbed."""
    yield UNDISTURBED
    while wanted:
        yield from (wanted[at] for at in rng.permutation(len(wanted)))
