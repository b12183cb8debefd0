"""A topic is read to its end: all that was acknowledged before is there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiokafka import AIOKafkaProducer
from trimtab.cli import log as cli_log
from trimtab.cli.log import PartitionUnreadableError, follower
from trimtab.cli.topics import topic_admin
from trimtab.runtime.kafka.connection import Connection

pytestmark = pytest.mark.kafka


@dataclass(frozen=True)
class Spec:
    name: str
    partitions: int = 1
    config: dict[str, str] = field(default_factory=dict)


@asynccontextmanager
async def writer(broker: Connection, transactional_id: str) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(transactional_id=transactional_id, **broker.arguments("test"))
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def test_what_was_acknowledged_is_found_behind_a_transaction_that_is_still_open(broker: Connection) -> None:
    topic = "log.open"
    async with topic_admin(broker) as admin:
        await admin.ensure([Spec(topic)])
    async with writer(broker, "log-a") as one, writer(broker, "log-b") as other, follower(broker, [topic]) as log:
        await one.begin_transaction()
        await one.send_and_wait(topic, b"open")
        async with other.transaction():
            await other.send_and_wait(topic, b"acknowledged")
        reading = asyncio.create_task(log.catch_up())
        await asyncio.sleep(0.5)
        await one.abort_transaction()
        assert [record.value for record in await reading] == [b"acknowledged"]


async def test_a_transaction_that_does_not_end_is_told(broker: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_log, "PATIENCE_S", 0.5)
    monkeypatch.setattr(cli_log, "LOOK_S", 0.1)
    topic = "log.endless"
    async with topic_admin(broker) as admin:
        await admin.ensure([Spec(topic)])
    async with writer(broker, "log-d") as one, follower(broker, [topic]) as log:
        await one.begin_transaction()
        await one.send_and_wait(topic, b"open")
        with pytest.raises(PartitionUnreadableError, match=r"log.endless\[0\] cannot be read beyond offset 0"):
            await log.catch_up()
        await one.abort_transaction()


async def test_a_topic_that_is_not_there_holds_nothing(broker: Connection) -> None:
    async with follower(broker, ["log.missing"]) as log:
        assert await log.catch_up() == []


async def test_only_the_newest_are_read(broker: Connection) -> None:
    topic = "log.newest"
    async with topic_admin(broker) as admin:
        await admin.ensure([Spec(topic)])
    async with writer(broker, "log-c") as one, follower(broker, [topic]) as log:
        for number in range(5):
            async with one.transaction():
                await one.send_and_wait(topic, b"%d" % number)
        await log.skip_to_last(4)
        assert [record.value for record in await log.catch_up()] == [b"3", b"4"]
