"""Transactions, spoken directly: two requests each (three before Kafka 4), none about a transaction repeated in doubt.

aiokafka's producer is not used: besides what `coordinator` says, `commit_transaction` succeeds although a batch
failed, its background loop costs 40% of a small transaction's CPU in this process, and its sequence numbers turn
negative after 2^31 records.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import zip_longest

import aiokafka.errors as kafka_errors
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest

from trimtab.runtime.bus import Part, Writes
from trimtab.runtime.errors import BusSilentError, FencedError, OutcomeUnknownError, RecordRefusedError
from trimtab.runtime.kafka.batches import Identity, Sequences, encode
from trimtab.runtime.kafka.connection import REQUEST_TIMEOUT_MS, Connection
from trimtab.runtime.kafka.coordinator import BETWEEN_S, CONCURRENT, Coordinator
from trimtab.runtime.kafka.wire_transactions import ProduceV12Request

TRANSACTION_TIMEOUT_MS = 10_000
"""After so long the broker aborts a transaction that its owner has left."""
PATIENCE_S = 20.0
"""No commit may take longer, whatever happens."""
OPEN_S = 60.0
_PAUSE_S = 0.02
_NOBODY = _NO_ANSWER = -1
_DUPLICATE = 46
_LOST_OWNERSHIP = {47, 48, 90}
_REFUSED = {10, 18, 87}
"""MESSAGE_TOO_LARGE, RECORD_LIST_TOO_LARGE, INVALID_RECORD."""
_ALL_REPLICAS = -1


@dataclass(frozen=True, slots=True)
class _Producer:
    client: AIOKafkaClient
    coordinator: Coordinator
    identity: Identity
    sequences: Sequences = field(default_factory=Sequences)


class KafkaTransactions:
    """Each `open` is a new producer, and so a new epoch."""

    def __init__(self, connection: Connection, transactional_id: str, group: str) -> None:
        self._connection, self._id, self._group = connection, transactional_id, group
        self._client: AIOKafkaClient | None = None
        self._producer: _Producer | None = None

    async def open(self) -> None:
        """Init transactions. Raises BusSilentError, aiokafka's KafkaError."""
        await self.close()
        self._client = self._connect()
        try:
            async with asyncio.timeout(OPEN_S):
                await self._client.bootstrap()
                coordinator = Coordinator(self._client, self._id)
                self._producer = _Producer(self._client, coordinator, await coordinator.init(TRANSACTION_TIMEOUT_MS))
        except TimeoutError as error:
            raise BusSilentError(f"init transactions of {self._id}", OPEN_S) from error

    async def commit(self, writes: Writes, offsets: Mapping[Part, int]) -> None:
        """Write and commit, only once every batch has been acknowledged.

        Raises FencedError, OutcomeUnknownError, RecordRefusedError, and aiokafka's KafkaError where the broker refuses
        a batch for another reason.
        """
        producer = self._producer
        if producer is None:
            raise FencedError(self._id)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await producer.coordinator.add_partitions(producer.identity, writes)
                await self._write(producer, writes)
                if offsets:
                    await producer.coordinator.commit_offsets(producer.identity, self._group, offsets)
                identity = await producer.coordinator.end(producer.identity)
        except TimeoutError as error:
            raise OutcomeUnknownError(self._id, "the transaction as a whole") from error
        if identity != producer.identity:
            self._producer = replace(producer, identity=identity, sequences=Sequences())

    async def close(self) -> None:
        """Let go, at once. An open transaction stays open until the next owner of the id, or its time-out."""
        client, self._client, self._producer = self._client, None, None
        if client is not None:
            await client.close()

    def _connect(self) -> AIOKafkaClient:
        return AIOKafkaClient(**self._connection.arguments(f"trimtab-{self._id}"))

    async def _write(self, producer: _Producer, writes: Writes) -> None:
        """One batch of each partition at a time: a partition's batches must arrive in order."""
        encoded = {part: encode(part, outs, producer.identity, producer.sequences) for part, outs in writes.items()}
        for batches in zip_longest(*encoded.values()):
            waiting = {part: batch for part, batch in zip(encoded, batches, strict=True) if batch is not None}
            while again := await self._send(producer, waiting):
                waiting = {part: waiting[part] for part in again}
                if set(again.values()) == {CONCURRENT}:
                    await asyncio.sleep(BETWEEN_S)
                else:
                    await producer.client.force_metadata_update()
                    await asyncio.sleep(_PAUSE_S)

    async def _send(self, producer: _Producer, batches: Mapping[Part, bytes]) -> Mapping[Part, int]:
        """Send batches to their leaders; which have to be sent again, and why. Numbers make repetitions harmless."""
        by_leader: dict[int, dict[Part, bytes]] = defaultdict(dict)
        for part, batch in batches.items():
            by_leader[await self._leader(producer.client, part)][part] = batch
        again = dict.fromkeys(by_leader.pop(_NOBODY, {}), _NO_ANSWER)
        led = [self._send_to(producer, leader, some) for leader, some in by_leader.items()]
        for answer in await asyncio.gather(*led, return_exceptions=True):
            if isinstance(answer, BaseException):
                raise answer
            again |= answer
        return again

    async def _leader(self, client: AIOKafkaClient, part: Part) -> int:
        await client._wait_on_metadata(part.topic)
        leader = client.cluster.leader_for_partition(TopicPartition(*part))
        return _NOBODY if leader is None else int(leader)

    async def _send_to(self, producer: _Producer, leader: int, batches: Mapping[Part, bytes]) -> Mapping[Part, int]:
        topics: dict[str, list[tuple[int, bytes]]] = defaultdict(list)
        for part, batch in batches.items():
            topics[part.topic].append((part.partition, batch))
        kind = ProduceV12Request if producer.coordinator.is_v2 else ProduceRequest
        request = kind(self._id, _ALL_REPLICAS, REQUEST_TIMEOUT_MS, list(topics.items()))
        try:
            response = await producer.client.send(leader, request)
        except kafka_errors.KafkaError as error:
            if not (error.retriable or isinstance(error, kafka_errors.KafkaConnectionError)):
                raise
            return dict.fromkeys(batches, _NO_ANSWER)
        answers = [(Part(topic, one[0]), one[1]) for topic, partitions, *_ in response.topics for one in partitions]
        return {part: code for part, code in answers if self._again(part, code)}

    def _again(self, part: Part, code: int) -> bool:
        """Whether a batch has to be sent again. Raises FencedError, RecordRefusedError, KafkaError."""
        if code in (0, _DUPLICATE, CONCURRENT):
            return code == CONCURRENT
        if code in _LOST_OWNERSHIP:
            raise FencedError(self._id)
        kind = kafka_errors.for_code(code)
        if code in _REFUSED:
            raise RecordRefusedError(part.topic, part.partition, kind.__name__)
        if not kind.retriable:
            raise kind(f"{part.topic}[{part.partition}]")
        return True
