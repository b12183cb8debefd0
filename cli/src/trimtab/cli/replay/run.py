"""Plays recorded events into a loop's source topics, at the pace that the services can follow."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
from aiokafka import AIOKafkaProducer

from trimtab.cli.cluster.address import Addresses
from trimtab.cli.errors import ClusterError
from trimtab.cli.log import Follower, follower
from trimtab.cli.replay.bookmark import Bookmark, BookmarkFile
from trimtab.cli.replay.feed import Feed
from trimtab.cli.replay.pace import Allowance, Snapshot, allowance, is_awake, is_done
from trimtab.cli.replay.services import Services
from trimtab.cli.replay.slices import Slice, Span, slices
from trimtab.cli.replay.watch import NOTHING, Watched, fold, forget, watched_topics
from trimtab.loops.files import Recorded
from trimtab.loops.model import Loop

DAY_MS = 86_400_000
STEPS = 4
"""Into how many slices the lead is cut: the finer, the less the services wait for each other."""
LOOK_S = 0.2
BOOKMARK_S = 1.0
AWAKE_S = 20.0
"""A third of the time after which sources without a word count as idle."""
UNBOUNDED_MS = 2**62


class RefusedDeploymentError(ClusterError):
    """A predictor does not take a deployment, so the replay would wait for ever."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__(f"the predictor refused {'; '.join(reasons)}. See `trimtab logs predictor`")


class StandingTaskError(ClusterError):
    """A task stands still until a person decides, so the replay would wait for ever."""

    def __init__(self, told: Sequence[str]) -> None:
        super().__init__(f"{'; '.join(told)}. The same replay goes on from here afterwards")


