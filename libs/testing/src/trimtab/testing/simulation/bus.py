"""The bus in memory as it is over a network: every call takes its time, and what a dead process began stays open."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextvars import Context, copy_context

from trimtab.runtime.bus import Fetched, Membership, Part, TopicInfo, Writes
from trimtab.runtime.edge import Placed
from trimtab.runtime.errors import BusSilentError, EdgeSilentError, OutcomeUnknownError
from trimtab.runtime.memory import MemoryBus, MemoryConsumer, MemoryReader, MemoryTransactions
from trimtab.runtime.records import Out, Read
from trimtab.testing.simulation.loop import Process, SeededLoop, current_process
from trimtab.testing.simulation.wire import PATIENCE_S, Wire

TRANSACTION_TIMEOUT_S = 0.6
_REJOIN = 0.4
"""How likely a member that the group has given up notices that with its next poll."""


class SimulatedBus(MemoryBus):
    """A member's name is its process's, so a process that replaces another of the same name takes its place.

    `compacted`: the partitions of which only the newest record of a key has to be kept.
    """

    consumers: "type[SimulatedConsumer]"

    def __init__(self, loop: SeededLoop, topics: Mapping[str, int], now_ms: int) -> None:
        super().__init__(topics, now_ms=self.now_ms)
        self.loop, self.wire = loop, Wire(loop, loop.dice)
        self.compacted: Sequence[Part] = ()
        self._began_ms = now_ms

    def now_ms(self) -> int:
        """The wall clock of all processes."""
        return self._began_ms + int(self.loop.time() * 1000)

    async def consumer(self, membership: Membership) -> "SimulatedConsumer":
        """Join a group."""
        await self.wire.wait()
        consumer = self.consumers(self, membership, current_process())
        older = self.member(membership.group, consumer.name)
        consumer.units = older.units if older is not None else frozenset()
        self.join(consumer)
        return consumer

    def expel(self, process: Process) -> None:
        """Give up a process's memberships, where no other has taken its place."""
        for group in tuple(self._groups):
            member = self.member(group, process.name)
            if isinstance(member, SimulatedConsumer) and member.process is process:
                self.leave(member)

    def clean(self) -> None:
        """Compact some of the partitions that may be, each up to anywhere."""
        for part in self.compacted:
            if self.loop.dice.chance(0.5):
                self.compact(part, self.loop.dice.below(self.end(part) + 1))

    def transactions(self, transactional_id: str, group: str) -> "SimulatedTransactions":
        """Transactions under an id."""
        return SimulatedTransactions(self, transactional_id, group)

    async def reader(self, starts: Mapping[Part, int]) -> MemoryReader:
        """Read partitions from these offsets on."""
        return SimulatedReader(self, dict(starts))

    async def describe(self, topics: Collection[str]) -> Mapping[str, TopicInfo]:
        """Identity and size of topics."""
        await self.wire.wait()
        return await super().describe(topics)

    async def bounds(self, parts: Collection[Part]) -> Mapping[Part, tuple[int, int]]:
        """First and next offset of each partition."""
        await self.wire.wait()
        return await super().bounds(parts)

    async def stable(self, parts: Collection[Part]) -> Mapping[Part, tuple[int, int]]:
        """The same, up to the first transaction that is open."""
        await self.wire.wait()
        return await super().stable(parts)

    async def committed(self, group: str, parts: Collection[Part]) -> Mapping[Part, int]:
        """The group's committed offsets."""
        await self.wire.wait()
        return await super().committed(group, parts)


