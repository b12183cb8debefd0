"""Read topics of a cluster from their start to their present end, outside any consumer group."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError

from trimtab.cli.errors import ClusterError
from trimtab.cli.topics import UnreachableError
from trimtab.runtime.bus import Catalog, Part
from trimtab.runtime.kafka.bus import KafkaBus
from trimtab.runtime.kafka.connection import Connection
from trimtab.runtime.partitioner import partition_of
from trimtab.runtime.records import Read
from trimtab.runtime.unreadable import Unreadable

PATIENCE_S = 30.0
"""Longer than a transaction of ours stays open whose service was killed: 10 s, and as long until the brokers notice."""
LOOK_S = 1.0


class PartitionUnreadableError(ClusterError):
    """What stands behind a transaction that does not end cannot be read."""

    def __init__(self, told: Sequence[str]) -> None:
        super().__init__("; ".join(told))


class Follower:
    """Reads topics record by record, committed ones only. Made by `follower`."""

    def __init__(self, consumer: AIOKafkaConsumer, catalog: Catalog, assigned: Sequence[TopicPartition]) -> None:
        self._consumer, self._catalog = consumer, catalog
        self._parts = [Part(*partition) for partition in assigned]

    async def skip_to_last(self, records: int) -> None:
        """Go on at most so many records before each partition's present end."""
        for part, (begin, end) in (await self._catalog.bounds(self._parts)).items():
            self._consumer.seek(TopicPartition(*part), max(begin, end - records))

    async def skip_to(self, at_ms: int) -> None:
        """Go on at what each partition got at this time of the brokers' clock or later."""
        bounds = await self._catalog.bounds(self._parts)
        times = {TopicPartition(*part): at_ms for part in self._parts}
        for partition, place in (await self._consumer.offsets_for_times(times)).items():
            _, end = bounds[Part(*partition)]
            self._consumer.seek(partition, end if place is None else place.offset)

    async def catch_up(self) -> list[Read]:
        """What has come since the last call, to the end as it is now: by topic and partition in the log's order."""
        return [record async for records in self.batches() for record in records]

    async def batches(self) -> AsyncIterator[Sequence[Read]]:
        """The same, as it comes in: each batch is of one partition.

        The end is that of all records, not of the committed ones: a transaction is acknowledged before its records may
        be read, and those of a whole partition wait for the oldest one that is open. So whatever has been acknowledged
        before this call is there. Raises PartitionUnreadableError where a transaction does not end, BusSilentError and
        TopicMissingError.
        """
        bounds = await self._catalog.bounds(self._parts)
        ends = {TopicPartition(*part): end for part, (_, end) in bounds.items()}
        unreadable, looked_s = Unreadable(self._catalog, PATIENCE_S), time.monotonic()
        while any([await self._consumer.position(partition) < end for partition, end in ends.items()]):
            for records in (await self._consumer.getmany(timeout_ms=50)).values():
                yield records
            if time.monotonic() >= looked_s + LOOK_S:
                looked_s = time.monotonic()
                if told := await unreadable.look(self._parts, looked_s):
                    raise PartitionUnreadableError(list(told.values()))


@asynccontextmanager
async def follower(
    connection: Connection, topics: Sequence[str], *, key: bytes | None = None
) -> AsyncIterator[Follower]:
    """A reader of these topics from their start, for a `with`. Raises UnreachableError.

    `key`: of the partitions that hold records of this key alone; None: of all.
    """
    async with AsyncExitStack() as stack:
        consumer = AIOKafkaConsumer(
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=100,
            **connection.arguments("trimtab-cli"),
        )
        stack.push_async_callback(consumer.stop)
        try:
            await consumer.start()
            bus = await stack.enter_async_context(KafkaBus(connection))
        except KafkaConnectionError as error:
            raise UnreachableError(connection.bootstrap_servers, str(error)) from error
        known = {name: list(range(topic.partitions)) for name, topic in (await bus.catalog.describe(topics)).items()}
        if key is not None:
            known = {topic: [partition_of(key, len(numbers))] for topic, numbers in known.items()}
        assigned = [TopicPartition(topic, number) for topic, numbers in known.items() for number in numbers]
        consumer.assign(assigned)
        yield Follower(consumer, bus.catalog, assigned)
