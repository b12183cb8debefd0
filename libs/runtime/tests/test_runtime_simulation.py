"""Simulated crashes: commits fail before or after they took effect, workers come and go; each seed is another story."""

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
import pytest
from trimtab.runtime import position
from trimtab.runtime.bus import Part
from trimtab.runtime.errors import OutcomeUnknownError
from trimtab.runtime.memory import MemoryBus
from trimtab.runtime.records import Out
from trimtab.runtime.stage import Batch, Input, Output, Result, Stage, Tables
from trimtab.runtime.table import TableSpec
from trimtab.testing import Running, data

PARTITIONS, COUNT = 3, 1_000


def step(_partition: int, tables: Tables, batch: Batch) -> Result:
    table, outs = tables["n"], []
    for record in batch.records.get("in", ()):
        number = (table.get(record.key) or 0) + 1
        table.put(record.key, number)
        outs.append(Out("out", record.key, b"%s %d" % (record.value, number)))
    return Result(outs)


STAGE = Stage(
    group="t.count",
    changelog="log",
    partitions=PARTITIONS,
    inputs=[Input("in", "none")],
    step=step,
    outputs=[Output("out", PARTITIONS)],
    tables=[TableSpec("n", bytes, bytes, lambda count: b"%d" % count, int)],
    max_batch=10,
    commit_interval_ms=0,
)


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_crashes_each_record_counts_once(seed: int) -> None:
    seeded = np.random.default_rng(seed)

    def fault(point: str, transactional_id: str) -> None:
        if seeded.random() < 0.08:
            raise OutcomeUnknownError(transactional_id, point)

    bus = MemoryBus({"in": PARTITIONS, "out": PARTITIONS, "log": PARTITIONS}, fault=fault)
    bus.append([Out("in", b"k%d" % (number % 11), b"%d" % number) for number in range(COUNT)])
    while len(data(bus, "out")) < COUNT:
        workers = [Running([STAGE], bus) for _ in range(int(seeded.integers(1, 4)))]
        for worker in workers:
            await worker.__aenter__()
        await asyncio.sleep(float(seeded.uniform(0.02, 0.3)))
        for worker in workers:
            await worker.kill()
            await worker.__aexit__()
    found = [(record.key, record.value or b"") for record in data(bus, "out")]
    assert sorted(int(value.split()[0]) for _, value in found) == list(range(COUNT))
    last: Counter[bytes | None] = Counter()
    for key, value in found:
        last[key] += 1
        assert int(value.split()[1]) == last[key]


class Overtaken(MemoryBus):
    """While the task's first owner asks for the group's offsets, another one opens the task and commits."""

    async def committed(self, group: str, parts: Collection[Part]) -> Mapping[Part, int]:
        if not await super().committed(group, parts):
            begun = position.Position({"in": 0}, {}, {})
            other = self.transactions("t.count-0", group)
            await other.open()
            await other.commit({Part("log", 0): [Out("log", position.KEY, position.encode(begun))]}, {Part("in", 0): 0})
        return await super().committed(group, parts)


async def test_a_position_that_another_owner_has_just_begun_is_not_taken_for_lost() -> None:
    bus = Overtaken({"in": 1, "out": 1, "log": 1})
    bus.append([Out("in", b"k", b"1")])
    async with Running([replace(STAGE, partitions=1, outputs=[Output("out", 1)])], bus) as running:
        await running.until(lambda: len(data(bus, "out")) == 1, timeout_s=5)