class SimulatedConsumer(MemoryConsumer):
    """Hears of assignments, and gets what it fetched, a while later."""

    def __init__(self, bus: SimulatedBus, membership: Membership, process: Process) -> None:
        super().__init__(bus, membership, process.name)
        self.process = process
        self._over, self._context = bus, copy_context()
        self._granted: frozenset[int] = frozenset()
        self._moves = self._assigned_at = 0
        self._moved_at: dict[Part, int] = {}

    def take(self, units: frozenset[int]) -> None:
        """The group has given this member new units; it hears so later."""
        self._granted = units
        self._over.loop.call_later(self._over.wire.latency_s(), self._adopt, context=self._context)

    async def poll(self, timeout_s: float) -> Fetched:
        """What came in, without what does not count any more."""
        await self._over.wire.wait()
        given_up = self._over.member(self.membership.group, self.name) is not self
        if given_up and self._over.loop.dice.chance(_REJOIN):
            self._over.join(self)
        fetched = await super().poll(timeout_s)
        at = self._moves
        await self._over.wire.wait()
        return self.still_counts(fetched, at)

    def seek(self, part: Part, offset: int) -> None:
        """Deliver from here on."""
        super().seek(part, offset)
        self._move(part)

    def pause(self, part: Part) -> None:
        """Deliver no more."""
        super().pause(part)
        self._move(part)

    def _adopt(self) -> None:
        self._moves += 1
        self._assigned_at = self._moves
        super().take(self._granted)

    def _move(self, part: Part) -> None:
        self._moves += 1
        self._moved_at[part] = self._moves

    def still_counts(self, fetched: Fetched, at: int) -> Fetched:
        """What has been neither sought, paused nor given out anew since the fetch."""
        if self._assigned_at > at:
            return Fetched({})
        gone = {part for part, moved_at in self._moved_at.items() if moved_at > at}
        return Fetched(
            {part: found for part, found in fetched.records.items() if part not in gone},
            set(fetched.ended) - gone,
            {part: end for part, end in fetched.ends.items() if part not in gone},
            {part: offset for part, offset in fetched.lost.items() if part not in gone},
        )


SimulatedBus.consumers = SimulatedConsumer


class SimulatedTransactions(MemoryTransactions):
    """Speaks to the bus in several requests a transaction, each of which may be the last that its process sends."""

    def __init__(self, bus: SimulatedBus, transactional_id: str, group: str) -> None:
        super().__init__(bus, transactional_id, group)
        self.over = bus
        self.ended = 0

    async def open(self) -> None:
        """Fence earlier owners."""
        silence = BusSilentError(f"init transactions of {self.transactional_id}", PATIENCE_S)
        await self.over.wire.ask(self.transactional_id, lambda: self.over.fence(self), silence)

    async def commit(self, writes: Writes, offsets: Mapping[Part, int]) -> None:
        """Write in up to two pieces, then commit."""
        self.over.loop.call_later(TRANSACTION_TIMEOUT_S, self._expire, self.ended, context=Context())
        for piece in self._pieces(writes):
            await self.write(piece)
        await self.end(offsets)

    async def write(self, piece: Writes) -> None:
        """One request with records."""
        await self.over.wire.ask(self.transactional_id, lambda: self.over.hold(self, piece), self._unknown("produce"))

    async def end(self, offsets: Mapping[Part, int]) -> None:
        """The last request."""
        await self.over.wire.ask(self.transactional_id, lambda: self.settle(offsets), self._unknown("end transaction"))

    def settle(self, offsets: Mapping[Part, int]) -> None:
        """At the bus: commit what has come so far."""
        self.over.commit(self, offsets)
        self.ended += 1

    def _pieces(self, writes: Writes) -> Iterator[Writes]:
        parts = list(writes)
        cut = self.over.loop.dice.below(len(parts) + 1)
        for some in (parts[:cut], parts[cut:]):
            if some:
                yield {part: writes[part] for part in some}

    def _unknown(self, request: str) -> OutcomeUnknownError:
        return OutcomeUnknownError(self.transactional_id, request)

    def _expire(self, ended: int) -> None:
        if self.ended == ended:
            self.over.abandon(self)


class SimulatedEdge:
    """How a service's process writes outside of transactions: in one request, which may be lost or go unanswered."""

    def __init__(self, bus: SimulatedBus, service: str) -> None:
        self._bus, self._service = bus, service

    async def send(self, outs: Sequence[Out]) -> Sequence[Placed]:
        """Write records. Raises EdgeSilentError."""
        placed: list[Placed] = []

        def write() -> None:
            placed.extend(self._bus.written_at(outs))

        await self._bus.wire.ask(f"{self._service}.edge", write, EdgeSilentError(PATIENCE_S))
        return placed


class SimulatedReader(MemoryReader):
    """Reads after a while."""

    def __init__(self, bus: SimulatedBus, starts: dict[Part, int]) -> None:
        super().__init__(bus, starts)
        self._over = bus

    async def poll(self, timeout_s: float) -> Mapping[Part, Sequence[Read]]:
        """What came in."""
        await self._over.wire.wait()
        return await super().poll(timeout_s)
