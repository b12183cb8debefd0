"""The host: loops followed without a restart, readiness, HTTP, and a whole process on Kafka."""

# ruff: noqa: ASYNC110, ASYNC220, ASYNC240  tests may block, and look until something has happened

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import httpx
import pytest
from fastapi import APIRouter, Request
from trimtab.contracts import control, topics
from trimtab.contracts.control import LoopDeclared
from trimtab.runtime.bus import Part
from trimtab.runtime.clock import wall_ms
from trimtab.runtime.errors import EdgeBusyError, EdgeSilentError
from trimtab.runtime.host import LoopWork, Service
from trimtab.runtime.host.http import create_app, listen
from trimtab.runtime.host.loops import Loops
from trimtab.runtime.host.status import Status
from trimtab.runtime.memory import MemoryBus
from trimtab.runtime.metrics import Metrics
from trimtab.runtime.options import Options
from trimtab.runtime.records import Out, Read
from trimtab.runtime.session import Surroundings
from trimtab.runtime.stage import Batch, Input, Output, Result, Stage, Tables
from trimtab.runtime.views import Views
from trimtab.testing import QUICK, KafkaLab, data

HOSTED = Path(__file__).parent / "hosted_service.py"


def declaration(loop: str, version: int, **more: str) -> Out:
    event = LoopDeclared(
        loop=loop,
        at_ms=0,
        version=version,
        digest=f"{version:064x}",
        declaration={"suffix": f" v{version}", **more},
        schemas={},
        partitions=1,
        topics=[],
        by="test",
    )
    return Out(topics.LOOP_DECLARED, loop.encode(), control.encode(event))


def ended(loop: str) -> Out:
    return Out(topics.LOOP_DECLARED, loop.encode(), None)


class Colours:
    """A view that a loop's stage looks at."""

    clock: Literal["marks", "none"] = "none"
    writers: Mapping[str, int] = MappingProxyType({})

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.seen = 0

    def apply(self, records: Sequence[Read]) -> None:
        self.seen += len(records)


def suffixing(declared: LoopDeclared) -> LoopWork | None:
    """Appends what the declaration says to every record of the loop."""
    if "broken" in declared.declaration:
        raise ValueError("this declaration cannot be served")
    suffix, loop = declared.declaration["suffix"].encode(), declared.loop

    def step(_partition: int, _tables: Tables, batch: Batch) -> Result:
        return Result(
            [Out(f"{loop}.out", r.key, (r.value or b"") + suffix) for r in batch.records.get(f"{loop}.in", ())]
        )

    stage = Stage(
        group=f"suffix.add.{loop}",
        changelog=f"{loop}.log",
        partitions=1,
        inputs=[Input(f"{loop}.in", "none")],
        step=step,
        outputs=[Output(f"{loop}.out", 1)],
    )
    return LoopWork([stage])


def loop_topics(*loops: str) -> dict[str, int]:
    return {topics.LOOP_DECLARED: 8} | {f"{loop}.{kind}": 1 for loop in loops for kind in ("in", "out", "log")}


@asynccontextmanager
async def following(bus: MemoryBus, service: Service, options: Options = QUICK) -> AsyncIterator[tuple[Loops, Views]]:
    views = Views(bus)
    loops = Loops(service, bus, views, Surroundings(wall_ms, options))
    loops.start()
    task = asyncio.create_task(loops.follow())
    try:
        yield loops, views
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await loops.stop()
        await views.keep(())


async def out(bus: MemoryBus, loop: str, count: int) -> list[bytes | None]:
    async with asyncio.timeout(20):
        while len(data(bus, f"{loop}.out")) < count:
            await asyncio.sleep(0.01)
    return [record.value for record in data(bus, f"{loop}.out")]


async def until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def test_loops_begin_change_and_end_without_a_restart() -> None:
    bus, gone = MemoryBus(loop_topics("a", "b")), list[str]()
    async with following(bus, Service("suffix", work=suffixing, ended=gone.append)) as (loops, _):
        bus.append([declaration("a", 1), Out("a.in", b"k", b"one")])
        assert await out(bus, "a", 1) == [b"one v1"]
        bus.append([declaration("b", 1), Out("b.in", b"k", b"two")])
        assert await out(bus, "b", 1) == [b"two v1"]
        bus.append([declaration("a", 2)])
        await until(lambda: loops.states["a"].version == 2 and loops.states["a"].state == "running")
        bus.append([Out("a.in", b"k", b"three"), Out("b.in", b"k", b"four")])
        assert await out(bus, "a", 2) == [b"one v1", b"three v2"]
        assert await out(bus, "b", 2) == [b"two v1", b"four v1"]
        bus.append([ended("a")])
        await until(lambda: gone == ["a"])
        assert list(loops.states) == ["b"]


