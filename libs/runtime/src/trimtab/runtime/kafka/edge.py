"""The edge's producer on aiokafka."""

import asyncio
from collections.abc import Sequence
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError

from trimtab.runtime.edge import Placed
from trimtab.runtime.errors import EdgeBusyError, EdgeSilentError, EdgeUnreachableError
from trimtab.runtime.kafka.connection import Connection
from trimtab.runtime.partitioner import partition_of
from trimtab.runtime.records import Out


class IdempotentProducer:
    """Writes with acks=all and sequence numbers, so that its retries make no copies. Use as a context manager.

    `most_waiting`: how many records may wait for their acknowledgement. `timeout_s`: how long a call waits for it.
    """

    def __init__(self, connection: Connection, *, most_waiting: int = 20_000, timeout_s: float = 10.0) -> None:
        self._connection, self._most_waiting, self._timeout_s = connection, most_waiting, timeout_s
        self._producer: Any = None
        self._waiting = 0

    async def __aenter__(self) -> Self:
        self._producer = AIOKafkaProducer(
            enable_idempotence=True,
            linger_ms=2,
            max_batch_size=256 * 1024,
            **self._connection.arguments("trimtab-edge"),
        )
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def send(self, outs: Sequence[Out]) -> Sequence[Placed]:
        """Write records and return once all brokers in sync have them.

        Raises EdgeBusyError (nothing was written), EdgeSilentError or EdgeUnreachableError (unknown), KafkaError
        (refused).
        """
        if self._waiting + len(outs) > self._most_waiting:
            raise EdgeBusyError(self._waiting)
        self._waiting += len(outs)
        try:
            async with asyncio.timeout(self._timeout_s):
                futures = [await self._send(out) for out in outs]
                placed = await asyncio.gather(*futures)
        except TimeoutError as error:
            raise EdgeSilentError(self._timeout_s) from error
        except KafkaError as error:
            if not (error.retriable or isinstance(error, KafkaTimeoutError)):
                raise
            raise EdgeUnreachableError(type(error).__name__) from error
        finally:
            self._waiting -= len(outs)
        return [Placed(one.topic, one.partition, one.offset) for one in placed]

    async def _send(self, out: Out) -> "asyncio.Future[Any]":
        partition = out.partition
        if partition is None and out.key is not None:
            partition = partition_of(out.key, len(await self._producer.partitions_for(out.topic)))
        sent: asyncio.Future[Any] = await self._producer.send(
            out.topic, value=out.value, key=out.key, partition=partition, headers=list(out.headers)
        )
        return sent
