"""The example behind a real ingest on a real broker: killed again and again, nothing is lost and nothing doubled."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4  # noqa: TID251  # a loop of its own for each test

import httpx
import pytest
from trimtab.cli.log import follower
from trimtab.cli.loops.apply import apply, write
from trimtab.contracts import data, topics
from trimtab.contracts.codec import AvroCodec
from trimtab.contracts.data import Rejected
from trimtab.faust.processor import FAILED
from trimtab.loops import declaration
from trimtab.loops.model import Loop
from trimtab.runtime.kafka.connection import Connection
from trimtab.runtime.kafka.edge import IdempotentProducer
from trimtab.runtime.records import Out

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]
FLIGHTS = Path(__file__).resolve().parents[3] / "examples" / "flights"
JANUARY_MS = 1_357_000_000_000
ARRIVALS = 1_500
KILLS = 4

STUMBLING = """
import os
from pathlib import Path
from trimtab.faust import BadEventError, Processor

flights = Processor("stumbling", Path(__file__).parent)

@flights.derive("inbound", of="arrival")
async def inbound(arrival):
    if arrival["tailnum"] == "bad":
        raise BadEventError("no such aircraft")
    if arrival["tailnum"] == "trap" and os.environ.get("STUMBLE"):
        raise ZeroDivisionError("stumbled")
    return {"tailnum": arrival["tailnum"], "landed_at": arrival["arrived_at"], "delay_min": 20}

flights.main()
"""


class World:
    """A loop of its own on the broker, with a running ingest and processors that may be killed."""

    def __init__(self, folder: Path, bootstrap: str) -> None:
        self.folder, self.connection = folder, Connection(bootstrap)
        self.declared = folder / "flights"
        shutil.copytree(FLIGHTS, self.declared, ignore=shutil.ignore_patterns("data", "__pycache__"))
        shutil.copy(self.declared / "inbound" / "inbound.avsc", self.declared)
        toml = (self.declared / "loop.toml").read_text().replace('"flights"', f'"f{uuid4().hex[:8]}"', 1)
        (self.declared / "loop.toml").write_text(toml + (self.declared / "inbound" / "addition.toml").read_text())
        self.loop: Loop = declaration.load(self.declared)
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        settings = {
            **os.environ,  # noqa: TID251  # processes inherit it
            "TRIMTAB_KAFKA__BOOTSTRAP_SERVERS": self.connection.bootstrap_servers,
            "TRIMTAB_DATA_DIR": str(self.folder),
            "TRIMTAB_STORE__URL": (self.folder / "blobs").as_uri(),
        }
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command], env={**settings, **(env or {})}, stdout=log, stderr=log
            )
        self._running.append(process)
        return process

    def stop(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()

    def until(self, done: Callable[[], bool], what: str, seconds: float = 120) -> None:
        """Wait; a process that ended by itself, but for those that were to fail, ends the waiting."""
        deadline = time.monotonic() + seconds
        while not done():
            ended = {process.poll() for process in self._running} - {None, -signal.SIGKILL, FAILED}
            assert not ended, self.log()
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}\n{self.log()}"
            time.sleep(0.3)

    def log(self) -> str:
        return (self.folder / "log").read_text()[-4000:]

    def ready(self, service: str) -> bool:
        told = self.folder / "run" / f"{service}-0.json"
        if not told.exists():
            return False
        url = "http://{host}:{port}/ready".format_map(json.loads(told.read_text()))
        try:
            return httpx.get(url, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def read(self, topic: str) -> list[Any]:
        """The values of a topic, marks left out."""

        async def read() -> list[Any]:
            async with follower(self.connection, [topic]) as log:
                return [record.value for record in await log.catch_up() if record.value is not None]

        return asyncio.run(read())

    def holds(self, topic: str, count: int) -> bool:
        return len(self.read(topic)) >= count

    def arrive(self, tails: Sequence[str], first: int = 0) -> None:
        """One arrival for each aircraft, late by 20 minutes, every third on time."""
        codec = AvroCodec(self.loop.events["arrival"].schema)
        outs = [
            Out(topics.source(self.loop.name, "arrival"), str(number).encode(), codec.encode(arrival(tail, number)))
            for number, tail in enumerate(tails, start=first)
        ]

        async def send() -> None:
            async with IdempotentProducer(self.connection) as edge:
                await edge.send(outs)

        asyncio.run(send())

    def derived(self) -> list[dict[str, Any]]:
        """What came in behind ingest."""
        codec = AvroCodec(self.loop.events["inbound"].schema)
        return [codec.decode(value) for value in self.read(topics.events(self.loop.name, "inbound"))]


def arrival(tail: str, number: int) -> dict[str, Any]:
    return {
        "flight_id": f"flight-{number}", "arrived_at": JANUARY_MS + number * 60_000, "carrier": "UA", "flight": number,
        "tailnum": tail, "origin": "EWR", "dest": "ORD", "arr_delay_min": 0 if number % 3 == 0 else 20,
    }  # fmt: skip


@pytest.fixture
def world(tmp_path: Path, kafka: str) -> Iterator[World]:
    made = World(tmp_path, kafka)
    asyncio.run(apply(made.connection, made.loop, 0, "test"))
    made.start("-m", "trimtab.ingest")
    made.until(lambda: made.ready("ingest"), "ingest is ready")
    try:
        yield made
    finally:
        made.stop()
        asyncio.run(write(made.connection, made.loop.name, None))


def test_killed_again_and_again_nothing_is_lost_and_nothing_doubled(world: World) -> None:
    late = {number for number in range(ARRIVALS) if number % 3}
    door = topics.source(world.loop.name, "inbound")
    world.arrive([f"N{number}" for number in range(ARRIVALS)])
    script = str(world.declared / "inbound" / "processor.py")
    for kill in range(KILLS):
        processor = world.start(script)
        enough = len(late) * (kill + 1) // (KILLS + 2)
        world.until(partial(world.holds, door, enough), f"{enough} derived events")
        processor.kill()
        processor.wait()
    world.start(script)
    world.until(lambda: len(world.derived()) >= len(late), "all derived events")
    world.arrive(["last"] * 12, first=ARRIVALS)  # copies would stand before these
    late |= {number for number in range(ARRIVALS, ARRIVALS + 12) if number % 3}
    world.until(lambda: len(world.derived()) >= len(late), "the last ones")
    derived = world.derived()
    assert sorted(event["landed_at"] for event in derived) == sorted(JANUARY_MS + n * 60_000 for n in late)
    assert len({event["inbound_id"] for event in derived}) == len(derived)


def test_an_exception_is_not_acknowledged_and_bad_input_goes_to_quarantine(world: World) -> None:
    script = world.declared / "stumbling.py"
    script.write_text(STUMBLING)
    world.arrive([*["N1"] * 20, "bad", *["N2"] * 20, "trap", *["N3"] * 20])
    stumbling = world.start(str(script), env={"STUMBLE": "1"})
    assert stumbling.wait(120) == FAILED
    again = world.start(str(script), env={"STUMBLE": "1"})
    assert again.wait(120) == FAILED, "the event that it stumbled over came again"
    world.start(str(script))
    world.until(lambda: len(world.derived()) >= 61, "all derived events")
    assert sorted(event["tailnum"] for event in world.derived()) == sorted(
        [*["N1"] * 20, *["N2"] * 20, "trap", *["N3"] * 20]
    )
    rejected = [data.decode(Rejected, value) for value in world.read(topics.rejected(world.loop.name))]
    assert {(one.event, one.rule, one.reason) for one in rejected} == {("inbound", "processor", "no such aircraft")}
