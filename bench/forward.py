"""The limit that everything is held against: a plain aiokafka loop that forwards records in transactions."""

import asyncio
import time
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition


async def forward(bootstrap: str, source: str, target: str, *, records: int, partitions: int, batch_size: int) -> float:
    """Records per second from one topic to another, until `records` have been written.

    Consumes, forwards and produces in transactions with the group's offsets, as an aiokafka user would write it, one
    coroutine a partition in one process.
    """
    consumer: Any = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=f"{target}.plain",
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        check_crcs=False,
    )
    await consumer.start()
    parts = [TopicPartition(source, number) for number in range(partitions)]
    consumer.assign(parts)
    done, started_s = 0, 0.0

    async def one(part: TopicPartition) -> None:
        nonlocal done, started_s
        producer: Any = AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            transactional_id=f"{target}-{part.partition}",
            linger_ms=0,
            max_batch_size=900_000,
        )
        await producer.start()
        while done < records:
            found = (await consumer.getmany(part, timeout_ms=200, max_records=batch_size)).get(part)
            if not found:
                continue
            started_s = started_s or time.perf_counter()
            async with producer.transaction():
                batch = producer.create_batch()
                for record in found:
                    batch.append(key=record.key, value=record.value, headers=list(record.headers), timestamp=None)
                batch.close()
                await (await producer.send_batch(batch, target, partition=part.partition))
                await producer.send_offsets_to_transaction({part: found[-1].offset + 1}, f"{target}.plain")
            done += len(found)
        await producer.stop()

    await asyncio.gather(*(one(part) for part in parts))
    rate = records / (time.perf_counter() - started_s)
    await consumer.stop()
    return rate
