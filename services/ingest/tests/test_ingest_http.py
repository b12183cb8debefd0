"""Events over HTTP: what is answered, what is written, what is refused."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from trimtab.contracts import times, topics
from trimtab.contracts.codec import AvroCodec
from trimtab.ingest.adapters.log import EdgeLog
from trimtab.ingest.adapters.schema_registry import ConfluentRegistry
from trimtab.ingest.api import Deps, create_router
from trimtab.ingest.core.door import MOST_EVENTS, Door, Request
from trimtab.ingest.errors import LogAwayError, SchemaRegistryError
from trimtab.ingest.stages import contracts_of
from trimtab.loops.incoming.candidates import LARGEST_EVENT
from trimtab.loops.incoming.ports import no_registry
from trimtab.loops.model import Loop
from trimtab.runtime.edge import Placed
from trimtab.runtime.errors import EdgeBusyError
from trimtab.runtime.records import Out

NOW_MS = times.parse("2024-06-01T00:00:00Z")
PATH = "/v1/loops/shop/events/order"
NDJSON = {"content-type": "application/x-ndjson"}


class FakeLog:
    """A log that keeps what is written, or is away."""

    def __init__(self) -> None:
        self.outs: list[Out] = []
        self.away = False

    async def write(self, outs: Sequence[Out]) -> None:
        if self.away:
            raise LogAwayError("no broker")
        self.outs += outs


@pytest.fixture
def log() -> FakeLog:
    return FakeLog()


@pytest.fixture
async def client(shop: Loop, log: FakeLog) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    door = Door({"shop": contracts_of(shop, no_registry)}, log)
    app.include_router(create_router(Deps(door, lambda: NOW_MS)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://ingest") as made:
        yield made


async def test_one_event(client: httpx.AsyncClient, log: FakeLog, good: dict[str, Any]) -> None:
    response = await client.post(PATH, json=good)
    assert response.status_code == 200
    assert response.json() == {"accepted": 1, "rejected": 0, "events": [{"verdict": "accepted", "id": "o1"}]}
    assert [(out.topic, out.key, json.loads(out.value or b"")) for out in log.outs] == [
        (topics.source("shop", "order"), b"o1", good)
    ]


async def test_an_array_gets_a_verdict_on_each(client: httpx.AsyncClient, log: FakeLog, good: dict[str, Any]) -> None:
    response = await client.post(PATH, json=[good, {**good, "amonut": 1}, {**good, "order_id": "o2", "amount": -1.0}])
    assert response.status_code == 207
    body = response.json()
    assert (body["accepted"], body["rejected"]) == (1, 2)
    assert body["events"] == [
        {"verdict": "accepted", "id": "o1"},
        {
            "verdict": "rejected",
            "rule": "schema",
            "reason": "amonut: there is no such field; did you mean amount?",
        },
        {
            "verdict": "rejected",
            "id": "o2",
            "rule": "quality",
            "reason": "expected amount > 0 AND amount < 1e6, got amount = -1.0",
        },
    ]
    assert len(log.outs) == 3


async def test_lines(client: httpx.AsyncClient, log: FakeLog, good: dict[str, Any]) -> None:
    lines = "\n".join(json.dumps({**good, "order_id": f"o{n}"}) for n in range(3)) + "\n\n"
    response = await client.post(PATH, content=lines, headers=NDJSON)
    assert response.json()["accepted"] == 3
    assert [out.key for out in log.outs] == [b"o0", b"o1", b"o2"]


async def test_avro(client: httpx.AsyncClient, shop: Loop, good: dict[str, Any]) -> None:
    rest = {"points": None, "gift": False, "paid_at": None, "due": None, "weight": None}
    event = AvroCodec(shop.events["order"].schema).encode({**good, **rest, "ordered_at": NOW_MS})
    assert (await client.post(PATH, content=event)).json()["accepted"] == 1


async def test_a_form_as_curl_sends_it_is_read_as_json(client: httpx.AsyncClient, good: dict[str, Any]) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert (await client.post(PATH, content=json.dumps(good), headers=headers)).status_code == 200


async def test_all_rejected(client: httpx.AsyncClient, good: dict[str, Any]) -> None:
    response = await client.post(PATH, json={**good, "pieces": "two"})
    assert response.status_code == 422
    assert response.json()["events"][0]["reason"] == 'pieces: expected int (32 bits), got "two"'


async def test_a_trace_goes_on(client: httpx.AsyncClient, log: FakeLog, good: dict[str, Any]) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await client.post(PATH, json=good, headers={"traceparent": trace})
    await client.post(PATH, json=good, headers={"traceparent": "junk"})
    assert [out.headers for out in log.outs] == [(("traceparent", trace.encode()),), ()]


REFUSED = {
    "a loop mistyped": ("/v1/loops/shpo/events/order", b"{}", 404, "no loop 'shpo' is declared; did you mean 'shop'?"),
    "a loop of nobody": ("/v1/loops/zzz/events/order", b"{}", 404, "`trimtab loops` lists those that are"),
    "an event mistyped": ("/v1/loops/shop/events/oder", b"{}", 404, "no event 'oder'; did you mean 'order'?"),
    "an event of nobody": ("/v1/loops/shop/events/zzz", b"{}", 404, "no event 'zzz'; it has order, refund, visit"),
    "nothing": (PATH, b" \n ", 400, "got an empty body"),
    "an array cut off": (PATH, b'[{"a": 1}', 400, "it ends too early"),
    "too many events": (PATH, b"[" + b"1," * MOST_EVENTS + b"1]", 413, "at most 10000 events"),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_a_request_that_cannot_be_taken(what: str, client: httpx.AsyncClient, log: FakeLog) -> None:
    path, body, status, detail = REFUSED[what]
    response = await client.post(path, content=body)
    assert response.status_code == status
    assert detail in response.json()["detail"]
    assert log.outs == []


async def test_an_event_no_record_can_hold(client: httpx.AsyncClient, log: FakeLog, good: dict[str, Any]) -> None:
    response = await client.post(PATH, json=[good, {**good, "order_id": "x" * LARGEST_EVENT}])
    assert response.status_code == 207
    assert response.json()["events"][1]["rule"] == "too_large"
    assert len(log.outs) == 1


async def test_without_a_log(client: httpx.AsyncClient, log: FakeLog, good: dict[str, Any]) -> None:
    log.away = True
    response = await client.post(PATH, json=good)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert "send the same again in a moment" in response.json()["detail"]


async def test_what_is_answered_is_what_the_stream_says(shop: Loop, log: FakeLog, good: dict[str, Any]) -> None:
    """The log has what came, byte for byte, so that the stream judges the same."""
    contracts = contracts_of(shop, no_registry)
    body = b' {"order_id":"o1", "amount": 1.50}'
    answer = await Door({"shop": contracts}, log).take(Request("shop", "order", body, False, None), NOW_MS)
    assert answer.rejected == 1
    assert log.outs[0].value == body.strip()


class BusyEdge:
    """An edge with too much to do."""

    async def send(self, outs: Sequence[Out]) -> Sequence[Placed]:
        raise EdgeBusyError(20_000)


async def test_a_busy_edge_is_a_log_that_is_away() -> None:
    with pytest.raises(LogAwayError, match="20000 records wait"):
        await EdgeLog(BusyEdge()).write([])


def registry(status: int, body: Any) -> ConfluentRegistry:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/schemas/ids/7"
        return httpx.Response(status, json=body)

    return ConfluentRegistry("http://registry/", httpx.Client(transport=httpx.MockTransport(answer)))


def test_a_schema_registry_is_asked() -> None:
    assert registry(200, {"schema": '{"type": "record", "name": "R", "fields": []}'})(7) == {
        "type": "record",
        "name": "R",
        "fields": [],
    }


def test_what_a_schema_registry_does_not_know() -> None:
    assert registry(404, {"error_code": 40403})(7) is None
    assert registry(200, {"schemaType": "PROTOBUF", "schema": "message R {}"})(7) is None


@pytest.mark.parametrize(("status", "body"), [(500, {}), (401, {}), (200, {"schema": "{"}), (200, {}), (200, [])])
def test_a_schema_registry_that_fails_stops_the_task(status: int, body: Any) -> None:
    with pytest.raises(SchemaRegistryError, match="http://registry"):
        registry(status, body)(7)
