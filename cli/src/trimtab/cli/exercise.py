"""A broker used as a cluster's tasks use it, for a while."""

import asyncio
import logging
from contextlib import suppress
from itertools import pairwise

from aiokafka.errors import KafkaError

from trimtab.cli.errors import ClusterError
from trimtab.cli.topics import topic_admin
from trimtab.contracts.specs import TopicSpec
from trimtab.runtime.bus import Declared
from trimtab.runtime.clock import wall_ms
from trimtab.runtime.errors import StageRuntimeError
from trimtab.runtime.kafka import Connection, KafkaBus
from trimtab.runtime.kafka.edge import IdempotentProducer
from trimtab.runtime.options import Options
from trimtab.runtime.records import Out
from trimtab.runtime.session import Surroundings
from trimtab.runtime.stage import Batch, Input, Output, Result, Stage, Tables
from trimtab.runtime.table import TableSpec
from trimtab.runtime.views import Views
from trimtab.runtime.worker import Worker

FOR_S, TASKS, RECORDS = 8.0, 4, 8
"""For how long, by how many tasks a stage, and records that are sent at once."""
CHAIN = ("asked", "between", "answered")
TOPICS = (*CHAIN, *(f"{target}.changelog" for target in CHAIN[1:]))


class ExerciseError(ClusterError):
    """A broker that answers, and does not do what tasks need."""

    def __init__(self, bootstrap: str, reason: str) -> None:
        super().__init__(f"the Kafka at {bootstrap} cannot be worked with: {reason}")


def exercise(bootstrap: str) -> None:
    """Let tasks read, write and commit in transactions, two stages one behind the other, for FOR_S.

    The broker is to be one of its own: topics stay behind. Raises ClusterError.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a broker that has just started is asked again, no more
    try:
        asyncio.run(_use(Connection(bootstrap)))
    except (KafkaError, StageRuntimeError) as error:
        raise ExerciseError(bootstrap, str(error)) from error


async def _use(kafka: Connection) -> None:
    async with topic_admin(kafka) as admin:
        await admin.ensure([TopicSpec(name, TASKS, {}, "delete", name) for name in TOPICS])
    async with KafkaBus(kafka, instance="use") as bus, IdempotentProducer(kafka) as edge:
        stages = [_passing_on(*ends) for ends in pairwise(CHAIN)]
        workers = [Worker(stage, bus, Views(bus), Surroundings(wall_ms, Options()), Declared()) for stage in stages]
        working = asyncio.gather(*(worker.run() for worker in workers))
        with suppress(TimeoutError):
            async with asyncio.timeout(FOR_S):
                while True:
                    await edge.send([Out(CHAIN[0], b"%d" % key, bytes(300)) for key in range(RECORDS)])
        for worker in workers:
            worker.close()
        await working


def _passing_on(source: str, target: str) -> Stage:
    def step(_partition: int, tables: Tables, batch: Batch) -> Result:
        records = batch.records.get(source, ())
        for record in records:
            tables["last"].put(record.key, record.value)
        return Result([Out(target, record.key, record.value) for record in records])

    return Stage(
        group=f"use.{target}",
        changelog=f"{target}.changelog",
        partitions=TASKS,
        inputs=[Input(source, "none")],
        step=step,
        outputs=[Output(target, TASKS, marks=False)],
        tables=[TableSpec("last", bytes, bytes, bytes, bytes)],
    )
