"""Transactions on aiokafka's producer."""

# aiokafka has no types, so its classes are Any to mypy.
# mypy: disable-error-code="misc"

import asyncio
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import aiokafka.errors as kafka_errors
from aiokafka import AIOKafkaProducer, TopicPartition

from trimtab.runtime.bus import Part, Writes
from trimtab.runtime.errors import BusSilentError, FencedError, OutcomeUnknownError
from trimtab.runtime.kafka.connection import Connection
from trimtab.runtime.kafka.sender import RequestLostError, StrictSender
from trimtab.runtime.records import Out

TRANSACTION_TIMEOUT_MS = 10_000
"""After so long the broker aborts a transaction that its owner has left."""
PATIENCE_S = 20.0
"""No commit may take longer, whatever happens inside of aiokafka."""
OPEN_S = 60.0
BATCH_BYTES = 900_000
"""Below the broker's limit for one batch, 1 MiB and a little."""


class StrictProducer(AIOKafkaProducer):
    """A transactional producer with the strict sender."""

    def __init__(self, connection: Connection, transactional_id: str) -> None:
        super().__init__(
            transactional_id=transactional_id,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            max_batch_size=BATCH_BYTES,
            linger_ms=0,
            **connection.arguments(f"trimtab-{transactional_id}"),
        )
        plain: Any = self._sender
        self._sender: StrictSender = StrictSender(
            self.client,
            acks=plain._acks,
            txn_manager=self._txn_manager,
            message_accumulator=self._message_accumulator,
            retry_backoff_ms=plain._retry_backoff * 1000,
            request_timeout_ms=plain._request_timeout_ms,
        )

    async def discard(self) -> None:
        """Let go at once. An open transaction stays open until the next owner of the id, or its time-out."""
        self._closed = True
        await self._sender.stop_now()
        await self.client.close()
        waiter = self._txn_manager.wait_for_transaction_end()
        if waiter is not None and waiter.done() and not waiter.cancelled():
            waiter.exception()


class KafkaTransactions:
    """Each `open` is a new producer, and so a new epoch."""

    def __init__(self, connection: Connection, transactional_id: str, group: str) -> None:
        self._connection, self._id, self._group = connection, transactional_id, group
        self._producer: StrictProducer | None = None

    async def open(self) -> None:
        """Init transactions: earlier owners are fenced, and their markers are written when this returns."""
        await self.close()
        self._producer = StrictProducer(self._connection, self._id)
        try:
            async with asyncio.timeout(OPEN_S):
                await self._producer.start()
        except TimeoutError as error:
            raise BusSilentError(f"init transactions of {self._id}", OPEN_S) from error

    async def commit(self, writes: Writes, offsets: Mapping[Part, int]) -> None:
        """Write and commit; only once every batch has been acknowledged (commit_transaction does not look).

        Raises FencedError, OutcomeUnknownError, and KafkaError where the broker refuses a batch.
        """
        if self._producer is None:
            raise FencedError(self._id)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._commit(self._producer, writes, offsets)
        except RequestLostError as error:
            raise OutcomeUnknownError(self._id, str(error.args[0])) from error
        except (kafka_errors.ProducerFenced, kafka_errors.InvalidProducerEpoch) as error:
            raise FencedError(self._id) from error
        except TimeoutError as error:
            raise OutcomeUnknownError(self._id, "the transaction as a whole") from error

    async def _commit(self, producer: StrictProducer, writes: Writes, offsets: Mapping[Part, int]) -> None:
        await producer.begin_transaction()
        sent: list[Any] = []
        rest: list[tuple[Part, Sequence[Any]]] = []
        for part, outs in writes.items():
            first, *more = _batches(producer, outs)
            sent.append(await producer.send_batch(first, part.topic, partition=part.partition))
            rest += [(part, more)] if more else []
        if offsets:
            shown = {TopicPartition(*part): offset for part, offset in offsets.items()}
            sent.append(asyncio.ensure_future(producer.send_offsets_to_transaction(shown, self._group)))
        for part, batches in rest:
            for batch in batches:
                sent.append(await producer.send_batch(batch, part.topic, partition=part.partition))
        await asyncio.gather(*sent)
        await producer.commit_transaction()

    async def close(self) -> None:
        """Let go, at once."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.discard()


def _batches(producer: AIOKafkaProducer, outs: Sequence[Out]) -> list[Any]:
    """The records in as many batches as they need; one that is too large for any makes a batch of its own."""
    batches, start = [], 0
    while start < len(outs):
        batch = producer.create_batch()
        start += _fill(batch, outs, start)
        batches.append(batch)
    return batches


def _fill(batch: Any, outs: Sequence[Out], start: int) -> int:
    """Put records into a batch from an index on, and say how many it took.

    Straight into aiokafka's compiled builder: its wrapper doubles the cost of a record. The wrapper's count is what
    sequence numbers are made of.
    """
    append, count = batch._builder.append, 0
    for out in islice(outs, start, None):
        if append(count, None, key=out.key, value=out.value, headers=list(out.headers)) is None:
            break
        count += 1
    batch._relative_offset = count
    batch.close()
    return count
