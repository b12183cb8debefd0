"""Events and requests that are wrong in every way somebody thought of, through the whole door.

Six services, wired as in their processes, stand on one bus in memory. Wrong events come as a plain client writes them
and over HTTP, mixed with right ones; wrong requests come over HTTP; wrong control events are written by hand. Each gets
the words a person needs to mend it, no service stops over one, and what was right is there exactly once.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from trimtab.contracts import control, data, times, topics
from trimtab.contracts.codec import AvroCodec, fingerprint
from trimtab.feature import wiring as feature
from trimtab.ingest import wiring as ingest
from trimtab.ingest.settings import Settings as IngestSettings
from trimtab.loops.incoming.candidates import LARGEST_EVENT
from trimtab.monitor import wiring as monitor
from trimtab.predictor import wiring as predictor
from trimtab.predictor.settings import Settings as PredictorSettings
from trimtab.registry import wiring as registry
from trimtab.registry.settings import Settings as RegistrySettings
from trimtab.retrain_controller import wiring as retrain_controller
from trimtab.runtime.clock import wall_ms
from trimtab.runtime.control import written
from trimtab.runtime.host import Service
from trimtab.runtime.memory import MemoryBus
from trimtab.runtime.records import Out, Record
from trimtab.store.blobs import BlobStore
from trimtab.store.signing import Signer, make_key_pair
from trimtab.testing import data as data_of
from trimtab.testing.declarations import SCHEMAS, declared, offers
from trimtab.testing.hosted import Hosted
from trimtab.testing.models import trained

MINUTE_MS, DAY_MS = 60_000, 86_400_000
NOW_MS = wall_ms() - MINUTE_MS
SHOP = {"of": "offer", "by": ["place"], "windows": ["1h"], "values": {"n": "count()"}}
LOOP = offers(
    quality={"rules": {"offer": "price > 0 AND price < 1e6"}},
    features={"groups": {"shop": SHOP}},
)
OFFERS, CLICKS = topics.source("offers", "offer"), topics.source("offers", "click")
AVRO = AvroCodec(SCHEMAS["offer"])
POST_OFFERS = "/v1/loops/offers/events/offer"
PREDICT = "/v1/loops/offers/predictions"
COMMAND = "/v1/loops/offers/commands"
RETRAIN = "/v1/loops/offers/retrain"
DATA_SERVICES = {"ingest", "feature", "predictor", "monitor"}
CONTROL_SERVICES = ("registry", "retrain-controller")


def offer(offer_id: Any, **others: Any) -> dict[str, Any]:
    return {"offer_id": offer_id, "shown_at": NOW_MS, "place": "top", "price": 2.5, **others}


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def avro(offer_id: str, **others: Any) -> bytes:
    return AVRO.encode(offer(offer_id, **others))


def raw(place: str = '"top"', price: str = "2.5", shown_at: str = str(NOW_MS)) -> bytes:
    """JSON with a value as somebody wrote it."""
    return f'{{"offer_id": "raw", "shown_at": {shown_at}, "place": {place}, "price": {price}}}'.encode()


def without(name: str) -> bytes:
    return as_json({key: value for key, value in offer("without").items() if key != name})


# What is right, by the door that it comes in by.

RIGHT_JSON = {f"json{n}": as_json(offer(f"json{n}", price=1 + n)) for n in range(30)}
RIGHT_AVRO = {f"avro{n}": avro(f"avro{n}") for n in range(10)}
RIGHT_HTTP = {
    f"http{n}": as_json(offer(f"http{n}", shown_at=times.text(NOW_MS).replace("Z", "+00:00"))) for n in range(10)
}
RIGHT_ASKS = [offer(f"ask{n}") for n in range(5)]
RIGHT_CLICKS = {f"click{n}": {"click_id": f"click{n}", "offer_id": f"json{n}", "clicked_at": NOW_MS} for n in range(10)}
RIGHT = {*RIGHT_JSON, *RIGHT_AVRO, *RIGHT_HTTP, "exact", "deep text"}
AT_THE_EDGE = [as_json(offer("exact", price=1e6 - 1, place=None)), as_json(offer("deep text", place="[" * 1_024))]


@dataclass(frozen=True)
class WrongEvent:
    """Bytes in a source topic, the rule that they break, and what a person is told."""

    value: bytes | None
    rule: str
    told: Sequence[str]


OTHER_SCHEMA = {"type": "record", "name": "offer", "fields": [{"name": "offer_id", "type": "string"}]}
WRONG_EVENTS: Mapping[str, WrongEvent] = {
    # No event at all.
    "a tombstone": WrongEvent(None, "format", ["expected JSON or Avro, got an empty record"]),
    "nothing": WrongEvent(b"", "format", ["got an empty record"]),
    "blanks": WrongEvent(b" \n\t ", "format", ["it is empty"]),
    "a text": WrongEvent(b"hello", "format", ["at byte 0, in 'hello'"]),
    "CSV": WrongEvent(b"offer_id,price\no1,2.5", "format", ["at byte 0", "offer_id,price"]),
    "protobuf": WrongEvent(b"\x08\x96\x01", "format", ["byte 1 is not UTF-8"]),
    "gzip": WrongEvent(b"\x1f\x8b\x08\x00\x00", "format", ["compressed (gzip)", "compression.type"]),
    "UTF-16": WrongEvent(json.dumps(offer("u")).encode("utf-16"), "format", ["UTF-16; send UTF-8"]),
    "a byte-order mark": WrongEvent(b"\xef\xbb\xbf" + as_json(offer("b")), "format", ["byte-order mark"]),
    "Latin-1": WrongEvent('{"offer_id": "Zürich"}'.encode("latin-1"), "format", ["byte 15 is not UTF-8", "Z\\xfcrich"]),
    "a Python dict": WrongEvent(str(offer("p")).encode(), "format", ["double quotes", "json.dumps"]),
    "cut off": WrongEvent(raw()[:-9], "format", ["it ends too early, after"]),
    "two in one": WrongEvent(raw() + raw(), "format", ["Extra data at byte"]),
    "a comma too many": WrongEvent(b'{"offer_id": "o1",}', "format", ["at byte 1"]),
    "a list of events": WrongEvent(as_json([offer("l")]), "format", ["expected a JSON object, got an array"]),
    "a number": WrongEvent(b"7", "format", ["expected a JSON object, got a number"]),
    "null": WrongEvent(b"null", "format", ["expected a JSON object, got null"]),
    "nested without end": WrongEvent(b'{"offer_id":' + b"[" * 100_000, "format", ["nested too deeply"]),
    "nested and closed": WrongEvent(raw("[" * 3_000 + "]" * 3_000), "format", ["nested too deeply"]),
    # Numbers that JSON does not have.
    "NaN": WrongEvent(raw(price="NaN"), "format", ["price: NaN is no number in JSON; send null"]),
    "Infinity": WrongEvent(raw(price="-Infinity"), "format", ["price: -Infinity is no number in JSON"]),
    "a number beyond doubles": WrongEvent(raw(price="1e400"), "format", ["price: the number is beyond"]),
    "half a character": WrongEvent(raw(place='"\\ud83d"'), "format", ["place: the text holds half of a surrogate"]),
    "too many digits": WrongEvent(raw(shown_at="9" * 5_000), "format", ["too many digits"]),
    # Fields.
    "a field is missing": WrongEvent(without("price"), "schema", ["price: expected number, got nothing"]),
    "the id is missing": WrongEvent(without("offer_id"), "schema", ["offer_id: expected string, got nothing"]),
    "the time is missing": WrongEvent(without("shown_at"), "time", ["shown_at: expected", "got nothing"]),
    "an unknown field": WrongEvent(as_json(offer("u", prise=1)), "schema", ["prise: there is no", "mean price?"]),
    "fields of another event": WrongEvent(as_json({"a": 1, "b": 2}), "schema", ["known are offer_id, place, price"]),
    "1,000 unknown fields": WrongEvent(as_json({f"f{n}": n for n in range(1_000)}), "schema", ["and 998 more"]),
    "an endless name": WrongEvent(as_json(offer("e", **{"x" * 500_000: 1})), "schema", ["xxx…: there is no such"]),
    "a text for a number": WrongEvent(
        as_json(offer("t", price="2.5")), "schema", ['price: expected number, got "2.5"']
    ),
    "a boolean for a number": WrongEvent(as_json(offer("b", price=True)), "schema", ["price:", "got true"]),
    "null for a number": WrongEvent(as_json(offer("n", price=None)), "schema", ["price: expected number, got null"]),
    "a number for a text": WrongEvent(as_json(offer(7)), "schema", ["offer_id: expected string, got 7"]),
    "an object for a text": WrongEvent(as_json(offer({"id": 1})), "schema", ['expected string, got {"id": 1}']),
    "a list for a text": WrongEvent(
        as_json(offer("l", place=["top"])), "schema", ['place: expected string or null, got ["']
    ),
    "a number of 500 digits": WrongEvent(raw(price="9" * 500), "schema", ["price: expected number, got 999", "…"]),
    # Ids and keys.
    "null for the id": WrongEvent(as_json(offer(None)), "schema", ["offer_id: expected string, got null"]),
    "an empty id": WrongEvent(as_json(offer("")), "id", ["offer_id: it is empty"]),
    "an endless id": WrongEvent(
        as_json(offer("x" * 300_000)), "too_large", ["offer_id: expected at most 1024", "300000"]
    ),
    "an endless category": WrongEvent(as_json(offer("c", place="x" * 2_000)), "too_large", ["place: expected at most"]),
    "5 MB": WrongEvent(as_json(offer("5", place="x" * 5_000_000)), "too_large", [f"at most {LARGEST_EVENT} bytes"]),
    # Time.
    "no zone": WrongEvent(as_json(offer("z", shown_at="2026-01-01T00:00:00")), "time", ["RFC 3339 time with a zone"]),
    "a date": WrongEvent(as_json(offer("d", shown_at="2026-01-01")), "time", ["or ms since the epoch", '"2026-01-01"']),
    "a word": WrongEvent(as_json(offer("w", shown_at="yesterday")), "time", ["shown_at:", '"yesterday"']),
    "no such day": WrongEvent(as_json(offer("x", shown_at="2026-02-30T00:00:00Z")), "time", ["2026-02-30"]),
    "a time of 2^63 ms": WrongEvent(as_json(offer("6", shown_at=2**63)), "time", ["shown_at:", "9223372036854775808"]),
    "a time of 2^62 ms": WrongEvent(as_json(offer("5", shown_at=2**62)), "time", ["between the years 1000 and 8999"]),
    "a time before all": WrongEvent(
        as_json(offer("y", shown_at=-(2**62))), "time", ["between the years 1000 and 8999"]
    ),
    "years ahead": WrongEvent(
        as_json(offer("a", shown_at=NOW_MS + 3_650 * DAY_MS)), "time_ahead", ["(max_ahead after now)"]
    ),
    # The loop's own rule.
    "a price below": WrongEvent(
        as_json(offer("q", price=-1)), "quality", ["price > 0 AND price < 1e6", "price = -1.0"]
    ),
    "a price above": WrongEvent(as_json(offer("r", price=1e6)), "quality", ["got price = 1000000.0"]),
    # Avro.
    "Avro cut off": WrongEvent(avro("c")[:-3], "format", ["they end in the middle of a value"]),
    "Avro with a rest": WrongEvent(avro("r") + b"zz", "format", ["2 bytes are left over"]),
    "Avro without a body": WrongEvent(b"\xc3\x01", "format", ["expected single-object Avro", "c3 01"]),
    "Avro of nobody": WrongEvent(
        AvroCodec(OTHER_SCHEMA).encode({"offer_id": "o"}), "schema_id", [fingerprint(OTHER_SCHEMA).hex(), "publishes"]
    ),
    "Avro with NaN": WrongEvent(avro("n", price=float("nan")), "quality", ["price = nan"]),
    "Avro with an infinity": WrongEvent(avro("i", price=float("inf")), "quality", ["price = inf"]),
    "Avro with Latin-1": WrongEvent(avro("ll").replace(b"ll", b"\xff\xfe"), "format", ["not UTF-8"]),
    "Avro with an endless text": WrongEvent(
        AVRO.encode(offer(""))[:10] + b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f", "format", ["in the middle of a value"]
    ),
    "a Confluent frame": WrongEvent(b"\x00\x00\x00\x00\x09" + avro("f")[10:], "schema_id", ["id 9", "schema registry"]),
    "half a Confluent frame": WrongEvent(b"\x00\x00", "format", ["start with 00 00"]),
}

OVER_HTTP = {name: one.value for name, one in WRONG_EVENTS.items() if one.value and one.value[:1] != b"["}
"""What is wrong over HTTP as well; there a list of events is right."""
TOO_OLD, CONFLICT = avro("old", shown_at=NOW_MS - 10 * DAY_MS), avro("json0", price=99.0)
AFTERWARDS: Mapping[str, WrongEvent] = {
    "too old": WrongEvent(TOO_OLD, "too_old", ["remembered for 7 d (dedupe)"]),
    "the id of another body": WrongEvent(CONFLICT, "conflict", ["json0"]),
}
"""What only the stream can tell, once it has read the right events. Its second stage has events in the declared schema
alone, so that these come in it.
"""


@dataclass(frozen=True)
class WrongRequest:
    """A request, the status and the words of its answer."""

    service: str
    method: str
    path: str
    status: int
    told: Sequence[str]
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/json"})


FORM = {"content-type": "application/x-www-form-urlencoded"}
LARGE = b"x" * 16_000_001


def asked(body: bytes, *told: str) -> WrongRequest:
    return WrongRequest("predictor", "POST", PREDICT, 422, told, body)


def commanded(body: bytes, status: int, *told: str) -> WrongRequest:
    return WrongRequest("registry", "POST", COMMAND, status, told, body)


def command(**others: Any) -> bytes:
    return as_json({"kind": "promote", "by": "anna", **others})


def looked_up(path: str, status: int, *told: str) -> WrongRequest:
    return WrongRequest("feature", "GET", f"/v1/loops/{path}", status, told)


def read(path: str, status: int, *told: str) -> WrongRequest:
    return WrongRequest("registry", "GET", f"/v1/{path}", status, told)


def events(path: str, body: bytes, status: int, *told: str) -> WrongRequest:
    return WrongRequest("ingest", "POST", path, status, told, body)


def wished(body: bytes, *told: str) -> WrongRequest:
    return WrongRequest("retrain-controller", "POST", RETRAIN, 422, told, body)


WRONG_REQUESTS: Mapping[str, WrongRequest] = {
    # ingest
    "events of no loop": events("/v1/loops/offer/events/offer", b"{}", 404, "no loop 'offer'", "'offers'"),
    "events of no kind": events("/v1/loops/offers/events/ofer", b"{}", 404, "no event 'ofer'", "'offer'"),
    "events to no path": events("/v1/loops/offers/event/offer", b"{}", 404, "ingest has no path", "/docs"),
    "events asked for": WrongRequest("ingest", "GET", POST_OFFERS, 405, ["does not take GET, but POST"]),
    "no events": events(POST_OFFERS, b"", 400, "got an empty body"),
    "a list that is none": events(POST_OFFERS, b'[{"a": 1},', 400, "ends too early"),
    "a list of Latin-1": events(POST_OFFERS, b"[\xfc]", 400, "byte 1 is not UTF-8"),
    "a nest of lists": events(POST_OFFERS, b"[" * 100_000, 400, "nested too deeply"),
    "16 MB of events": events(POST_OFFERS, LARGE, 413, "at most 16000000 bytes: send several"),
    "10,001 events": events(POST_OFFERS, b"[" + b"1," * 10_000 + b"1]", 413, "at most 10000 events"),
    # predictor
    "an ask of no loop": WrongRequest(
        "predictor", "POST", "/v1/loops/offer/predictions", 404, ["right: `offers`"], b"{}"
    ),
    "no ask": asked(b"", "it is empty", "send one ask as a JSON object"),
    "an empty list of asks": asked(b"[]", "holds no ask"),
    "a number as ask": asked(b"7", "an ask is a JSON object"),
    "an ask cut off": asked(raw()[:-5], "it ends too early"),
    "an ask in Latin-1": asked('{"place": "Zürich"}'.encode("latin-1"), "is not UTF-8"),
    "a nest of asks": asked(b"[" * 100_000, "nested too deeply"),
    "an ask with NaN": asked(raw(price="NaN"), "price: NaN is no number in JSON"),
    "an ask with an unknown field": asked(as_json(offer("p", prise=1)), "prise: there is no such field", "price?"),
    "an ask without a price": asked(without("price"), "price: expected number, got nothing"),
    "the second of three asks": asked(as_json([offer("p0"), offer("p1", price="x"), offer("p2")]), "ask [1]: price:"),
    "an ask that names nothing": asked(as_json(offer("")), "offer_id: it is empty"),
    "an ask with an endless key": asked(as_json(offer("x" * 2_000)), "offer_id: expected at most 1024 characters"),
    "an ask that breaks the rule": asked(as_json(offer("p", price=-1)), "expected price > 0", "price = -1.0"),
    "an ask without a zone": asked(as_json(offer("p", shown_at="2026-01-01T00:00:00")), "with a zone"),
    "an ask from the future": asked(as_json(offer("p", shown_at=NOW_MS + 365 * DAY_MS)), "(max_ahead after now)"),
    "a feature of no loop": asked(as_json(offer("p", **{"$features": {"shop_n": 1}})), "right: `shop_n_1h`"),
    "a feature of 500 digits": asked(
        raw()[:-1] + b', "$features": {"price": ' + b"9" * 500 + b"}}", "feature 'price' takes a number"
    ),
    "a text for a feature": asked(as_json(offer("p", **{"$features": {"price": "2"}})), "takes a number, not '2'"),
    "features that are none": asked(as_json(offer("p", **{"$features": [1]})), "$features is an object"),
    "5,001 asks": asked(as_json([offer("p")] * 5_001), "at most 5000 are taken"),
    "16 MB of asks": WrongRequest("predictor", "POST", PREDICT, 413, ["at most 16000000 bytes"], LARGE),
    "a deployment of no loop": WrongRequest(
        "predictor", "GET", "/v1/loops/x/deployment", 404, ["right: one of offers"]
    ),
    # feature
    "features of no loop": looked_up("offer/features/shop?key=a", 404, "no loop 'offer'", "right: `offers`"),
    "features of no group": looked_up("offers/features/shp?key=a", 404, "no group 'shp'", "right: `shop`"),
    "features of nobody": looked_up("offers/features/shop", 422, "key: it is missing"),
    "features of two": looked_up("offers/features/shop?key=a&key=b", 422, "by place", "give key=<place>"),
    "features at a word": looked_up("offers/features/shop?key=a&at=now", 422, "at=now is no time", "RFC 3339"),
    "features without a zone": looked_up("offers/features/shop?key=a&at=2026-01-01T00:00:00", 422, "with a zone"),
    "features of NUL": looked_up("offers/features/shop?key=%00", 400, "the address holds a NUL"),
    # registry
    "versions of no loop": read("loops/offer/versions", 404, "no loop 'offer' is declared", "GET /v1/loops"),
    "a version of no model": read("loops/offers/versions/99", 404, "has no version 99", "lists them"),
    "a version in words": read("loops/offers/versions/newest", 422, "version: expected a valid integer", "'newest'"),
    "a version of 2^63": read(f"loops/offers/versions/{2**63}", 422, "version: expected less than or equal to"),
    "a page of nothing": read("loops/offers/versions?limit=0", 422, "limit: expected greater than or equal to 1"),
    "a page of all": read("loops/offers/versions?limit=501", 422, "limit: expected less than or equal to 500"),
    "a page after a word": read("loops/offers/versions?after=x", 422, "after: expected a valid integer", "'x'"),
    "a page after 2^63": read(f"loops/offers/versions?after={2**63}", 422, "after: expected less than"),
    "a loop called NUL": read("loops/%00/versions", 400, "the address holds a NUL"),
    "a model of no digest": read("blobs/../keys", 404, "has no path"),
    "a model of nobody": read(f"blobs/{'0' * 64}", 404, "no version has a model"),
    "a command of nobody": commanded(as_json({"kind": "promote", "version": 1}), 422, "by: it is missing"),
    "a command to do nothing": commanded(as_json({"by": "anna"}), 422, "kind: it is missing"),
    "a command to do magic": commanded(command(kind="magic"), 422, "'promote', 'rollback' or 'retire_shadow'"),
    "a command mistyped": commanded(command(versoin=1), 422, "versoin: there is no such field"),
    "a command about half": commanded(command(version=1.5), 422, "version: expected a valid integer", "1.5"),
    "a command about 2^70": commanded(command(version=2**70), 422, "version: expected less than or equal to"),
    "a command about no version": commanded(command(), 409, "which version? say its number"),
    "a command about none yet": commanded(command(version=99), 409, "no version 99: the versions are 1 to 1"),
    "a command that changes nothing": commanded(command(version=1), 409, "version 1 is the champion already"),
    "a way back to nowhere": commanded(command(kind="rollback"), 409, "there is nothing to go back to"),
    "a shadow that is none": commanded(command(kind="retire_shadow", version=1), 409, "no shadow (shadows: none)"),
    "a note with a NUL": commanded(command(note="a\0b", version=1), 422, "note: expected a text that matches"),
    "a note without end": commanded(command(note="x" * 2_001), 422, "note: expected a text of at most 2000"),
    "a command cut off": commanded(b'{"kind":', 422, "no JSON at byte 8"),
    "a command in Latin-1": commanded(b'{"by": "\xfc"}', 400, "send JSON in UTF-8"),
    "a list of commands": commanded(b"[]", 422, "expected a JSON object, got []"),
    "no command": commanded(b"", 422, "body: it is missing"),
    "a command as curl sends it": WrongRequest(
        "registry", "POST", COMMAND, 422, ["content-type: application/json"], command(version=1), FORM
    ),
    "a command to delete": WrongRequest("registry", "DELETE", "/v1/loops/offers/versions/1", 405, ["but GET"]),
    # retrain-controller
    "a wish of nobody": wished(b"{}", "by: it is missing"),
    "a wish of a number": wished(as_json({"by": 7}), "by: expected a valid string, got 7"),
    "a wish mistyped": wished(as_json({"by": "anna", "notes": "x"}), "notes: there is no such field"),
    "a wish without a name": wished(as_json({"by": ""}), "by: expected a text of at least 1 character"),
    "a wish about no loop": WrongRequest(
        "retrain-controller",
        "POST",
        "/v1/loops/offer/retrain",
        404,
        ["no loop 'offer'", "`trimtab loops`"],
        b'{"by":"a"}',
    ),
    "a wish that was not made": WrongRequest(
        "retrain-controller", "GET", "/v1/loops/offers/asks/none", 404, ["no wish 'none' (yet)"]
    ),
    "decisions before a word": WrongRequest(
        "retrain-controller", "GET", "/v1/loops/offers/decisions?before=x", 422, ["no cursor", "`next`"]
    ),
}


def by_hand(at: str = "2026-01-01T00:00:00.000Z", **others: Any) -> bytes:
    return as_json({"loop": "offers", "at": at, "by": "anna", **others})


UNREADABLE = json.loads(control.encode(declared(LOOP))) | {"loop": "unreadable", "declaration": {}}
RECURSIVE = {"type": "record", "name": "N", "fields": [{"name": "next", "type": ["null", "N"]}]}
BY_HAND: Mapping[str, tuple[str, bytes | None, bytes | None]] = {
    "a declaration of bytes": (topics.LOOP_DECLARED, b"\xff\xfe", b"\xff"),
    "a declaration without a key": (topics.LOOP_DECLARED, None, b"{"),
    "a declaration that says nothing": (topics.LOOP_DECLARED, b"unreadable", as_json(UNREADABLE)),
    "an end of bytes": (topics.LOOP_DECLARED, b"\xff\xfe", None),
    "a command cut off": (topics.REGISTRY_COMMANDS, b"offers", b'{"loop":'),
    "a command of lists": (topics.REGISTRY_COMMANDS, b"offers", b"[" * 100_000),
    "a command about 2^70": (
        topics.REGISTRY_COMMANDS, b"offers", by_hand(command_id="70", kind="promote", version=2**70)
    ),
    "a command with a NUL": (
        topics.REGISTRY_COMMANDS, b"offers", by_hand(command_id="0", kind="rollback", note="\0")
    ),
    "a command of no kind": (topics.REGISTRY_COMMANDS, b"offers", by_hand(command_id="k", kind="magic")),
    "a wish in words": (topics.RETRAIN_ASKED, b"offers", b"please"),
    "a wish without an id": (topics.RETRAIN_ASKED, b"offers", by_hand()),
    "a model in words": (topics.MODEL_TRAINED, b"offers", b"a very good one"),
    "a deployment of nobody": (topics.DEPLOYMENT_CHANGED, b"offers", by_hand()),
    "a schema in words": (topics.SCHEMAS, b"k", b"a schema"),
    "a schema that is none": (
        topics.SCHEMAS, b"k", as_json({"fingerprint": "00" * 8, "schema": {"type": "record"}, "by": "anna"})
    ),
    "a schema without end": (
        topics.SCHEMAS, b"k", as_json({"fingerprint": "00" * 8, "schema": RECURSIVE, "by": "anna"})
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Answered:
    """An answer over HTTP."""

    status: int
    text: str


class House:
    """All services but the trainer, on one bus."""

    def __init__(self, folder: Path) -> None:
        specs = [*topics.control(), *topics.of_loop("offers", list(LOOP.events), LOOP.partitions)]
        self.own = [spec.name for spec in specs if spec.template != "source"]
        self.bus = MemoryBus({spec.name: spec.partitions for spec in specs}, now_ms=wall_ms)
        self.services: dict[str, Hosted] = {}
        self._folder, self._url = folder, (folder / "blobs").as_uri()
        self._keys = {name: make_key_pair(folder, name) for name in ("trainer", "registry")}

    @asynccontextmanager
    async def open(self) -> AsyncIterator["House"]:
        self.bus.append([written(declared(LOOP), id="1", source="test", trace=None), self._model()])
        async with AsyncExitStack() as stack:
            for service in self._wired():
                self.services[service.name] = await stack.enter_async_context(Hosted(service, self.bus))
            await self.until(lambda: all(one.runs("offers") for one in self.services.values()))
            await self.until(lambda: not self.unready())
            yield self

    def unready(self) -> dict[str, list[str]]:
        return {name: why for name, one in self.services.items() if (why := one.status.unready())}

    def refusals(self) -> dict[str, list[str]]:
        return {name: why for name, one in self.services.items() if (why := one.status.refusals())}

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds():  # noqa: ASYNC110  # conditions are over many services' states
                await asyncio.sleep(0.02)

    async def ask(self, request: WrongRequest) -> Answered:
        client = self.services[request.service].http
        answer = await client.request(request.method, request.path, content=request.body, headers=request.headers)
        return Answered(answer.status_code, answer.text)

    async def post(self, service: str, path: str, body: bytes) -> Answered:
        return await self.ask(WrongRequest(service, "POST", path, 0, (), body))

    def quarantine(self) -> list[tuple[data.Rejected, bytes]]:
        """What was rejected, with its original bytes."""
        blobs = BlobStore(self._url)
        found = [data.decode(data.Rejected, one.value or b"") for one in data_of(self.bus, topics.rejected("offers"))]
        return [(one, blobs.get(one.blob or "") if one.original is None else one.original) for one in found]

    def keys(self, topic: str) -> Counter[str]:
        return Counter((record.key or b"").decode() for record in data_of(self.bus, topic))

    def _wired(self) -> list[Service]:
        store, database = {"url": self._url}, {"database_url": f"sqlite:///{self._folder}/registry.db"}
        (_, trainers), (private, public) = self._keys["trainer"], self._keys["registry"]
        signing = {"private_key_file": private, "public_key_file": trainers}
        told = {"store": store, "signing": signing, "registry": database}
        obeyed = {"store": store, "signing": {"public_key_file": public}, "data_dir": self._folder}
        return [
            ingest.wired(IngestSettings.model_validate({"store": store}), self.bus),
            feature.wired(self.bus),
            predictor.wired(PredictorSettings.model_validate(obeyed), self.bus),
            monitor.wired(self.bus),
            retrain_controller.wired(self.bus),
            registry.wired(RegistrySettings.model_validate(told), self.bus),
        ]

    def _model(self) -> Out:
        """A first version, whose model is nowhere to be found."""
        model, signer = trained("first", verdict="first"), Signer.load(self._keys["trainer"][0])
        signed = model.model_copy(update={"signature": signer.sign(json.loads(control.encode(model)))})
        return written(signed, id="2", source="test", trace=None)


USERS_HEADERS = (("traceparent", b"\xff" * 300), ("ce_time", b"never"), ("tt_key", b"junk"))
"""What a user's producer may put beside an event; none of it is believed."""


