"""Accept: which events keep their contract, what they become, and what a user is told of the others."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from trimtab.contracts import times
from trimtab.contracts.codec import AvroCodec
from trimtab.ingest.core.accept import Arrived, Clock, Judged, accept
from trimtab.loops.incoming.contract import Contract, compile_contract
from trimtab.loops.incoming.ports import no_registry
from trimtab.loops.model import Loop

NOW_MS = times.parse("2024-06-01T00:00:00Z")
AT_MS = times.parse("2024-05-31T12:00:00Z")
DAY_MS = 86_400_000


def judge(contract: Contract, *values: Any, clock: Clock | None = None, appended_ms: int = NOW_MS) -> Judged:
    raw = [value if isinstance(value, bytes | None) else json.dumps(value).encode() for value in values]
    return accept(contract, Arrived(raw, [appended_ms] * len(raw), NOW_MS), clock)


def body(contract: Contract, loop: Loop, judged: Judged) -> Mapping[str, Any]:
    assert judged.rejected == []
    return AvroCodec(loop.events[contract.event].schema).decode(judged.accepted[0].body)


def test_an_event_becomes_avro_under_its_keys(order: Contract, shop: Loop, good: dict[str, Any]) -> None:
    judged = judge(order, good)
    event = judged.accepted[0]
    assert body(order, shop, judged) == {
        **good,
        "ordered_at": AT_MS,
        "points": None,
        "gift": False,
        "paid_at": None,
        "due": None,
        "weight": None,
    }
    assert (event.id, event.key, event.time_ms) == (b"o1", b"o1", AT_MS)
    assert len(event.digest) == 16
    assert judged.clock == Clock(AT_MS, NOW_MS)


@pytest.mark.parametrize(
    ("field", "given", "kept"),
    [
        ("ordered_at", "2024-05-31T14:00:00+02:00", AT_MS),
        ("ordered_at", "2024-05-31 12:00:00.000Z", AT_MS),
        ("ordered_at", "2024-05-31T12:00:00.123456Z", AT_MS + 123),
        ("ordered_at", AT_MS, AT_MS),
        ("paid_at", "2024-05-31T12:00:00.123456Z", AT_MS * 1000 + 123456),
        ("paid_at", AT_MS * 1000, AT_MS * 1000),
        ("due", "1970-01-03", 2),
        ("due", 2, 2),
        ("pieces", 3.0, 3),
        ("amount", 7, 7.0),
        ("points", None, None),
        ("points", 2**62, 2**62),
        ("points", -1, -1),
        ("gift", True, True),
        ("country", None, None),
        ("country", "IT", "IT"),
        ("weight", 0.5, 0.5),
        ("order_id", "Zürich/7", "Zürich/7"),
    ],
)
def test_a_value_is_kept(field: str, given: Any, kept: Any, order: Contract, shop: Loop, good: dict[str, Any]) -> None:
    assert body(order, shop, judge(order, {**good, field: given}))[field] == kept


WITHOUT = object()
WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "a number as text": ({"amount": "20.5"}, "schema", 'amount: expected number, got "20.5"'),
    "a fraction in an int": ({"pieces": 1.5}, "schema", "pieces: expected int (32 bits), got 1.5"),
    "a boolean in an int": ({"pieces": True}, "schema", "pieces: expected int (32 bits), got true"),
    "an int of 33 bits": ({"pieces": 2**31}, "schema", "pieces: expected int (32 bits), got 2147483648"),
    "a long of 65 bits": (
        {"points": 2**63},
        "schema",
        "points: expected int (64 bits) or null, got 9223372036854775808",
    ),
    "a float beyond 32 bits": ({"weight": 1e39}, "schema", "weight: expected number or null, got 1e+39"),
    "a number in a string": ({"order_id": 7}, "schema", "order_id: expected string, got 7"),
    "a text in a boolean": ({"gift": "no"}, "schema", 'gift: expected boolean, got "no"'),
    "a symbol nobody declared": ({"country": "ES"}, "schema", 'country: expected one of DE, FR, IT or null, got "ES"'),
    "null where there is none": ({"amount": None}, "schema", "amount: expected number, got null"),
    "an object in a number": ({"amount": {"eur": 2}}, "schema", 'amount: expected number, got {"eur": 2}'),
    "a missing field": ({"amount": WITHOUT}, "schema", "amount: expected number, got nothing"),
    "a field mistyped": (
        {"amonut": 2.0},
        "schema",
        "amonut: there is no such field; did you mean amount?",
    ),
    "a field mistyped in place of the right one": (
        {"amount": WITHOUT, "amonut": 2.0},
        "schema",
        "amonut: there is no such field; did you mean amount?; amount: expected number, got nothing",
    ),
    "a field of another world": ({"zzz": 1}, "schema", "zzz: there is no such field; known are amount, country, due,"),
    "two mistakes": ({"amount": "x", "pieces": "y"}, "schema", 'got "x"; pieces: expected int (32 bits), got "y"'),
    "many mistakes": ({f"x{n}": n for n in range(8)}, "schema", "; and 3 more"),
    "a long wrong value": ({"amount": "x" * 100}, "schema", "x…"),
    "a time without zone": (
        {"ordered_at": "2024-05-31T12:00:00"},
        "time",
        'ordered_at: expected an RFC 3339 time with a zone, or ms since the epoch, got "2024-05-31T12:00:00"',
    ),
    "a date for a time": ({"ordered_at": "2024-05-31"}, "time", "expected an RFC 3339 time with a zone"),
    "a month too many": ({"ordered_at": "2024-13-31T12:00:00Z"}, "time", 'got "2024-13-31T12:00:00Z"'),
    "a time as a fraction": ({"ordered_at": 1.5}, "time", "or ms since the epoch, got 1.5"),
    "a time beyond all calendars": ({"ordered_at": 10**17}, "time", "expected a time between the years 1000 and 8999"),
    "another time without zone": (
        {"paid_at": "12:00"},
        "schema",
        "paid_at: expected an RFC 3339 time with a zone, or µs",
    ),
    "a day that is none": (
        {"due": "31.5.2024"},
        "schema",
        "due: expected a date (YYYY-MM-DD), or days since the epoch",
    ),
    "an endless id": (
        {"order_id": "x" * 1_025},
        "too_large",
        "order_id: expected at most 1024 characters, for it becomes a key or a category, got 1025",
    ),
    "an empty id": ({"order_id": ""}, "id", "order_id: it is empty, and names the event"),
    "a broken rule": ({"amount": -3.0}, "quality", "expected amount > 0 AND amount < 1e6, got amount = -3.0"),
    "the other side of the rule": ({"amount": 2e6}, "quality", "got amount = 2000000.0"),
    "beyond the clock": (
        {"ordered_at": "2024-06-01T00:05:00.001Z"},
        "time_ahead",
        "ordered_at: expected at most 2024-06-01T00:05:00.000Z (max_ahead after now), got 2024-06-01T00:05:00.001Z",
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_event_is_explained(mistake: str, order: Contract, good: dict[str, Any]) -> None:
    change, rule, reason = WRONG[mistake]
    event = {name: value for name, value in {**good, **change}.items() if value is not WITHOUT}
    judged = judge(order, event)
    assert judged.accepted == []
    assert judged.clock is None
    assert [one.refusal.rule for one in judged.rejected] == [rule]
    assert reason in judged.rejected[0].refusal.reason


NO_EVENT = {
    "nothing": (b"", "expected JSON or Avro, got an empty record"),
    "a tombstone": (None, "expected JSON or Avro, got an empty record"),
    "no JSON": (b"order=7", "expected JSON or Avro: Expecting value at byte 0, in 'order=7'"),
    "half of it": (b'{"order_id": "o', "it ends too early, after"),
    "no UTF-8": (b'{"order_id": "\xff"}', "byte 14 is not UTF-8"),
    "a list": (b"[1]", "expected a JSON object, got an array"),
    "a number": (b"7", "expected a JSON object, got a number"),
    "a text": (b'"x"', "expected a JSON object, got a string"),
    "null": (b"null", "expected a JSON object, got null"),
    "Avro cut off": (b"\xc3\x01abc", "expected JSON or Avro: expected single-object Avro"),
}


@pytest.mark.parametrize("what", NO_EVENT)
def test_what_is_no_event_is_refused(what: str, order: Contract) -> None:
    value, reason = NO_EVENT[what]
    judged = judge(order, value)
    assert [one.refusal.rule for one in judged.rejected] == ["format"]
    assert reason in judged.rejected[0].refusal.reason


def test_a_wrong_event_leaves_the_others_alone(order: Contract, good: dict[str, Any]) -> None:
    events = [
        good,
        {**good, "amount": "x"},
        {**good, "amount": -1.0},
        {**good, "order_id": ""},
        {**good, "pieces": 3.0},
    ]
    judged = judge(order, *events, {**good, "ordered_at": NOW_MS + DAY_MS})
    assert [one.index for one in judged.accepted] == [0, 4]
    assert [(one.index, one.refusal.rule) for one in judged.rejected] == [
        (1, "schema"),
        (2, "quality"),
        (3, "id"),
        (5, "time_ahead"),
    ]


def test_what_could_be_read_of_a_rejected_event_is_told(order: Contract, good: dict[str, Any]) -> None:
    judged = judge(order, {**good, "amount": -1.0})
    assert (judged.rejected[0].id, judged.rejected[0].time_ms) == (b"o1", AT_MS)


def test_a_null_does_not_keep_a_rule(shop: Loop, good: dict[str, Any]) -> None:
    fields = [
        {**field, "type": ["null", "double"]} if field["name"] == "amount" else field
        for field in shop.events["order"].schema["fields"]
    ]
    event = shop.events["order"]
    loose = type(event)(**{**_fields(event), "schema": {**event.schema, "fields": fields}})
    contract = compile_contract(shop, loose, lambda _: None)
    assert judge(contract, {**good, "amount": None}).rejected[0].refusal.rule == "quality"


def _fields(event: Any) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__slots__}


# Time.


def test_a_gap_in_event_time_is_refused_and_moves_nothing(order: Contract, good: dict[str, Any]) -> None:
    clock = Clock(AT_MS - 31 * DAY_MS, NOW_MS)
    judged = judge(order, good, {**good, "ordered_at": clock.newest_ms + DAY_MS}, clock=clock)
    assert [one.refusal.rule for one in judged.rejected] == ["time_ahead"]
    assert "at most 30 d (max_gap) after the newest event before it" in judged.rejected[0].refusal.reason
    assert judged.clock == Clock(clock.newest_ms + DAY_MS, NOW_MS)


def test_a_gap_that_really_passed_is_none(order: Contract, good: dict[str, Any]) -> None:
    clock = Clock(AT_MS - 61 * DAY_MS, NOW_MS - 61 * DAY_MS)
    assert judge(order, good, clock=clock).rejected == []


def test_small_steps_lead_over_any_gap(order: Contract, good: dict[str, Any]) -> None:
    days = [{**good, "ordered_at": AT_MS - 90 * DAY_MS + n * 30 * DAY_MS} for n in range(4)]
    judged = judge(order, *days, clock=Clock(AT_MS - 100 * DAY_MS, NOW_MS))
    assert judged.rejected == []
    assert judged.clock == Clock(AT_MS, NOW_MS)


def test_an_older_event_moves_nothing_back(order: Contract, good: dict[str, Any]) -> None:
    judged = judge(order, {**good, "ordered_at": AT_MS - 5 * DAY_MS}, clock=Clock(AT_MS, NOW_MS))
    assert judged.clock == Clock(AT_MS, NOW_MS)
    assert len(judged.accepted) == 1


def test_the_first_event_may_be_of_any_past(order: Contract, good: dict[str, Any]) -> None:
    judged = judge(order, {**good, "ordered_at": "1913-01-01T00:00:00Z"})
    assert judged.accepted[0].time_ms == times.parse("1913-01-01T00:00:00Z")


# Ids and keys.


def test_a_number_may_be_an_id_and_a_text_a_time(refund: Contract, shop: Loop) -> None:
    judged = judge(refund, {"refund_id": 7, "order_id": "o1", "booked_at": "2024-05-31T14:00:00+02:00"})
    event = judged.accepted[0]
    assert (event.id, event.key, event.time_ms) == (b"7", b"o1", AT_MS)
    assert body(refund, shop, judged)["booked_at"] == "2024-05-31T14:00:00+02:00"


def test_without_a_subject_the_id_is_the_key(refund: Contract) -> None:
    event = judge(refund, {"refund_id": 7, "order_id": None, "booked_at": "2024-05-31T12:00:00Z"}).accepted[0]
    assert event.key == b"7"


def test_a_text_that_nothing_is_made_of_may_be_long(refund: Contract, shop: Loop) -> None:
    event = {"refund_id": 7, "order_id": "o1", "booked_at": "2024-05-31T14:00:00+02:00", "why": "x" * 100_000}
    assert len(body(refund, shop, judge(refund, event))["why"]) == 100_000


def test_a_text_that_is_no_time_is_explained(refund: Contract) -> None:
    good = {"refund_id": 7, "order_id": None, "booked_at": "2024-05-31T12:00:00Z"}
    judged = judge(refund, {**good, "booked_at": "yesterday"}, good)
    refusal = judged.rejected[0].refusal
    assert refusal.rule == "time"
    assert "booked_at: expected RFC 3339 with a zone" in refusal.reason
    assert [one.index for one in judged.accepted] == [1]


def test_without_an_id_the_body_is_the_id(visit: Contract) -> None:
    event = {"seen_at": "2024-05-31T12:00:00Z", "pages": ["a"]}
    same, other = judge(visit, event, event).accepted, judge(visit, {**event, "pages": ["b"]}).accepted
    assert same[0].id == same[1].id == same[0].digest.hex().encode()
    assert other[0].id != same[0].id


def test_a_nested_field_is_checked(visit: Contract) -> None:
    event = {"seen_at": "2024-05-31T12:00:00Z", "pages": ["a", 7]}
    judged = judge(visit, event, {**event, "pages": []})
    assert [one.refusal.rule for one in judged.rejected] == ["schema"]
    assert [one.index for one in judged.accepted] == [1]


# Avro from users.


@pytest.fixture
def avro(good: dict[str, Any]) -> dict[str, Any]:
    rest = {"points": None, "gift": False, "paid_at": None, "due": None, "weight": None}
    return {**good, **rest, "ordered_at": AT_MS}


def test_avro_and_json_of_one_event_are_one_event(
    order: Contract, shop: Loop, good: dict[str, Any], avro: dict[str, Any]
) -> None:
    single = AvroCodec(shop.events["order"].schema).encode(avro)
    judged = judge(order, good, single)
    assert judged.accepted[0].digest == judged.accepted[1].digest
    assert judged.accepted[0].body == judged.accepted[1].body == single


@pytest.mark.parametrize("broken", [None, b"\xc3\x01broken", b'{"order_id": 7}'])
def test_many_avro_events_at_once_become_what_each_becomes(
    broken: bytes | None, order: Contract, shop: Loop, avro: dict[str, Any]
) -> None:
    encode, names = AvroCodec(shop.events["order"].schema).encode, ["DE", None, "IT"]
    changes = [
        {"country": names[n % 3], "points": None if n % 2 else n - 9, "weight": n / 4, "due": n} for n in range(24)
    ]
    values = [encode({**avro, "order_id": f"o{n}", **change}) for n, change in enumerate(changes)]
    together = judge(order, *values, *([] if broken is None else [broken]))
    alone = [judge(order, value).accepted[0] for value in values]
    assert [event.body for event in together.accepted] == values == [event.body for event in alone]
    assert [(e.id, e.key, e.time_ms) for e in together.accepted] == [(e.id, e.key, e.time_ms) for e in alone]
    assert len(together.rejected) == (broken is not None)


def test_many_nested_avro_events_at_once(visit: Contract, shop: Loop) -> None:
    encode = AvroCodec(shop.events["visit"].schema).encode
    values = [encode({"seen_at": AT_MS * 1000 + n, "pages": ["a"] * n}) for n in range(20)]
    assert [event.body for event in judge(visit, *values).accepted] == values


def test_avro_is_held_to_the_rules_too(order: Contract, shop: Loop, avro: dict[str, Any]) -> None:
    judged = judge(order, AvroCodec(shop.events["order"].schema).encode({**avro, "amount": 0.0}))
    assert judged.rejected[0].refusal.rule == "quality"


def test_a_schema_that_nobody_published_is_named(order: Contract, shop: Loop, avro: dict[str, Any]) -> None:
    older = AvroCodec(older_order(shop))
    refusal = judge(order, older.encode(avro)).rejected[0].refusal
    assert refusal.rule == "schema_id"
    assert older.fingerprint.hex() in refusal.reason


def older_order(loop: Loop) -> dict[str, Any]:
    """The order's schema before it got its last field."""
    schema = loop.events["order"].schema
    return {**schema, "fields": schema["fields"][:-1]}