async def test_a_loop_that_cannot_be_served_is_refused_and_the_others_go_on() -> None:
    bus = MemoryBus(loop_topics("a", "b"))
    service = Service("suffix", work=suffixing)
    async with following(bus, service) as (loops, views):
        status = Status(service, loops, views)
        bus.append([declaration("a", 1, broken="yes"), declaration("b", 1), Out("b.in", b"k", b"one")])
        assert await out(bus, "b", 1) == [b"one v1"]
        await until(lambda: not status.unready())
        assert any("this declaration cannot be served" in reason for reason in status.document()["reasons"])
        bus.append([declaration("a", 2), Out("a.in", b"k", b"mended")])
        assert await out(bus, "a", 1) == [b"mended v2"]
        await until(lambda: not status.unready() and not status.refusals())


async def test_a_loop_that_cannot_be_prepared_while_the_log_is_silent_starts_when_it_answers() -> None:
    bus, silences = MemoryBus(loop_topics("a")), [EdgeSilentError(1.0), EdgeBusyError(7)]

    async def prepare() -> None:
        if silences:
            raise silences.pop()

    def work(declared: LoopDeclared) -> LoopWork:
        found = suffixing(declared)
        assert found is not None
        return replace(found, prepare=prepare)

    async with following(bus, Service("suffix", work=work)):
        bus.append([declaration("a", 1), Out("a.in", b"k", b"one")])
        assert await out(bus, "a", 1) == [b"one v1"]


async def test_a_refused_version_leaves_no_view_behind() -> None:
    bus, colours = MemoryBus(loop_topics("a") | {"colours": 1}), Colours("colours")

    async def unprepared() -> None:
        raise ValueError("no such thing")

    def work(declared: LoopDeclared) -> LoopWork:
        found = suffixing(declared)
        assert found is not None
        return replace(found, views=[colours], prepare=unprepared) if declared.version == 2 else found

    async with following(bus, Service("suffix", work=work)) as (loops, views):
        bus.append([declaration("a", 1), declaration("a", 2), Out("a.in", b"k", b"one")])
        await until(lambda: "a" in loops.states and loops.states["a"].state == "refused")
        await until(lambda: colours.topic not in {one.view.topic for one in views.all()})
        bus.append([declaration("a", 3)])
        assert await out(bus, "a", 1) == [b"one v3"]


async def test_a_task_that_waits_behind_a_transaction_without_an_end_says_so() -> None:
    bus, service = MemoryBus(loop_topics("a")), Service("suffix", work=suffixing)
    hanging = bus.transactions("hanging", "nobody")
    await hanging.open()
    bus.hold(hanging, {Part("a.log", 0): [Out("a.log", b"k", b"v")]})
    async with following(bus, service, replace(QUICK, check_s=0.05, open_s=0.1)) as (loops, views):
        status = Status(service, loops, views)
        bus.append([declaration("a", 1), Out("a.in", b"k", b"one")])
        await until(lambda: any("a.log[0] cannot be read beyond offset 0" in told for told in status.refusals()))
        assert status.unready() == ["suffix.add.a-0 restoring"]
        bus.abandon(hanging)
        assert await out(bus, "a", 1) == [b"one v1"]
        await until(lambda: not status.unready() and not status.refusals())


async def test_a_declaration_by_hand_that_keeps_no_schema_changes_nothing() -> None:
    bus = MemoryBus(loop_topics("a"))
    async with following(bus, Service("suffix", work=suffixing)) as (loops, _):
        bus.append([Out(topics.LOOP_DECLARED, b"a", b"{}"), declaration("a", 1), Out("a.in", b"k", b"one")])
        assert await out(bus, "a", 1) == [b"one v1"]
        assert loops.states["a"].version == 1


async def test_a_new_version_that_keeps_a_view_does_not_read_it_again() -> None:
    bus = MemoryBus(loop_topics("a") | {"colours": 2})
    bus.append([Out("colours", b"k", b"red"), Out("colours", b"l", b"blue")])
    colours = Colours("colours")

    def work(declared: LoopDeclared) -> LoopWork | None:
        found = suffixing(declared)
        return None if found is None else LoopWork(found.stages, views=[colours])

    async with following(bus, Service("suffix", work=work)) as (loops, _):
        bus.append([declaration("a", 1), Out("a.in", b"k", b"one")])
        await out(bus, "a", 1)
        bus.append([declaration("a", 2), Out("colours", b"m", b"green")])
        await until(lambda: loops.states["a"].state == "running" and loops.states["a"].version == 2)
        await until(lambda: colours.seen == 3)


