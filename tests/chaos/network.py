"""The faults of the network between the services and their broker, and the cluster that they need.

The broker has a second listener behind a proxy, whose address it tells to those who come through it: the services. Who
sends and who reads comes directly, so that what is seen of a fault is what the services suffer.
"""

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from faults import CALM_S, Blow, Fault, Scene, any_keeper, strike
from proxy import END_TXN, PRODUCE, Direction, Proxy, proxy
from rich.console import Console
from trimtab.cli.broker import BrokerCommand, EmbeddedBroker, user_jars, wait_until_answering
from trimtab.cli.processes import free_port
from trimtab.cli.settings import ClusterSettings
from trimtab.testing.disks import NoDiskError, SmallDisk, small_disk
from victims import PATIENCE_S, StuckError

SLOW_S, SLOW_FOR_S = 0.1, 10.0
AWAY_S = 20.0
"""Longer than sessions, requests and transactions last."""
CUTS = 5
DISK_BYTES = 400_000_000
COMMITTED_S = 0.5
"""Longer than the broker takes to end a transaction."""


class Network:
    """A broker, what lies before its second address, and the disk that it writes to, where it has one of its own."""

    def __init__(self, broker: EmbeddedBroker, command: BrokerCommand, between: Proxy, disk: SmallDisk | None) -> None:
        self.proxy, self.disk = between, disk
        self.direct = command.bootstrap
        self.proxied = f"127.0.0.1:{between.port}"
        self._broker, self._command = broker, command

    def start(self) -> None:
        """Start the broker; returns when it answers."""
        self.process = self._broker.start(self._command)
        wait_until_answering(self.process, self._command.port, self._broker.log)

    def stop(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()


@contextmanager
def network(folder: Path) -> Iterator[Network]:
    """A broker behind a proxy for a `with`."""
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(small_disk(folder, DISK_BYTES))
        except NoDiskError:
            disk = None
        broker = EmbeddedBroker(folder, user_jars(ClusterSettings(), Console(stderr=True)))
        command, behind = broker.prepare(), free_port(None)
        between = stack.enter_context(proxy(behind))
        settings = Path(command.argv[-1])
        settings.write_text(
            settings.read_text() + listeners(command.port, command.controller_port, behind, between.port)
        )
        made = Network(broker, command, between, disk)
        made.start()
        stack.callback(made.stop)
        yield made


def listeners(direct: int, controller: int, behind: int, told: int) -> str:
    """Kafka's settings for a second listener, in place of those before."""
    here = "127.0.0.1"
    return (
        f"listeners=PLAINTEXT://{here}:{direct},CONTROLLER://{here}:{controller},PROXIED://{here}:{behind}\n"
        f"advertised.listeners=PLAINTEXT://{here}:{direct},PROXIED://{here}:{told}\n"
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT\n"
    )


def there(scene: Scene) -> Network:
    """The network of a scene that has one."""
    assert scene.network is not None, "this cluster was started without one"
    return scene.network


def between(scene: Scene) -> Proxy:
    """What lies between its services and its broker."""
    return there(scene).proxy


async def slow(scene: Scene) -> float:
    """A tenth of a second in each direction."""
    began_s = time.monotonic()
    between(scene).delay(SLOW_S)
    await asyncio.sleep(SLOW_FOR_S)
    between(scene).delay(0)
    return await scene.recovered(began_s + SLOW_FOR_S)


async def cut(scene: Scene) -> float:
    """Reset all connections, again and again."""
    for _ in range(CUTS):
        between(scene).cut()
        await asyncio.sleep(float(scene.rng.uniform(0.1, 1.0)))
    return await scene.recovered(time.monotonic())


def lose(*directions: Direction) -> Blow:
    """Let nothing through for longer than anybody waits; recovery counts from when all goes through again."""

    async def blow(scene: Scene) -> float:
        between(scene).lose(*directions)
        await asyncio.sleep(AWAY_S)
        between(scene).lose()
        return await scene.recovered(time.monotonic())

    return blow


def late(api: int) -> Blow:
    """Keep one request of a task's transaction back until the task has sent it again, or has opened again."""

    async def blow(scene: Scene) -> float:
        kept = between(scene).keep(api, f"trimtab-{any_keeper(scene)}.")
        await happens(scene, kept.caught, "a request to keep back")
        struck_s = time.monotonic()
        await happens(scene, kept.outrun, "another try")
        await asyncio.sleep(float(scene.rng.uniform(0.0, CALM_S)))
        between(scene).release(kept)
        return await scene.recovered(struck_s)

    return blow


async def kill_after_commit(scene: Scene) -> float:
    """SIGKILL to a worker whose transaction the broker has ended, before it hears of that."""
    name = any_keeper(scene)
    kept = between(scene).keep(END_TXN, f"trimtab-{name}.")
    await happens(scene, kept.caught, "a commit")
    between(scene).lose("down")
    between(scene).release(kept)
    await asyncio.sleep(COMMITTED_S)
    struck_s = await strike(scene, name)
    between(scene).lose()
    return await scene.recovered(struck_s)


async def full_disk(scene: Scene) -> float:
    """Leave no room under the broker until it gives up, give the room back, and start it again."""
    here = there(scene)
    assert here.disk is not None, "where none can be mounted, this fault is left out"
    await asyncio.to_thread(here.disk.fill)
    await asyncio.to_thread(scene.victims.until, lambda: here.process.poll() is not None, "the end of the broker")
    here.disk.empty()
    began_s = time.monotonic()
    await asyncio.to_thread(here.start)
    return await scene.recovered(began_s)


async def happens(scene: Scene, event: threading.Event, what: str) -> None:
    """Wait for what the proxy sees. Raises StuckError."""
    if not await asyncio.to_thread(event.wait, PATIENCE_S):
        raise StuckError(what, scene.victims.folder)


FULL_DISK = Fault(
    "full disk", "under the broker, which gives up; room again, and it starts (where mount is allowed)", full_disk
)
NETWORK: Mapping[str, Fault] = {
    fault.name: fault
    for fault in [
        Fault("slow network", "100 ms more in each direction, for 10 s", slow),
        Fault("cut connections", "all connections to the broker are reset, five times", cut),
        Fault(
            "black hole", "for 20 s nothing reaches the broker or comes back; it all arrives late", lose("up", "down")
        ),
        Fault("lost answers", "for 20 s requests reach the broker and no answer comes back", lose("down")),
        Fault("late commit", "an EndTxn arrives when its task has opened again with a new epoch", late(END_TXN)),
        FULL_DISK,
        Fault("kill after a commit", "SIGKILL when the broker has it and the worker does not know", kill_after_commit),
        Fault("late write", "a Produce arrives when its task has sent it again", late(PRODUCE)),
    ]
}
