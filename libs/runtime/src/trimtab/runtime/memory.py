"""A bus in memory: the same partitions, groups, offsets and transactions, for tests, simulations and backtests."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from trimtab.runtime.assignment import assign
from trimtab.runtime.bus import Fetched, Membership, Part, TopicInfo, Writes
from trimtab.runtime.edge import Placed
from trimtab.runtime.errors import FencedError, NotAssignedError, TopicMissingError
from trimtab.runtime.partitioner import partition_of
from trimtab.runtime.records import Out, Read, Record

Fault = Callable[[str, str], None]
"""Called with (point, transactional id) at `commit` and `committed`; what it raises happens there."""


def no_fault(_point: str, _transactional_id: str) -> None:
    """Nothing goes wrong."""


@dataclass(slots=True)
class _Topic:
    info: TopicInfo
    parts: list[list[Record]]
    first: list[int]


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
        self._waiting: set[asyncio.Future[None]] = set()
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
        self._topics[topic] = _Topic(info, [[] for _ in range(partitions)], [0] * partitions)
        return info

    def remove(self, topic: str) -> None:
        """Delete a topic with everything in it."""
        del self._topics[topic]
        for group in self._groups.values():
            group.offsets = {part: offset for part, offset in group.offsets.items() if part.topic != topic}

    def delete_before(self, part: Part, offset: int) -> None:
        """Drop a partition's oldest records, as retention does."""
        topic = self._topic(part.topic)
        kept = [record for record in topic.parts[part.partition] if record.offset >= offset]
        topic.parts[part.partition], topic.first[part.partition] = kept, offset

    def append(self, outs: Sequence[Out]) -> None:
        """Write records outside of any transaction, as users' producers do."""
        for out in outs:
            topic = self._topic(out.topic)
            key_partition = partition_of(out.key or b"", topic.info.partitions)
            self._write(Part(out.topic, out.partition if out.partition is not None else key_partition), [out])
        self._notify()

    async def send(self, outs: Sequence[Out]) -> Sequence[Placed]:
        """The edge of a service: as `append`, and where the records stand now."""
        placed = []
        for out in outs:
            self.append([out])
            count = self._topic(out.topic).info.partitions
            partition = out.partition if out.partition is not None else partition_of(out.key or b"", count)
            placed.append(Placed(out.topic, partition, self.end(Part(out.topic, partition)) - 1))
        return placed

    def records(self, topic: str) -> list[Record]:
        """Everything in a topic, partition by partition, marks included."""
        return [record for part in self._topic(topic).parts for record in part]

    async def consumer(self, membership: Membership) -> "MemoryConsumer":
        """Join a group; its members share the tasks anew."""
        group = self._groups.setdefault(membership.group, _Group(membership.partitions))
        group.partitions = membership.partitions
        consumer = MemoryConsumer(self, membership, f"{len(group.members)}-{self._made}")
        self._made += 1
        group.members[consumer.name] = consumer
        self._rebalance(membership.group)
        return consumer

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
        return {part: (self._topic(part.topic).first[part.partition], self.end(part)) for part in parts}

    async def committed(self, group: str, parts: Collection[Part]) -> Mapping[Part, int]:
        """The group's committed offsets."""
        offsets = self._groups[group].offsets if group in self._groups else {}
        return {part: offsets[part] for part in parts if part in offsets}

    def end(self, part: Part) -> int:
        """The next offset of a partition."""
        topic = self._topic(part.topic)
        records = topic.parts[part.partition]
        return records[-1].offset + 1 if records else topic.first[part.partition]

    def after(self, part: Part, offset: int, limit: int) -> list[Record]:
        """Records from an offset on."""
        topic = self._topic(part.topic)
        start = max(offset - topic.first[part.partition], 0)
        return topic.parts[part.partition][start : start + limit]

    def lost(self, part: Part, offset: int) -> bool:
        """Whether an offset is outside of what a partition holds."""
        return not self._topic(part.topic).first[part.partition] <= offset <= self.end(part)

    async def news(self, timeout_s: float) -> None:
        """Return when something was written or an assignment changed, at the latest after so long."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await asyncio.wait([future], timeout=timeout_s)
        finally:
            self._waiting.discard(future)

    def fence(self, owner: "MemoryTransactions") -> None:
        """Make this the only owner of its id."""
        self._owners[owner.transactional_id] = owner

    def apply(self, owner: "MemoryTransactions", writes: Writes, offsets: Mapping[Part, int]) -> None:
        """Commit a transaction. Raises FencedError."""
        self.fault("commit", owner.transactional_id)
        if self._owners.get(owner.transactional_id) is not owner:
            raise FencedError(owner.transactional_id)
        for part, outs in writes.items():
            self._write(part, outs)
        if offsets:
            self._groups.setdefault(owner.group, _Group(0)).offsets.update(offsets)
        self._notify()
        self.fault("committed", owner.transactional_id)

    def leave(self, consumer: "MemoryConsumer") -> None:
        """Take a member out of its group."""
        if self._groups[consumer.membership.group].members.pop(consumer.name, None) is not None:
            self._rebalance(consumer.membership.group)

    def _rebalance(self, group: str) -> None:
        members = self._groups[group].members
        shares = assign(self._groups[group].partitions, {name: member.units for name, member in members.items()})
        for name, units in shares.items():
            members[name].take(units)
        self._notify()

    def _topic(self, name: str) -> _Topic:
        if name not in self._topics:
            raise TopicMissingError(name)
        return self._topics[name]

    def _write(self, part: Part, outs: Sequence[Out]) -> None:
        records, end = self._topic(part.topic).parts[part.partition], self.end(part)
        now_ms = self._now_ms()
        self.written += len(outs)
        records.extend(
            Record(part.topic, part.partition, end + index, out.key, out.value, out.headers, now_ms)
            for index, out in enumerate(outs)
        )

    def _notify(self) -> None:
        for future in self._waiting:
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
            await self._bus.news(timeout_s)
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

    async def close(self) -> None:
        """Leave the group."""
        self._bus.leave(self)

    def _fetch(self) -> Fetched:
        records: dict[Part, Sequence[Read]] = {}
        lost = {part: offset for part, offset in self._next.items() if self._bus.lost(part, offset)}
        for part in lost:
            del self._next[part]
        for part, offset in self._next.items():
            found = self._bus.after(part, offset, _CHUNK)
            if found:
                records[part] = found
        self._next.update({part: found[-1].offset + 1 for part, found in records.items()})
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
            await self._bus.news(timeout_s)
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
            records = self._bus.after(part, offset, _CHUNK)
            if records:
                found[part] = records
                self._next[part] = records[-1].offset + 1
        return found
