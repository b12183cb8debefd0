"""Derived events: ids, codecs, headers, quarantine; without Faust's loop and without Kafka."""

from collections.abc import Mapping
from typing import Any

import pytest
from trimtab.contracts import data, envelope, topics
from trimtab.contracts.codec import AvroCodec
from trimtab.contracts.data import Rejected
from trimtab.contracts.errors import UnencodableError, UnknownFingerprintError
from trimtab.faust import BadEventError
from trimtab.faust.derived import Came, Derivation, Fields, Made
from trimtab.faust.errors import EventWithoutIdError, UnknownEventError
from trimtab.faust.processor import Work
from trimtab.loops.model import Loop
from trimtab.testing.declarations import SCHEMAS, offers

TRACE = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
OFFER = {"offer_id": "o1", "shown_at": 5_000, "place": "top", "price": 9.5}


@pytest.fixture(scope="module")
def loop() -> Loop:
    return offers()


def came(value: bytes | None = None, *, offset: int = 7, id: str = "o1") -> Came:
    body = AvroCodec(SCHEMAS["offer"]).encode(OFFER) if value is None else value
    headers = envelope.headers(id, "offer", "ingest", 5_000, TRACE)
    return Came("offers.events.offer", 1, offset, headers, body)


async def no_schemas() -> list[Any]:
    return []


def work(loop: Loop, function: Any, schemas: Any = no_schemas) -> Work:
    return Work(Derivation("test", loop, "click", of="offer"), function, schemas)


def click(number: int = 0) -> Fields:
    return {"offer_id": "o1", "clicked_at": 6_000 + number}


async def test_what_is_made_enters_by_the_loops_door(loop: Loop) -> None:
    async def function(offer: Fields) -> Made:
        assert offer == OFFER
        return click()

    (goes,) = await work(loop, function)(came(), 0)
    assert goes.topic == topics.source("offers", "click")
    fields = AvroCodec(SCHEMAS["click"]).decode(goes.value)
    name = fields.pop("click_id")
    assert fields == click()
    assert (goes.key.decode(), envelope.require(goes.headers, envelope.ID).decode()) == (name, name)
    assert envelope.get(goes.headers, envelope.TRACEPARENT) == TRACE.encode()
    assert envelope.event_time_ms(goes.headers) == 5_000


async def test_ids_follow_from_the_event_alone(loop: Loop) -> None:
    async def function(offer: Fields) -> Made:
        return [click(0), click(1)]

    first = await work(loop, function)(came(offset=7), 0)
    again = await work(loop, function)(came(offset=99), 1)
    other = await work(loop, function)(came(id="o2"), 0)
    assert [one.key for one in first] == [one.key for one in again]
    assert len({one.key for one in [*first, *other]}) == 4


@pytest.mark.parametrize("made", [None, []])
async def test_nothing_may_be_made(loop: Loop, made: Made) -> None:
    async def function(offer: Fields) -> Made:
        return made

    assert await work(loop, function)(came(), 0) == []


async def test_an_event_that_makes_no_sense_goes_to_quarantine(loop: Loop) -> None:
    async def function(offer: Fields) -> Made:
        raise BadEventError("a price of 9.5")

    (goes,) = await work(loop, function)(came(), 44)
    assert goes.topic == topics.rejected("offers")
    rejected = data.decode(Rejected, goes.value)
    assert (rejected.event, rejected.rule, rejected.reason) == ("click", "processor", "a price of 9.5")
    assert (rejected.source_topic, rejected.source_partition, rejected.source_offset) == ("offers.events.offer", 1, 7)
    assert (rejected.original, rejected.wall_ms, rejected.event_time_ms) == (came().value, 44, 5_000)


async def test_any_other_exception_comes_through(loop: Loop) -> None:
    async def function(offer: Fields) -> Made:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await work(loop, function)(came(), 0)


async def test_what_does_not_fit_the_declared_schema_is_an_error(loop: Loop) -> None:
    async def function(offer: Fields) -> Made:
        return {"offer_id": "o1", "clicked_at": "soon"}

    with pytest.raises(UnencodableError, match="click"):
        await work(loop, function)(came(), 0)


async def test_an_event_of_another_schema_is_read_by_what_its_writer_published(loop: Loop) -> None:
    wider: Mapping[str, Any] = {
        **SCHEMAS["offer"],
        "fields": [*SCHEMAS["offer"]["fields"], {"name": "colour", "type": "string"}],
    }
    value = AvroCodec(wider).encode({**OFFER, "colour": "red"})

    async def function(offer: Fields) -> Made:
        assert offer == OFFER
        return click()

    async def schemas() -> list[Any]:
        return [wider]

    assert len(await work(loop, function, schemas)(came(value), 0)) == 1
    with pytest.raises(UnknownFingerprintError):
        await work(loop, function)(came(value), 0)


def test_events_have_to_be_declared_with_an_id(loop: Loop) -> None:
    with pytest.raises(UnknownEventError, match=r"add it to loop\.toml"):
        Derivation("test", loop, "refund", of="offer")
    with pytest.raises(UnknownEventError):
        Derivation("test", loop, "click", of="refund")
    nameless = offers(events={"click": {"schema": "click.avsc", "time": "clicked_at"}})
    with pytest.raises(EventWithoutIdError, match="copies"):
        Derivation("test", nameless, "click", of="offer")
