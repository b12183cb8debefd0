"""The columns that expressions see: an event's Avro schema as polars types."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from trimtab.loops.model import Event

TIME = pl.Datetime("ms", "UTC")

_PRIMITIVES: Mapping[str, pl.DataType] = {
    "string": pl.String(),
    "int": pl.Int64(),
    "long": pl.Int64(),
    "float": pl.Float64(),
    "double": pl.Float64(),
    "boolean": pl.Boolean(),
    "enum": pl.String(),
}
_LOGICAL: Mapping[str, pl.DataType] = {
    "timestamp-millis": TIME,
    "timestamp-micros": TIME,
    "date": pl.Date(),
    "uuid": pl.String(),
}


def event_columns(event: Event) -> dict[str, pl.DataType]:
    """Name → type of the fields that expressions over this event may use, in the schema's order.

    The event's time is always `Datetime("ms", "UTC")`, also where the schema says string (RFC 3339 with a zone).
    Nested fields (records, arrays, maps, bytes, fixed) are no columns.

    >>> fields = [{"name": "at", "type": "string"}, {"name": "n", "type": ["null", "int"]}]
    >>> event_columns(Event("click", {"type": "record", "name": "click", "fields": fields}, time="at", dedupe_ms=0))
    {'at': Datetime(time_unit='ms', time_zone='UTC'), 'n': Int64}
    """
    columns = schema_columns(event.schema)
    if event.time in columns:
        columns[event.time] = TIME
    return columns


def schema_columns(schema: Mapping[str, Any]) -> dict[str, pl.DataType]:
    """Name → type of a record schema's scalar fields."""
    types = {field["name"]: field_type(field["type"]) for field in schema["fields"]}
    return {name: dtype for name, dtype in types.items() if dtype is not None}


def field_type(avro_type: Any) -> pl.DataType | None:
    """The polars type of an Avro type; None for what is not scalar. A union of null and one type is that type."""
    if isinstance(avro_type, list):
        others = [member for member in avro_type if member != "null"]
        return field_type(others[0]) if len(others) == 1 else None
    if isinstance(avro_type, str):
        return _PRIMITIVES.get(avro_type)
    logical = avro_type.get("logicalType")
    return _LOGICAL[logical] if logical in _LOGICAL else field_type(avro_type["type"])


def nullable(avro_type: Any) -> bool:
    """Whether an Avro type admits null.

    >>> nullable(["null", "string"]), nullable("string")
    (True, False)
    """
    return avro_type == "null" or (isinstance(avro_type, list) and "null" in avro_type)