@dataclass(frozen=True)
class Seen:
    """What a person sees of it all."""

    over_http: Mapping[str, Answered]
    answers: Mapping[str, Answered]
    predictions: Sequence[Answered]
    deployment: Answered
    metrics: str
    reasons: Mapping[str, Sequence[str]]
    reasons_after_its_end: Mapping[str, Sequence[str]]
    quarantined: Sequence[tuple[data.Rejected, bytes]]
    passed: Counter[str]
    clicked: Counter[str]
    predicted: Counter[str]
    largest_bytes: int


async def happened(folder: Path) -> Seen:
    """Everything, in the order in which it might happen."""
    async with House(folder).open() as house:
        house.bus.append([Out(topic, key, value) for topic, key, value in BY_HAND.values()])
        over_http = await send_events(house)
        answers = {name: await house.ask(one) for name, one in WRONG_REQUESTS.items()}
        predictions = [await house.post("predictor", PREDICT, as_json(ask)) for ask in RIGHT_ASKS]
        await house.until(lambda: house.keys(topics.predictions("offers")).total() >= len(RIGHT) + len(RIGHT_ASKS))
        house.bus.append([Out(OFFERS, b"any", one.value) for one in AFTERWARDS.values()])
        rules = {one.rule for one in AFTERWARDS.values()}
        await house.until(lambda: rules <= {one.rule for one, _ in house.quarantine()})
        await house.until(lambda: set(house.refusals()) == DATA_SERVICES and not house.unready())
        metrics = [await house.ask(WrongRequest(name, "GET", "/metrics", 0, ())) for name in CONTROL_SERVICES]
        reasons = house.refusals()
        house.bus.append([Out(topics.LOOP_DECLARED, b"unreadable", None)])
        await house.until(lambda: not house.refusals())
        return Seen(
            over_http=over_http,
            answers=answers,
            predictions=predictions,
            deployment=await house.ask(WrongRequest("predictor", "GET", "/v1/loops/offers/deployment", 0, ())),
            metrics="".join(one.text for one in metrics),
            reasons=reasons,
            reasons_after_its_end=house.refusals(),
            quarantined=house.quarantine(),
            passed=house.keys(topics.events("offers", "offer")),
            clicked=house.keys(topics.accepted("offers", "click")),
            predicted=house.keys(topics.predictions("offers")),
            largest_bytes=max(size(record) for topic in house.own for record in house.bus.records(topic)),
        )


