"""`trimtab up --brokers 3`: any one broker may die, and everything goes on."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin.config_resource import ConfigResourceType
from trimtab.cli.cluster.programs import SERVICES
from trimtab.cli.cluster.state import StateFile
from trimtab.cli.topics import topic_admin
from trimtab.runtime.bus import Part
from trimtab.runtime.errors import FencedError, OutcomeUnknownError
from trimtab.runtime.kafka.connection import Connection
from trimtab.runtime.kafka.transactions import KafkaTransactions
from trimtab.runtime.records import Out
from trimtab.testing.clusters import Cluster

COUNT = 3
STALL_S = 20.0


@dataclass(frozen=True, slots=True)
class Kept:
    name: str = "kept"
    partitions: int = COUNT
    config: Mapping[str, str] = field(default_factory=dict)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    found = Cluster(tmp_path)
    yield found
    found.run("down")
    found.kill()


class Writer:
    """Writes numbers to every partition, a transaction each; one in doubt is written again by a new producer."""

    def __init__(self, kafka: Connection) -> None:
        self._transactions = KafkaTransactions(kafka, "writer-0", "writer")
        self.acknowledged = 0

    async def aclose(self) -> None:
        await self._transactions.close()

    async def run(self) -> None:
        await self._transactions.open()
        while True:
            value = str(self.acknowledged).encode()
            writes = {Part("kept", number): [Out("kept", None, value)] for number in range(COUNT)}
            try:
                await self._transactions.commit(writes, {Part("kept", 0): self.acknowledged})
            except (FencedError, OutcomeUnknownError):
                await self._transactions.open()
            else:
                self.acknowledged += 1

    async def at_least(self, count: int) -> float:
        """Wait for so many more; returns how long that took."""
        began_s, wanted = time.monotonic(), self.acknowledged + count
        while self.acknowledged < wanted:  # noqa: ASYNC110 a counter says no more than its value
            await asyncio.sleep(0.02)
        return time.monotonic() - began_s


async def read(kafka: Connection, seen: dict[int, list[int]]) -> None:
    """What is committed, by partition, while it comes."""
    consumer: Any = AIOKafkaConsumer(
        isolation_level="read_committed", auto_offset_reset="earliest", enable_auto_commit=False, **kafka.arguments("r")
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition("kept", number) for number in range(COUNT)])
        while True:
            for part, records in (await consumer.getmany(timeout_ms=100)).items():
                seen[part.partition] += [int(record.value) for record in records]
    finally:
        await consumer.stop()


@pytest.mark.timeout(240)
async def test_a_broker_is_killed_while_transactions_go_on_and_nothing_is_lost(cluster: Cluster) -> None:
    await asyncio.to_thread(cluster.ok, "up", "--detach", "--brokers", "3")
    status = await asyncio.to_thread(cluster.status)
    brokers = {one["replica"]: one["pid"] for one in status["services"] if one["service"] == "kafka"}
    assert len(brokers) == COUNT
    assert len(status["services"]) == COUNT + len(SERVICES)
    kafka = Connection(status["kafka"])
    async with topic_admin(kafka) as admin:
        await admin.ensure([Kept()])
        [settings] = (await admin.configs(ConfigResourceType.TOPIC, ["kept"])).values()
        [topic] = await admin._client.describe_topics(["kept"])
    assert settings["min.insync.replicas"] == "2"
    assert {len(one["replicas"]) for one in topic["partitions"]} == {COUNT}
    leader = topic["partitions"][0]["leader"]

    seen: dict[int, list[int]] = {number: [] for number in range(COUNT)}
    async with aclosing(Writer(kafka)) as writer:
        going = [asyncio.create_task(one) for one in (writer.run(), read(kafka, seen))]
        await writer.at_least(20)
        os.kill(brokers[leader - 1], signal.SIGKILL)
        asked = asyncio.create_task(asyncio.to_thread(cluster.ok, "setup"))
        stall_s = await writer.at_least(20)
        assert "control topics are at" in await asked, "a command works without the broker"
        await asyncio.to_thread(until_back, cluster)
        await writer.at_least(20)
        going[0].cancel()
        await asyncio.wait_for(everything(seen, writer), STALL_S)
        going[1].cancel()
        await asyncio.gather(*going, return_exceptions=True)
    assert stall_s < STALL_S
    for numbers in seen.values():
        assert sorted(numbers) == numbers, "in the order in which they were written"
        assert set(range(writer.acknowledged)) <= set(numbers)

    await asyncio.to_thread(cluster.ok, "down")
    assert cluster.processes() == []


def until_back(cluster: Cluster) -> None:
    file = StateFile(cluster.folder)
    while not ((state := file.read()) and state.is_ready and any(one.restarts for one in state.processes)):
        time.sleep(0.1)


async def everything(seen: dict[int, list[int]], writer: Writer) -> None:
    while any(not numbers or max(numbers) < writer.acknowledged - 1 for numbers in seen.values()):  # noqa: ASYNC110 as above
        await asyncio.sleep(0.05)
