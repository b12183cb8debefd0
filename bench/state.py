"""How fast large tables are read back after a start, and what a key of them takes in memory.

python bench/state.py [--keys N] [--only KIND,KIND]

Each kind is written to a changelog in transactions as its service does, and read by a fresh process with nothing but
that to do: through `restore`, as a task does when it opens, or as the predictor keeps its replica. The clock stops when
the first batch could be stepped, indices included. Nothing is compacted: each key was written once.
"""

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import uvloop
from kinds import PARTITIONS, Kind, generated, kinds
from meter import MB, Meter
from play import Told
from rich.console import Console
from trimtab.cli.broker import running_broker, user_jars
from trimtab.cli.settings import ClusterSettings
from trimtab.loops.groups import tile_groups
from trimtab.predictor.adapters.online import OnlineView
from trimtab.runtime.clock import wall_ms
from trimtab.runtime.kafka import Connection, KafkaBus
from trimtab.runtime.marks import task_name
from trimtab.runtime.outgoing import Draft
from trimtab.runtime.position import Position
from trimtab.runtime.restore import restore
from trimtab.runtime.table import Table
from trimtab.runtime.views import ViewReader
from trimtab.testing import KafkaLab

KEYS = 1_000_000
REPLICA = "replica"
"""The predictor's, of what the kind "tiles" has written."""
A_TRANSACTION = 20_000


@dataclass(frozen=True, slots=True)
class Reread:
    """`seconds`: until the first batch could be stepped, `index_s` of it for indices; `cpu_s`: what that took.

    `key_bytes`: resident memory a key, indices included. `peak_mb`: of the process, `idle_mb` of which it had before.
    """

    keys: int
    seconds: float
    index_s: float
    cpu_s: float
    key_bytes: int
    idle_mb: int
    peak_mb: int = 0


def measure(bootstrap: str, keys: int, told: Told, only: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """All kinds, or only some, one after the other on an empty broker; figures by kind."""
    found = {}
    for name, kind in kinds(generated()).items():
        readers = [name, REPLICA] if name == "tiles" else [name]
        wanted = [reader for reader in readers if not only or reader in only]
        if wanted:
            told(f"{name} is written")
            asyncio.run(_write(bootstrap, kind, keys))
        for reader in wanted:
            told(f"{reader} is read")
            found[reader] = asdict(_in_fresh_process(bootstrap, reader, keys))
    return found


async def _write(bootstrap: str, kind: Kind, keys: int) -> None:
    stage = kind.stage
    own = [spec.topic for spec in stage.tables if spec.topic is not None]
    async with KafkaLab(bootstrap) as lab:
        await lab.create(dict.fromkeys([stage.changelog, *own], PARTITIONS), compacted=[stage.changelog, *own])
        for partition in range(PARTITIONS):
            transactions = lab.bus.transactions(task_name(stage.group, partition), stage.group)
            await transactions.open()
            for start in range(partition * keys // PARTITIONS, (partition + 1) * keys // PARTITIONS, A_TRANSACTION):
                tables = {spec.name: Table(spec) for spec in stage.tables}
                kind.put(tables, start, min(start + A_TRANSACTION, (partition + 1) * keys // PARTITIONS))
                draft = Draft(stage, partition)
                draft.flush(tables)
                draft.place(Position({}, {}, {}))
                await transactions.commit(draft.writes([]), {})
            await transactions.close()


def _in_fresh_process(bootstrap: str, reader: str, keys: int) -> Reread:
    command = [sys.executable, __file__, "--read", reader, "--kafka", bootstrap, "--keys", str(keys)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        with Meter({reader: psutil.Process(process.pid)}) as meter:
            told, _ = process.communicate()
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
    return Reread(**{**json.loads(told), "peak_mb": round(meter.peaks_mb[reader])})


async def _read(bootstrap: str, reader: str, keys: int) -> Reread:
    read = _replica if reader == REPLICA else _tables(kinds(generated())[reader])
    async with KafkaBus(Connection(bootstrap)) as bus:
        gc.collect()
        idle, began_s, began_cpu_s = psutil.Process().memory_info().rss, time.perf_counter(), time.process_time()
        state, index_s = await read(bus)
        seconds, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
        gc.collect()
        held = psutil.Process().memory_info().rss - idle
        del state
    return Reread(keys, round(seconds, 2), round(index_s, 2), round(cpu_s, 2), held // keys, idle // MB)


Reading = Callable[[KafkaBus], Awaitable[tuple[object, float]]]
"""Reads a state and says how long its indices took."""


def _tables(kind: Kind) -> Reading:
    async def read(bus: KafkaBus) -> tuple[object, float]:
        tasks = await asyncio.gather(*(restore(kind.stage, number, bus, wall_ms) for number in range(PARTITIONS)))
        began_s = time.perf_counter()
        indices = [kind.index(task.tables) for task in tasks]
        return (tasks, indices), time.perf_counter() - began_s

    return read


async def _replica(bus: KafkaBus) -> tuple[object, float]:
    loop = generated()
    view = OnlineView(loop, tile_groups(loop))
    reader = ViewReader(view, bus)
    reading = asyncio.create_task(reader.run())
    await reader.ready.wait()
    began_s = time.perf_counter()
    assert view.newest_ms, "something was read"  # takes in what waits
    index_s = time.perf_counter() - began_s
    reading.cancel()
    with suppress(asyncio.CancelledError):
        await reading
    return view, index_s


def main() -> None:
    """Measure on a broker of its own and print the figures as JSON; with --read, be the fresh process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=KEYS)
    parser.add_argument("--only", default="", help="kinds: asked, ids, windows, tiles, replica")
    parser.add_argument("--read", help=argparse.SUPPRESS)
    parser.add_argument("--kafka", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print(json.dumps(asdict(runner.run(_read(given.kafka, given.read, given.keys)))))
        return
    console = Console(stderr=True)
    jars = user_jars(ClusterSettings(), console)
    with tempfile.TemporaryDirectory() as folder, running_broker(Path(folder), jars) as bootstrap:
        only = [name for name in given.only.split(",") if name]
        found: Mapping[str, Mapping[str, float]] = measure(bootstrap, given.keys, console.print, only)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
