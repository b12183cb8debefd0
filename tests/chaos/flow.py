"""What flows while the faults come: a sender that never gives up, and a reader of what is committed."""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from orders import Order, Stream
from trimtab.cli.cluster.address import Addresses
from trimtab.cli.log import follower
from trimtab.cli.replay.feed import Feed
from trimtab.cli.replay.pace import is_awake, is_done
from trimtab.cli.replay.services import Services
from trimtab.cli.replay.slices import Slice
from trimtab.cli.replay.watch import NOTHING, fold, forget, watched_topics
from trimtab.contracts import topics
from trimtab.loops.model import Loop
from trimtab.runtime.kafka.connection import Connection

AGAIN_S = 0.3
GOES_OUT_S = 5.0
DRAINED_S = 300.0
LATELY = 2_000
"""Pieces: some minutes."""


class Sender:
    """Sends pieces of the stream, one after the other, each until the broker has acknowledged it.

    A piece of which the broker did not say that it has it is sent again as a whole, by a new producer: what a careful
    user does, and what makes copies that ingest has to drop. Mutable: it owns its producer.
    """

    def __init__(self, kafka: Connection, loop: Loop, stream: Stream) -> None:
        self._kafka, self.loop, self._stream = kafka, loop, stream
        self._producer: Any = None
        self._feeds: list[Feed] = []
        self._loops = [loop]
        self.acknowledged: list[tuple[float, int]] = []
        """When, and how many orders there were by then."""
        self.repeated = 0

    async def begin(self, services: Mapping[str, Sequence[str]]) -> None:
        """Say what time it is, until all services (name → addresses) go by it."""
        async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client:
            asked = Services(client, services, self.loop)
            await self._surely(lambda feed: feed.wake(self._stream.at_ms))
            while not is_awake(await asked.snapshot(), self._stream.at_ms):  # noqa: ASYNC110 they have to be asked
                await asyncio.sleep(AGAIN_S)

    async def run(self, orders_per_s: int, pieces_per_s: int) -> None:
        """Send without end."""
        while True:
            began_s = time.monotonic()
            await self.send(self._stream.piece(round(orders_per_s / pieces_per_s)))
            await asyncio.sleep(max(0.0, began_s + 1 / pieces_per_s - time.monotonic()))

    async def send(self, piece: Slice) -> None:
        """Send one piece, however often it takes."""

        async def it(feed: Feed) -> None:
            await feed.send(piece)
            await feed.settle()

        await self._surely(it)
        self.acknowledged.append((time.monotonic(), len(self._stream.orders)))

    async def finish(self, at_ms: int) -> None:
        """Say that this was all."""
        await self._surely(lambda feed: feed.finish(at_ms))
        await self.aclose()

    async def aclose(self) -> None:
        """Let go of the producer; one whose broker is away is not waited for."""
        producer, self._producer, self._feeds = self._producer, None, []
        if producer is not None:
            with contextlib.suppress(KafkaError, TimeoutError):
                await asyncio.wait_for(producer.stop(), GOES_OUT_S)

    def beside(self, loop: Loop) -> None:
        """From now on every second piece is written by this version's schemas, the others as before."""
        self._loops = [self.loop, *([] if loop is self.loop else [loop])]
        if self._producer is not None:
            self._feeds = [Feed(self._producer, loop) for loop in self._loops]

    def due(self, since_s: float, before_s: float) -> int | None:
        """How many orders had been acknowledged by then, and by the first piece since; None: there is none yet."""
        return due(self.acknowledged, since_s, before_s)

    async def _surely(self, act: Callable[[Feed], Awaitable[None]]) -> None:
        while True:
            try:
                await act(await self._opened())
            except (KafkaError, TimeoutError):
                self.repeated += 1
                await self.aclose()
                await asyncio.sleep(AGAIN_S)
            else:
                return

    async def _opened(self) -> Feed:
        if not self._feeds:
            producer = AIOKafkaProducer(enable_idempotence=True, linger_ms=0, **self._kafka.arguments("chaos-sender"))
            try:
                await producer.start()
            except KafkaError:
                await producer.stop()
                raise
            self._producer, self._feeds = producer, [Feed(producer, loop) for loop in self._loops]
        self._feeds.append(self._feeds.pop(0))
        return self._feeds[0]