@dataclass(frozen=True, slots=True)
class Score:
    """What to play. `lead_ms` None: without regard to the services. `speed`: event seconds a second, if bounded.

    `resumed`: earlier events were sent before, so the services may still be behind the span's start.
    """

    loop: Loop
    span: Span
    lead_ms: int | None
    speed: float | None = None
    resumed: bool = False

    @property
    def step_ms(self) -> int:
        """The length of a slice."""
        return max(1, (DAY_MS if self.lead_ms is None else self.lead_ms) // STEPS)


@dataclass(frozen=True, slots=True)
class Played:
    """How far a replay is: what was sent, up to which event time, and why it waits (empty: it does not)."""

    rows: int
    at_ms: int
    waits: str
    feeding: bool


OnPlayed = Callable[[Played], None]


def lead_of(loop: Loop) -> int:
    """How far a replay of this loop may run ahead: what a fit costs in event time, else a day.

    With a lead of at most `fit_time` every event is scored by the deployment that it was scored by in a backtest.
    """
    return loop.train.fit_time_ms or DAY_MS


class Player:
    """One replay. Mutable: it keeps what it last heard of the services."""

    def __init__(self, score: Score, feed: Feed, services: Services, control: Follower, on_played: OnPlayed) -> None:
        self._score, self._feed, self._services, self._control = score, feed, services, control
        self._on_played = on_played
        self._watched: Watched = NOTHING
        self._allowed = Allowance(-UNBOUNDED_MS, "services are behind")
        self._clock = asyncio.get_running_loop().time
        self._started_s = self._clock()
        self._rows = 0
        self._at_ms = score.span.after_ms
        self._woken_s = 0.0

    async def play(self, recorded: Recorded, keep: Callable[[int], None]) -> None:
        """Send everything in the span; `keep` hears up to which event time all is acknowledged."""
        first_ms = max(recorded.first_ms, self._score.span.after_ms)
        if not self._score.resumed:
            self._allowed = Allowance(first_ms + (self._score.lead_ms or 0), "services are behind")
        if self._score.lead_ms is not None:
            await self._wake(self._score.span.after_ms)
        kept_s = self._clock()
        for piece in slices(recorded.chunks(), self._score.span, self._score.step_ms):
            await self._wait(piece, first_ms)
            await self._feed.send(piece)
            self._rows += piece.rows
            self._at_ms = piece.end_ms
            self._tell("", True)
            if self._clock() - kept_s >= BOOKMARK_S:
                await self._feed.settle()
                keep(self._at_ms)
                kept_s = self._clock()
        await self._feed.finish(self._at_ms)
        keep(self._at_ms)

    async def drain(self) -> None:
        """Wait until the services have worked off everything that was sent, and all that follows from it."""
        while True:
            snapshot = await self._look()
            if is_done(snapshot, self._watched, self._at_ms):
                return
            self._tell("a retrain is open" if self._watched.open else "services are behind", False)
            await asyncio.sleep(LOOK_S)

    async def _wake(self, at_ms: int) -> None:
        """Wait until all services go by the replay's time."""
        await self._feed.wake(at_ms)
        self._woken_s = self._clock()
        while not is_awake(await self._look(), at_ms):
            self._tell("services wake up", True)
            await asyncio.sleep(LOOK_S)
            await self._stay_awake()

    async def _stay_awake(self) -> None:
        """A pause must not look like idle sources: their first events after it would not arrive together."""
        if self._clock() - self._woken_s >= AWAKE_S:
            await self._feed.wake(self._at_ms)
            self._woken_s = self._clock()

    async def _wait(self, piece: Slice, first_ms: int) -> None:
        """Wait until the slice may be sent."""
        if self._score.speed is not None:
            due_s = self._started_s + (piece.end_ms - first_ms) / 1000 / self._score.speed
            while (left_s := due_s - self._clock()) > 0:
                self._tell("", True)
                await asyncio.sleep(min(left_s, 0.5))
        if self._score.lead_ms is None:
            return
        while piece.end_ms > self._allowed.until_ms:
            snapshot = await self._look()
            self._allowed = allowance(self._allowed, snapshot, self._watched, self._score.lead_ms)
            if piece.end_ms > self._allowed.until_ms:
                self._tell(self._allowed.why, True)
                await asyncio.sleep(LOOK_S)
                await self._stay_awake()

    async def _look(self) -> Snapshot:
        """The services first, the control plane afterwards: see pace.py."""
        snapshot = await self._services.snapshot()
        watched = fold(self._watched, await self._control.catch_up(), self._score.loop.name)
        self._watched = forget(watched, snapshot.read)
        if snapshot.refused and snapshot.sequence < self._watched.sequence:
            raise RefusedDeploymentError(snapshot.refused)
        if snapshot.standing:
            raise StandingTaskError(snapshot.standing)
        return snapshot

    def _tell(self, waits: str, feeding: bool) -> None:
        self._on_played(Played(self._rows, self._at_ms, waits, feeding))


@dataclass(frozen=True, slots=True)
class Place:
    """Where to play: Kafka and services, and the folder for the bookmark."""

    addresses: Addresses
    folder: Path


async def replay(score: Score, recorded: Recorded, place: Place, about: str, on_played: OnPlayed) -> int:
    """Play recorded events and wait until the services have worked them off; returns how many were sent.

    The bookmark follows what the brokers have acknowledged. What is sent again after a kill (at most a second's worth)
    is dropped by ingest, which knows the ids.
    """
    bookmarks = BookmarkFile(place.folder, score.loop.name)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=5.0, trust_env=False))
        own = score.loop.name.encode()
        control = await stack.enter_async_context(follower(place.addresses.kafka, watched_topics(), key=own))
        producer = AIOKafkaProducer(
            enable_idempotence=True, linger_ms=5, **place.addresses.kafka.arguments("trimtab-replay")
        )
        await producer.start()
        stack.push_async_callback(producer.stop)
        services = Services(client, place.addresses.services, score.loop)
        rows = 0

        def count(played: Played) -> None:
            nonlocal rows
            rows = played.rows
            on_played(played)

        player = Player(score, Feed(producer, score.loop), services, control, count)
        await player.play(recorded, lambda at_ms: bookmarks.write(Bookmark(about, at_ms)))
        if score.lead_ms is not None:
            await player.drain()
        return rows