async def send_events(house: House) -> Mapping[str, Answered]:
    """Right and wrong ones take turns in one batch, then come over HTTP. Gives the answers to the wrong ones."""
    right = [*RIGHT_JSON.values(), *RIGHT_AVRO.values(), *AT_THE_EDGE]
    wrong = [one.value for one in WRONG_EVENTS.values()]
    mixed = [value for pair in zip(wrong, cycle(right), strict=False) for value in pair]
    house.bus.append([Out(OFFERS, None, value, USERS_HEADERS, n // 2 % 2) for n, value in enumerate(mixed)])
    house.bus.append([Out(CLICKS, None, as_json(click)) for click in RIGHT_CLICKS.values()])
    one, *rest = RIGHT_HTTP.values()
    await house.post("ingest", POST_OFFERS, one)
    await house.post("ingest", POST_OFFERS, b"[" + b",".join(rest) + b"]")
    return {name: await house.post("ingest", POST_OFFERS, one) for name, one in OVER_HTTP.items()}


def size(record: Record) -> int:
    return len(record.key or b"") + len(record.value or b"") + sum(len(value) for _, value in record.headers)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return asyncio.run(happened(tmp_path_factory.mktemp("house")))


@pytest.mark.parametrize("name", [*WRONG_EVENTS, *AFTERWARDS])
def test_a_wrong_event_is_in_quarantine_with_its_bytes_and_the_reason(name: str, seen: Seen) -> None:
    wrong = {**WRONG_EVENTS, **AFTERWARDS}[name]
    found = [one for one, original in seen.quarantined if original == (wrong.value or b"") and one.rule == wrong.rule]
    assert found
    for one in found:
        assert [word for word in wrong.told if word not in one.reason] == [], one.reason
        assert len(one.reason) < 1_000
        assert (one.event, one.source_topic.startswith("offers.")) == ("offer", True)


@pytest.mark.parametrize("name", OVER_HTTP)
def test_over_http_the_answer_says_the_same(name: str, seen: Seen) -> None:
    wrong, answer = WRONG_EVENTS[name], seen.over_http[name]
    if not OVER_HTTP[name].strip():
        assert (answer.status, "got an empty body" in answer.text) == (400, True)
        return
    (verdict,) = json.loads(answer.text)["events"]
    assert (answer.status, verdict["verdict"], verdict["rule"]) == (422, "rejected", wrong.rule)
    assert [word for word in wrong.told if word not in verdict["reason"]] == [], verdict["reason"]


@pytest.mark.parametrize("name", WRONG_REQUESTS)
def test_a_wrong_request_is_answered_with_what_would_be_right(name: str, seen: Seen) -> None:
    wrong, answer = WRONG_REQUESTS[name], seen.answers[name]
    assert answer.status == wrong.status, answer.text
    detail = json.loads(answer.text)["detail"]
    assert [word for word in wrong.told if word not in detail] == [], detail


def test_what_was_right_is_there_exactly_once(seen: Seen) -> None:
    assert seen.passed == Counter(RIGHT)
    assert seen.clicked == Counter(list(RIGHT_CLICKS))
    assert seen.predicted == Counter([*RIGHT, *(ask["offer_id"] for ask in RIGHT_ASKS)])
    assert [json.loads(one.text)["key"] for one in seen.predictions] == [ask["offer_id"] for ask in RIGHT_ASKS]


def test_what_was_wrong_is_in_quarantine_as_often_as_it_came(seen: Seen) -> None:
    sent = Counter(one.value or b"" for one in [*WRONG_EVENTS.values(), *AFTERWARDS.values()])
    sent.update(value for value in OVER_HTTP.values() if value.strip() and len(value) <= LARGEST_EVENT)
    assert Counter(original for _, original in seen.quarantined) == sent


@pytest.mark.parametrize("service", sorted(DATA_SERVICES))
def test_a_declaration_that_cannot_be_read_is_shown_and_stops_nothing_else(service: str, seen: Seen) -> None:
    (reason,) = seen.reasons[service]
    assert reason.startswith("loop unreadable version 1 refused")
    assert "no event is declared" in reason
    assert seen.reasons_after_its_end == {}


@pytest.mark.parametrize("topic", [topics.LOOP_DECLARED, topics.REGISTRY_COMMANDS, topics.RETRAIN_ASKED])
def test_what_was_written_by_hand_and_keeps_no_schema_is_counted(topic: str, seen: Seen) -> None:
    assert f'topic="{topic}"' in seen.metrics


def test_a_model_that_cannot_be_served_is_told(seen: Seen) -> None:
    told = json.loads(seen.deployment.text)
    assert told["champion"] is None
    assert "was fitted on other features" in told["refused"][0]["reason"]


def test_no_record_is_larger_than_a_broker_takes(seen: Seen) -> None:
    assert seen.largest_bytes < LARGEST_EVENT
