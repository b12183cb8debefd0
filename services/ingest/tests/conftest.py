"""A shop's loop: orders ask, refunds label; one field of every kind."""

from collections.abc import Mapping
from typing import Any

import pytest
from trimtab.loops import declaration
from trimtab.loops.incoming.contract import Contract, compile_contract
from trimtab.loops.incoming.ports import no_registry
from trimtab.loops.model import Loop

TOML = """
[loop]
name = "shop"
task = "binary"
max_ahead = "5m"
max_gap = "30d"
[events]
order = { schema = "order.avsc", id = "order_id", time = "ordered_at", dedupe = "7d" }
refund = { schema = "refund.avsc", id = "refund_id", time = "booked_at", subject = "order_id", revisions = true }
visit = { schema = "visit.avsc", time = "seen_at" }
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
            {"name": "paid_at", "type": ["null", MICROS], "default": None},
            {"name": "due", "type": ["null", {"type": "int", "logicalType": "date"}], "default": None},
            {"name": "weight", "type": ["null", "float"], "default": None},
        ],
    },
    "refund": {
        "type": "record",
        "name": "refund",
        "fields": [
            {"name": "refund_id", "type": "long"},
            {"name": "order_id", "type": ["null", "string"]},
            {"name": "booked_at", "type": "string"},
            {"name": "why", "type": ["null", "string"], "default": None},
        ],
    },
    "visit": {
        "type": "record",
        "name": "visit",
        "fields": [
            {"name": "seen_at", "type": MICROS},
            {"name": "pages", "type": {"type": "array", "items": "string"}},
        ],
    },
}
ORDER: Mapping[str, Any] = {
    "order_id": "o1",
    "ordered_at": "2024-05-31T12:00:00Z",
    "amount": 20.5,
    "pieces": 2,
    "country": "DE",
}


@pytest.fixture(scope="session")
def shop() -> Loop:
    return declaration.parse(TOML, SCHEMAS)


@pytest.fixture(scope="session")
def order(shop: Loop) -> Contract:
    return compile_contract(shop, shop.events["order"], no_registry)


@pytest.fixture(scope="session")
def refund(shop: Loop) -> Contract:
    return compile_contract(shop, shop.events["refund"], no_registry)


@pytest.fixture(scope="session")
def visit(shop: Loop) -> Contract:
    return compile_contract(shop, shop.events["visit"], no_registry)


@pytest.fixture
def good() -> dict[str, Any]:
    return dict(ORDER)
