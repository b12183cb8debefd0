"""The registry over HTTP, with its stage and its projection at work on a bus in memory."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from trimtab.contracts import control, topics
from trimtab.contracts.control import RetrainCause, RetrainRequested, TrainingFailed
from trimtab.registry.adapters.database import TOPICS, Projected, migrate
from trimtab.registry.adapters.desk import Desk
from trimtab.registry.adapters.queries import Queries
from trimtab.registry.api import Deps, create_router
from trimtab.registry.stages import INPUTS, OUTPUTS, PARTITIONS, fold_stage
from trimtab.runtime.control import LoopEvent, written
from trimtab.runtime.edge import Edge
from trimtab.runtime.errors import EdgeSilentError
from trimtab.runtime.memory import MemoryBus
from trimtab.runtime.projection import Projection
from trimtab.store.blobs import MemoryBlobs
from trimtab.store.signing import Signer
from trimtab.store.sql import create_sql_engine
from trimtab.testing import Running
from trimtab.testing.declarations import declared, offers
from trimtab.testing.models import trained

TRAINER, REGISTRY = Signer.generate(), Signer.generate()
TRUSTED = {topics.MODEL_TRAINED: TRAINER.verifier(), topics.DEPLOYMENT_CHANGED: REGISTRY.verifier()}
MODEL = b"a model"
DAY_MS = 86_400_000


class Registry:
    """A registry in this process. `deciding`: whether its stage runs."""

    def __init__(self, folder: Path, *, patience_s: float = 10.0) -> None:
        stage = fold_stage(REGISTRY, TRAINER.verifier())
        engine = create_sql_engine(f"sqlite:///{folder}/registry.db")
        migrate(engine)
        self.bus = MemoryBus(dict.fromkeys({*TOPICS, *INPUTS, *OUTPUTS, stage.changelog}, PARTITIONS))
        self.blobs = MemoryBlobs()
        self._engine, self._stage = engine, stage
        self._projected = Projected(engine, TRUSTED)
        self._patience_s = patience_s
        self.edge: Edge = self.bus

    async def start(self, stack: AsyncExitStack, *, deciding: bool = True) -> httpx.AsyncClient:
        queries = Queries(self._engine)
        desk = Desk(self, queries, self._projected, patience_s=self._patience_s)
        projection = Projection("registry.project", TOPICS, desk.positions, desk.apply)
        running = asyncio.create_task(projection.run(self.bus))
        stack.callback(self._engine.dispose)
        stack.callback(running.cancel)
        if deciding:
            await stack.enter_async_context(Running([self._stage], self.bus))
        deps = Deps(queries, queries, desk, self.blobs, now_ms=lambda: 7, new_id=lambda: "made")
        app = FastAPI()
        app.include_router(create_router(deps))
        transport = httpx.ASGITransport(app)
        return await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://registry"))

    async def send(self, outs: Any) -> Any:
        return await self.edge.send(outs)

    def tell(self, *events: LoopEvent) -> None:
        self.bus.append([written(event, id="test", source="test", trace=None) for event in events])


def sign(event: Any) -> Any:
    return event.model_copy(update={"signature": TRAINER.sign(json.loads(control.encode(event)))})


async def until(client: httpx.AsyncClient, path: str, size: int) -> list[dict[str, Any]]:
    """The items of a list, once it has that many."""
    async with asyncio.timeout(20):
        while True:
            answer = await client.get(path)
            if answer.status_code == 200 and len(answer.json()["items"]) >= size:
                return list(answer.json()["items"])
            await asyncio.sleep(0.01)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def registry(tmp_path: Path) -> Registry:
    made = Registry(tmp_path)
    digest = made.blobs.put(MODEL)
    made.tell(
        declared(offers()),
        sign(trained("a", verdict="first", digest=digest)),
        sign(trained("b", at_ms=DAY_MS, against=1, digest="b" * 64)),
    )
    return made


async def test_loops_versions_deployments(registry: Registry, stack: AsyncExitStack) -> None:
    client = await registry.start(stack)
    assert [one["cause"] for one in await until(client, "/v1/loops/offers/deployments", 2)] == ["promoted", "first"]
    (loop,) = (await client.get("/v1/loops")).json()["items"]
    assert (loop["champion"], loop["shadows"], loop["versions"]) == (2, [1], 2)
    versions = (await client.get("/v1/loops/offers/versions")).json()["items"]
    assert [(one["version"], one["role"]) for one in versions] == [(2, "champion"), (1, "shadow")]
    one = (await client.get("/v1/loops/offers/versions/1")).json()
    assert one["at"] == "1970-01-01T00:00:00.000Z"
    assert one["request"] is None
    assert one["dataset"]["ranges"][0]["topic"] == "offers.predictions"


async def test_a_loop_says_that_its_last_training_failed_until_one_succeeds(
    registry: Registry, stack: AsyncExitStack
) -> None:
    def requested(request_id: str, at_ms: int) -> RetrainRequested:
        cause = RetrainCause(kind="age", signals=[])
        return RetrainRequested(loop="offers", at_ms=at_ms, request_id=request_id, cause=cause, loop_version=1)

    async def failure() -> Any:
        return (await client.get("/v1/loops")).json()["items"][0]["training_failed"]

    async def failed_once() -> Any:
        while (told := await failure()) is None:  # noqa: ASYNC110 what changes is behind HTTP
            await asyncio.sleep(0.01)
        return told

    client = await registry.start(stack)
    await until(client, "/v1/loops/offers/versions", 2)
    assert await failure() is None
    failed = TrainingFailed(loop="offers", at_ms=2 * DAY_MS, request_id="c", reason="store", error="no room")
    registry.tell(requested("c", 2 * DAY_MS), failed)
    told = await asyncio.wait_for(failed_once(), 20)
    assert told == {
        "request_id": "c",
        "at": "1970-01-03T00:00:00.000Z",
        "reason": "store",
        "error": "no room",
    }
    registry.tell(requested("d", 3 * DAY_MS), sign(trained("d", at_ms=3 * DAY_MS, against=2, digest="d" * 64)))
    await until(client, "/v1/loops/offers/versions", 3)
    assert await failure() is None


async def test_pages_of_versions(registry: Registry, stack: AsyncExitStack) -> None:
    client = await registry.start(stack)
    await until(client, "/v1/loops/offers/versions", 2)
    first = (await client.get("/v1/loops/offers/versions", params={"limit": 1})).json()
    assert [one["version"] for one in first["items"]] == [2]
    second = (await client.get("/v1/loops/offers/versions", params={"limit": 1, "after": first["next"]})).json()
    assert [one["version"] for one in second["items"]] == [1]
    assert second["next"] is None


async def test_a_command_is_answered_when_the_database_holds_it(registry: Registry, stack: AsyncExitStack) -> None:
    client = await registry.start(stack)
    await until(client, "/v1/loops/offers/deployments", 2)
    answer = await client.post("/v1/loops/offers/commands", json={"kind": "rollback", "by": "anna", "note": "sales"})
    assert answer.status_code == 200
    assert (answer.json()["command_id"], answer.json()["outcome"], answer.json()["sequence"]) == ("made", "done", 3)
    newest = (await client.get("/v1/loops/offers/deployments")).json()["items"][0]
    assert (newest["champion"], newest["cause"], newest["note"]) == (1, "commanded", "rollback by anna: sales")


async def test_the_same_command_twice_is_one(registry: Registry, stack: AsyncExitStack) -> None:
    client = await registry.start(stack)
    await until(client, "/v1/loops/offers/deployments", 2)
    body = {"kind": "rollback", "by": "anna", "command_id": "mine"}
    first, second = [await client.post("/v1/loops/offers/commands", json=body) for _ in range(2)]
    assert first.json() == second.json()
    assert len((await client.get("/v1/loops/offers/deployments")).json()["items"]) == 3
    assert (await client.get("/v1/loops/offers/commands/mine")).json() == first.json()


async def test_a_refused_command_says_why(registry: Registry, stack: AsyncExitStack) -> None:
    client = await registry.start(stack)
    await until(client, "/v1/loops/offers/deployments", 2)
    answer = await client.post("/v1/loops/offers/commands", json={"kind": "promote", "version": 9, "by": "anna"})
    assert answer.status_code == 409
    assert answer.json()["detail"] == "there is no version 9: the versions are 1 to 2"


async def test_a_command_that_nobody_decides_yet_is_recorded(tmp_path: Path, stack: AsyncExitStack) -> None:
    registry = Registry(tmp_path, patience_s=0.05)
    registry.tell(declared(offers()))
    client = await registry.start(stack, deciding=False)
    await until(client, "/v1/loops", 1)
    answer = await client.post("/v1/loops/offers/commands", json={"kind": "rollback", "by": "anna"})
    assert answer.status_code == 202
    assert answer.json()["outcome"] is None
    (waiting,) = await until(client, "/v1/loops/offers/commands", 1)
    assert (waiting["command_id"], waiting["outcome"]) == ("made", None)


async def test_a_log_that_does_not_answer(registry: Registry, stack: AsyncExitStack) -> None:
    class Silent:
        async def send(self, outs: Any) -> Any:
            raise EdgeSilentError(10.0)

    client = await registry.start(stack)
    await until(client, "/v1/loops", 1)
    registry.edge = Silent()
    answer = await client.post("/v1/loops/offers/commands", json={"kind": "rollback", "by": "anna"})
    assert answer.status_code == 503
    assert "send the same records again" in answer.json()["detail"]


async def test_a_model_by_its_digest(registry: Registry, stack: AsyncExitStack) -> None:
    client = await registry.start(stack)
    versions = await until(client, "/v1/loops/offers/versions", 2)
    answer = await client.get(f"/v1/blobs/{versions[1]['digest']}")
    assert (answer.status_code, answer.content) == (200, MODEL)
    assert "immutable" in answer.headers["cache-control"]
    lost = await client.get(f"/v1/blobs/{'b' * 64}")
    assert (lost.status_code, "TRIMTAB_STORE__URL" in lost.json()["detail"]) == (404, True)
    secret = registry.blobs.put(b"a dataset")
    assert (await client.get(f"/v1/blobs/{secret}")).status_code == 404


WRONG = [
    ("GET", "/v1/loops/nobody/versions", None, 404, "no loop 'nobody' is declared"),
    ("GET", "/v1/loops/nobody/deployments", None, 404, "no loop"),
    ("GET", "/v1/loops/nobody/commands", None, 404, "no loop"),
    ("GET", "/v1/loops/offers/versions/99", None, 404, "has no version 99"),
    ("GET", "/v1/loops/offers/versions/0", None, 422, "greater than or equal to 1"),
    ("GET", "/v1/loops/offers/versions?limit=501", None, 422, "less than or equal to 500"),
    ("GET", "/v1/loops/offers/versions?after=x", None, 422, "integer"),
    ("GET", "/v1/loops/offers/commands/none", None, 404, "no command"),
    ("GET", "/v1/blobs/..", None, 404, ""),
    ("POST", "/v1/loops/nobody/commands", {"kind": "rollback", "by": "anna"}, 404, "no loop"),
    ("POST", "/v1/loops/offers/commands", {"kind": "explode", "by": "anna"}, 422, "'promote', 'rollback'"),
    ("POST", "/v1/loops/offers/commands", {"kind": "rollback"}, 422, "Field required"),
    ("POST", "/v1/loops/offers/commands", {"kind": "rollback", "by": ""}, 422, "at least 1"),
    ("POST", "/v1/loops/offers/commands", {"kind": "promote", "by": "a", "version": 0}, 422, "greater than"),
    ("POST", "/v1/loops/offers/commands", {"kind": "promote", "by": "a", "versio": 1}, 422, "not permitted"),
]


async def test_wrong_requests_say_what_is_wrong(registry: Registry, stack: AsyncExitStack) -> None:
    client = await registry.start(stack)
    await until(client, "/v1/loops/offers/versions", 2)
    for method, path, body, status, words in WRONG:
        answer = await client.request(method, path, json=body)
        assert (answer.status_code, words in answer.text) == (status, True), (path, body, answer.text)
