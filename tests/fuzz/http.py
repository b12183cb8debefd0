"""Requests after each service's own OpenAPI, with everything wrong: no 500, and what is acknowledged is there."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
from hypothesis import strategies as st
from trimtab.contracts import topics
from trimtab.registry import wiring as registry
from trimtab.registry.settings import Settings as RegistrySettings
from trimtab.retrain_controller import wiring as retrain_controller
from trimtab.runtime.clock import wall_ms
from trimtab.runtime.control import written
from trimtab.runtime.host import Service
from trimtab.runtime.memory import MemoryBus
from trimtab.store.signing import make_key_pair
from trimtab.testing import data as data_of
from trimtab.testing.declarations import declared
from trimtab.testing.hosted import Hosted

from tests.fuzz.entry import Check, Counted, Entry, LostError
from tests.fuzz.shop import EVENTS, LOOP, right
from tests.fuzz.stream import services
from tests.fuzz.values import DEEP, INTEGERS, JSON, TEXTS, TIMES, damaged, dumped, mutated, rarely

SERVICES = ("ingest", "feature", "predictor", "registry", "retrain-controller")
KNOWN: Mapping[str, Sequence[str]] = {
    "loop": ["shop"],
    "event": ["order", "refund"],
    "group": ["place"],
    "version": ["1"],
    "digest": ["0" * 64],
    "at": ["2024-06-01T00:00:00Z"],
    "key": ["DE"],
}
"""Values of parameters that lead somewhere."""
ASK: Mapping[str, Any] = {key: value for key, value in EVENTS["order"].items() if key != "ordered_at"}
COMMAND = {"kind": "promote", "version": 1, "by": "ada", "note": None, "command_id": "c"}
WISH = {"by": "ada", "note": None, "ask_id": "w"}


class Asked(NamedTuple):
    """A request. `operation` and `known` are drawn wide and taken modulo what there is."""

    operation: int
    known: int
    junk: Sequence[str]
    headers: Sequence[tuple[str, str]]
    body: bytes


_JUNK = st.one_of(
    TEXTS, TIMES, INTEGERS.map(lambda number: str(number)[:400]), st.sampled_from(["%00", "%ff", "..", "?"])
)
_HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["content-type", "traceparent", "accept", "x-request-id", "content-encoding"]),
        st.sampled_from(
            [
                "application/json", "application/x-ndjson", "text/plain; charset=utf-16", "gzip", "multipart/form-data",
                "application/json; charset=latin-1", "00-" + "f" * 32 + "-" + "0" * 16 + "-01", "\xff\xfe", ",", ";",
            ]
        ),
    ),
    max_size=3,
)  # fmt: skip
_DOCUMENTS: Sequence[Mapping[str, Any]] = [EVENTS["order"], EVENTS["refund"], ASK, COMMAND, WISH]
_BODIES = st.one_of(
    st.one_of(*(st.just(dict(one)) | mutated(one) for one in _DOCUMENTS)).map(dumped),
    right("order").map(lambda one: one[1]),
    st.lists(
        right("order").map(lambda one: json.dumps(dict(EVENTS["order"], order_id=one[0])).encode()), max_size=4
    ).map(lambda some: b"[" + b",".join(some) + b"]"),
    st.lists(st.one_of(right("order").map(lambda one: one[1]), st.binary(max_size=9)), max_size=4).map(b"\n".join),
    mutated({**ASK, "$features": {"amount": 1.0, "country": "DE"}}).map(dumped),
    damaged(st.just(dumped(dict(EVENTS["order"])))),
    DEEP,
    JSON.map(dumped),
    st.binary(max_size=40),
)
INPUTS = st.builds(
    Asked,
    st.integers(0, 2**10),
    st.integers(0, 2**10),
    st.lists(_JUNK, min_size=5, max_size=5),
    _HEADERS,
    rarely(_BODIES, st.sampled_from([b"[" + b"{}," * 20_000 + b"{}]", b'"' + b"x" * 17_000_000 + b'"']), 2_000),
)


class House:
    """One service, at work for the shop on a bus of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        specs = [*topics.control(), *topics.of_loop("shop", list(LOOP.events), LOOP.partitions)]
        self.bus = MemoryBus({spec.name: spec.partitions for spec in specs}, now_ms=wall_ms)
        self._stack = AsyncExitStack()
        self._folder, self._name = folder, name

    async def open(self) -> None:
        """Begin, and wait until all are at work."""
        self.bus.append([written(declared(LOOP), id="1", source="fuzz", trace=None)])
        (service,) = (service for service in self._wired() if service.name == self._name)
        self.hosted = await self._stack.enter_async_context(Hosted(service, self.bus))
        await self.until(lambda: self.hosted.runs("shop") and not self.hosted.status.unready())

    async def close(self) -> None:
        """End."""
        await self._stack.aclose()

    async def until(self, holds: Any) -> None:
        """Wait for a condition."""
        async with asyncio.timeout(60):
            while not holds():  # noqa: ASYNC110 conditions are over many services' states
                await asyncio.sleep(0.02)

    def _wired(self) -> list[Service]:
        (_, trainers), (private, _) = (make_key_pair(self._folder / "keys", name) for name in ("trainer", "own"))
        told = {
            "store": {"url": (self._folder / "blobs").as_uri()},
            "signing": {"private_key_file": private, "public_key_file": trainers},
            "registry": {"database_url": f"sqlite:///{self._folder}/registry.db", "answer_s": 0.3},
        }
        return [
            *services(self._folder, self.bus),
            retrain_controller.wired(self.bus),
            registry.wired(RegistrySettings.model_validate(told), self.bus),
        ]


