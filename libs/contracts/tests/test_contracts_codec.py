"""Bytes ⇄ values, and what is said of bytes that are none."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trimtab.contracts import control, data, envelope, topics
from trimtab.contracts.codec import AvroCodec, Reader, fingerprint
from trimtab.contracts.errors import (
    BadControlEventError,
    BadSchemaError,
    BadTimeError,
    NotSingleObjectError,
    UndecodableError,
    UnencodableError,
    UnknownFingerprintError,
    UnknownSchemaIdError,
    UnknownTopicError,
)
from trimtab.contracts.prediction import AmbiguousFeaturesError, field_name, prediction_schema

CLICK: dict[str, Any] = {
    "type": "record",
    "name": "Click",
    "fields": [
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "page", "type": "string"},
    ],
}
WIDER = {**CLICK, "fields": [*CLICK["fields"], {"name": "from", "type": ["null", "string"], "default": None}]}
VALUE = {"at": 5, "page": "home"}


def test_a_fingerprint_is_that_of_the_specification() -> None:
    """Its test vectors give 7275d51a3f395c8f for "int"; on the wire that is little-endian."""
    assert fingerprint({"type": "int"}) == 0x7275D51A3F395C8F.to_bytes(8, "little")


def test_values_are_physical() -> None:
    codec = AvroCodec(CLICK)
    assert codec.encode(VALUE)[:10] == b"\xc3\x01" + codec.fingerprint
    assert codec.decode(codec.encode(VALUE)) == VALUE


@given(st.integers(-(2**63), 2**63 - 1), st.text())
def test_what_is_written_is_read(at: int, page: str) -> None:
    codec = AvroCodec(CLICK)
    assert codec.decode(codec.encode({"at": at, "page": page})) == {"at": at, "page": page}


@pytest.mark.parametrize("value", [{}, {"at": "x", "page": "p"}, {"at": 2**63, "page": "p"}, {"at": 1, "page": None}])
def test_what_does_not_fit_is_not_written(value: dict[str, Any]) -> None:
    with pytest.raises(UnencodableError, match="does not fit the schema Click"):
        AvroCodec(CLICK).encode(value)


def test_a_schema_that_is_none() -> None:
    with pytest.raises(BadSchemaError, match="not an Avro schema"):
        AvroCodec({"type": "record", "name": "R", "fields": [{"name": "x", "type": "integer"}]})


ENDLESS = [
    {"type": "record", "name": "N", "fields": [{"name": "next", "type": ["null", "N"]}]},
    {"type": "record", "name": "T", "fields": [{"name": "t", "type": {"type": "map", "values": "T"}}]},
    {"type": "record", "name": "A", "fields": [{"name": "a", "type": {"type": "array", "items": "null"}}]},
    {
        "type": "record",
        "name": "E",
        "fields": [
            {"name": "e", "type": {"type": "array", "items": {"type": "record", "name": "None", "fields": []}}},
        ],
    },
]


@pytest.mark.parametrize("schema", ENDLESS, ids=lambda schema: str(schema["name"]))
def test_a_schema_by_which_few_bytes_are_a_value_without_end(schema: dict[str, Any]) -> None:
    with pytest.raises(BadSchemaError):
        Reader({}).add(schema)


def test_a_type_may_be_used_twice() -> None:
    page = {"type": "record", "name": "Page", "fields": [{"name": "url", "type": "string"}]}
    fields = [{"name": "from", "type": page}, {"name": "pages", "type": {"type": "array", "items": "Page"}}]
    codec = AvroCodec({"type": "record", "name": "Visit", "fields": fields})
    value = {"from": {"url": "a"}, "pages": [{"url": "b"}, {"url": "c"}]}
    assert codec.decode(codec.encode(value)) == value


def test_bytes_of_another_kind() -> None:
    codec = AvroCodec(CLICK)
    with pytest.raises(NotSingleObjectError, match="start with 7b 22"):
        codec.decode(b'{"at": 5}')
    with pytest.raises(UnknownFingerprintError) as unknown:
        codec.decode(AvroCodec(WIDER).encode(VALUE))
    assert unknown.value.fingerprint == fingerprint(WIDER)
    with pytest.raises(UndecodableError):
        codec.decode(codec.encode(VALUE)[:-1])
    with pytest.raises(UndecodableError, match="2 bytes are left over"):
        codec.decode(codec.encode(VALUE) + b"xy")


def test_a_reader_knows_several_writers() -> None:
    reader = Reader({fingerprint(CLICK): CLICK}, expected=WIDER)
    assert reader.decode(AvroCodec(CLICK).encode(VALUE)) == {**VALUE, "from": None}
    assert not reader.knows(fingerprint(WIDER))
    with pytest.raises(UnknownFingerprintError):
        reader.decode(AvroCodec(WIDER).encode(VALUE))
    reader.add(WIDER)
    assert reader.decode(AvroCodec(WIDER).encode({**VALUE, "from": "x"})) == {**VALUE, "from": "x"}


def test_a_schema_of_another_record_cannot_be_read_as_this() -> None:
    other = {"type": "record", "name": "Sale", "fields": [{"name": "price", "type": "double"}]}
    reader = Reader({fingerprint(other): other}, expected=CLICK)
    with pytest.raises(UndecodableError, match="written as Sale cannot be read as Click"):
        reader.decode(AvroCodec(other).encode({"price": 2.0}))


def test_a_confluent_frame() -> None:
    asked: list[int] = []

    def resolve(schema_id: int) -> dict[str, Any] | None:
        asked.append(schema_id)
        return CLICK if schema_id == 7 else None

    reader = Reader({}, resolve=resolve)
    frame = b"\x00\x00\x00\x00\x07" + AvroCodec(CLICK).encode(VALUE)[10:]
    assert [reader.decode(frame), reader.decode(frame)] == [VALUE, VALUE]
    assert asked == [7]
    with pytest.raises(UnknownSchemaIdError, match="id 8"):
        reader.decode(b"\x00\x00\x00\x00\x08")
    with pytest.raises(UnknownSchemaIdError):
        Reader({}).decode(frame)
    with pytest.raises(NotSingleObjectError):
        reader.decode(b"\x00\x01")


def test_control_events_that_are_none() -> None:
    with pytest.raises(UnknownTopicError, match="no\\.such"):
        control.decode("no.such", b"{}")
    with pytest.raises(BadControlEventError, match=r"time\.advanced|TimeAdvanced"):
        control.decode(topics.TIME_ADVANCED, b'{"loop": "flights"}')
    with pytest.raises(BadControlEventError, match=r"at: .*RFC 3339"):
        control.decode(topics.TIME_ADVANCED, b'{"loop": "flights", "at": "noon"}')
    with pytest.raises(BadControlEventError, match="event: Invalid JSON"):
        control.decode(topics.TIME_ADVANCED, b"{")


def test_a_struct_survives_its_bytes() -> None:
    rejected = data.Rejected(
        event="order",
        rule="schema",
        reason="x",
        source_topic="t",
        source_partition=0,
        source_offset=1,
        original=b"\x00\xff",
        wall_ms=3,
    )
    assert data.decode(data.Rejected, data.encode(rejected)) == rejected


def test_headers_are_those_of_cloud_events() -> None:
    headers = envelope.headers("7", "order", "ingest.accept.shop", 1500, "00-ab-cd-01")
    assert dict(headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"7",
        "ce_type": b"order",
        "ce_source": b"ingest.accept.shop",
        "ce_time": b"1970-01-01T00:00:01.500Z",
        "traceparent": b"00-ab-cd-01",
    }
    assert envelope.event_time_ms(headers) == 1500
    assert envelope.get(headers, "nothing") is None
    with pytest.raises(envelope.MissingHeaderError, match="ce_time"):
        envelope.event_time_ms(())
    with pytest.raises(BadTimeError):
        envelope.event_time_ms((("ce_time", b"noon"),))


def test_a_loops_predictions_name_its_features() -> None:
    schema = prediction_schema("shop", ["country", "card.n.7d@7d"], categorical=["country"], aged=["card.n.7d@7d"])
    fields = {field["name"]: field["type"] for field in schema["fields"]}
    assert [(field["name"], field["type"]) for field in fields["features"]["fields"]] == [
        ("country", ["null", "string"]),
        ("card_n_7d_7d", ["null", "double"]),
    ]
    assert [field["name"] for field in fields["ages_ms"]["fields"]] == ["card_n_7d_7d"]
    assert schema["namespace"] == "trimtab.shop"
    AvroCodec(schema)


def test_features_that_would_be_one_field() -> None:
    assert field_name("7d") == "_7d"
    with pytest.raises(AmbiguousFeaturesError, match="rename one"):
        prediction_schema("shop", ["a.b", "a_b"])
