"""The controller over HTTP, with its stage at work on a bus in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from trimtab.contracts import topics
from trimtab.retrain_controller.adapters import TOPICS, JournalView
from trimtab.retrain_controller.api import Deps, create_router
from trimtab.retrain_controller.core.journal import Journal
from trimtab.retrain_controller.stages import INPUTS, OUTPUTS, PARTITIONS, decide_stage
from trimtab.runtime.control import LoopEvent, written
from trimtab.runtime.edge import Edge
from trimtab.runtime.errors import EdgeBusyError
from trimtab.runtime.memory import MemoryBus
from trimtab.runtime.records import Out, Record
from trimtab.runtime.views import Views
from trimtab.testing import Running
from trimtab.testing.declarations import declared, offers
from trimtab.testing.models import measured

DAY_MS = 86_400_000


class Controller:
    """A controller in this process; `edge` may be exchanged."""

    def __init__(self) -> None:
        stage = decide_stage()
        self.bus = MemoryBus(dict.fromkeys({*TOPICS, *INPUTS, *OUTPUTS, stage.changelog}, PARTITIONS))
        self.edge: Edge = self.bus
        self._stage = stage

    async def start(self, stack: AsyncExitStack) -> httpx.AsyncClient:
        journal, views = Journal(), Views(self.bus)
        stack.push_async_callback(views.keep, ())
        for topic in TOPICS:
            await views.start(JournalView(topic, journal)).ready.wait()
        await stack.enter_async_context(Running([self._stage], self.bus))
        ids = iter(f"made{number}" for number in range(100))
        app = FastAPI()
        app.include_router(create_router(Deps(journal, self, now_ms=lambda: 7, new_id=lambda: next(ids))))
        transport = httpx.ASGITransport(app)
        return await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://controller"))

    async def send(self, outs: Any) -> Any:
        return await self.edge.send(outs)

    def tell(self, *events: LoopEvent) -> None:
        self.bus.append([written(event, id="test", source="test", trace=None) for event in events])


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def controller() -> Controller:
    made = Controller()
    made.tell(declared(offers()), measured(10 * DAY_MS))
    return made


async def settled(client: httpx.AsyncClient, ask_id: str) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            answer = await client.get(f"/v1/loops/offers/asks/{ask_id}")
            if answer.status_code == 200 and answer.json()["state"] != "pending":
                return dict(answer.json())
            await asyncio.sleep(0.01)


async def test_a_wish_is_recorded_and_what_became_of_it_can_be_looked_up(
    controller: Controller, stack: AsyncExitStack
) -> None:
    client = await controller.start(stack)
    answer = await client.post("/v1/loops/offers/retrain", json={"by": "anna", "note": "new prices"})
    assert (answer.status_code, answer.json()["state"]) == (202, "pending")
    found = await settled(client, answer.json()["ask_id"])
    assert (found["state"], found["decision"]["reason"]) == ("declined", "open")
    assert found["decision"]["cause"]["by"] == "anna"


async def test_the_same_wish_twice_is_one(controller: Controller, stack: AsyncExitStack) -> None:
    client = await controller.start(stack)
    for _ in range(2):
        await client.post("/v1/loops/offers/retrain", json={"by": "anna", "ask_id": "mine"})
    await settled(client, "mine")
    await client.post("/v1/loops/offers/retrain", json={"by": "anna", "ask_id": "last"})
    await settled(client, "last")
    items = (await client.get("/v1/loops/offers/decisions")).json()["items"]
    assert sorted(str(one["cause"]["ask_id"]) for one in items) == ["None", "last", "mine"]


async def test_decisions_come_in_pages_newest_first(controller: Controller, stack: AsyncExitStack) -> None:
    client = await controller.start(stack)
    for number in range(5):
        await client.post("/v1/loops/offers/retrain", json={"by": "anna", "ask_id": f"ask{number}"})
    for number in range(5):
        await settled(client, f"ask{number}")
    found, before = [], None
    for _ in range(3):
        params = {"limit": "2"} | ({"before": before} if before else {})
        page = (await client.get("/v1/loops/offers/decisions", params=params)).json()
        found += page["items"]
        before = page["next"]
    assert before is None
    assert len(found) == 6
    assert [one["at"] for one in found] == ["1970-01-11T00:00:00.000Z"] * 6
    assert {one["decision"] for one in found} == {"requested", "declined"}


async def test_a_log_that_is_busy(controller: Controller, stack: AsyncExitStack) -> None:
    class Busy:
        async def send(self, outs: Any) -> Any:
            raise EdgeBusyError(3)

    client = await controller.start(stack)
    controller.edge = Busy()
    answer = await client.post("/v1/loops/offers/retrain", json={"by": "anna"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


WRONG = [
    ("POST", "/v1/loops/nobody/retrain", {"by": "anna"}, 404, "no loop 'nobody' is declared"),
    ("POST", "/v1/loops/offers/retrain", {}, 422, "Field required"),
    ("POST", "/v1/loops/offers/retrain", {"by": ""}, 422, "at least 1"),
    ("POST", "/v1/loops/offers/retrain", {"by": "a", "notes": "x"}, 422, "not permitted"),
    ("GET", "/v1/loops/offers/asks/none", None, 404, "no wish 'none'"),
    ("GET", "/v1/loops/nobody/decisions", None, 404, "no loop"),
    ("GET", "/v1/loops/offers/decisions?before=x", None, 422, "no cursor"),
    ("GET", "/v1/loops/offers/decisions?limit=0", None, 422, "greater than"),
]


async def test_wrong_requests_say_what_is_wrong(controller: Controller, stack: AsyncExitStack) -> None:
    client = await controller.start(stack)
    for method, path, body, status, words in WRONG:
        answer = await client.request(method, path, json=body)
        assert (answer.status_code, words in answer.text) == (status, True), (path, body, answer.text)


def test_the_journal_passes_over_what_keeps_no_schema_and_keeps_what_was_decided() -> None:
    journal = Journal()
    view = JournalView(topics.LOOP_DECLARED, journal)
    (good,) = [written(declared(offers()), id="x", source="x", trace=None)]
    view.apply([_record(good, 0), Record(topics.LOOP_DECLARED, 0, 1, b"offers", b"no json")])
    assert journal.has_loop("offers")
    view.apply([Record(topics.LOOP_DECLARED, 0, 2, b"offers", None)])
    assert not journal.has_loop("offers")


def _record(out: Out, offset: int) -> Record:
    return Record(out.topic, 0, offset, out.key, out.value, out.headers)
