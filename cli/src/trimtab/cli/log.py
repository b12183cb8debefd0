"""Read topics of a cluster from their start to their present end, outside any consumer group."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError

from trimtab.cli.topics import UnreachableError
from trimtab.contracts.envelope import Headers
from trimtab.runtime.kafka.connection import Connection
from trimtab.runtime.partitioner import partition_of


class Read(Protocol):
    """A record of the log."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...


class Follower:
    """Reads topics record by record, committed ones only. Made by `follower`."""

    def __init__(self, consumer: AIOKafkaConsumer, assigned: Sequence[TopicPartition]) -> None:
        self._consumer = consumer
        self._assigned = assigned

    async def skip_to_last(self, records: int) -> None:
        """Go on at most so many records before each partition's present end."""
        begins = await self._consumer.beginning_offsets(self._assigned)
        for partition, end in (await self._consumer.end_offsets(self._assigned)).items():
            self._consumer.seek(partition, max(begins[partition], end - records))

    async def catch_up(self) -> list[Read]:
        """What has come since the last call, to the end as it is now: by topic and partition in the log's order."""
        ends = await self._consumer.end_offsets(self._assigned)
        found: list[Read] = []
        while await self._is_behind(ends):
            for records in (await self._consumer.getmany(timeout_ms=50)).values():
                found.extend(records)
        return found

    async def _is_behind(self, ends: dict[TopicPartition, int]) -> bool:
        for partition, end in ends.items():
            if await self._consumer.position(partition) < end:
                return True
        return False


@asynccontextmanager
async def follower(
    connection: Connection, topics: Sequence[str], *, key: bytes | None = None
) -> AsyncIterator[Follower]:
    """A reader of these topics from their start, for a `with`. Raises UnreachableError.

    `key`: of the partitions that hold records of this key alone; None: of all.
    """
    consumer = AIOKafkaConsumer(
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=100,
        **connection.arguments("trimtab-cli"),
    )
    try:
        await consumer.start()
    except KafkaConnectionError as error:
        await consumer.stop()
        raise UnreachableError(connection.bootstrap_servers, str(error)) from error
    try:
        known = {topic: await _partitions(consumer, topic) for topic in topics}
        if key is not None:
            known = {topic: [partition_of(key, len(numbers))] for topic, numbers in known.items() if numbers}
        assigned = [TopicPartition(topic, number) for topic, numbers in known.items() for number in numbers]
        consumer.assign(assigned)
        yield Follower(consumer, assigned)
    finally:
        await consumer.stop()


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> list[int]:
    """The topic's partitions; none when it does not exist."""
    metadata = await consumer._client.fetch_all_metadata()
    return sorted(metadata.partitions_for_topic(topic) or ())
