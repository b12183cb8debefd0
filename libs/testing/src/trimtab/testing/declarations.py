"""A small loop, declared: clicks on offers, with the tables that a test wants to be different."""

import tomllib
from collections.abc import Mapping
from typing import Any

from trimtab.contracts.control import DeclaredTopic, LoopDeclared
from trimtab.loops import declaration
from trimtab.loops.declaration.digests import declaration_digest
from trimtab.loops.model import Loop

TOML = """
[loop]
name = "offers"
task = "binary"
[events]
offer = { schema = "offer.avsc", id = "offer_id", time = "shown_at" }
click = { schema = "click.avsc", id = "click_id", time = "clicked_at" }
[predict]
on = "offer"
key = "offer_id"
[label]
of = "click"
by = ["offer_id"]
within = "1d"
value = "count() > 0"
[features]
categorical = ["place"]
[features.row]
place = "place"
price = "price"
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
INSTANT = {"type": "long", "logicalType": "timestamp-millis"}
SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    "offer": {
        "type": "record",
        "name": "offer",
        "fields": [
            {"name": "offer_id", "type": "string"},
            {"name": "shown_at", "type": INSTANT},
            {"name": "place", "type": ["null", "string"]},
            {"name": "price", "type": "double"},
        ],
    },
    "click": {
        "type": "record",
        "name": "click",
        "fields": [
            {"name": "click_id", "type": "string"},
            {"name": "offer_id", "type": "string"},
            {"name": "clicked_at", "type": INSTANT},
        ],
    },
}


def offers(**tables: Mapping[str, Any]) -> Loop:
    """The loop, with keys of its tables replaced: `offers(retrain={"cooldown": "1d"}, loop={"name": "other"})`."""
    data: dict[str, Any] = tomllib.loads(TOML)
    for name, table in tables.items():
        data[name] = {**data.get(name, {}), **table}
    return made(data)


def made(data: Mapping[str, Any]) -> Loop:
    """The loop that such a declaration makes, with the schemas above."""
    return declaration.from_declared(data, SCHEMAS, version=1, partitions=2, digest=declaration_digest(data, SCHEMAS))


def declared(loop: Loop, *, version: int = 1, at_ms: int = 0) -> LoopDeclared:
    """The event by which a loop is applied. Its topics are left out."""
    body, schemas = declaration.declared(loop)
    return LoopDeclared(
        loop=loop.name,
        at_ms=at_ms,
        version=version,
        digest=loop.digest,
        declaration=body,
        schemas=schemas,
        partitions=loop.partitions,
        topics=list[DeclaredTopic](),
        by="test",
    )
