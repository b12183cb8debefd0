"""Writes events and progress marks to a loop's source topics."""

import asyncio
from collections.abc import Sequence
from typing import Any

import polars as pl
from aiokafka import AIOKafkaProducer

from trimtab.cli.replay.slices import Slice
from trimtab.contracts import topics
from trimtab.loops.bodies import BodyEncoder
from trimtab.loops.model import Event, Loop
from trimtab.runtime import marks
from trimtab.runtime.marks import Mark
from trimtab.runtime.partitioner import partitions_of

TASK = "replay"
OUTSTANDING = 64
"""Batches that may be on their way at once."""

Future = asyncio.Future[Any]
Record = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]
"""Key, value and headers."""


class Feed:
    """Writes slices: an event's Avro bytes under its id, then a mark to every partition of every source topic.

    The producer is idempotent, so each partition holds a slice's events before its mark, and nothing twice. What a
    restarted replay sends again is dropped by ingest, which knows the ids.
    """

    def __init__(self, producer: AIOKafkaProducer, loop: Loop) -> None:
        self._producer = producer
        self._loop = loop
        self._encoders = {name: BodyEncoder(event) for name, event in loop.events.items()}
        self._outstanding: list[Future] = []
        self._spread = 0

    async def send(self, piece: Slice) -> None:
        """Write a slice's events and its mark; they may still be on their way when this returns."""
        mark = Mark(TASK, piece.end_ms)
        for name in self._loop.events:
            await self._write(name, piece.frames.get(name), (mark,))
        if len(self._outstanding) >= OUTSTANDING:
            await self.settle()

    async def wake(self, at_ms: int) -> None:
        """Say only how far time is, everywhere: sources that have been silent do not count as idle, or no longer."""
        for name in self._loop.events:
            await self._write(name, None, (Mark(TASK, at_ms),))
        await self.settle()

    async def settle(self) -> None:
        """Wait until the brokers have all that was written. Raises what a broker refused."""
        waiting, self._outstanding = self._outstanding, []
        await asyncio.gather(*waiting)

    async def finish(self, last_ms: int) -> None:
        """Say that this was all: sources count as idle from now on."""
        for name in self._loop.events:
            await self._write(name, None, (Mark(TASK, last_ms), Mark(TASK, None)))
        await self.settle()

    async def _write(self, name: str, rows: pl.DataFrame | None, said: Sequence[Mark]) -> None:
        records: list[list[Record]] = [[] for _ in range(self._loop.partitions)]
        if rows is not None:
            keys = _keys(self._loop.events[name], rows)
            for key, value, at in zip(keys, self._encoders[name].encode(rows), self._places(keys), strict=True):
                records[at].append((key, value, []))
        for partition, own in enumerate(records):
            own += [(marks.key_of(mark.task), None, list(marks.headers_of(mark))) for mark in said]
            await self._append(topics.source(self._loop.name, name), partition, own)

    def _places(self, keys: Sequence[bytes | None]) -> Sequence[int]:
        """The partition of each record: its key's, or in turn."""
        keyed = [key for key in keys if key is not None]
        if keyed:
            return partitions_of(keyed, self._loop.partitions)
        first, self._spread = self._spread, self._spread + len(keys)
        return [number % self._loop.partitions for number in range(first, first + len(keys))]

    async def _append(self, topic: str, partition: int, records: Sequence[Record]) -> None:
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


def _keys(event: Event, rows: pl.DataFrame) -> Sequence[bytes | None]:
    """Each record's key: the event's id, so that its copies meet in one partition; none where the event has no id."""
    if event.id is None:
        return [None] * rows.height
    return [str(value).encode() for value in rows[event.id].to_list()]
