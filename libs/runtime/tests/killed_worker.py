"""A worker process for the tests that kill it: numbers the records of each key, two thousand a transaction at most.

python killed_worker.py <bootstrap> <prefix> <instance> <partitions> <inputs, comma-separated>
"""

import asyncio
import sys

from trimtab.runtime.bus import Declared
from trimtab.runtime.clock import wall_ms
from trimtab.runtime.kafka import Connection, KafkaBus
from trimtab.runtime.options import Options
from trimtab.runtime.records import Out
from trimtab.runtime.session import Surroundings
from trimtab.runtime.stage import Batch, Input, Output, Result, Stage, Tables
from trimtab.runtime.table import TableSpec
from trimtab.runtime.views import Views
from trimtab.runtime.worker import Worker


def counting(prefix: str, partitions: int, inputs: list[str]) -> Stage:
    """Each record of a key gets the key's next number."""

    def step(_partition: int, tables: Tables, batch: Batch) -> Result:
        table, outs = tables["n"], []
        for records in batch.records.values():
            for record in records:
                number = (table.get(record.key) or 0) + 1
                table.put(record.key, number)
                outs.append(Out(prefix + "out", record.key, b"%s %d" % (record.value, number)))
        return Result(outs)

    return Stage(
        group=prefix + "t.count",
        changelog=prefix + "t-count.changelog",
        partitions=partitions,
        inputs=[Input(prefix + name, "none") for name in inputs],
        step=step,
        outputs=[Output(prefix + "out", partitions, marks=False)],
        tables=[TableSpec("n", bytes, bytes, lambda count: b"%d" % count, int)],
        max_batch=2_000,
    )


async def main() -> None:
    """Work until killed."""
    bootstrap, prefix, instance, partitions, inputs = sys.argv[1:]
    async with KafkaBus(Connection(bootstrap), instance=instance) as bus:
        stage = counting(prefix, int(partitions), inputs.split(","))
        await Worker(stage, bus, Views(bus), Surroundings(wall_ms, Options()), Declared()).run()


if __name__ == "__main__":
    asyncio.run(main())
