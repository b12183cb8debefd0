"""Online values over HTTP."""

from collections.abc import AsyncIterator

import httpx
import numpy as np
import polars as pl
import pytest
from fastapi import FastAPI
from trimtab.contracts import times
from trimtab.feature.api import Served, create_router
from trimtab.loops.groups import GroupedEvents, tile_groups
from trimtab.loops.online import OnlineStore
from trimtab.loops.tiles import fold
from trimtab.testing.declarations import offers

NOON = times.parse("2024-06-01T12:00:00Z")
LOOP = offers(
    features={
        "categorical": ["place", "last_place"],
        "groups": {
            "spot": {
                "of": "offer",
                "by": ["place", "price"],
                "windows": ["1h", "1h@1h"],
                "values": {"n": "count()", "mean": "avg(price)"},
            }
        },
        "latest": {"last": {"of": "offer", "by": ["place"], "values": ["place", "price"], "max_age": "1h"}},
    }
)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    groups = {group.name: group for group in tile_groups(LOOP)}
    store = OnlineStore(groups.values())
    frame = pl.DataFrame({"place": ["top", "top"], "price": [3.0, 4.5]})
    at_ms = np.array([NOON - 60_000, NOON - 30_000])
    for name, keys in (("spot", ["top\x1f3", "top\x1f4.5"]), ("last", ["top", "top"])):
        group = groups[name]
        events = GroupedEvents(group.digest, keys, at_ms, group.plan.evaluate(frame))
        store.put(fold(group, events, lambda _: None))
    app = FastAPI()
    app.include_router(create_router({"offers": Served(groups, store)}))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://feature") as made:
        yield made


async def test_values_come_with_their_ages(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/loops/offers/features/spot?key=top&key=3&at=2024-06-01T12:00:00Z")
    assert response.status_code == 200
    assert response.json() == {
        "loop": "offers",
        "group": "spot",
        "key": {"place": "top", "price": "3"},
        "at": "2024-06-01T12:00:00.000Z",
        "features": {
            "spot_n_1h": {"value": 1.0, "age_ms": 60_000},
            "spot_n_1h_ago_1h": {"value": 0.0, "age_ms": None},
            "spot_mean_1h": {"value": 3.0, "age_ms": 60_000},
            "spot_mean_1h_ago_1h": {"value": None, "age_ms": None},
        },
    }


async def test_without_a_time_the_newest_event_counts_just_so(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/loops/offers/features/last?key=top")
    assert response.json()["at"] == "2024-06-01T11:59:35.500Z"
    assert response.json()["features"] == {
        "last_place": {"value": "top", "age_ms": 5_500},
        "last_price": {"value": 4.5, "age_ms": 5_500},
    }


async def test_an_unknown_key_has_empty_windows(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/loops/offers/features/spot?key=nowhere&key=3&at=2024-06-01T12:00:00Z")
    assert response.json()["features"]["spot_n_1h"] == {"value": 0.0, "age_ms": None}


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("offer/features/spot?key=top&key=3", 404, ["no loop 'offer'", "`offers`"]),
        ("offers/features/spto?key=top&key=3", 404, ["no group 'spto'", "`spot`"]),
        ("offers/features/spot?key=top", 422, ["by place, price", "1 values came", "key=<place>&key=<price>"]),
        ("offers/features/last?key=top&at=yesterday", 422, ["at=yesterday", "RFC 3339"]),
        ("offers/features/last?key=top&at=9999-12-31T23:59:59-23:59", 422, ["at=9999-12-31", "RFC 3339"]),
        ("offers/features/last", 422, ["key"]),
    ],
)
async def test_wrong_questions_say_what_would_be_right(
    client: httpx.AsyncClient, path: str, status: int, words: list[str]
) -> None:
    response = await client.get(f"/v1/loops/{path}")
    assert response.status_code == status
    assert all(word in response.text for word in words), response.text
