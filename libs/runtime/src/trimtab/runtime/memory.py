"""A bus in memory: the same partitions, groups, offsets and transactions, for tests, simulations and backtests."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field

from trimtab.runtime.assignment import assign
from trimtab.runtime.bus import Fetched, Membership, Part, TopicInfo, Writes
from trimtab.runtime.edge import Placed
from trimtab.runtime.errors import FencedError, NotAssignedError, TopicMissingError
from trimtab.runtime.memory_log import PartitionLog
from trimtab.runtime.partitioner import partition_of
from trimtab.runtime.records import Out, Read, Record

Fault = Callable[[str, str], None]
"""Called with (point, transactional id) at `commit` and `committed`; what it raises happens there."""


def no_fault(_point: str, _transactional_id: str) -> None:
    """Nothing goes wrong."""


@dataclass(slots=True)
class _Topic:
    info: TopicInfo
    parts: list[PartitionLog]


@dataclass(slots=True)
class _Group:
    partitions: int
    members: dict[str, "MemoryConsumer"] = field(default_factory=dict)
    offsets: dict[Part, int] = field(default_factory=dict)


class MemoryBus:
    """Topics as lists. Mutable, for one event loop.

    `written`: records ever written. `fault`: injects crashes; a commit that fails at `commit` was not applied, one that
    fails at `committed` was.
    """

    def __init__(
        self, topics: Mapping[str, int] | None = None, *, fault: Fault = no_fault, now_ms: Callable[[], int] = int
    ) -> None:
        self.fault = fault
        self.written = 0
        self._now_ms = now_ms
        self._topics: dict[str, _Topic] = {}
        self._groups: dict[str, _Group] = {}
        self._owners: dict[str, MemoryTransactions] = {}
        self._waiting: dict[asyncio.Future[None], Collection[str]] = {}
        self._open: dict[str, set[Part]] = {}
        self._made = 0
        for name, partitions in (topics or {}).items():
            self.create(name, partitions)

    @property
    def catalog(self) -> "MemoryBus":
        """Facts about topics: the bus itself."""
        return self

    def create(self, topic: str, partitions: int) -> TopicInfo:
        """Make a topic, anew if there is one of that name."""
        self._made += 1
        info = TopicInfo(f"memory-{self._made}", partitions)
        self._topics[topic] = _Topic(info, [PartitionLog(Part(topic, number)) for number in range(partitions)])
        return info

    def remove(self, topic: str) -> None:
        """Delete a topic with everything in it."""
        del self._topics[topic]
        for group in self._groups.values():
            group.offsets = {part: offset for part, offset in group.offsets.items() if part.topic != topic}

    def delete_before(self, part: Part, offset: int) -> None:
        """Drop a partition's oldest records, as retention does."""
        self._log(part).delete_before(offset)

    def compact(self, part: Part, end: int) -> None:
        """Drop what stands before an offset and is superseded before it, as log compaction does."""
        self._log(part).compact(end)

    def copy_of(self, other: "MemoryBus") -> None:
        """Become what another bus is: topics, records, committed offsets. Nobody is a member of a group."""
        self._made, self.written = other._made, other.written
        self._topics = {
            name: _Topic(topic.info, [log.copy() for log in topic.parts]) for name, topic in other._topics.items()
        }
        self._groups = {
            name: _Group(group.partitions, offsets=dict(group.offsets)) for name, group in other._groups.items()
        }

    def append(self, outs: Sequence[Out]) -> None:
        """Write records outside of any transaction, as users' producers do."""
        for out in outs:
            topic = self._topic(out.topic)
            key_partition = partition_of(out.key or b"", topic.info.partitions)
            self._write(Part(out.topic, out.partition if out.partition is not None else key_partition), [out])
        self._notify({out.topic for out in outs})

    async def send(self, outs: Sequence[Out]) -> Sequence[Placed]:
        """The edge of a service: as `append`, and where the records stand now."""
        return self.written_at(outs)

    def written_at(self, outs: Sequence[Out]) -> Sequence[Placed]:
        """Append records one by one; where they stand."""
        placed = []
        for out in outs:
            self.append([out])
            count = self._topic(out.topic).info.partitions
            partition = out.partition if out.partition is not None else partition_of(out.key or b"", count)
            placed.append(Placed(out.topic, partition, self.end(Part(out.topic, partition)) - 1))
        return placed

    def records(self, topic: str) -> list[Record]:
        """Everything committed in a topic, partition by partition, marks included."""
        return [record for log in self._topic(topic).parts for record in log.read(0, log.end)[0]]

    async def consumer(self, membership: Membership) -> "MemoryConsumer":
        """Join a group; its members share the tasks anew."""
        self._made += 1
        consumer = MemoryConsumer(self, membership, f"{self._made}")
        self.join(consumer)
        return consumer

    def join(self, consumer: "MemoryConsumer") -> None:
        """Make a consumer a member of its group, instead of one of the same name."""
        membership = consumer.membership
        group = self._groups.setdefault(membership.group, _Group(membership.partitions))
        group.partitions = membership.partitions
        group.members[consumer.name] = consumer
        self._rebalance(membership.group)

    def member(self, group: str, name: str) -> "MemoryConsumer | None":
        """Who is a group's member under this name."""
        return self._groups[group].members.get(name) if group in self._groups else None

    def transactions(self, transactional_id: str, group: str) -> "MemoryTransactions":
        """Transactions under an id."""
        return MemoryTransactions(self, transactional_id, group)

    async def reader(self, starts: Mapping[Part, int]) -> "MemoryReader":
        """Read partitions from these offsets on."""
        return MemoryReader(self, dict(starts))

    async def describe(self, topics: Collection[str]) -> Mapping[str, TopicInfo]:
        """Identity and size of topics."""
        return {name: self._topics[name].info for name in topics if name in self._topics}

    async def bounds(self, parts: Collection[Part]) -> Mapping[Part, tuple[int, int]]:
        """First and next offset of each partition."""
        return {part: (self._log(part).first, self.end(part)) for part in parts}

    async def stable(self, parts: Collection[Part]) -> Mapping[Part, tuple[int, int]]:
        """The same, up to the first transaction that is open."""
        return {part: (self._log(part).first, self._log(part).stable) for part in parts}

    async def committed(self, group: str, parts: Collection[Part]) -> Mapping[Part, int]:
        """The group's committed offsets."""
        offsets = self._groups[group].offsets if group in self._groups else {}
        return {part: offsets[part] for part in parts if part in offsets}

    def read_by(self, group: str, part: Part) -> int:
        """What a group has committed of a partition; 0 where it has nothing."""
        return self._groups[group].offsets.get(part, 0) if group in self._groups else 0

    def end(self, part: Part) -> int:
        """The next offset of a partition."""
        return self._log(part).end

    def after(self, part: Part, offset: int, limit: int) -> tuple[list[Record], int]:
        """Committed records from an offset on, and the next offset to read."""
        return self._log(part).read(offset, limit)

    def lost(self, part: Part, offset: int) -> bool:
        """Whether an offset is outside of what a partition holds."""
        log = self._log(part)
        return not log.first <= offset <= log.end

    async def news(self, topics: Collection[str], timeout_s: float) -> None:
        """Return when something was written there or an assignment changed, at the latest after so long."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._waiting[future] = topics
        timer = loop.call_later(timeout_s, _wake, future)
        try:
            await future
        finally:
            timer.cancel()
            del self._waiting[future]

    def fence(self, owner: "MemoryTransactions") -> None:
        """Make this the only owner of its id; what an earlier one left open is void."""
        self._owners[owner.transactional_id] = owner
        self._settle(owner, commit=False)

    def apply(self, owner: "MemoryTransactions", writes: Writes, offsets: Mapping[Part, int]) -> None:
        """Commit a whole transaction at once. Raises FencedError."""
        self.fault("commit", owner.transactional_id)
        self.check_owner(owner)
        for part, outs in writes.items():
            self._write(part, outs)
        self._commit_offsets(owner, offsets)
        self._notify({part.topic for part in writes})
        self.fault("committed", owner.transactional_id)

    def hold(self, owner: "MemoryTransactions", writes: Writes) -> None:
        """Write a piece of a transaction that stays open: nobody reads it, nor what follows. Raises FencedError."""
        self.check_owner(owner)
        now_ms = self._now_ms()
        self._open.setdefault(owner.transactional_id, set()).update(writes)
        for part, outs in writes.items():
            self._log(part).hold(owner.transactional_id, outs, now_ms)
            self.written += len(outs)

    def commit(self, owner: "MemoryTransactions", offsets: Mapping[Part, int]) -> None:
        """Commit what an owner holds open. Raises FencedError."""
        self.check_owner(owner)
        self._commit_offsets(owner, offsets)
        self._settle(owner, commit=True)

    def abandon(self, owner: "MemoryTransactions") -> None:
        """End what an owner holds open, as the broker does after the transaction time-out: it is fenced."""
        if self._owners.get(owner.transactional_id) is owner:
            del self._owners[owner.transactional_id]
            self._settle(owner, commit=False)

    def check_owner(self, owner: "MemoryTransactions") -> None:
        """Raises FencedError for anyone but the present owner of an id."""
        if self._owners.get(owner.transactional_id) is not owner:
            raise FencedError(owner.transactional_id)

    @property
    def open(self) -> Collection[str]:
        """Ids of transactions that are neither committed nor aborted."""
        return self._open.keys()

    def leave(self, consumer: "MemoryConsumer") -> None:
        """Take a member out of its group."""
        group = consumer.membership.group
        if self.member(group, consumer.name) is consumer:
            del self._groups[group].members[consumer.name]
            self._rebalance(group)

    def _rebalance(self, group: str) -> None:
        members = self._groups[group].members
        shares = assign(self._groups[group].partitions, {name: member.units for name, member in members.items()})
        for name, units in shares.items():
            members[name].take(units)
        for future in self._waiting:
            _wake(future)

    def _topic(self, name: str) -> _Topic:
        if name not in self._topics:
            raise TopicMissingError(name)
        return self._topics[name]

    def _log(self, part: Part) -> PartitionLog:
        return self._topic(part.topic).parts[part.partition]

    def _settle(self, owner: "MemoryTransactions", *, commit: bool) -> None:
        parts = self._open.pop(owner.transactional_id, set())
        for part in parts:
            self._log(part).settle(owner.transactional_id, commit=commit)
        self._notify({part.topic for part in parts})

    def _commit_offsets(self, owner: "MemoryTransactions", offsets: Mapping[Part, int]) -> None:
        if offsets:
            self._groups.setdefault(owner.group, _Group(0)).offsets.update(offsets)

    def _write(self, part: Part, outs: Sequence[Out]) -> None:
        self.written += len(outs)
        self._log(part).append(outs, self._now_ms())

    def _notify(self, topics: Set[str]) -> None:
        for future, awaited in self._waiting.items():
            if not topics.isdisjoint(awaited):
                _wake(future)


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


class MemoryTransactions:
    """Transactions under one id."""

    def __init__(self, bus: MemoryBus, transactional_id: str, group: str) -> None:
        self._bus, self.transactional_id, self.group = bus, transactional_id, group

    async def open(self) -> None:
        """Fence earlier owners."""
        self._bus.fence(self)

    async def commit(self, writes: Writes, offsets: Mapping[Part, int]) -> None:
        """Apply at once."""
        await asyncio.sleep(0)
        self._bus.apply(self, writes, offsets)

    async def close(self) -> None:
        """Nothing to let go."""


_CHUNK = 1_000


class MemoryConsumer:
    """A member of a group."""

    def __init__(self, bus: MemoryBus, membership: Membership, name: str) -> None:
        self._bus, self.membership, self.name = bus, membership, name
        self.units: frozenset[int] = frozenset()
        self._next: dict[Part, int] = {}

    def take(self, units: frozenset[int]) -> None:
        """A new assignment."""
        self.units = units
        self._next.clear()
        self.membership.assigned(units)

    async def poll(self, timeout_s: float) -> Fetched:
        """What came in."""
        await asyncio.sleep(0)
        fetched = self._fetch()
        if not fetched.records:
            await self._bus.news(self.membership.topics, timeout_s)
            fetched = self._fetch()
        return fetched

    def seek(self, part: Part, offset: int) -> None:
        """Deliver from here on."""
        if part.partition not in self.units:
            raise NotAssignedError(part.topic, part.partition)
        self._next[part] = offset

    def pause(self, part: Part) -> None:
        """Deliver no more."""
        self._next.pop(part, None)

    def rest(self, seconds: float) -> None:
        """Nothing is asked of anybody here."""

    async def close(self) -> None:
        """Leave the group."""
        self._bus.leave(self)

    def _fetch(self) -> Fetched:
        records: dict[Part, Sequence[Read]] = {}
        lost = {part: offset for part, offset in self._next.items() if self._bus.lost(part, offset)}
        for part in lost:
            del self._next[part]
        for part, offset in self._next.items():
            found, self._next[part] = self._bus.after(part, offset, _CHUNK)
            if found:
                records[part] = found
        ends = {part: self._bus.end(part) for part in self._next}
        return Fetched(records, {part for part, offset in self._next.items() if offset >= ends[part]}, ends, lost)


class MemoryReader:
    """Reads partitions in no group."""

    def __init__(self, bus: MemoryBus, starts: dict[Part, int]) -> None:
        self._bus, self._next = bus, starts

    async def poll(self, timeout_s: float) -> Mapping[Part, Sequence[Read]]:
        """What came in."""
        await asyncio.sleep(0)
        found = self._fetch()
        if not found:
            await self._bus.news({part.topic for part in self._next}, timeout_s)
            found = self._fetch()
        return found

    def positions(self) -> Mapping[Part, int]:
        """The next offset of each partition."""
        return dict(self._next)

    async def close(self) -> None:
        """Nothing to let go."""

    def _fetch(self) -> dict[Part, Sequence[Read]]:
        found: dict[Part, Sequence[Read]] = {}
        for part, offset in self._next.items():
            records, self._next[part] = self._bus.after(part, offset, _CHUNK)
            if records:
                found[part] = records
        return found
