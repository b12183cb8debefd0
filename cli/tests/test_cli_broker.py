"""The embedded broker on its own folder: starts, stops, comes back after a kill."""

import signal
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from rich.console import Console
from trimtab.cli.broker import EmbeddedBroker, answers, running_broker, user_jars, wait_until_answering
from trimtab.cli.settings import ClusterSettings

pytestmark = pytest.mark.kafka

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


async def create(bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic("kept", 1, 1)])
    finally:
        await admin.close()


async def test_a_stop_is_a_kill_and_the_log_outlives_both(tmp_path: Path) -> None:
    cache = user_jars(ClusterSettings(), Console(stderr=True))
    with running_broker(tmp_path, cache) as bootstrap:
        await create(bootstrap)
        await write(bootstrap, b"before the stop")

    broker = EmbeddedBroker(tmp_path, cache)
    command = broker.prepare()
    assert command.bootstrap == bootstrap, "the port of the last start is free, so it is kept"
    process = broker.start(command)
    wait_until_answering(process, command.port, broker.log)
    await write(command.bootstrap, b"before the end")
    process.terminate()
    assert process.wait() == -signal.SIGTERM, "a stop in good order can leave transactions open for good"
    assert not answers(command.port)

    with running_broker(tmp_path, cache) as bootstrap:
        assert await read(bootstrap, 2) == [b"before the stop", b"before the end"]


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


async def test_the_session_broker_answers(kafka: str) -> None:
    assert answers(int(kafka.rpartition(":")[2]))
