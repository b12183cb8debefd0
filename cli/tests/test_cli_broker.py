"""The embedded broker on its own folder: starts, stops, comes back after a kill."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError
from rich.console import Console
from trimtab.cli.broker import (
    RELEASE,
    UNTOLD,
    EmbeddedBroker,
    NewerLogError,
    answers,
    release,
    running_broker,
    user_jars,
    wait_until_answering,
)
from trimtab.cli.settings import ClusterSettings

pytestmark = pytest.mark.kafka

WRITERS, WIDE = 6, 300
KILLED_S = 5.0
"""Less than the 9 s for which Kafka's controller otherwise keeps the place of a broker that it heard nothing of."""


async def write(bootstrap: str, value: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        await producer.send_and_wait("kept", value)
    finally:
        await producer.stop()


async def read(bootstrap: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer("kept", bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


async def create(bootstrap: str, partitions: int = 1) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic("kept", partitions, 1)])
    finally:
        await admin.close()


@asynccontextmanager
async def writer(bootstrap: str, number: int) -> AsyncIterator[AIOKafkaProducer]:
    """One with transactions; what becomes of it when its broker is gone is nobody's business."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"writer-{number}")
    await producer.start()
    try:
        yield producer
    finally:
        with suppress(TimeoutError, KafkaError):
            await asyncio.wait_for(producer.stop(), 1)
        await producer.client.close()  # a stop that is cut off leaves its connections


async def begin(producer: AIOKafkaProducer) -> None:
    """A transaction over all partitions."""
    await producer.begin_transaction()
    sent = [await producer.send("kept", b"in", partition=partition) for partition in range(WIDE)]
    await asyncio.gather(*sent)


async def unreadable(bootstrap: str) -> bool:
    """Whether anything stands behind an open transaction."""
    partitions = [TopicPartition("kept", partition) for partition in range(WIDE)]
    ends = list[Mapping[TopicPartition, int]]()
    for isolation in ("read_committed", "read_uncommitted"):
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level=isolation)
        await consumer.start()
        try:
            ends.append(await consumer.end_offsets(partitions))
        finally:
            await consumer.stop()
    return ends[0] != ends[1]


async def test_the_log_outlives_a_kill_and_a_stop(tmp_path: Path) -> None:
    cache = user_jars(ClusterSettings(), Console(stderr=True))
    with running_broker(tmp_path, cache) as bootstrap:
        await create(bootstrap)
        await write(bootstrap, b"before the kill")

    broker = EmbeddedBroker(tmp_path, cache)
    command = broker.prepare()
    assert command.bootstrap == bootstrap, "the port of the last start is free, so it is kept"
    process = broker.start(command)
    wait_until_answering(process, command.port, broker.log)
    await write(command.bootstrap, b"before the stop")
    process.terminate()
    process.wait()
    assert not answers(command.port)

    with running_broker(tmp_path, cache) as bootstrap:
        assert await read(bootstrap, 2) == [b"before the kill", b"before the stop"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_a_broker_that_ends_amid_commits_leaves_no_partition_unreadable(
    tmp_path: Path, how: signal.Signals
) -> None:
    """As KAFKA-20734 does: markers that are due when the broker dies are given up when it starts again."""
    broker = EmbeddedBroker(tmp_path, user_jars(ClusterSettings(), Console(stderr=True)))
    command = broker.prepare()
    process = broker.start(command)
    wait_until_answering(process, command.port, broker.log)
    await create(command.bootstrap, WIDE)
    async with AsyncExitStack() as stack:
        writers = [await stack.enter_async_context(writer(command.bootstrap, number)) for number in range(WRITERS)]
        for one in writers:
            await begin(one)
            await one.commit_transaction()
            await begin(one)
        commits = [asyncio.create_task(one.commit_transaction()) for one in writers]
        await asyncio.sleep(0.01)  # so that some have been noted, and wait for their 300 markers
        process.send_signal(how)
        process.wait()
        for commit in commits:
            commit.cancel()

    command = broker.prepare()
    process = broker.start(command)
    wait_until_answering(process, command.port, broker.log)
    async with asyncio.timeout(20):
        for number in range(WRITERS):  # their successors, which wait for what is being ended
            async with writer(command.bootstrap, number):
                pass
        while await unreadable(command.bootstrap):  # noqa: ASYNC110 it tells nobody
            await asyncio.sleep(0.2)
    process.kill()
    process.wait()


async def test_a_killed_broker_is_not_kept_waiting_for_its_own_session(tmp_path: Path) -> None:
    cache = user_jars(ClusterSettings(), Console(stderr=True))
    with running_broker(tmp_path, cache) as bootstrap:
        await create(bootstrap)
    broker = EmbeddedBroker(tmp_path, cache)
    after_a_stop = await seconds_to_write(broker)
    after_a_kill = await seconds_to_write(broker)
    assert after_a_kill < after_a_stop + KILLED_S, (after_a_kill, after_a_stop)


async def seconds_to_write(broker: EmbeddedBroker) -> float:
    """Start it, write, kill it; from the start to the acknowledgement."""
    command = broker.prepare()
    began_s = time.monotonic()
    process = broker.start(command)
    wait_until_answering(process, command.port, broker.log)
    await write(command.bootstrap, b"there")
    took_s = time.monotonic() - began_s
    process.kill()
    process.wait()
    return took_s


async def test_a_broker_left_behind_is_ended_before_the_next_start(tmp_path: Path) -> None:
    cache = user_jars(ClusterSettings(), Console(stderr=True))
    orphan = EmbeddedBroker(tmp_path, cache)
    command = orphan.prepare()
    process = orphan.start(command)
    wait_until_answering(process, command.port, orphan.log)

    with running_broker(tmp_path, cache) as bootstrap:
        assert process.wait(10) is not None
        await create(bootstrap)


def test_a_log_of_a_later_kafka_is_refused_before_it_is_touched(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path, user_jars(ClusterSettings(), Console(stderr=True)))
    broker.prepare()
    told = tmp_path / "kafka" / RELEASE
    assert told.read_text() == release()
    broker.prepare()
    told.write_text("99.0.0")
    with pytest.raises(NewerLogError, match=r"begun by Kafka 99\.0\.0.*TRIMTAB_DATA_DIR"):
        broker.prepare()
    told.unlink()
    with pytest.raises(NewerLogError, match=UNTOLD):
        broker.prepare()


async def test_the_session_broker_answers(kafka: str) -> None:
    assert answers(int(kafka.rpartition(":")[2]))
