"""Writes events and progress marks to a loop's source topics."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer

from trimtab.cli.replay.slices import Slice
from trimtab.contracts import topics
from trimtab.contracts.codec import AvroCodec
from trimtab.loops.conform import bodies
from trimtab.loops.model import Event, Loop
from trimtab.runtime import marks
from trimtab.runtime.marks import Mark
from trimtab.runtime.partitioner import partition_of

TASK = "replay"
OUTSTANDING = 64
"""Batches that may be on their way at once."""

Future = asyncio.Future[Any]


class Feed:
    """Writes slices: an event's Avro bytes under its id, then a mark to every partition of every source topic.

    The producer is idempotent, so each partition holds a slice's events before its mark, and nothing twice. What a
    restarted replay sends again is dropped by ingest, which knows the ids.
    """

    def __init__(self, producer: AIOKafkaProducer, loop: Loop) -> None:
        self._producer = producer
        self._loop = loop
        self._codecs = {name: AvroCodec(event.schema) for name, event in loop.events.items()}
        self._outstanding: list[Future] = []
        self._spread = 0

    async def send(self, piece: Slice) -> None:
        """Write a slice's events and its mark; they may still be on their way when this returns."""
        mark = Mark(TASK, piece.end_ms)
        for name in self._loop.events:
            frame = piece.frames.get(name)
            rows = bodies(self._loop.events[name], frame) if frame is not None else ()
            await self._write(name, rows, (mark,))
        if len(self._outstanding) >= OUTSTANDING:
            await self.settle()

    async def wake(self, at_ms: int) -> None:
        """Say only how far time is, everywhere: sources that have been silent do not count as idle, or no longer."""
        for name in self._loop.events:
            await self._write(name, (), (Mark(TASK, at_ms),))
        await self.settle()

    async def settle(self) -> None:
        """Wait until the brokers have all that was written. Raises what a broker refused."""
        waiting, self._outstanding = self._outstanding, []
        await asyncio.gather(*waiting)

    async def finish(self, last_ms: int) -> None:
        """Say that this was all: sources count as idle from now on."""
        for name in self._loop.events:
            await self._write(name, (), (Mark(TASK, last_ms), Mark(TASK, None)))
        await self.settle()

    async def _write(self, name: str, rows: Sequence[Mapping[str, Any]], said: Sequence[Mark]) -> None:
        event, codec = self._loop.events[name], self._codecs[name]
        records: list[list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]]]
        records = [[] for _ in range(self._loop.partitions)]
        for row in rows:
            key = _key(event, row)
            records[self._partition(key)].append((key, codec.encode(row), []))
        for partition, own in enumerate(records):
            own += [(marks.key_of(mark.task), None, list(marks.headers_of(mark))) for mark in said]
            await self._append(topics.source(self._loop.name, name), partition, own)

    def _partition(self, key: bytes | None) -> int:
        if key is not None:
            return partition_of(key, self._loop.partitions)
        self._spread += 1
        return self._spread % self._loop.partitions

    async def _append(
        self,
        topic: str,
        partition: int,
        records: Sequence[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]],
    ) -> None:
        batch = self._producer.create_batch()
        for key, value, headers in records:
            if batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
                await self._send(batch, topic, partition)
                batch = self._producer.create_batch()
                batch.append(timestamp=None, key=key, value=value, headers=headers)
        await self._send(batch, topic, partition)

    async def _send(self, batch: Any, topic: str, partition: int) -> None:
        batch.close()
        self._outstanding.append(await self._producer.send_batch(batch, topic, partition=partition))


def _key(event: Event, row: Mapping[str, Any]) -> bytes | None:
    """The record's key: the event's id, so that its copies meet in one partition."""
    return None if event.id is None else str(row[event.id]).encode()
