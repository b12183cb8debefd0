"""A bus to try things on, in memory or on the test session's Kafka, with the same handles for tests."""

import itertools
import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Protocol, Self

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from trimtab.runtime import marks
from trimtab.runtime.bus import Bus, Part
from trimtab.runtime.kafka import Connection, KafkaBus
from trimtab.runtime.memory import MemoryBus
from trimtab.runtime.partitioner import partition_of
from trimtab.runtime.records import Out, Read

_numbers = itertools.count()


class Lab(Protocol):
    """What a test does with a bus besides running stages on it. Topic names start with `prefix`: a test's own."""

    @property
    def prefix(self) -> str: ...
    @property
    def bus(self) -> Bus: ...

    async def create(self, topics: Mapping[str, int], *, compacted: Sequence[str] = ()) -> None:
        """Make topics: name → partitions."""

    async def delete(self, topic: str) -> None:
        """Delete a topic with everything in it."""

    async def append(self, outs: Sequence[Out]) -> None:
        """Write as a user's producer does, outside of transactions."""

    async def read(self, topic: str) -> list[Read]:
        """All committed records without marks, partition by partition."""


def _prefix() -> str:
    return f"t{os.getpid()}x{next(_numbers)}."


async def read_all(bus: Bus, topic: str) -> list[Read]:
    """All committed records of a topic, marks included, partition by partition."""
    count = (await bus.catalog.describe([topic]))[topic].partitions
    bounds = await bus.catalog.bounds([Part(topic, number) for number in range(count)])
    found: dict[Part, list[Read]] = {part: [] for part in bounds}
    reader = await bus.reader({part: begin for part, (begin, _) in bounds.items()})
    try:
        while any(reader.positions()[part] < end for part, (_, end) in bounds.items()):
            for part, records in (await reader.poll(0.2)).items():
                found[part].extend(records)
    finally:
        await reader.close()
    return [record for part in sorted(found) for record in found[part]]


class MemoryLab:
    """A lab in memory."""

    def __init__(self) -> None:
        self.prefix = _prefix()
        self.bus = MemoryBus()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    async def create(self, topics: Mapping[str, int], *, compacted: Sequence[str] = ()) -> None:  # noqa: ARG002
        """Make topics; nothing is compacted in memory."""
        for topic, partitions in topics.items():
            self.bus.create(topic, partitions)

    async def delete(self, topic: str) -> None:
        """Delete a topic."""
        self.bus.remove(topic)

    async def append(self, outs: Sequence[Out]) -> None:
        """Write as users do."""
        self.bus.append(outs)

    async def read(self, topic: str) -> list[Read]:
        """All committed records."""
        return [record for record in await read_all(self.bus, topic) if not marks.is_mark(record)]


class KafkaLab:
    """A lab on a broker."""

    def __init__(self, bootstrap_servers: str, *, instance: str | None = None) -> None:
        self.prefix = _prefix()
        self.connection = Connection(bootstrap_servers)
        self.bus = KafkaBus(self.connection, instance=instance)
        self._stack = AsyncExitStack()
        self._partitions: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        address = self.connection.bootstrap_servers
        await self._stack.enter_async_context(self.bus)
        self._admin: Any = AIOKafkaAdminClient(bootstrap_servers=address)
        await self._admin.start()
        self._stack.push_async_callback(self._admin.close)
        self._producer: Any = AIOKafkaProducer(bootstrap_servers=address, linger_ms=5, max_batch_size=256 * 1024)
        await self._producer.start()
        self._stack.push_async_callback(self._producer.stop)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def create(self, topics: Mapping[str, int], *, compacted: Sequence[str] = ()) -> None:
        """Make topics, and wait until the broker shows them."""
        new = [
            NewTopic(
                name,
                partitions,
                1,
                topic_configs={"retention.ms": "-1", "cleanup.policy": "compact" if name in compacted else "delete"},
            )
            for name, partitions in topics.items()
        ]
        await self._admin.create_topics(new)
        while (await self.bus.catalog.describe(list(topics))).keys() != topics.keys():
            pass
        self._partitions |= topics

    async def delete(self, topic: str) -> None:
        """Delete a topic, and wait until the broker shows that."""
        await self._admin.delete_topics([topic])
        while await self.bus.catalog.describe([topic]):
            pass

    async def append(self, outs: Sequence[Out]) -> None:
        """Write as users do, and wait for the acknowledgements."""
        sent = [
            await self._producer.send(
                out.topic,
                value=out.value,
                key=out.key,
                headers=list(out.headers),
                partition=out.partition
                if out.partition is not None
                else partition_of(out.key or b"", self._partitions[out.topic]),
            )
            for out in outs
        ]
        for future in sent:
            await future

    async def read(self, topic: str) -> list[Read]:
        """All committed records."""
        return [record for record in await read_all(self.bus, topic) if not marks.is_mark(record)]