def test_an_older_schema_is_read_once_it_is_known(shop: Loop, avro: dict[str, Any]) -> None:
    contract = compile_contract(shop, shop.events["order"], lambda _: None)
    contract.reader.add(older_order(shop))
    judged = judge(contract, AvroCodec(older_order(shop)).encode(avro))
    assert body(contract, shop, judged)["weight"] is None


def test_a_confluent_frame_is_read_by_its_id(shop: Loop, avro: dict[str, Any]) -> None:
    older = older_order(shop)
    contract = compile_contract(shop, shop.events["order"], {7: older}.get)
    frame = AvroCodec(older).encode(avro)[10:]
    judged = judge(contract, b"\x00\x00\x00\x00\x07" + frame, b"\x00\x00\x00\x00\x08" + frame)
    assert judged.accepted[0].id == b"o1"
    assert judged.rejected[0].refusal.rule == "schema_id"
    assert "no schema with id 8 is known" in judged.rejected[0].refusal.reason


def test_avro_with_a_rest_is_refused(order: Contract, shop: Loop, avro: dict[str, Any]) -> None:
    judged = judge(order, AvroCodec(shop.events["order"].schema).encode(avro) + b"x")
    assert judged.rejected[0].refusal.rule == "format"
    assert "1 bytes are left over" in judged.rejected[0].refusal.reason


