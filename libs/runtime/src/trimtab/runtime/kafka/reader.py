"""Reading partitions in no group."""

from collections.abc import Mapping, Sequence

import aiokafka.errors as kafka_errors
from aiokafka import AIOKafkaConsumer, TopicPartition

from trimtab.runtime.bus import Part
from trimtab.runtime.errors import PositionOutOfRangeError
from trimtab.runtime.kafka.connection import Connection
from trimtab.runtime.kafka.consumer import FETCH, stop
from trimtab.runtime.kafka.fetched import slim
from trimtab.runtime.records import Read

WAIT_MS = 5_000
"""Nothing is ever paused here, so a fetch may wait as long as nothing comes."""
TAKEN_FIRST_S = 3_600.0
"""So long aiokafka fetches nothing while something fetched has not been polled. After its own 0.1 s, which pass in a
busy process, it asks for the other partitions alone: where those have come to their ends, all wait for WAIT_MS."""


class KafkaReader:
    """Reads committed records from given offsets on."""

    def __init__(self, connection: Connection, starts: Mapping[Part, int]) -> None:
        self._starts = {TopicPartition(*part): offset for part, offset in starts.items()}
        patient = FETCH | {"fetch_max_wait_ms": WAIT_MS}
        self._consumer = AIOKafkaConsumer(**patient, **connection.arguments("trimtab-reader"))

    async def start(self) -> None:
        """Connect and stand at the starts. No await between assigning and seeking: nothing may be fetched before."""
        try:
            await self._consumer.start()
        except BaseException:
            await stop(self._consumer)
            raise
        slim(self._consumer)
        self._consumer._fetcher._prefetch_backoff = TAKEN_FIRST_S
        self._consumer.assign(list(self._starts))
        for part, offset in self._starts.items():
            self._consumer.seek(part, offset)

    async def poll(self, timeout_s: float) -> Mapping[Part, Sequence[Read]]:
        """What came in. Raises PositionOutOfRangeError."""
        try:
            found = await self._consumer.getmany(timeout_ms=int(timeout_s * 1000))
        except kafka_errors.OffsetOutOfRangeError as error:
            part, offset = next(iter(error.args[0].items()))
            raise PositionOutOfRangeError("reader", part.topic, offset) from error
        return {Part(*part): records for part, records in found.items()}

    def positions(self) -> Mapping[Part, int]:
        """The next offset of each partition, past markers of transactions."""
        assignment = self._consumer._subscription.subscription.assignment
        return {Part(*part): assignment.state_value(part).position for part in self._starts}

    async def close(self) -> None:
        """Disconnect."""
        await stop(self._consumer)
