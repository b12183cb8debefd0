"""Recorded events into a running cluster, until everything that follows from them is done."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from aiokafka import AIOKafkaProducer
from trimtab.cli.cluster.address import Addresses
from trimtab.cli.log import follower
from trimtab.cli.replay.feed import Feed
from trimtab.cli.replay.run import OnPlayed, Played, Player, Score
from trimtab.cli.replay.services import Services
from trimtab.cli.replay.slices import Span
from trimtab.cli.replay.watch import watched_topics
from trimtab.loops.files import Recorded
from trimtab.loops.model import Loop

Told = Callable[[str], None]
PATIENCE_S = 1_800.0


@dataclass(frozen=True, slots=True)
class Worked:
    """What a stretch of events took, from the first one sent to the last thing that followed from it."""

    events: int
    seconds: float

    @property
    def per_s(self) -> float:
        """Events per second."""
        return self.events / self.seconds


@asynccontextmanager
async def playing(where: Addresses, score: Score, on_played: OnPlayed) -> AsyncIterator[Player]:
    """A player for a `with`."""
    producer = AIOKafkaProducer(enable_idempotence=True, linger_ms=5, **where.kafka.arguments("trimtab-bench"))
    await producer.start()
    try:
        async with (
            httpx.AsyncClient(timeout=5.0, trust_env=False) as client,
            follower(where.kafka, watched_topics(), key=score.loop.name.encode()) as control,
        ):
            loop = score.loop
            services = Services(client, where.services, loop=loop)
            yield Player(score, Feed(producer, loop), services, control, on_played)
    finally:
        await producer.stop()


async def play(where: Addresses, loop: Loop, recorded: Recorded, span: Span, told: Told, lead_ms: int | None) -> Worked:
    """Send what lies in the span. `lead_ms` None: as fast as it goes, whether the services follow or not.

    Raises TimeoutError when it is not worked off within PATIENCE_S.
    """
    rows = 0

    def show(played: Played) -> None:
        nonlocal rows
        rows = played.rows
        told(f"{rows:,} events" + (f", {played.waits}" if played.waits else ""))

    async with playing(where, Score(loop, span, lead_ms), show) as player:
        began_s = time.perf_counter()
        async with asyncio.timeout(PATIENCE_S):
            await player.play(recorded, _nowhere)
            await player.drain()
        return Worked(rows, time.perf_counter() - began_s)


def _nowhere(_: int) -> None:
    """What was sent is not kept: a bench begins anew."""
