"""How people do it today: count the events of each key and pass each on with its count, until killed.

python plain_worker.py <auto-commit | at_least_once | exactly_once> <bootstrap> <folder>

`auto-commit`: aiokafka as its documentation shows it, counts in SQLite. The others: a Faust agent with a table, under
that processing guarantee, with the settings of `trimtab.faust`.
"""

import asyncio
import sqlite3
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import faust
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

SOURCE, TARGET, PARTITIONS = "plain.in", "plain.out", 3
COUNT = "INSERT INTO counts VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET n = n + 1 RETURNING n"


async def with_auto_commit(bootstrap: str, folder: Path) -> None:
    """At least once, as aiokafka commits by itself every five seconds."""
    counts = sqlite3.connect(folder / "counts.db", isolation_level=None)
    counts.execute("PRAGMA journal_mode = WAL")
    counts.execute("CREATE TABLE IF NOT EXISTS counts (key BLOB PRIMARY KEY, n INTEGER)")
    consumer = AIOKafkaConsumer(SOURCE, bootstrap_servers=bootstrap, group_id="plain", auto_offset_reset="earliest")
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5) as producer, consumer:
        async for record in consumer:
            (count,) = counts.execute(COUNT, (record.key,)).fetchone()
            await producer.send(TARGET, b"%s %d" % (record.value, count), record.key)


def with_faust(guarantee: str, bootstrap: str, folder: Path) -> None:
    """An agent with a table."""
    app = faust.App(
        f"plain-{guarantee}",
        broker=f"kafka://{bootstrap}",
        broker_session_timeout=6.0,
        broker_heartbeat_interval=2.0,
        broker_commit_interval=1.0,
        consumer_group_instance_id="plain-0",
        consumer_auto_offset_reset="earliest",
        datadir=str(folder),
        processing_guarantee=guarantee,
        producer_acks=-1,
        producer_linger=0.005,
        store="memory://",
        topic_disable_leader=True,
        topic_partitions=PARTITIONS,
        topic_replication_factor=1,
        web_enabled=False,
    )
    raw: dict[str, Any] = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
    source, target = (app.topic(name, partitions=PARTITIONS, **raw) for name in (SOURCE, TARGET))
    counts = app.Table("counts", default=int, key_type=str, value_type=int, partitions=PARTITIONS)

    @app.agent(source)
    async def count(stream: Any) -> None:
        async for key, value in stream.items():
            counts[key.decode()] += 1
            await target.send(key=key, value=b"%s %d" % (value, counts[key.decode()]))

    faust.Worker(app, loglevel="warning").execute_from_commandline()


WAYS: Mapping[str, Callable[[str, Path], None]] = {
    "auto-commit": lambda bootstrap, folder: asyncio.run(with_auto_commit(bootstrap, folder)),
    "at_least_once": lambda bootstrap, folder: with_faust("at_least_once", bootstrap, folder),
    "exactly_once": lambda bootstrap, folder: with_faust("exactly_once", bootstrap, folder),
}

if __name__ == "__main__":
    WAYS[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))
