"""Large tables, read back from a log that the broker has compacted, equal what their tasks held."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from trimtab.runtime.clock import wall_ms
from trimtab.runtime.marks import task_name
from trimtab.runtime.records import Out
from trimtab.runtime.restore import Restored, restore
from trimtab.runtime.stage import Batch, Input, Output, Result, Stage, Tables
from trimtab.runtime.table import TableSpec
from trimtab.testing import KafkaLab, Running, read_all

pytestmark = pytest.mark.kafka

PARTITIONS = 2
KEYS = 50_000
PIECE = 2_500
ROUNDS = 3
WRITTEN = ROUNDS * KEYS
"""Records of each table, before any is compacted."""
SMALLEST_SEGMENT = 1 << 20
State = dict[str, list[dict[bytes, bytes]]]
"""By table, then by partition."""


def piecewise(lab: KafkaLab, done: list[bytes]) -> Stage:
    """Each record names a piece of the keys and a round, in which some are put and others removed."""
    source = lab.prefix + "in"
    own = TableSpec("own", bytes, bytes, bytes, bytes)
    apart = TableSpec("apart", bytes, bytes, bytes, bytes, lab.prefix + "apart")

    def step(_partition: int, tables: Tables, batch: Batch) -> Result:
        for record in batch.records.get(source, ()):
            for table in tables.values():
                apply(table, record.value or b"")
            done.append(record.value or b"")
        return Result()

    return Stage(
        group=lab.prefix + "t.pieces",
        changelog=lab.prefix + "t-pieces.changelog",
        partitions=PARTITIONS,
        inputs=[Input(source, "none")],
        step=step,
        outputs=[Output(lab.prefix + "apart", PARTITIONS)],
        tables=[own, apart],
        max_batch=2,
    )


def apply(table: Any, command: bytes) -> None:
    for key, value in changes(command):
        if value is None:
            table.remove(key)
        else:
            table.put(key, value)


def changes(command: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """In each round another third of the keys is removed; what was removed before comes back."""
    first, turn = map(int, command.split())
    for number in range(first, first + PIECE):
        yield b"key %d" % number, None if number % 3 == turn % 3 else b"%d of round %d" % (number, turn)


def commands() -> list[tuple[int, bytes]]:
    """With their partitions."""
    pieces = range(0, KEYS, PIECE)
    return [(first // PIECE % PARTITIONS, b"%d %d" % (first, turn)) for turn in range(ROUNDS) for first in pieces]


def folded() -> list[dict[bytes, bytes]]:
    """What follows from the commands, by partition."""
    found: list[dict[bytes, bytes]] = [{} for _ in range(PARTITIONS)]
    for partition, command in commands():
        for key, value in changes(command):
            if value is None:
                found[partition].pop(key, None)
            else:
                found[partition][key] = value
    return found


async def create(admin: Any, lab: KafkaLab, stage: Stage) -> None:
    """Topics whose segments are closed, and so compacted, early."""
    eager = {
        "cleanup.policy": "compact",
        "segment.bytes": str(SMALLEST_SEGMENT),
        "min.cleanable.dirty.ratio": "0.01",
        "delete.retention.ms": "0",
    }
    await lab.create({lab.prefix + "in": PARTITIONS})
    names = [stage.changelog, lab.prefix + "apart"]
    await admin.create_topics([NewTopic(name, PARTITIONS, 1, topic_configs=eager) for name in names])


async def compacted(admin: Any, lab: KafkaLab, topics: Sequence[str]) -> int:
    """Wait until the broker has compacted all of them, and say how many records are left."""
    await configure(admin, {"log.cleaner.backoff.ms": "100"})  # the cleaner starts anew with it
    left = [WRITTEN]
    while max(left) > 0.9 * WRITTEN:
        await asyncio.sleep(0.2)
        left = [len(await read_all(lab.bus, topic)) for topic in topics]
    await configure(admin, {})
    return sum(left)


async def configure(admin: Any, settings: Mapping[str, str]) -> None:
    """The broker, for all topics; what is not named is as it was at its start."""
    [broker] = (await admin.describe_cluster())["brokers"]
    answers = await admin.alter_configs([ConfigResource(ConfigResourceType.BROKER, str(broker["node_id"]), settings)])
    assert [error for answer in answers for error, *_ in answer.resources] == [0]


async def restored(lab: KafkaLab, stage: Stage) -> list[Restored]:
    """As a task does it that opens: fence, then read."""
    found = []
    for partition in range(PARTITIONS):
        transactions = lab.bus.transactions(task_name(stage.group, partition), stage.group)
        await transactions.open()
        found.append(await restore(stage, partition, lab.bus, wall_ms))
        await transactions.close()
    return found


def held(tasks: Sequence[Restored]) -> State:
    return {name: [dict(task.tables[name].items()) for task in tasks] for name in ("own", "apart")}


async def test_large_tables_come_back_from_a_compacted_log(kafka_lab: KafkaLab) -> None:
    lab, done = kafka_lab, list[bytes]()
    stage = piecewise(lab, done)
    admin: Any = AIOKafkaAdminClient(bootstrap_servers=lab.connection.bootstrap_servers)
    await admin.start()
    try:
        await create(admin, lab, stage)
        await lab.append([Out(lab.prefix + "in", b"", command, (), partition) for partition, command in commands()])
        async with Running([stage], lab.bus) as running:
            await running.until(lambda: len(done) >= len(commands()) and running.settled())
        whole = await restored(lab, stage)
        left = await compacted(admin, lab, [stage.changelog, lab.prefix + "apart"])
        again = await restored(lab, stage)
    finally:
        await admin.close()
    expected = folded()
    assert held(whole) == {"own": expected, "apart": expected}
    assert held(again) == held(whole)
    assert [task.position for task in again] == [task.position for task in whole]
    assert sum(task.entries for task in again) <= left
