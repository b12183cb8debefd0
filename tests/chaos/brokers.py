"""The faults of a cluster whose brokers stand in for each other, as do two replicas of each service."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from faults import KILLS, Fault, Scene, any_keeper, kill_supervisor, restart, strike
from trimtab.cli.brokers import SEVERAL as COUNT
from trimtab.contracts import topics
from trimtab.runtime.marks import task_name
from victims import BROKER, PATIENCE_S, StuckError

REPLICAS = 2
LOOP, EVENT = "orders", "ordered"
TRANSACTION = 1
REBALANCING = {"PreparingRebalance", "CompletingRebalance"}
BRIEF_S = 0.01
"""A rebalance may be over within a tenth of a second."""


async def kill_any(scene: Scene) -> float:
    """SIGKILL to a broker, whichever."""
    return await struck(scene, int(scene.rng.integers(COUNT)))


async def kill_leader(scene: Scene) -> float:
    """SIGKILL to the broker that leads a partition of the loop's events."""
    async with asked(scene) as admin:
        [events] = await admin.describe_topics([topics.events(LOOP, EVENT)])
    leaders = [one["leader"] for one in events["partitions"]]
    return await struck(scene, number_of(scene.rng.choice(leaders)))


async def kill_coordinator(scene: Scene) -> float:
    """SIGKILL to the broker that coordinates the transactions of a task."""
    group = str(scene.rng.choice(groups_of(any_keeper(scene))))
    async with asked(scene) as admin:
        found = await admin.find_coordinator(task_name(group, 0), TRANSACTION)
    return await struck(scene, number_of(found))


async def restart_each(scene: Scene) -> float:
    """Stop one broker after the other in good order, each when the one before has caught up; the longest recovery."""
    took_s = [await struck(scene, int(number), signal.SIGTERM) for number in scene.rng.permutation(COUNT)]
    return max(took_s)


async def kill_rebalancing(scene: Scene) -> float:
    """Start a further replica of a worker, and SIGKILL another while their group rebalances."""
    name, victim = any_keeper(scene), int(scene.rng.integers(REPLICAS))
    groups = groups_of(name)
    async with asked(scene) as admin:
        spare = await asyncio.to_thread(scene.victims.started, name, REPLICAS)
        try:
            await until(scene, lambda: is_rebalancing(admin, groups), "a rebalance")
            struck_s = await strike(scene, name, replica=victim)
            recovery_s = await scene.recovered(struck_s)
        finally:
            await asyncio.to_thread(spare.end)
    return max(recovery_s, await scene.recovered(time.monotonic()))


async def struck(scene: Scene, number: int, how: signal.Signals = signal.SIGKILL) -> float:
    """End a broker, which its supervisor starts again; seconds until the flow was back. It has caught up then."""
    before = scene.victims.pid(BROKER, number)
    struck_s = await strike(scene, BROKER, how, number)
    flowing_s = await scene.flowing(struck_s)
    await asyncio.to_thread(scene.victims.until_another, BROKER, before, number)
    await scene.recovered(time.monotonic())
    async with asked(scene) as admin:
        await until(scene, lambda: is_in_sync(admin), "every copy")
    return flowing_s


def groups_of(service: str) -> list[str]:
    """The groups in which a service works on the loop."""
    own = [stage for stage in topics.STAGES.values() if stage.service == service and stage.per == "loop"]
    return [topics.group(stage.service, stage.verb, LOOP) for stage in own]


def number_of(node: Any) -> int:
    """A broker's replica of Kafka's number for it."""
    return int(node) - 1


async def is_rebalancing(admin: AIOKafkaAdminClient, groups: list[str]) -> bool:
    """Whether one of the groups is. Asked one by one: of an answer about several, aiokafka understands the first."""
    answers = [await admin.describe_consumer_groups([group]) for group in groups]
    return any(found.groups[0][2] in REBALANCING for [found] in answers)


async def is_in_sync(admin: AIOKafkaAdminClient) -> bool:
    """Whether every partition has all its copies."""
    found = [one for topic in await admin.describe_topics() for one in topic["partitions"]]
    return bool(found) and all(len(one["isr"]) == COUNT for one in found)


async def until(scene: Scene, holds: Callable[[], Awaitable[bool]], what: str) -> None:
    """Ask again and again. Raises StuckError."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not await holds():
        if time.monotonic() > deadline_s:
            raise StuckError(what, scene.victims.folder)
        await asyncio.sleep(BRIEF_S)


@asynccontextmanager
async def asked(scene: Scene) -> AsyncIterator[AIOKafkaAdminClient]:
    """Somebody to ask about the cluster, for a `with`."""
    admin = AIOKafkaAdminClient(**scene.victims.addresses.kafka.arguments("chaos-admin"))
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


OF_TWO = [replace(one, name=f"{one.name} of 2", about="SIGKILL to one of two replicas") for one in KILLS]
BROKERS: Mapping[str, Fault] = {
    fault.name: fault
    for fault in [
        *OF_TWO,
        Fault("kill one of 3 brokers", "SIGKILL; its supervisor starts it again", kill_any),
        Fault("kill a leader", "SIGKILL to the broker that leads a partition of the loop's events", kill_leader),
        Fault("kill a coordinator", "SIGKILL to the broker that coordinates a task's transactions", kill_coordinator),
        Fault(
            "restart each broker", "a stop in good order, one after the other, when the last is in sync", restart_each
        ),
        Fault("kill in a rebalance", "a replica comes, another gets SIGKILL before it is settled", kill_rebalancing),
        Fault("restart 3 brokers", "trimtab down, trimtab up", restart),
        Fault("kill all 3 brokers", "SIGKILL to the supervisor, and with it to everything; up", kill_supervisor),
    ]
}
TOO_LONG = {"restart each broker", "restart 3 brokers", "kill all 3 brokers"}
"""Faults that take everything away for longer than what was sent meanwhile takes to be worked off."""
LOADED = [replace(one, name=f"{name} (loaded)") for name, one in BROKERS.items() if name not in TOO_LONG]
"""The others with six times as many events, which is all that two cores carry of such a cluster."""
