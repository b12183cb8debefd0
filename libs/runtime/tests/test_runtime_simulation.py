"""Simulated crashes: commits fail before or after they took effect, workers come and go; each seed is another story."""

import asyncio
from collections import Counter

import numpy as np
import pytest
from trimtab.runtime.errors import OutcomeUnknownError
from trimtab.runtime.memory import MemoryBus
from trimtab.runtime.records import Out
from trimtab.runtime.stage import Batch, Input, Output, Result, Stage, Tables
from trimtab.runtime.table import TableSpec
from trimtab.testing import Running, data

PARTITIONS, COUNT = 3, 2_000


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
