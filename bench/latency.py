"""From an event that the broker has acknowledged to its prediction that anybody can read, at a steady rate."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from flights import TIMES, Flights, live
from meter import percentiles
from play import Told
from trimtab.contracts import topics
from trimtab.contracts.codec import AvroCodec
from trimtab.loops.model import Loop
from trimtab.runtime.kafka.connection import Connection

LINGER_MS = 5
"""As Kafka's own producer has it from 4.0 on."""
WARM_S = 20.0
"""At each rate, before anything counts: so long the broker's JVM compiles anew for transactions of another size."""
PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Of `asks` at `per_s` events a second: ms from the acknowledgement to the prediction.

    `hops_ms`: medians of the time between the records of an ask, by the brokers' append times, from topic to topic.
    """

    per_s: int
    asks: int
    p50: float
    p99: float
    hops_ms: Mapping[str, float]


@dataclass
class Trip:
    """Asks on their way. Mutable: sender and reader share it on one event loop."""

    acknowledged: dict[bytes, float] = field(default_factory=dict)
    readable: dict[bytes, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pace:
    """Which live flights, how many events a second, for how long."""

    first: int
    per_s: int
    seconds: float


async def latency(kafka: Connection, flights: Flights, pace: Pace, told: Told) -> Latency:
    """Send live flights at a rate, and follow each departure; the first WARM_S seconds are not counted."""
    trip, began_ms = Trip(), int(time.time() * 1000)
    loop = flights.loop
    async with committed(kafka, topics.predictions(loop.name), began_ms) as predictions:
        reading = asyncio.create_task(_read(predictions, trip))
        try:
            await send(kafka, flights, replace(pace, seconds=WARM_S + pace.seconds), trip, told)
            await _all_there(trip)
        finally:
            reading.cancel()
    cut_s = min(trip.acknowledged.values()) + WARM_S
    counted = {key: at_s for key, at_s in trip.acknowledged.items() if at_s >= cut_s}
    took = percentiles([1000 * (trip.readable[key] - at_s) for key, at_s in counted.items()])
    hops = await hops_ms(kafka, loop, set(counted), began_ms)
    return Latency(pace.per_s, len(counted), took["p50"], took["p99"], hops)


async def send(kafka: Connection, flights: Flights, pace: Pace, trip: Trip, told: Told) -> None:
    """Send live events one by one, dated now, each at its time."""
    loop = flights.loop
    encode = {name: AvroCodec(event.schema).encode for name, event in loop.events.items()}
    producer: Any = AIOKafkaProducer(linger_ms=LINGER_MS, acks="all", **kafka.arguments("trimtab-bench"))
    await producer.start()
    try:
        began_s = time.perf_counter()
        for number, (event, body) in enumerate(live(flights, pace.first)):
            due_s = began_s + number / pace.per_s
            if due_s > began_s + pace.seconds:
                break
            if (left_s := due_s - time.perf_counter()) > 0:
                await asyncio.sleep(left_s)
            key = str(body["flight_id"]).encode()
            value = encode[event]({**body, TIMES[event]: int(time.time() * 1000)})
            future = await producer.send(topics.source(loop.name, event), value, key)
            if event == loop.predict.on:
                future.add_done_callback(lambda _, key=key: trip.acknowledged.update({key: time.perf_counter()}))
            told(f"{number:,} events at {pace.per_s}/s")
    finally:
        await producer.stop()


async def _read(consumer: Any, trip: Trip) -> None:
    while True:
        for records in (await consumer.getmany(timeout_ms=100)).values():
            now_s = time.perf_counter()
            trip.readable.update({record.key: now_s for record in records if record.value is not None})


async def _all_there(trip: Trip) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not trip.acknowledged.keys() <= trip.readable.keys():  # noqa: ASYNC110 the log tells nobody
            await asyncio.sleep(0.05)


@asynccontextmanager
async def committed(kafka: Connection, topic: str, since_ms: int) -> AsyncIterator[Any]:
    """A reader of the committed records that a topic has been given since then."""
    consumer: Any = AIOKafkaConsumer(
        isolation_level="read_committed", enable_auto_commit=False, **kafka.arguments("trimtab-bench")
    )
    await consumer.start()
    try:
        parts = [TopicPartition(topic, number) for number in sorted(await _partitions_of(consumer, topic))]
        consumer.assign(parts)
        ends = await consumer.end_offsets(parts)
        found = await consumer.offsets_for_times(dict.fromkeys(parts, since_ms))
        for part in parts:
            consumer.seek(part, ends[part] if found[part] is None else found[part].offset)
        yield consumer
    finally:
        await consumer.stop()


async def _partitions_of(consumer: Any, topic: str) -> set[int]:
    consumer._client.add_topic(topic)  # the only way to ask without subscribing
    await consumer._client.force_metadata_update()
    return set(consumer.partitions_for_topic(topic) or ())


async def hops_ms(kafka: Connection, loop: Loop, keys: set[bytes], since_ms: int) -> dict[str, float]:
    """Medians of the time between an ask's records in one topic and the next."""
    asks = loop.predict.on
    route = [topics.source(loop.name, asks), topics.accepted(loop.name, asks), topics.events(loop.name, asks)]
    stamps = [await _appended(kafka, topic, keys, since_ms) for topic in [*route, topics.predictions(loop.name)]]
    names = ["accepted", "events", "predictions"]
    return {
        name: round(statistics.median(after[key] - before[key] for key in before.keys() & after.keys()), 1)
        for name, before, after in zip(names, stamps, stamps[1:], strict=False)
    }


async def _appended(kafka: Connection, topic: str, keys: set[bytes], since_ms: int) -> dict[bytes, int]:
    """When the records with these keys were appended, in ms."""
    found: dict[bytes, int] = {}
    async with committed(kafka, topic, since_ms) as consumer:
        while len(found) < len(keys):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found |= {one.key: one.timestamp for one in records if one.value is not None and one.key in keys}
    return found