def due(acknowledged: Sequence[tuple[float, int]], since_s: float, before_s: float) -> int | None:
    """What has to be through by now: all that was sent before `before_s`, and something that was sent after `since_s`.

    None where nothing was sent since.

    >>> [due([(1.0, 10), (2.0, 20), (3.0, 30)], since_s, 2.5) for since_s in (0.5, 2.5, 3.5)]
    [20, 30, None]
    """
    by_then = next((count for at_s, count in reversed(acknowledged) if at_s <= before_s), 0)
    since = [count for at_s, count in acknowledged[-LATELY:] if at_s > since_s]
    return max(by_then, since[0]) if since else None


@dataclass
class Seen:
    """What a reader of committed records has seen of a topic. Mutable: it grows. `arrived_s`: by partition."""

    arrived_s: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    places: list[tuple[int, int]] = field(default_factory=list)
    keys: set[bytes | None] = field(default_factory=set)

    def note(self, records: Sequence[Any]) -> None:
        """Records of one partition have come."""
        if records:
            self.arrived_s[records[0].partition].append(time.monotonic())
        self.places += [(record.partition, record.offset) for record in records]
        self.keys.update(record.key for record in records)

    @property
    def silent_since_s(self) -> float:
        """The last arrival of the partition that has been silent longest; 0 before the first."""
        return min((times[-1] for times in self.arrived_s.values()), default=0.0)

    @property
    def newest_s(self) -> float:
        """The last arrival of all; 0 before the first."""
        return max((times[-1] for times in self.arrived_s.values()), default=0.0)

    def longest_gap_s(self, since_s: float, until_s: float) -> float:
        """The longest time without a record in any of the partitions, within a stretch."""
        return max(_gap_s(times, since_s, until_s) for times in self.arrived_s.values())


def _gap_s(times: Sequence[float], since_s: float, until_s: float) -> float:
    within = [since_s, *(at_s for at_s in times if since_s <= at_s <= until_s), until_s]
    return max(after - before for before, after in pairwise(within))


class Reader:
    """Reads the loop's predictions and outcomes while they come. Made by `reading`."""

    def __init__(self, consumer: Any, loop: Loop) -> None:
        self._consumer = consumer
        self.predictions, self.outcomes = Seen(), Seen()
        self._seen = {topics.predictions(loop.name): self.predictions, topics.outcomes(loop.name): self.outcomes}
        self._through = 0

    async def run(self) -> None:
        """Read without end."""
        while True:
            for part, records in (await self._consumer.getmany(timeout_ms=100)).items():
                self._seen[part.topic].note([one for one in records if one.value is not None])

    def through(self, orders: Sequence[Order]) -> int:
        """Up to which order all have been predicted: newer ones of other partitions make up for none that waits."""
        while self._through < len(orders) and orders[self._through].id.encode() in self.predictions.keys:
            self._through += 1
        return self._through


@asynccontextmanager
async def reading(kafka: Connection, loop: Loop) -> AsyncIterator[Reader]:
    """A reader for a `with`."""
    consumer: Any = AIOKafkaConsumer(
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        **kafka.arguments("chaos-reader"),
    )
    await consumer.start()
    try:
        names = (topics.predictions(loop.name), topics.outcomes(loop.name))
        consumer.assign([TopicPartition(name, number) for name in names for number in range(loop.partitions)])
        yield Reader(consumer, loop)
    finally:
        await consumer.stop()


async def drained(where: Addresses, loop: Loop, until_ms: int) -> None:
    """Wait until everything has been worked off. Raises TimeoutError after DRAINED_S."""
    async with (
        httpx.AsyncClient(timeout=5.0, trust_env=False) as client,
        follower(where.kafka, watched_topics(), key=loop.name.encode()) as control,
        asyncio.timeout(DRAINED_S),
    ):
        services, watched = Services(client, where.services, loop), NOTHING
        while True:
            snapshot = await services.snapshot()
            watched = forget(fold(watched, await control.catch_up(), loop.name), snapshot.read)
            if is_done(snapshot, watched, until_ms):
                return
            await asyncio.sleep(AGAIN_S)
