"""aiokafka's sender, made strict: a transaction's request that was lost on its way ends the producer.

aiokafka sends such a request again, with the same epoch. The first copy may arrive late, after the next transaction
has begun, and end that one half written. Only a new producer (a new epoch) makes late copies harmless.
"""

# aiokafka has no types, so its classes are Any to mypy.
# mypy: disable-error-code="misc"

import asyncio
from collections.abc import Mapping, Set
from typing import Any

import aiokafka.errors as kafka_errors
import aiokafka.producer.sender as aio
from aiokafka import TopicPartition
from aiokafka.client import ConnectionGroup, CoordinationType

BETWEEN_S = 0.001
"""Wait while the broker writes the last transaction's markers; aiokafka's own 20 ms make 25 ms of each transaction."""
_TIMED_OUT = kafka_errors.RequestTimedOutError.errno
_NOT_AVAILABLE = kafka_errors.GroupCoordinatorNotAvailableError.errno


class RequestLostError(kafka_errors.ProducerFenced):
    """No clear answer to a transaction's request. Being a ProducerFenced, it ends aiokafka's sender without a retry.

    aiokafka copies it, so its one argument is its message.
    """


class _Strict(aio.BaseHandler):
    """What the four requests of a transaction have in common: an unclear answer is final.

    `unclear`: a time-out within the broker, which may still do what it was asked. The coordinator of transactions also
    says CoordinatorNotAvailable for one.
    """

    unclear = frozenset({_TIMED_OUT, _NOT_AVAILABLE})

    async def do(self, node_id: int) -> bool:
        """Send once; True when done, False when the broker refused for the moment."""
        request = self.create_request()
        try:
            response = await self._sender.client.send(node_id, request, group=ConnectionGroup.COORDINATION)
        except kafka_errors.KafkaError as error:
            raise RequestLostError(type(request).__name__) from error
        if any(code in self.unclear for code in _codes(response)):
            raise RequestLostError(type(request).__name__)
        backoff_s = self.handle_response(response)
        if backoff_s is not None:
            await asyncio.sleep(BETWEEN_S if backoff_s == aio.BACKOFF_OVERRIDE else backoff_s)
        return backoff_s is None


class _AddPartitions(_Strict, aio.AddPartitionsToTxnHandler):
    pass


class _AddOffsets(_Strict, aio.AddOffsetsToTxnHandler):
    pass


class _CommitOffsets(_Strict, aio.TxnOffsetCommitHandler):
    unclear = frozenset({_TIMED_OUT})


class _End(_Strict, aio.EndTxnHandler):
    pass


class StrictSender(aio.Sender):
    """aiokafka's sender with strict requests, which can be stopped at once."""

    _requesting: "asyncio.Task[Any] | None" = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._producing: set[asyncio.Task[Any]] = set()

    def _maybe_do_transactional_request(self) -> "asyncio.Task[Any] | None":
        self._requesting = super()._maybe_do_transactional_request()
        return self._requesting

    async def _send_produce_req(self, node_id: int, batches: Mapping[TopicPartition, Any]) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._producing.add(task)
            task.add_done_callback(self._producing.discard)
        await super()._send_produce_req(node_id, batches)

    async def _do_add_partitions_to_txn(self, tps: Set[TopicPartition]) -> bool:
        return await _AddPartitions(self, tps).do(await self._transaction_coordinator())

    async def _do_add_offsets_to_txn(self, group_id: str) -> bool:
        return await _AddOffsets(self, group_id).do(await self._transaction_coordinator())

    async def _do_txn_offset_commit(self, offsets: Mapping[TopicPartition, Any], group_id: str) -> bool:
        node_id = await self._find_coordinator(CoordinationType.GROUP, group_id)
        return await _CommitOffsets(self, offsets, group_id).do(node_id)

    async def _do_txn_commit(self, commit_result: Any) -> None:
        await self._message_accumulator.flush_for_commit()
        if self._txn_manager.is_empty_transaction():
            self._txn_manager.complete_transaction()
        else:
            await _End(self, commit_result).do(await self._transaction_coordinator())

    async def _transaction_coordinator(self) -> int:
        found: int = await self._find_coordinator(CoordinationType.TRANSACTION, self._txn_manager.transactional_id)
        return found

    async def stop_now(self) -> None:
        """End without waiting for answers; what was under way may or may not take effect."""
        running = [task for task in (self._sender_task, self._requesting, *self._producing) if task is not None]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=1.0)
        for task in running:
            if task.done() and not task.cancelled():
                task.exception()


def _codes(response: Any) -> list[int]:
    single = getattr(response, "error_code", None)
    if single is not None:
        return [single]
    return [code for _, partitions in response.errors for _, code in partitions]
