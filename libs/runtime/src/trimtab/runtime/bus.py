"""What stages need of a log: group membership, transactions, plain reading, and facts about topics.

Two buses keep these promises, `MemoryBus` and `KafkaBus`, under one test suite (libs/runtime/tests).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from trimtab.runtime.records import Out, Read


class Part(NamedTuple):
    """One partition of a topic."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic's identity: deleted and created again, it has another id."""

    id: str
    partitions: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one poll brought, and of the partitions being delivered: which have nothing further to read, committed or
    under way, the next offset to be written as far as known, and which were to be delivered from an offset that is
    not there (any more).
    """

    records: Mapping[Part, Sequence[Read]]
    ended: Collection[Part] = frozenset()
    ends: Mapping[Part, int] = field(default_factory=dict)
    lost: Mapping[Part, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Membership:
    """A stage's group. `assigned` is called, synchronously, with the task numbers this member now owns.

    All partitions stand still after an assignment until the member seeks them; those it still owns it may seek
    within the call.
    """

    group: str
    topics: Sequence[str]
    partitions: int
    assigned: Callable[[frozenset[int]], None]


class Consumer(Protocol):
    """A member of a stage's group. What it returned before a `seek` or a new assignment does not count any more."""

    async def poll(self, timeout_s: float) -> Fetched:
        """Committed records that came in, waiting for some at most so long."""

    def seek(self, part: Part, offset: int) -> None:
        """Deliver a partition from this offset on. Raises NotAssignedError."""

    def pause(self, part: Part) -> None:
        """Deliver no more of a partition until the next seek."""

    def rest(self, seconds: float) -> None:
        """Ask the broker no sooner than so long after its last answer, from now on."""

    async def close(self) -> None:
        """Leave the group."""


Writes = Mapping[Part, Sequence[Out]]


class Transactions(Protocol):
    """Transactions under one transactional id: each is applied whole or not at all."""

    async def open(self) -> None:
        """Fence every earlier owner of the id: their open transaction is aborted, their later ones fail."""

    async def commit(self, writes: Writes, offsets: Mapping[Part, int]) -> None:
        """Write and commit. `offsets` become the group's, for other people's tools; empty: they stay.

        Raises FencedError, OutcomeUnknownError or RecordRefusedError; after any error the transaction may or may not
        have been applied, and nothing but `close` and another `open` is allowed.
        """

    async def close(self) -> None:
        """Let go, at once."""


class Reader(Protocol):
    """Reads partitions in order, committed records only, in no group."""

    async def poll(self, timeout_s: float) -> Mapping[Part, Sequence[Read]]:
        """Records that came in, waiting for some at most so long."""

    def positions(self) -> Mapping[Part, int]:
        """The next offset of each partition (offsets have holes)."""

    async def close(self) -> None:
        """Let go."""


class Catalog(Protocol):
    """Facts about topics and groups."""

    async def describe(self, topics: Collection[str]) -> Mapping[str, TopicInfo]:
        """Identity and size of topics; those that do not exist are left out."""

    async def bounds(self, parts: Collection[Part]) -> Mapping[Part, tuple[int, int]]:
        """First and next offset of each partition, uncommitted records included."""

    async def stable(self, parts: Collection[Part]) -> Mapping[Part, tuple[int, int]]:
        """The same for who reads committed records: the begin of a transaction that is open is the end for now."""

    async def committed(self, group: str, parts: Collection[Part]) -> Mapping[Part, int]:
        """The group's committed offsets, where there are any."""


class Bus(Protocol):
    """A log with transactions."""

    @property
    def catalog(self) -> Catalog: ...

    async def consumer(self, membership: Membership) -> Consumer:
        """Join a stage's group."""

    def transactions(self, transactional_id: str, group: str) -> Transactions:
        """Transactions that also commit offsets of a group. Not yet open."""

    async def reader(self, starts: Mapping[Part, int]) -> Reader:
        """Read partitions from these offsets on."""


@dataclass(frozen=True, slots=True)
class Declared:
    """The topics that a loop declared, by name. Topics it does not name are not checked."""

    topics: Mapping[str, TopicInfo] = field(default_factory=dict)
