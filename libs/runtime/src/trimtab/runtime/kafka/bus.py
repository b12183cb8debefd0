"""The bus on Kafka."""

from collections.abc import Mapping
from typing import Self

from trimtab.runtime.bus import Membership, Part
from trimtab.runtime.kafka.catalog import KafkaCatalog, patiently
from trimtab.runtime.kafka.connection import Connection
from trimtab.runtime.kafka.consumer import KafkaConsumer
from trimtab.runtime.kafka.reader import KafkaReader
from trimtab.runtime.kafka.transactions import KafkaTransactions


class KafkaBus:
    """Use as an asynchronous context manager.

    `instance`: this process's own name within every group (service and replica slot). Killed and started again under
    the same name, it gets its tasks back at once and leaves the others alone. None: an anonymous member.
    """

    def __init__(self, connection: Connection, *, instance: str | None = None) -> None:
        self._connection, self._instance = connection, instance
        self._catalog: KafkaCatalog | None = None

    async def __aenter__(self) -> Self:
        self._catalog = KafkaCatalog(self._connection)
        await self._catalog.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        catalog, self._catalog = self._catalog, None
        if catalog is not None:
            await catalog.close()

    @property
    def catalog(self) -> KafkaCatalog:
        """Facts about topics and groups."""
        if self._catalog is None:
            raise RuntimeError("the bus is not open: use it with `async with`")
        return self._catalog

    async def consumer(self, membership: Membership) -> KafkaConsumer:
        """Join a stage's group."""
        consumer = KafkaConsumer(self._connection, membership, self._instance)
        await consumer.start()
        return consumer

    def transactions(self, transactional_id: str, group: str) -> KafkaTransactions:
        """Transactions under an id. Not yet open."""
        return KafkaTransactions(self._connection, transactional_id, group)

    async def reader(self, starts: Mapping[Part, int]) -> KafkaReader:
        """Read partitions from these offsets on. Raises BusSilentError."""
        return await patiently("connect", lambda: self._reader(starts))

    async def _reader(self, starts: Mapping[Part, int]) -> KafkaReader:
        reader = KafkaReader(self._connection, starts)
        await reader.start()
        return reader