def test_the_same_batch_gets_the_same_verdicts(order: Contract, good: dict[str, Any]) -> None:
    batch = [good, {**good, "amount": "x"}, {**good, "ordered_at": 7}]
    assert judge(order, *batch) == judge(order, *batch)


def changed(shop: Loop, event: str, *more: Mapping[str, Any]) -> Contract:
    """The contract of an event whose schema has gained some fields, the last first."""
    schema = shop.events[event].schema
    wider = replace(shop.events[event], schema={**schema, "fields": [*more, *schema["fields"]]})
    return compile_contract(replace(shop, events={**shop.events, event: wider}), wider, no_registry)


def test_so_is_one_with_nested_fields_and_without_an_id(shop: Loop, visit: Contract) -> None:
    tags = {"name": "tags", "type": {"type": "array", "items": "string"}, "default": []}
    seen = {"seen_at": AT_MS * 1000, "pages": ["a", "b"]}
    wider = changed(shop, "visit", tags)
    before, after = judge(visit, seen).accepted[0], judge(wider, seen, {**seen, "tags": ["x"]}).accepted
    assert (before.id, before.digest) == (after[0].id, after[0].digest)
    assert after[1].id != before.id


def test_an_event_is_the_same_after_its_schema_gained_a_field(
    shop: Loop, order: Contract, good: dict[str, Any]
) -> None:
    """So that a copy of it is a copy and no conflict."""
    wider = changed(
        shop,
        "order",
        {"name": "channel", "type": "string", "default": "web"},
        {"name": "tip", "type": ["null", "double"], "default": None},
    )
    before = judge(order, good, {**good, "points": 7}).accepted
    after = judge(wider, good, {**good, "points": 7, "channel": "web"}).accepted
    other = judge(wider, {**good, "channel": "app"}, {**good, "tip": 0.0}).accepted
    assert [one.digest for one in before] == [one.digest for one in after]
    assert [one.body for one in before] != [one.body for one in after]
    assert len({one.digest for one in (*before, *other)}) == 4


def test_bytes_have_their_default_too(shop: Loop, order: Contract, good: dict[str, Any]) -> None:
    """In a schema it is a text of the characters U+0000 to U+00FF (Avro 1.12, "Complex Types")."""
    seal = {"name": "seal", "type": "bytes", "default": "\u00ff"}
    found = judge(changed(shop, "order", seal), good).accepted[0]
    schema = shop.events["order"].schema
    assert AvroCodec({**schema, "fields": [seal, *schema["fields"]]}).decode(found.body)["seal"] == b"\xff"
    assert found.digest == judge(order, good).accepted[0].digest