async def test_preparation_comes_before_the_stages_and_the_word_after() -> None:
    bus, order = MemoryBus(loop_topics("a")), list[str]()

    def work(declared: LoopDeclared) -> LoopWork | None:
        found = suffixing(declared)

        async def prepare() -> None:
            order.append(f"prepared, {len(data(bus, 'a.out'))} out")

        assert found is not None
        return LoopWork(found.stages, prepare=prepare, started=lambda: order.append("started"))

    bus.append([declaration("a", 1), Out("a.in", b"k", b"one")])
    async with following(bus, Service("suffix", work=work)):
        await out(bus, "a", 1)
    assert order == ["prepared, 0 out", "started"]


def test_who_connects_before_the_server_runs_is_not_refused() -> None:
    with listen("127.0.0.1", 0) as sock:
        socket.create_connection(sock.getsockname(), 1).close()


async def test_http_answers_for_health_readiness_status_and_metrics() -> None:
    bus, router = MemoryBus(loop_topics("a")), APIRouter()

    @router.get("/v1/loops/{loop}/answer")
    async def answer(loop: str) -> dict[str, str]:
        return {"loop": loop}

    service = Service("suffix", work=suffixing, router=router)
    async with following(bus, service) as (loops, views):
        status, metrics = Status(service, loops, views), Metrics()
        app = create_app(service, status, metrics)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
            bus.append([declaration("a", 1), Out("a.in", b"k", b"one")])
            await out(bus, "a", 1)
            await until(lambda: not status.unready())
            assert (await client.get("/health")).json() == {"service": "suffix", "status": "ok"}
            assert (await client.get("/ready")).json() == {"ready": True, "reasons": []}
            assert (await client.get("/v1/loops/a/answer")).json() == {"loop": "a"}
            found = (await client.get("/status")).json()
            assert found["loops"] == {"a": {"version": 1, "state": "running", "reason": None}}
            (stage,) = found["stages"]
            assert (stage["group"], stage["loop"], stage["lag"]) == ("suffix.add.a", "a", 0)
            assert stage["tasks"][0]["positions"] == {"a.in": 1}
            text = (await client.get("/metrics")).text
            assert 'trimtab_runtime_tasks{stage="suffix.add.a"} 1.0' in text
            assert 'http_route="/v1/loops/{loop}/answer"' in text
            status.stopping = True
            assert (await client.get("/ready")).status_code == 503


async def test_a_parked_task_is_told_of_and_holds_up_nothing_else() -> None:
    def work(declared: LoopDeclared) -> LoopWork:
        def step(_partition: int, _tables: Tables, batch: Batch) -> Result:
            raise KeyError(f"a defect over {len(batch.records)} inputs")

        stage = Stage("suffix.add.a", "a.log", 1, [Input("a.in", "none")], step)
        return LoopWork([stage]) if declared.loop == "a" else suffixing(declared) or LoopWork([])

    bus, service = MemoryBus(loop_topics("a", "b")), Service("suffix", work=work)
    async with following(bus, service) as (loops, views):
        status, metrics = Status(service, loops, views), Metrics()
        bus.append([declaration("a", 1), declaration("b", 1), Out("a.in", b"k", b"x"), Out("b.in", b"k", b"x")])
        await out(bus, "b", 1)
        await until(lambda: status.refusals() and not status.unready())
        app = create_app(service, status, metrics)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
            assert (await client.get("/ready")).json() == {"ready": True, "reasons": []}
            found = (await client.get("/status")).json()
            (reason,) = found["reasons"]
            assert reason.startswith(
                "suffix.add.a-0 parked: failed 5 times at a.in 0: KeyError: 'a defect over 1 inputs'"
            )
            (task,) = next(stage for stage in found["stages"] if stage["loop"] == "a")["tasks"]
            assert (task["state"], task["tries"], task["positions"], task["lag"]) == ("parked", 5, {"a.in": 0}, 1)
            text = (await client.get("/metrics")).text
            assert 'trimtab_runtime_parked{stage="suffix.add.a"} 1.0' in text
            assert 'trimtab_runtime_parked{stage="suffix.add.b"} 0.0' in text


