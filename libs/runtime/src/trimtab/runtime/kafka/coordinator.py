"""The requests of a transaction to its coordinator, each sent once.

aiokafka's producer repeats a request that got no answer, with the same epoch. The first copy may arrive late, after the
next transaction has begun, and end that one half written. So here no answer, or one that leaves open what
happened, is final: only a new producer (a new epoch) makes late copies harmless. An answer that says "not done" is
followed by another try, and so is a coordinator that is not to be found or reached: nothing was sent then.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

import aiokafka.errors as kafka_errors
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.protocol.transaction import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
    TxnOffsetCommitRequest,
)

from trimtab.runtime.bus import Part
from trimtab.runtime.errors import FencedError, OutcomeUnknownError
from trimtab.runtime.kafka.batches import Identity
from trimtab.runtime.kafka.wire_transactions import EndTxnV5Request, FeaturesRequest, TxnOffsetCommitV5Request

_UNKNOWN_PARTITION, _TIMED_OUT, _LOADING, _NOT_AVAILABLE, _NOT_COORDINATOR = 3, 7, 14, 15, 16
_OLD_EPOCH, _INVALID_STATE, CONCURRENT, _FENCED = 47, 48, 51, 90
_NOT_ATTEMPTED = 55
"""Said of the other partitions of a request in which one failed."""
_LOST_OWNERSHIP = {_OLD_EPOCH, _INVALID_STATE, _FENCED}
BETWEEN_S = 0.001
"""Wait while the broker writes the last transaction's markers."""
_PAUSE_S, _AWAY_S = 0.05, 0.2
TRANSACTION_VERSION, _V2 = "transaction.version", 2


class Coordinator:
    """The coordinator of one transactional id, as one producer talks to it.

    `is_v2`: whether the cluster speaks version 2 of transactions (`wire_transactions`), as `init` found.
    """

    def __init__(self, client: AIOKafkaClient, transactional_id: str) -> None:
        self._client, self._id = client, transactional_id
        self._nodes: dict[tuple[CoordinationType, str], int] = {}
        self.is_v2 = False

    async def init(self, timeout_ms: int) -> Identity:
        """A new epoch: earlier owners are fenced, and their markers are written when this returns. May be repeated."""
        while True:
            try:
                node = await self._node(CoordinationType.TRANSACTION, self._id)
                request = InitProducerIdRequest(self._id, timeout_ms)
                response = await self._client.send(node, request, group=ConnectionGroup.COORDINATION)
                features = await self._client.send(node, FeaturesRequest(), group=ConnectionGroup.COORDINATION)
            except kafka_errors.KafkaError as error:
                if not (error.retriable or isinstance(error, kafka_errors.KafkaConnectionError)):
                    raise
                self._nodes.clear()
            else:
                if response.error_code == 0:
                    self.is_v2 = features.level(TRANSACTION_VERSION) >= _V2
                    return Identity(response.producer_id, response.producer_epoch)
                if response.error_code not in {_LOADING, _NOT_AVAILABLE, _NOT_COORDINATOR, CONCURRENT}:
                    raise kafka_errors.for_code(response.error_code)(self._id)
                if response.error_code != CONCURRENT:
                    self._nodes.clear()
            await asyncio.sleep(_PAUSE_S)

    async def add_partitions(self, identity: Identity, parts: Collection[Part]) -> None:
        """Make partitions part of the transaction, where batches do not."""
        if self.is_v2:
            return
        topics: dict[str, list[int]] = defaultdict(list)
        for part in parts:
            topics[part.topic].append(part.partition)
        await self._ask(AddPartitionsToTxnRequest(self._id, *_who(identity), list(topics.items())))

    async def commit_offsets(self, identity: Identity, group: str, offsets: Mapping[Part, int]) -> None:
        """Make a group's offsets part of the transaction."""
        topics: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
        for part, offset in offsets.items():
            topics[part.topic].append((part.partition, offset, ""))
        if not self.is_v2:
            await self._ask(AddOffsetsToTxnRequest(self._id, *_who(identity), group))
        kind = TxnOffsetCommitV5Request if self.is_v2 else TxnOffsetCommitRequest
        await self._ask(kind(self._id, group, *_who(identity), list(topics.items())), group)

    async def end(self, identity: Identity) -> Identity:
        """Commit; who the next transaction is of."""
        if not self.is_v2:
            await self._ask(EndTxnRequest(self._id, *_who(identity), True))
            return identity
        ended = await self._ask(EndTxnV5Request(self._id, *_who(identity)))
        return Identity(ended.producer_id, ended.producer_epoch)

    async def _ask(self, request: Any, group: str | None = None) -> Any:
        """Send until done. Raises FencedError, OutcomeUnknownError, and KafkaError for what cannot be done at all."""
        kind = CoordinationType.TRANSACTION if group is None else CoordinationType.GROUP
        unclear = {_TIMED_OUT, _NOT_AVAILABLE} if group is None else {_TIMED_OUT}
        while True:
            response, codes = await self._answer(request, kind, group or self._id)
            if not codes:
                return response
            if codes & _LOST_OWNERSHIP:
                raise FencedError(self._id)
            if codes & unclear:
                raise OutcomeUnknownError(self._id, type(request).__name__)
            if codes & {_NOT_COORDINATOR, _NOT_AVAILABLE}:
                self._nodes.clear()
            elif not codes <= {CONCURRENT, _LOADING, _UNKNOWN_PARTITION}:
                raise kafka_errors.for_code(min(codes))(self._id)
            await asyncio.sleep(BETWEEN_S if codes == {CONCURRENT} else _PAUSE_S)

    async def _answer(self, request: Any, kind: CoordinationType, key: str) -> tuple[Any, set[int]]:
        """The answer, and its error codes; none when it was done. Where nobody is there, another may be, in a while."""
        try:
            node = await self._node(kind, key)
        except kafka_errors.KafkaError as error:
            if not error.retriable:
                raise
            return None, await _nobody()
        try:
            response = await self._client.send(node, request, group=ConnectionGroup.COORDINATION)
        except kafka_errors.NodeNotReadyError:  # raised before anything is sent
            return None, await _nobody()
        except kafka_errors.KafkaError as error:
            raise OutcomeUnknownError(self._id, type(request).__name__) from error
        single = getattr(response, "error_code", None)
        found = [single] if single is not None else [part[1] for topic in response.errors for part in topic[1]]
        return response, set(found) - {0, _NOT_ATTEMPTED}

    async def _node(self, kind: CoordinationType, key: str) -> int:
        if (kind, key) not in self._nodes:
            self._nodes[kind, key] = await self._client.coordinator_lookup(kind, key)
        return self._nodes[kind, key]


async def _nobody() -> set[int]:
    await asyncio.sleep(_AWAY_S)
    return {_NOT_COORDINATOR}


def _who(identity: Identity) -> tuple[int, int]:
    return identity.producer_id, identity.epoch
