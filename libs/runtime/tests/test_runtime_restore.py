"""What a task finds when it opens is what it had."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from trimtab.runtime import position
from trimtab.runtime.bus import Part
from trimtab.runtime.clock import wall_ms
from trimtab.runtime.errors import RestoreTooLongError
from trimtab.runtime.kafka.reader import WAIT_MS
from trimtab.runtime.marks import Mark, task_name
from trimtab.runtime.memory import MemoryBus
from trimtab.runtime.outgoing import Draft
from trimtab.runtime.position import Position
from trimtab.runtime.records import Out
from trimtab.runtime.restore import LONGEST_MS, Restored, restore
from trimtab.runtime.stage import Batch, Output, Result, Stage, Tables
from trimtab.runtime.table import Table, TableSpec
from trimtab.testing import KafkaLab, Lab, MemoryLab, as_read

KEYS, WRITES, A_TRANSACTION = 50_000, 150_000, 10_000
REMOVED = 0.2
Numbers = dict[str, Table[int, int]]


def number_table(name: str, topic: str | None = None) -> TableSpec[int, int]:
    return TableSpec(name, lambda key: b"%d" % key, int, lambda value: b"%d" % value, int, topic)


def keeping(prefix: str) -> Stage:
    """A stage of one task with a table in its changelog, and one in a topic that carries marks too."""

    def step(_partition: int, _tables: Tables, _batch: Batch) -> Result:
        return Result()

    online = prefix + "online"
    tables = [number_table("own"), number_table("shown", online)]
    return Stage(prefix + "keep", prefix + "log", 1, inputs=(), step=step, outputs=[Output(online, 1)], tables=tables)


def changed(tables: Numbers, rng: np.random.Generator) -> None:
    """What one transaction does."""
    keys, values = rng.integers(KEYS, size=A_TRANSACTION).tolist(), rng.integers(10**6, size=A_TRANSACTION).tolist()
    removed, own = (rng.random(A_TRANSACTION) < REMOVED).tolist(), (rng.random(A_TRANSACTION) < 0.5).tolist()
    for number, key in enumerate(keys):
        table = tables["own" if own[number] else "shown"]
        if removed[number]:
            table.remove(key)
        else:
            table.put(key, values[number])


async def written(lab: Lab, stage: Stage) -> Numbers:
    """Tables, as they were after the last of many transactions."""
    tables: Numbers = {spec.name: Table(spec) for spec in stage.tables}
    rng, task = np.random.default_rng(7), task_name(stage.group, 0)
    transactions = lab.bus.transactions(task, stage.group)
    await transactions.open()
    for number in range(WRITES // A_TRANSACTION):
        changed(tables, rng)
        draft = Draft(stage, 0)
        draft.flush(tables)
        draft.place(Position({"in": number}, {}, {}))
        await transactions.commit(draft.writes([Mark(task, number)]), {})
    await transactions.close()
    return tables


def entries(tables: Numbers) -> dict[str, dict[int, int]]:
    return {name: dict(table.items()) for name, table in tables.items()}


async def test_restored_state_is_what_was_there_before(lab: Lab) -> None:
    stage = keeping(lab.prefix)
    topics = [stage.changelog, stage.outputs[0].topic]
    await lab.create(dict.fromkeys(topics, 1), compacted=topics)
    before = entries(await written(lab, stage))
    restored = await restore(stage, 0, lab.bus, wall_ms)
    assert entries(restored.tables) == before
    assert min(map(len, before.values())) > KEYS // 2
    assert restored.position == Position({"in": WRITES // A_TRANSACTION - 1}, {}, {})


async def test_compacted_anywhere_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where more waits to be decoded than may."""
    monkeypatch.setattr("trimtab.runtime.restore.MOST_WAITING", KEYS // 10)
    async with MemoryLab() as lab:
        stage = keeping(lab.prefix)
        for topic in (stage.changelog, stage.outputs[0].topic):
            lab.bus.create(topic, 1)
        before = entries(await written(lab, stage))
        for part in Restored(stage, 0).parts:
            _, end = (await lab.bus.catalog.bounds([part]))[part]
            lab.bus.compact(part, end * 2 // 3)
        assert sum(map(len, _logs(lab.bus, stage))) < WRITES
        restored = await restore(stage, 0, lab.bus, wall_ms)
    assert entries(restored.tables) == before


async def test_one_that_took_longer_than_the_log_tells_of_removals_is_not_believed() -> None:
    clock_ms = iter([0, LONGEST_MS, 0, LONGEST_MS + 1])
    async with MemoryLab() as lab:
        stage = keeping(lab.prefix)
        for topic in (stage.changelog, stage.outputs[0].topic):
            lab.bus.create(topic, 1)
        assert not (await restore(stage, 0, lab.bus, clock_ms.__next__)).entries
        with pytest.raises(RestoreTooLongError, match="begins anew"):
            await restore(stage, 0, lab.bus, clock_ms.__next__)


def _logs(bus: MemoryBus, stage: Stage) -> Iterator[list[object]]:
    for part in Restored(stage, 0).parts:
        yield list(bus.after(part, 0, 10 * WRITES)[0])


def apply(restored: Restored, *values: tuple[bytes, bytes | None]) -> None:
    """Entries of the own table, in one fetch."""
    own = Part("log", 0)
    outs = [Out("log", position.entry_key("own", key), value) for key, value in values]
    restored.apply(own, as_read(outs))


@pytest.mark.parametrize("decoded_between", [False, True])
def test_what_was_removed_and_came_again_stands_last(*, decoded_between: bool) -> None:
    restored = Restored(keeping(""), 0)
    apply(restored, (b"1", b"10"), (b"2", b"20"))
    assert not decoded_between or len(restored.tables["own"]) == 2
    apply(restored, (b"1", None), (b"3", b"30"), (b"1", b"11"))
    assert list(restored.tables["own"].items()) == [(2, 20), (3, 30), (1, 11)]


def test_only_what_stands_has_to_be_readable() -> None:
    restored = Restored(keeping(""), 0)
    apply(restored, (b"1", b"?"), (b"1", b"10"), (b"2", b"?"), (b"3", b"?"))
    assert isinstance(restored.error, ValueError)
    apply(restored, (b"2", b"20"), (b"3", None), (b"4", b"40"))
    assert restored.error is None
    assert dict(restored.tables["own"].items()) == {1: 10, 2: 20, 4: 40}


def test_what_is_written_over_is_never_decoded() -> None:
    decoded = []

    def decode(value: bytes) -> int:
        decoded.append(value)
        return int(value)

    stage = replace(keeping(""), tables=[replace(number_table("own"), decode=decode)])
    restored = Restored(stage, 0)
    for _ in range(3):
        apply(restored, (b"1", b"10"), (b"2", b"20"), (b"2", None), (b"1", b"11"))
    assert dict(restored.tables["own"].items()) == {1: 11}
    assert decoded == [b"11"]
    assert restored.entries == 12


@pytest.mark.kafka
async def test_a_partition_at_its_end_keeps_none_from_being_read(kafka_lab: KafkaLab) -> None:
    """Where other work keeps what was fetched waiting for longer than aiokafka expects."""
    topic = kafka_lab.prefix + "long"
    await kafka_lab.create({topic: 2})
    await kafka_lab.append([Out(topic, b"k", bytes(100_000), (), partition=0) for _ in range(30)])
    reader = await kafka_lab.bus.reader({Part(topic, 0): 0, Part(topic, 1): 0})
    began_s = time.monotonic()
    while reader.positions()[Part(topic, 0)] < 30:
        await reader.poll(1.0)
        await asyncio.sleep(0.3)
    await reader.close()
    assert time.monotonic() - began_s < WAIT_MS / 1_000
