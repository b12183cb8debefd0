"""Worker processes are killed hard, and nothing is lost or doubled."""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from trimtab.runtime.bus import Part
from trimtab.runtime.clock import wall_ms
from trimtab.runtime.records import Out
from trimtab.runtime.restore import restore
from trimtab.runtime.stage import Input, Result, Stage
from trimtab.runtime.table import TableSpec
from trimtab.testing import KafkaLab

pytestmark = pytest.mark.kafka

WORKER = Path(__file__).parent / "killed_worker.py"
MESSAGES, PARTITIONS, KEYS, KILLS = 100_000, 4, 1_000, 6


class Processes:
    """Worker processes by slot."""

    def __init__(self, lab: KafkaLab, inputs: str = "in", partitions: int = PARTITIONS) -> None:
        self._arguments = (lab.connection.bootstrap_servers, lab.prefix)
        self._inputs, self._partitions = inputs, partitions
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, slot: int) -> None:
        command = [sys.executable, str(WORKER), *self._arguments, f"slot-{slot}", str(self._partitions), self._inputs]
        self._running[slot] = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def kill(self, slot: int) -> None:
        process = self._running.pop(slot)
        process.kill()
        process.wait()

    def kill_all(self) -> None:
        for slot in list(self._running):
            self.kill(slot)


@contextmanager
def processes(lab: KafkaLab, inputs: str = "in", partitions: int = PARTITIONS) -> Iterator[Processes]:
    made = Processes(lab, inputs, partitions)
    try:
        yield made
    finally:
        made.kill_all()


def messages(lab: KafkaLab, count: int = MESSAGES) -> list[Out]:
    keys = [b"k%d" % key for key in range(KEYS)]
    return [
        Out(lab.prefix + "in", keys[number * 7919 % KEYS], b"%d" % number, (), number * 7919 % KEYS % PARTITIONS)
        for number in range(count)
    ]


def table_only(lab: KafkaLab) -> Stage:
    """The worker's stage, as far as it takes to read its state back."""
    return Stage(
        group=lab.prefix + "t.count",
        changelog=lab.prefix + "t-count.changelog",
        partitions=PARTITIONS,
        inputs=[Input(lab.prefix + "in", "none")],
        step=lambda *_: Result(),
        tables=[TableSpec("n", bytes, bytes, lambda count: b"%d" % count, int)],
    )


@pytest.mark.timeout(180)
async def test_workers_killed_in_the_middle_lose_nothing_and_double_nothing(kafka_lab: KafkaLab) -> None:
    lab, seeded = kafka_lab, np.random.default_rng(7)
    target, changelog = lab.prefix + "out", lab.prefix + "t-count.changelog"
    topics = {lab.prefix + "in": PARTITIONS, target: PARTITIONS, changelog: PARTITIONS}
    await lab.create(topics, compacted=[changelog])
    sent = messages(lab)
    thresholds = [number * 15_000 + int(seeded.integers(1_000, 5_000)) for number in range(KILLS)]
    out: Counter[bytes] = Counter()
    last: Counter[bytes | None] = Counter()
    with processes(lab) as workers:
        workers.start(0)
        workers.start(1)
        feeding = asyncio.create_task(feed(lab, sent, out))
        reader = await lab.bus.reader({Part(target, number): 0 for number in range(PARTITIONS)})
        while len(out) < MESSAGES:
            for records in (await reader.poll(0.2)).values():
                for record in records:
                    value, number = (record.value or b"").split()
                    out[value] += 1
                    last[record.key] += 1
                    assert int(number) == last[record.key]
            if thresholds and len(out) > thresholds[0]:
                thresholds.pop(0)
                slot = int(seeded.integers(2))
                workers.kill(slot)
                workers.start(slot)
        await feeding
        assert not await reader.poll(1.0)
        await reader.close()
    expected = Counter(one.key for one in sent)
    assert not thresholds
    assert set(out.values()) == {1}
    assert last == expected
    assert await table_state(lab) == expected


async def feed(lab: KafkaLab, sent: list[Out], out: Counter[bytes]) -> None:
    """Produce in pieces, never far ahead of what comes out, so that the workers are killed in the middle of it."""
    for start in range(0, len(sent), 2_000):
        while start - len(out) > 8_000:  # noqa: ASYNC110 it counts what another coroutine reads
            await asyncio.sleep(0.01)
        await lab.append(sent[start : start + 2_000])


async def table_state(lab: KafkaLab) -> Counter[bytes | None]:
    found: Counter[bytes | None] = Counter()
    for partition in range(PARTITIONS):
        stage = table_only(lab)
        transactions = lab.bus.transactions(f"{stage.group}-{partition}", stage.group)
        await transactions.open()
        restored = await restore(stage, partition, lab.bus, wall_ms)
        await transactions.close()
        found.update(dict(restored.tables["n"].items()))
        assert restored.position is not None
    return found


@pytest.mark.timeout(60)
async def test_a_member_killed_and_started_with_other_inputs_reads_all_of_them(kafka_lab: KafkaLab) -> None:
    """The group gives a static member what it had before it was killed: without the input that is new to it."""
    lab = kafka_lab
    changelog = lab.prefix + "t-count.changelog"
    names = [lab.prefix + name for name in ("in", "more", "out")]
    await lab.create(dict.fromkeys([*names, changelog], 2), compacted=[changelog])
    await lab.append([Out(names[0], b"k", b"1")])
    with processes(lab, "in", 2) as before:
        before.start(0)
        await values(lab, 1)
    await lab.append([Out(names[1], b"k", b"2")])
    with processes(lab, "in,more", 2) as after:
        after.start(0)
        assert await values(lab, 2) == [b"1 1", b"2 2"]


async def values(lab: KafkaLab, count: int) -> list[bytes | None]:
    found = await lab.read(lab.prefix + "out")
    while len(found) < count:
        await asyncio.sleep(0.1)
        found = await lab.read(lab.prefix + "out")
    return [record.value for record in found]
