"""What the runtime costs: forwarding records through a stage, side by side with a plain aiokafka loop.

python bench/runtime.py [--records N] [--hops N]

The plain loop consumes, forwards and produces in transactions with the group's offsets, as an aiokafka user would write
it, one coroutine a partition in one process; the stage does the same and keeps its position in its changelog. Both use
the short wait between transactions, without which either takes 25 ms for each. Small transactions, one after another,
are timed in version 2 of Kafka's transactions and in version 1, in turns.
"""

import argparse
import asyncio
import itertools
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import aiokafka.producer.sender as sender
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition
from forward import forward
from meter import percentiles
from rich.console import Console
from trimtab.cli.broker import running_broker, user_jars
from trimtab.cli.settings import ClusterSettings
from trimtab.contracts import envelope
from trimtab.runtime.bus import Part
from trimtab.runtime.kafka import coordinator
from trimtab.runtime.kafka.coordinator import BETWEEN_S, TRANSACTION_VERSION
from trimtab.runtime.options import Options
from trimtab.runtime.records import Out
from trimtab.runtime.stage import Batch, Input, Output, Result, Stage, Tables
from trimtab.testing import KafkaLab, Running

PARTITIONS, WARM = 2, 10
BODY = b"x" * 150


def forwarding(source: str, target: str, batch_size: int) -> Stage:
    """Every record from source to target, key and headers kept."""

    def step(partition: int, _tables: Tables, batch: Batch) -> Result:
        records = batch.records.get(source, ())
        return Result([Out(target, r.key, r.value, r.headers, partition) for r in records])

    return Stage(
        group=f"{target}.forward",
        changelog=f"{target}.log",
        partitions=PARTITIONS,
        inputs=[Input(source, "none")],
        step=step,
        outputs=[Output(target, PARTITIONS, marks=False)],
        max_batch=batch_size,
    )


async def fill(lab: KafkaLab, topic: str, records: int) -> None:
    """Records as ingest writes them."""
    headers = envelope.headers("4711", "departure", "bench", 1_356_998_400_000)
    for start in range(0, records, 10_000):
        count = min(10_000, records - start)
        await lab.append([Out(topic, b"%d" % n, BODY, headers, n % PARTITIONS) for n in range(start, start + count)])


async def until_written(lab: KafkaLab, topic: str, records: int) -> None:
    """Wait until a reader of committed records has seen so many."""
    consumer: Any = AIOKafkaConsumer(
        bootstrap_servers=lab.connection.bootstrap_servers, isolation_level="read_committed", check_crcs=False
    )
    await consumer.start()
    parts = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    while sum((await consumer.end_offsets(parts)).values()) < records:  # noqa: ASYNC110 the log tells nobody
        await asyncio.sleep(0.05)
    await consumer.stop()


async def run_stage(lab: KafkaLab, source: str, target: str, records: int, batch_size: int) -> float:
    """Records per second through a stage."""
    stage = forwarding(source, target, batch_size)
    await lab.create({target: PARTITIONS, stage.changelog: PARTITIONS}, compacted=[stage.changelog])
    async with Running([stage], lab.bus, options=Options()) as running:

        def taken() -> int:
            return sum(task.taken for task in running.workers[0].status().tasks)

        await running.until(lambda: taken() > 0)
        begun, started_s = taken(), time.perf_counter()
        await running.until(lambda: taken() >= records, timeout_s=300)
        await until_written(lab, target, records)
        return (records - begun) / (time.perf_counter() - started_s)


async def small_transactions(lab: KafkaLab, rounds: int = 10, each: int = 100) -> dict[str, list[float]]:
    """Ms of a transaction that writes a record to an output and its position to a changelog, in turns by version."""
    parts = [Part(topic, 0) for topic in ("small", "small-changelog")]
    await lab.create({part.topic: 1 for part in parts})
    writes = {part: [Out(part.topic, b"key", BODY)] for part in parts}
    features = {"version_2": TRANSACTION_VERSION, "version_1": "a feature that no cluster has"}
    took: dict[str, list[float]] = {version: [] for version in features}
    for version, feature in list(features.items()) * rounds:
        coordinator.TRANSACTION_VERSION = feature
        transactions = lab.bus.transactions("small", "small")
        await transactions.open()
        for number in range(each + WARM):
            began_s = time.perf_counter()
            await transactions.commit(writes, {})
            spent_s = time.perf_counter() - began_s
            took[version] += [1000 * spent_s] if number >= WARM else []
            await asyncio.sleep(spent_s)
        await transactions.close()
    coordinator.TRANSACTION_VERSION = TRANSACTION_VERSION
    return took


