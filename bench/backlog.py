"""A backlog of users' events in the log, written before anybody reads it: Avro, or JSON as people write it."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import polars as pl
from aiokafka import AIOKafkaProducer
from trimtab.contracts import times, topics
from trimtab.contracts.codec import AvroCodec
from trimtab.loops.conform import bodies
from trimtab.loops.files import Recorded
from trimtab.loops.model import Event, Loop
from trimtab.runtime.partitioner import partition_of

Encode = Callable[[Mapping[str, Any]], bytes]
Encoding = Callable[[Event], Encode]
BATCH, STRETCH = 1_000, 5_000


def avro(event: Event) -> Encode:
    """Single-object Avro."""
    return AvroCodec(event.schema).encode


def json(event: Event) -> Encode:
    """JSON with a time that people can read."""
    return lambda row: msgspec.json.encode({**row, event.time: times.text(row[event.time])})


def copies(loop: Loop, recorded: Recorded, wanted: int, mark: str) -> Iterator[tuple[Event, list[dict[str, Any]]]]:
    """About `wanted` events in stretches of one kind: the recorded ones as often as it takes, each under its own id.

    Copies come in the order of their event times. `mark` tells the ids of one backlog from those of another.
    """
    turns, left = -(-wanted // sum(recorded.counts.values())), wanted
    for chunk in recorded.chunks(STRETCH):
        for turn in range(turns):
            for name, frame in zip(chunk.events, chunk.frames, strict=True):
                if frame.height and left > 0:
                    event = loop.events[name]
                    named = frame.with_columns(pl.format(f"{{}}#{mark}{turn}", event.id or "").alias(event.id or ""))
                    yield event, bodies(event, named)
                    left -= frame.height


async def write(
    bootstrap: str, loop: Loop, stretches: Iterator[tuple[Event, list[dict[str, Any]]]], how: Encoding
) -> int:
    """Write events to their source topics and wait for the acknowledgements; returns how many."""
    encoders = {name: how(event) for name, event in loop.events.items()}
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5, max_batch_size=500_000)
    await producer.start()
    count = 0
    try:
        for event, rows in stretches:
            topic, encode = topics.source(loop.name, event.name), encoders[event.name]
            for start in range(0, len(rows), BATCH):
                some = rows[start : start + BATCH]
                pairs = [(str(row[event.id or ""]).encode(), encode(row)) for row in some]
                await asyncio.gather(*await _send(producer, topic, loop.partitions, pairs))
                count += len(some)
    finally:
        await producer.stop()
    return count


async def _send(producer: Any, topic: str, partitions: int, pairs: Sequence[tuple[bytes, bytes]]) -> list[Any]:
    """One batch a partition."""
    futures = []
    by_partition: list[list[tuple[bytes, bytes]]] = [[] for _ in range(partitions)]
    for key, value in pairs:
        by_partition[partition_of(key, partitions)].append((key, value))
    for partition, own in enumerate(by_partition):
        if own:
            batch = producer.create_batch()
            for key, value in own:
                batch.append(timestamp=None, key=key, value=value)
            batch.close()
            futures.append(await producer.send_batch(batch, topic, partition=partition))
    return futures
