"""What aiokafka's consumers have fetched, as records of ours.

Reading large tables back, four fifths of the client's time went into aiokafka's ConsumerRecord: a Python call and an
object with a dict for each, which the garbage collector walks through again and again.
"""

# aiokafka has no types, so its classes are Any to mypy.
# mypy: disable-error-code="misc"

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords

from trimtab.runtime.records import Record


def slim(consumer: Any) -> None:
    """From now on a consumer that was started, and has fetched nothing yet, gives `Record`s. Sums are not checked."""
    consumer._fetcher._records = _Fetched()


class Pace:
    """Leaves time between a consumer's fetches. Mutable: `rest_s` holds from the next fetch on.

    A fetch is answered as soon as anything is there. Where events trickle in, that is a transaction of each of a
    topic's writers, one by one, and a fetch costs brokers and us about as much as a transaction.
    """

    def __init__(self) -> None:
        self.rest_s = 0.0
        self._answered_s = 0.0

    def keep(self, consumer: Any) -> None:
        """Pace a consumer that was started, and has fetched nothing yet."""
        fetcher = consumer._fetcher
        fetch, loop = fetcher._proc_fetch_request, asyncio.get_running_loop()

        async def paced(assignment: Any, node: int, request: Any) -> bool:
            try:
                if (left_s := self._answered_s + self.rest_s - loop.time()) > 0:
                    await asyncio.sleep(left_s)
                came: bool = await fetch(assignment, node, request)
            except asyncio.CancelledError:  # whoever closes the consumer awaits this, and is not cancelled itself
                return False
            self._answered_s = loop.time()
            return came

        fetcher._proc_fetch_request = paced


class _Fetched(OrderedDict[TopicPartition, Any]):
    """What waits to be polled, by partition."""

    def __setitem__(self, part: TopicPartition, result: Any) -> None:
        if type(result) is FetchResult:
            result._partition_records = SlimRecords(result._partition_records)
        super().__setitem__(part, result)


class SlimRecords(PartitionRecords):
    """What one fetch brought of a partition: the committed records from the wanted offset on.

    `next_fetch_offset` is past everything given so far, and past what is left out.
    """

    next_fetch_offset: int

    def __init__(self, fetched: PartitionRecords) -> None:
        super().__init__(
            fetched._tp,
            fetched._records,
            fetched._aborted_transactions,
            fetched.next_fetch_offset,
            None,
            None,
            check_crcs=False,
            isolation_level=fetched._isolation_level,
        )

    def __iter__(self) -> Iterator[Record]:
        records: Iterator[Record] = self._records_iterator
        return records

    def _unpack_records(self) -> Iterator[Record]:
        topic, partition = self._tp
        while self._records.has_next():
            batch = self._records.next_batch()
            if not (self._aborted(batch) or batch.is_control_batch):
                for one in batch:
                    offset = one.offset
                    if offset >= self.next_fetch_offset:  # a batch is fetched whole
                        self.next_fetch_offset = offset + 1
                        yield Record(topic, partition, offset, one.key, one.value, tuple(one.headers), one.timestamp)
            self.next_fetch_offset = batch.next_offset  # compaction may have taken the batch's last records

    def _aborted(self, batch: Any) -> bool:
        """Whether a batch belongs to a transaction that was aborted; to be asked of each, in order."""
        if self._isolation_level != READ_COMMITTED or batch.producer_id is None:
            return False
        self._consume_aborted_up_to(batch.base_offset)
        if batch.is_control_batch and self._contains_abort_marker(batch):
            self._aborted_producers.discard(batch.producer_id)
        return bool(batch.is_transactional and batch.producer_id in self._aborted_producers)