async def test_http_says_of_a_wrong_request_what_would_be_right() -> None:
    router = APIRouter()

    @router.post("/v1/size")
    async def sized(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @router.post("/v1/fault")
    async def fault(number: int) -> dict[str, float]:
        return {"inverse": 1 / number}

    bus = MemoryBus(loop_topics("a"))
    service = Service("suffix", work=suffixing, router=router)
    async with following(bus, service) as (loops, views):
        app = create_app(service, Status(service, loops, views), Metrics(), most_bytes=10)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            assert (await client.post("/v1/size", content=b"x" * 10)).json() == {"bytes": 10}
            asked = [
                await client.post("/v1/size", content=b"x" * 11),
                await client.post("/v1/fault?number=x"),
                await client.post("/v1/fault?number=0"),
                await client.get("/v1/fault"),
                await client.get("/v1/nothing"),
                await client.get("/v1/%00"),
            ]
    assert [(answer.status_code, answer.json()["detail"]) for answer in asked] == [
        (413, "a request may hold at most 10 bytes: send several"),
        (422, "number: expected a valid integer, unable to parse string as an integer, got 'x'"),
        (500, "suffix failed over this request (ZeroDivisionError); its log says how"),
        (405, "/v1/fault does not take GET, but POST"),
        (404, "suffix has no path /v1/nothing; GET /docs shows those that it has"),
        (400, "the address holds a NUL (%00)"),
    ]


@pytest.mark.kafka
async def test_a_process_serves_a_loop_and_ends_cleanly(kafka_lab: KafkaLab, tmp_path: Path) -> None:
    loop = kafka_lab.prefix[:-1]
    have = await kafka_lab.bus.catalog.describe([topics.LOOP_DECLARED])
    await kafka_lab.create({name: count for name, count in loop_topics(loop).items() if name not in have})
    environment = {
        "TRIMTAB_KAFKA__BOOTSTRAP_SERVERS": kafka_lab.connection.bootstrap_servers,
        "TRIMTAB_DATA_DIR": str(tmp_path),
        "TRIMTAB_REPLICA": "3",
        "TRIMTAB_HTTP__PORT": "0",
    }
    process = subprocess.Popen([sys.executable, str(HOSTED)], env=environment, stderr=subprocess.PIPE)
    try:
        address = await announced(tmp_path / "run" / "suffix-3.json")
        await kafka_lab.append([partitioned(declaration(loop, 1)), Out(f"{loop}.in", b"k", b"one")])
        async with asyncio.timeout(20):
            while [record.value for record in await kafka_lab.read(f"{loop}.out")] != [b"one v1"]:
                await asyncio.sleep(0.05)
        async with httpx.AsyncClient(base_url=address, trust_env=False) as client:
            async with asyncio.timeout(20):
                while (await client.get("/ready")).status_code != 200:
                    await asyncio.sleep(0.05)
            assert (await client.get("/status")).json()["stages"][0]["group"] == f"suffix.add.{loop}"
        await kafka_lab.append([partitioned(ended(loop))])
        process.send_signal(signal.SIGTERM)
        started_s = time.monotonic()
        _, errors = await asyncio.to_thread(process.communicate)
        assert process.returncode == 0, errors.decode()
        assert time.monotonic() - started_s < 5
    finally:
        process.kill()
        process.wait()
    messages = [json.loads(line)["message"] for line in errors.splitlines()]
    assert messages[0] == "service started"
    assert messages[-1] == "service stopped"


def test_a_process_that_waits_for_kafka_ends_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment = {
            "TRIMTAB_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{silent.getsockname()[1]}",
            "TRIMTAB_DATA_DIR": str(tmp_path),
        }
        process = subprocess.Popen([sys.executable, str(HOSTED)], env=environment, stderr=subprocess.DEVNULL)
        try:
            silent.settimeout(60)
            connection, _ = silent.accept()
            with connection:
                process.send_signal(signal.SIGTERM)
                assert process.wait(20) == -signal.SIGTERM
        finally:
            process.kill()
            process.wait()


def partitioned(one: Out) -> Out:
    """The test's producer knows the partitions of its own topics alone."""
    return Out(one.topic, one.key, one.value, one.headers, 0)


async def announced(path: Path) -> str:
    async with asyncio.timeout(20):
        while not path.exists():
            await asyncio.sleep(0.05)
    told = json.loads(path.read_text())
    assert (told["service"], told["replica"]) == ("suffix", 3)
    return f"http://{told['host']}:{told['port']}"