class Operation(NamedTuple):
    """One of a service's, as its OpenAPI describes it."""

    method: str
    path: str
    parameters: Sequence[Mapping[str, Any]]

    def request(self, asked: Asked) -> httpx.Request:
        """The request: each parameter is one that leads somewhere, or junk; what has a body gets one."""
        path, query = self.path, list[tuple[str, str]]()
        for number, parameter in enumerate(self.parameters):
            name, known = parameter["name"], KNOWN.get(parameter["name"], ())
            value = asked.junk[number % len(asked.junk)]
            if known and (asked.known >> number) % 4:
                value = known[asked.known % len(known)]
            if parameter["in"] == "path":
                path = path.replace(f"{{{name}}}", quote(value.encode("utf-8", "replace"), safe=""))
            elif parameter["in"] == "query" and (asked.known >> number) % 3:
                query.append((name, value.encode("utf-8", "replace").decode()))
        headers = [(name.encode(), value.encode("latin-1")) for name, value in asked.headers]
        content = asked.body if self.method == "POST" else None
        if content is not None and self.path.endswith(("commands", "retrain")):
            headers = [(b"content-type", b"application/json"), *headers]
        url = httpx.URL("http://fuzz" + path, params=query or None)
        return httpx.Request(self.method, url, headers=headers, content=content)


def operations(openapi: Mapping[str, Any]) -> list[Operation]:
    """A service's own, without those that all have."""
    return [
        Operation(method.upper(), path, what.get("parameters", ()))
        for path, item in openapi["paths"].items()
        for method, what in item.items()
        if path.startswith("/v1/")
    ]


@contextmanager
def _service(name: str) -> Iterator[Check]:
    with TemporaryDirectory() as folder, asyncio.Runner() as runner:
        house = House(Path(folder), name)
        runner.run(house.open())
        client = house.hosted.http
        known = operations(json.loads(runner.run(client.get("/openapi.json")).text))
        accepted: Counter[str] = Counter()

        async def send(batch: Sequence[Asked]) -> Counted:
            requests = [known[one.operation % len(known)].request(one) for one in batch]
            answers = await asyncio.gather(*(client.send(request) for request in requests))
            for request, answer in zip(requests, answers, strict=True):
                _judge(request, answer)
                accepted.update(_acknowledged(request, answer))
            right = sum(answer.status_code < 400 for answer in answers)
            return Counted(right, len(batch) - right)

        yield lambda batch: runner.run(send(batch))
        runner.run(_settled(house, accepted))
        runner.run(house.close())


def _judge(request: httpx.Request, answer: httpx.Response) -> None:
    if answer.status_code >= 500:
        raise AssertionError(f"{request.method} {request.url}: {answer.status_code} {answer.text[:300]}")
    if answer.status_code >= 400 and "events" not in answer.text and not _explains(answer):
        raise LostError(f"{request.method} {request.url}: {answer.status_code} says nothing: {answer.text[:300]}")


def _explains(answer: httpx.Response) -> bool:
    told = answer.json().get("detail")
    return told is None or bool(told)


def _acknowledged(request: httpx.Request, answer: httpx.Response) -> list[str]:
    """Ids of orders that ingest took over."""
    if answer.status_code not in (200, 207) or not request.url.path.endswith("/events/order"):
        return []
    return [one["id"] for one in answer.json()["events"] if one["verdict"] == "accepted" and "id" in one]


async def _settled(house: House, accepted: Counter[str]) -> None:
    """Every order that was acknowledged went through or, being one of several under its id, into quarantine."""
    if not accepted:
        return
    status = house.hosted.status
    await house.until(lambda: all(task.lag == 0 for _, stage in status.stages() for task in stage.tasks))
    events = partial(data_of, house.bus, topics.events("shop", "order"))
    rejected = partial(data_of, house.bus, topics.rejected("shop"))
    async with asyncio.timeout(30):
        while missing := set(accepted) - {(one.key or b"").decode() for one in [*events(), *rejected()]}:
            await asyncio.sleep(0.05)
            del missing
    counts = Counter((one.key or b"").decode() for one in events())
    if twice := [key for key, count in counts.items() if count > 1]:
        raise LostError(f"orders are there more than once: {twice[:5]}")


def entries() -> list[Entry]:
    """One a service."""
    return [Entry(f"HTTP → {name}", INPUTS, 20, partial(_service, name), weight=3) for name in SERVICES]
