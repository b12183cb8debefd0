"""Ingest as a real process on a real broker: fed by a plain client and by HTTP, killed in the middle."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from trimtab.contracts import control, data, topics
from trimtab.loops import declaration
from trimtab.loops.declaration.digests import declaration_digest
from trimtab.loops.model import Loop
from trimtab.runtime.kafka import Connection, KafkaBus
from trimtab.runtime.marks import is_mark
from trimtab.testing import read_all

pytestmark = pytest.mark.kafka
WAIT_S = 120.0
ORDERS, COPIES, WRONG, BY_HTTP = 3_000, 500, 40, 300


@pytest.fixture
def own(shop: Loop) -> Loop:
    """The shop under a name of this test's own."""
    body, schemas = declaration.declared(shop)
    name = f"shop{os.getpid()}"
    renamed = {**body, "loop": {**body["loop"], "name": name}}
    digest = declaration_digest(renamed, schemas)
    return declaration.from_declared(renamed, schemas, version=1, partitions=2, digest=digest)


class Ingest:
    """The service's process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.start()

    def start(self) -> None:
        self._place.unlink(missing_ok=True)
        with (self._folder / "log").open("ab") as log:
            command = [sys.executable, "-m", "trimtab.ingest"]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def end(self) -> int:
        self._process.terminate()
        return self._process.wait(60)

    @property
    def _place(self) -> Path:
        return self._folder / "run" / "ingest-0.json"

    def url(self) -> str:
        """Where it is, once it is ready."""
        told: dict[str, Any] = {}

        def ready() -> bool:
            if not self._place.exists():
                return False
            told.update(json.loads(self._place.read_text()))
            answer = httpx.get(f"http://127.0.0.1:{told['port']}/ready", timeout=20)
            return answer.status_code == 200 and bool(answer.json()["ready"])

        wait(ready)
        return f"http://127.0.0.1:{told['port']}"


def wait(done: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.fixture
def ingest(tmp_path: Path, kafka: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ingest]:
    monkeypatch.setenv("TRIMTAB_KAFKA__BOOTSTRAP_SERVERS", kafka)
    monkeypatch.setenv("TRIMTAB_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TRIMTAB_STORE__URL", (tmp_path / "blobs").as_uri())
    made = Ingest(tmp_path)
    yield made
    made.kill()


def order(number: int) -> bytes:
    moment = f"2024-05-31T{number % 24:02d}:00:00Z"
    event = {"order_id": f"o{number}", "ordered_at": moment, "amount": 1.0 + number, "pieces": 1, "country": None}
    return json.dumps(event).encode()


async def declare(bootstrap: str, loop: Loop) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        there = set(await admin.list_topics())
        specs = [*topics.of_loop(loop.name, list(loop.events), loop.partitions), *topics.control()]
        missing = [
            NewTopic(s.name, s.partitions, 1, topic_configs=dict(s.config)) for s in specs if s.name not in there
        ]
        await admin.create_topics(missing)
    finally:
        await admin.close()
    body, schemas = declaration.declared(loop)
    event = control.LoopDeclared(
        loop=loop.name,
        at_ms=0,
        version=1,
        digest=loop.digest,
        declaration=body,
        schemas=schemas,
        partitions=loop.partitions,
        topics=[],
        by="test",
    )
    await produce(bootstrap, topics.LOOP_DECLARED, [control.encode(event)], key=loop.name.encode())


async def produce(bootstrap: str, topic: str, values: Sequence[bytes | None], key: bytes | None = None) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        for sent in [await producer.send(topic, value, key=key) for value in values]:
            await sent
    finally:
        await producer.stop()


async def read(bootstrap: str, topic: str) -> list[Any]:
    async with KafkaBus(Connection(bootstrap), instance="test-reader") as bus:
        return [record for record in await read_all(bus, topic) if not is_mark(record)]


def test_nothing_is_lost_and_nothing_doubled(kafka: str, own: Loop, ingest: Ingest) -> None:
    asyncio.run(declare(kafka, own))
    source = topics.source(own.name, "order")
    events = [order(n) for n in range(ORDERS)]
    wrong = [order(n).replace(b'"pieces": 1', b'"pieces": "one"') for n in range(WRONG)]
    ingest.url()
    asyncio.run(produce(kafka, source, events[: ORDERS // 2]))
    ingest.kill()
    asyncio.run(produce(kafka, source, [*events[ORDERS // 2 :], *events[:COPIES], *wrong]))
    ingest.start()
    answer = httpx.post(
        f"{ingest.url()}/v1/loops/{own.name}/events/order",
        content=b"\n".join(order(n) for n in range(ORDERS - 100, ORDERS - 100 + BY_HTTP)),
        headers={"content-type": "application/x-ndjson"},
        timeout=60,
    )
    assert (answer.status_code, answer.json()["accepted"]) == (200, BY_HTTP)
    unique = ORDERS - 100 + BY_HTTP
    passed = topics.events(own.name, "order")
    wait(lambda: len(asyncio.run(read(kafka, passed))) >= unique)
    ids = [record.key for record in asyncio.run(read(kafka, passed))]
    assert len(ids) == unique
    assert set(ids) == {f"o{n}".encode() for n in range(unique)}
    wait(lambda: len(asyncio.run(read(kafka, topics.rejected(own.name)))) >= WRONG)
    rejected = [data.decode(data.Rejected, one.value) for one in asyncio.run(read(kafka, topics.rejected(own.name)))]
    assert [one.rule for one in rejected] == ["schema"] * WRONG
    assert sorted(one.original or b"" for one in rejected) == sorted(wrong)
    assert ingest.end() == 0
    asyncio.run(produce(kafka, topics.LOOP_DECLARED, [None], key=own.name.encode()))
