"""The plain ways people use today under the same kills, by the same counts, for the table's last rows."""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from faults import BEHIND_S, CALM_S
from flow import Seen, due
from plain_worker import PARTITIONS, SOURCE, TARGET
from rich.console import Console
from trimtab.cli.broker import running_broker, user_jars
from trimtab.cli.settings import ClusterSettings
from verdict import Row

KEYS = 1_000
PIECE = 50
"""Events, ten times a second."""
DOWN_S = 0.5
"""As long as the supervisor of `trimtab up` waits before it starts a service again."""
QUIET_S = 15.0
"""Longer than a transaction may take: what has not come by then does not come."""
PATIENCE_S = 60.0
WAYS: Mapping[str, str] = {
    "auto-commit": "plain aiokafka, auto-commit",
    "at_least_once": "plain Faust, at_least_once",
    "exactly_once": "plain Faust, exactly_once",
}


@dataclass
class Course:
    """One run. Mutable: sender and reader share it. `sent`: how many had been acknowledged when."""

    sent: list[tuple[float, int]] = field(default_factory=list)
    seen: Seen = field(default_factory=Seen)
    came: list[tuple[int, int]] = field(default_factory=list)
    """(number of the event, count of its key), as they stand in the log."""
    newest: int = -1
    over: bool = False
    """Nothing further is to be sent."""

    def flows(self, since_s: float) -> bool:
        """Whether what was sent comes through again, whatever was lost before."""
        through = due(self.sent, since_s, time.monotonic() - BEHIND_S)
        return through is not None and self.newest + 1 >= through


def key_of(number: int) -> int:
    """Neighbours are of different keys."""
    return number * 7919 % KEYS


class Killed:
    """A worker process that is started again whenever it was killed."""

    def __init__(self, way: str, bootstrap: str, folder: Path) -> None:
        self._argv = [sys.executable, str(Path(__file__).with_name("plain_worker.py")), way, bootstrap, str(folder)]
        self._log = folder / "worker.log"
        self._process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as log:
            return subprocess.Popen(self._argv, stdout=log, stderr=log)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()

    def again(self) -> None:
        """Start it."""
        self._process = self._start()


@contextmanager
def working(way: str, bootstrap: str, folder: Path) -> Iterator[Killed]:
    """A worker for a `with`."""
    folder.mkdir(parents=True)
    worker = Killed(way, bootstrap, folder)
    try:
        yield worker
    finally:
        worker.kill()


def compared(folder: Path, kills: int, seed: int, console: Console) -> Sequence[Row]:
    """A row for each way."""
    found = list[Row]()
    for way, name in WAYS.items():
        console.print(f"{name}: killed {kills} times", highlight=False)
        found.append(one(way, folder / way, kills, seed, console))
    return found


def one(way: str, folder: Path, kills: int, seed: int, console: Console) -> Row:
    """One way, on a broker of its own."""
    with running_broker(folder, user_jars(ClusterSettings(), console)) as bootstrap:
        return asyncio.run(_mistreat(way, bootstrap, folder, kills, np.random.default_rng(seed)))


async def _mistreat(way: str, bootstrap: str, folder: Path, kills: int, rng: np.random.Generator) -> Row:
    await _topics(bootstrap)
    course = Course()
    with working(way, bootstrap, folder / "worker") as worker:
        reads = asyncio.create_task(_read(bootstrap, course))
        sends = asyncio.create_task(_send(bootstrap, course))
        try:
            await _flowing(course, time.monotonic())
            began_s = time.monotonic()
            took = [await _killed(worker, course, float(rng.uniform(1, 3)) * CALM_S) for _ in range(kills)]
            over_s = time.monotonic()
            course.over = True
            await sends
            await _quiet(course)
        finally:
            for task in (sends, reads):
                task.cancel()
            await asyncio.gather(sends, reads, return_exceptions=True)
    stall_s = course.seen.longest_gap_s(began_s, over_s)
    return row(WAYS[way], kills, course, round(stall_s, 2), round(max(took), 2))


async def _killed(worker: Killed, course: Course, after_s: float) -> float:
    """Kill it after a while, and start it again; returns how long it took until everything was through."""
    await asyncio.sleep(after_s)
    struck_s = time.monotonic()
    worker.kill()
    await asyncio.sleep(DOWN_S)
    worker.again()
    await _flowing(course, struck_s)
    return time.monotonic() - struck_s


async def _flowing(course: Course, since_s: float) -> None:
    """Wait until what is sent comes through again, at most PATIENCE_S."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            while not course.flows(since_s):  # noqa: ASYNC110 the log tells nobody
                await asyncio.sleep(0.1)


async def _quiet(course: Course) -> None:
    while time.monotonic() - course.seen.newest_s < QUIET_S:  # noqa: ASYNC110 as above
        await asyncio.sleep(0.1)


async def _topics(bootstrap: str) -> None:
    admin: Any = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in (SOURCE, TARGET)])
    await admin.close()


async def _send(bootstrap: str, course: Course) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, linger_ms=5) as producer:
        for first in count(0, PIECE):
            if course.over:
                return
            began_s = time.monotonic()
            sent = [
                await producer.send(SOURCE, b"%d" % number, b"k%d" % key_of(number))
                for number in range(first, first + PIECE)
            ]
            await asyncio.gather(*sent)
            course.sent.append((time.monotonic(), first + PIECE))
            await asyncio.sleep(max(0.0, began_s + 0.1 - time.monotonic()))


async def _read(bootstrap: str, course: Course) -> None:
    consumer: Any = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    async with consumer:
        consumer.assign([TopicPartition(TARGET, number) for number in range(PARTITIONS)])
        while True:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                course.seen.note(records)
                for record in records:
                    number, counted = map(int, record.value.split())
                    course.came.append((number, counted))
                    course.newest = max(course.newest, number)


def row(name: str, kills: int, course: Course, stall_s: float, recovery_s: float) -> Row:
    """What came, against what was sent."""
    _, sent = course.sent[-1]
    times = Counter(number for number, _ in course.came)
    of_key: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for number, counted in course.came:
        of_key[key_of(number)].append((number, counted))
    due = Counter(key_of(number) for number in range(sent))
    return Row(
        fault=name,
        injected=kills,
        events=sent,
        lost=sum(number not in times for number in range(sent)),
        doubled=sum(times.values()) - len(times),
        out_of_order=sum(sorted(some) != some for some in of_key.values()),
        wrong_aggregates=sum(of_key[key][-1][1] != wanted if of_key[key] else 1 for key, wanted in due.items()),
        control_violations=0,
        longest_stall_s=stall_s,
        recovery_s=recovery_s,
    )