async def hop_latency(lab: KafkaLab, hops: int, per_second: int, seconds: int) -> list[float]:
    """Ms from a record's acknowledgement to its being readable behind so many stages."""
    names = [f"hop{hops}-{per_second}-{number}" for number in range(hops + 1)]
    stages = [forwarding(source, target, 5_000) for source, target in itertools.pairwise(names)]
    await lab.create(dict.fromkeys([*names, *(stage.changelog for stage in stages)], PARTITIONS))
    took: list[float] = []
    sent: dict[bytes, float] = {}
    last: Any = AIOKafkaConsumer(
        bootstrap_servers=lab.connection.bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
    )
    await last.start()
    last.assign([TopicPartition(names[-1], number) for number in range(PARTITIONS)])

    async def receive() -> None:
        while len(took) < per_second * seconds:
            for records in (await last.getmany(timeout_ms=100)).values():
                now_s = time.perf_counter()
                took.extend((now_s - sent[record.value]) * 1000 for record in records)

    async with Running(stages, lab.bus, options=Options()) as running:
        await running.until(lambda: all(len(worker.status().tasks) == PARTITIONS for worker in running.workers))
        await running.until(lambda: all("'running'" in str(worker.status()) for worker in running.workers))
        receiving = asyncio.create_task(receive())
        for number in range(per_second * seconds):
            value = b"%d" % number
            sent[value] = time.perf_counter()
            await lab.append([Out(names[0], value, value, (), number % PARTITIONS)])
            sent[value] = time.perf_counter()
            await asyncio.sleep(1 / per_second)
        await asyncio.wait_for(receiving, 30)
    await last.stop()
    return took


async def measure(bootstrap: str, records: int, hops: int) -> dict[str, Any]:
    """All figures."""
    sender.BACKOFF_OVERRIDE = BETWEEN_S
    result: dict[str, Any] = {"records": records, "partitions": PARTITIONS, "record_bytes": len(BODY)}
    async with KafkaLab(bootstrap) as lab:
        await lab.create({"source": PARTITIONS})
        await fill(lab, "source", records)
        for batch_size in (1_000, 5_000):
            target = f"plain{batch_size}"
            await lab.create({target: PARTITIONS})
            plain = await forward(
                bootstrap, "source", target, records=records, partitions=PARTITIONS, batch_size=batch_size
            )
            stage = await run_stage(lab, "source", f"stage{batch_size}", records, batch_size)
            ratio = round(stage / plain, 3)
            result[f"batches_of_{batch_size}"] = {
                "plain_per_s": round(plain),
                "stage_per_s": round(stage),
                "ratio": ratio,
            }
        small = {version: percentiles(took) for version, took in (await small_transactions(lab)).items()}
        result["small_transaction_ms"] = small
        sender.BACKOFF_OVERRIDE = 0.02
        for per_second in (20, 200):
            one = await hop_latency(lab, 1, per_second, 5)
            all_hops = await hop_latency(lab, hops, per_second, 5) if hops > 1 else one
            result[f"latency_ms_at_{per_second}_per_s"] = {
                "1_hop": percentiles(one),
                f"{hops}_hops": percentiles(all_hops),
            }
    return result


def main() -> None:
    """Measure on a broker of its own and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--hops", type=int, default=3)
    arguments = parser.parse_args()
    jars = user_jars(ClusterSettings(), Console(stderr=True))
    with (
        tempfile.TemporaryDirectory() as folder,
        running_broker(Path(folder), jars) as bootstrap,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        figures = runner.run(measure(bootstrap, arguments.records, arguments.hops))
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
