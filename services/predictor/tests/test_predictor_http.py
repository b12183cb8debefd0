"""The HTTP door: what is asked wrongly is told exactly, what is given out is logged first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from trimtab.contracts.codec import AvroCodec
from trimtab.loops.groups import tile_groups
from trimtab.loops.online import OnlineStore
from trimtab.loops.vectors import Assembler, Vectors
from trimtab.predictor.adapters.asks import parser
from trimtab.predictor.adapters.door import Backing, Door
from trimtab.predictor.adapters.online import over_budget
from trimtab.predictor.api import Served, create_router
from trimtab.predictor.core import Ask, Deployment, Deployments, Model, writer
from trimtab.predictor.errors import NotLoggedError, OtherFeaturesError
from trimtab.runtime.records import Out
from trimtab.testing.declarations import offers

HOUR = 3_600_000
LOOP = offers()
ASSEMBLER = Assembler(LOOP)
STORE = OnlineStore(tile_groups(LOOP))
PARSE = parser(LOOP, lambda: 12 * HOUR)
GOOD = {"offer_id": "o1", "shown_at": 11 * HOUR, "place": "top", "price": 2}
URL = "/v1/loops/offers/predictions"


class Price:
    """A scorer that says a tenth of the price."""

    def score(self, vectors: Vectors, /) -> NDArray[np.float64]:
        return vectors.numbers[:, 0] / 10


@dataclass
class Log:
    """Where predictions are logged; `away`: the log does not answer."""

    outs: list[Out] = field(default_factory=list)
    away: bool = False

    async def __call__(self, outs: Sequence[Out]) -> None:
        if self.away:
            raise NotLoggedError("no broker answered")
        self.outs += outs


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def client(log: Log) -> TestClient:
    return client_of(log, Deployments().with_one(Deployment(1, 10 * HOUR, Model(7, "d" * 64, (), Price()), (), [6])))


def client_of(log: Log, deployments: Deployments, refused: Mapping[int, str] = MappingProxyType({})) -> TestClient:
    def assemble(asks: Sequence[Ask], at_ms: NDArray[np.int64]) -> Vectors:
        return ASSEMBLER.assemble(asks, at_ms, STORE)

    made = writer(LOOP, ASSEMBLER.names, "http")
    backing = Backing(LOOP, ASSEMBLER.names, assemble, lambda _: deployments, lambda: 0, made, log)
    one = Served(Door(backing).predict, ASSEMBLER.names, lambda: deployments, lambda: refused, lambda: [], PARSE)
    app = FastAPI()
    app.include_router(create_router({"offers": one}))
    return TestClient(app)


def test_one_ask_is_answered_and_logged(client: TestClient, log: Log) -> None:
    answer = client.post(URL, json=GOOD)
    assert answer.status_code == 200
    assert answer.json()["score"] == pytest.approx(0.2)
    assert answer.json()["version"] == 7
    (out,) = log.outs
    logged = AvroCodec(writer(LOOP, ASSEMBLER.names, "http").schema).decode(out.value or b"")
    assert (out.topic, out.key, logged["origin"]) == ("offers.answered", b"o1", "http")
    assert logged["score"] == answer.json()["score"]


def test_many_asks_keep_their_order(client: TestClient) -> None:
    asks = [GOOD | {"offer_id": f"o{i}", "price": i} for i in range(20)]
    answer = client.post(URL, json=asks).json()["predictions"]
    assert [one["key"] for one in answer] == [f"o{i}" for i in range(20)]
    assert [round(one["score"], 6) for one in answer] == [i / 10 for i in range(20)]


def test_a_value_that_the_caller_knows_overrides(client: TestClient) -> None:
    answer = client.post(URL, json=GOOD | {"$features": {"price": 5}}).json()
    assert answer["score"] == pytest.approx(0.5)
    assert answer["features"]["price"] == 5


def test_an_ask_without_a_time_is_asked_now(client: TestClient) -> None:
    ask = {name: value for name, value in GOOD.items() if name != "shown_at"}
    assert client.post(URL, json=ask).json()["at_ms"] == 12 * HOUR


def test_before_the_first_model_there_is_no_score(client: TestClient) -> None:
    answer = client.post(URL, json=GOOD | {"shown_at": 9 * HOUR})
    assert answer.status_code == 200
    assert answer.json()["score"] is None
    assert answer.json()["arm"] == "none"
    assert answer.json()["unscored"] == "no model was deployed by then"


def test_where_no_model_takes_the_features_it_is_said(log: Log) -> None:
    reason = str(OtherFeaturesError(7))
    answer = client_of(log, Deployments(), {3: "another", 4: reason}).post(URL, json=[GOOD])
    assert answer.status_code == 200
    (one,) = answer.json()["predictions"]
    assert (one["score"], one["unscored"]) == (None, f"deployment 4 is refused: {reason}")
    assert len(log.outs) == 1


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (GOOD | {"prise": 1}, 422, "did you mean"),
        ({"offer_id": "o1", "place": "top"}, 422, "price: expected"),
        (GOOD | {"price": "cheap"}, 422, "price: expected"),
        (GOOD | {"offer_id": None}, 422, "offer_id: expected"),
        (GOOD | {"shown_at": "yesterday"}, 422, "shown_at"),
        (GOOD | {"shown_at": "2026-01-01T00:00:00"}, 422, "zone"),
        (GOOD | {"$features": {"prize": 1}}, 422, "right: `price`"),
        (GOOD | {"$features": {"price": "much"}}, 422, "takes a number"),
        (GOOD | {"$features": {"place": 1}}, 422, "takes text"),
        (GOOD | {"$features": [1]}, 422, "object"),
        ([], 422, "no ask"),
        ([1], 422, "JSON object"),
        ("o1", 422, "JSON object"),
        ([GOOD] * 5_001, 422, "at most 5000"),
    ],
)
def test_what_is_wrong_is_told(client: TestClient, log: Log, body: Any, status: int, said: str) -> None:
    answer = client.post(URL, json=body)
    assert answer.status_code == status
    assert said in answer.json()["detail"]
    assert not log.outs


def test_a_body_that_is_no_json_is_told(client: TestClient) -> None:
    assert "no JSON" in client.post(URL, content=b"{").json()["detail"]


def test_an_unknown_loop_names_the_known_ones(client: TestClient) -> None:
    answer = client.post("/v1/loops/offer/predictions", json=GOOD)
    assert answer.status_code == 404
    assert "offers" in answer.json()["detail"]


def test_what_could_not_be_logged_is_not_given_out(client: TestClient, log: Log) -> None:
    log.away = True
    answer = client.post(URL, json=GOOD)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert "score" not in answer.json()


def test_what_is_deployed_is_told(client: TestClient) -> None:
    told = client.get("/v1/loops/offers/deployment").json()
    assert told["sequence"] == 1
    assert told["champion"] == {"version": 7, "digest": "d" * 64}
    assert told["refused"] == []


def test_past_its_budget_of_memory_the_predictor_is_not_ready() -> None:
    grouped = {"of": "offer", "by": ["place"], "windows": ["1h"], "values": {"n": "count()"}}
    replicas = {"offers": OnlineStore(tile_groups(offers(features={"groups": {"shop": grouped}})))}
    assert over_budget(replicas, 1) == []
    (reason,) = over_budget(replicas, 0)
    assert "TRIMTAB_ONLINE__MEMORY_BUDGET_MB=0: offers 0." in reason
