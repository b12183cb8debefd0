"""A loop with a field of every kind, and what its events look like when they are right."""

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st
from trimtab.contracts import times
from trimtab.contracts.codec import AvroCodec
from trimtab.loops import declaration

from tests.fuzz.values import dumped

NOW_MS = times.parse("2024-06-01T00:00:00Z")
TOML = """
[loop]
name = "shop"
task = "binary"
[events]
order = { schema = "order.avsc", id = "order_id", time = "ordered_at", dedupe = "7d" }
refund = { schema = "refund.avsc", id = "refund_id", time = "booked_at", subject = "order_id", revisions = true }
[quality]
rules = { order = "amount > 0 AND amount < 1e6" }
[predict]
on = "order"
key = "order_id"
[label]
of = "refund"
by = ["order_id"]
within = "3d"
value = "count() > 0"
[features]
categorical = ["country"]
[features.row]
amount = "amount"
country = "country"
[features.groups.place]
of = "order"
by = ["country"]
windows = ["1h", "1d"]
values = { n = "count()", spent = "sum(amount)", who = "count(DISTINCT buyer)", newest = "last(points)" }
[model]
estimator = "sklearn.linear_model.LogisticRegression"
[train]
first_after = { rows = 1000, positives = 100 }
[gate]
watch = "7d"
baselines = ["constant"]
[drift]
[retrain]
on = ["loss"]
cooldown = "7d"
budget = "10 per 365d"
"""
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}
COUNTRY = {"type": "enum", "name": "country", "symbols": ["DE", "FR", "IT"]}
SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    "order": {
        "type": "record",
        "name": "order",
        "fields": [
            {"name": "order_id", "type": "string"},
            {"name": "ordered_at", "type": MILLIS},
            {"name": "amount", "type": "double"},
            {"name": "pieces", "type": "int"},
            {"name": "points", "type": ["null", "long"], "default": None},
            {"name": "gift", "type": "boolean", "default": False},
            {"name": "country", "type": ["null", COUNTRY]},
            {"name": "buyer", "type": ["null", "string"], "default": None},
            {"name": "paid_at", "type": ["null", MICROS], "default": None},
            {"name": "due", "type": ["null", {"type": "int", "logicalType": "date"}], "default": None},
            {"name": "weight", "type": ["null", "float"], "default": None},
            {"name": "photo", "type": ["null", "bytes"], "default": None},
        ],
    },
    "refund": {
        "type": "record",
        "name": "refund",
        "fields": [
            {"name": "refund_id", "type": "long"},
            {"name": "order_id", "type": ["null", "string"]},
            {"name": "booked_at", "type": "string"},
            {"name": "parts", "type": {"type": "array", "items": "double"}, "default": []},
            {"name": "notes", "type": {"type": "map", "values": ["null", "string"]}, "default": {}},
        ],
    },
}
LOOP = declaration.parse(TOML, SCHEMAS)
CODECS = {name: AvroCodec(schema) for name, schema in SCHEMAS.items()}
ORDER: Mapping[str, Any] = {
    "order_id": "o1",
    "ordered_at": "2024-05-31T23:00:00Z",
    "amount": 20.5,
    "pieces": 2,
    "points": 7,
    "gift": True,
    "country": "DE",
    "buyer": "ada",
    "paid_at": 1_717_200_000_000_000,
    "due": "2024-06-08",
    "weight": 0.5,
    "photo": "AAAA",
}
REFUND: Mapping[str, Any] = {
    "refund_id": 1,
    "order_id": "o1",
    "booked_at": "2024-05-31T23:30:00Z",
    "parts": [1.5, 2],
    "notes": {"why": "late", "who": None},
}
EVENTS = {"order": ORDER, "refund": REFUND}
IDS = {"order": "order_id", "refund": "refund_id"}
STORED = {
    "order": {**ORDER, "ordered_at": NOW_MS - 3_600_000, "due": 19_882, "photo": b"\0\0\0"},
    "refund": dict(REFUND),
}
"""The same as Avro keeps them."""


def right(event: str) -> st.SearchStrategy[tuple[Any, bytes]]:
    """(id, bytes) of an event that nothing is wrong with: JSON in several spellings, or Avro. Ids may come twice."""
    return st.builds(lambda number, spelling: _spelled(event, number, spelling), st.integers(), st.integers(0, 3))


def _spelled(event: str, number: int, spelling: int) -> tuple[Any, bytes]:
    number = abs(number) % 2**40
    id_ = number if event == "refund" else f"right{number}"
    named = {IDS[event]: id_}
    match spelling:
        case 0:
            return id_, dumped({**EVENTS[event], **named})
        case 1:
            return id_, json.dumps({**named, **EVENTS[event], **named}, ensure_ascii=False, indent=1).encode()
        case 2:
            return id_, b" \n" + dumped(dict(reversed({**EVENTS[event], **named}.items()))) + b"\n"
        case _:
            return id_, CODECS[event].encode({**STORED[event], **named})
