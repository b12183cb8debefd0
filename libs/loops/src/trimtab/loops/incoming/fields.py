"""How the fields of a user's event are read from JSON and kept as Avro's physical values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any, Literal

import msgspec

INT32 = 2**31
INT64 = 2**63
FLOAT32 = 3.4028234663852886e38
KINDS = ("boolean", "int", "long", "float", "double", "string", "bytes")
INSTANTS = {"timestamp-millis": 1, "timestamp-micros": 1000}
"""Logical types of instants, with their ticks per ms."""
_TYPES: Mapping[str, Any] = {
    "boolean": bool,
    "int": Annotated[int, msgspec.Meta(ge=-INT32, le=INT32 - 1)],
    "long": Annotated[int, msgspec.Meta(ge=-INT64, le=INT64 - 1)],
    "float": Annotated[float, msgspec.Meta(ge=-FLOAT32, le=FLOAT32)],
    "double": float,
    "string": str,
    "bytes": bytes,
}
_WORDS = {
    "int": "int (32 bits)",
    "long": "int (64 bits)",
    "float": "number",
    "double": "number",
    "bytes": "base64 text",
}
ZONED = Annotated[datetime, msgspec.Meta(tz=True)]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an event's Avro schema.

    `kind`: a primitive, "enum", or "nested" for what only Avro itself can check (records, arrays, maps, wide unions).
    `ticks`: ticks per ms of an instant, None for anything else. `null`, `value`: the bytes that choose a union's
    branch; `null` None: it may not be null, `value` empty: no union. `default`: where `optional`.
    """

    name: str
    kind: str
    ticks: int | None = None
    days: bool = False
    null: bytes | None = None
    value: bytes = b""
    symbols: Sequence[str] = ()
    optional: bool = False
    default: Any = None

    @property
    def nullable(self) -> bool:
        """Whether null is a value of it."""
        return self.null is not None

    @property
    def json_type(self) -> Any:
        """The type that its value has to have in a user's JSON, as msgspec takes it."""
        plain = self._plain_type()
        return plain | None if self.nullable and self.kind != "nested" else plain

    def _plain_type(self) -> Any:
        if self.ticks is not None:
            return ZONED | _TYPES["long"]
        if self.days:
            return date | _TYPES["int"]
        if self.kind == "enum":
            return Literal[tuple(self.symbols)]
        return _TYPES.get(self.kind, Any)

    @property
    def expected(self) -> str:
        """The same in words."""
        words = self._words()
        return f"{words} or null" if self.nullable else words

    def _words(self) -> str:
        if self.ticks is not None:
            unit = "ms" if self.ticks == 1 else "µs"
            return f"an RFC 3339 time with a zone, or {unit} since the epoch"
        if self.days:
            return "a date (YYYY-MM-DD), or days since the epoch"
        if self.kind == "enum":
            return f"one of {', '.join(self.symbols)}"
        return _WORDS.get(self.kind, self.kind)


def fields_of(schema: Mapping[str, Any]) -> tuple[Field, ...]:
    """The fields of a record schema, in its order.

    >>> fields_of({"fields": [{"name": "n", "type": ["null", "int"], "default": None}]})[0].expected
    'int (32 bits) or null'
    """
    return tuple(_field(field) for field in schema["fields"])


def _field(field: Mapping[str, Any]) -> Field:
    members = field["type"] if isinstance(field["type"], list) else [field["type"]]
    others = [member for member in members if member != "null"]
    optional = "default" in field or "null" in members
    common: dict[str, Any] = {"name": field["name"], "optional": optional, "default": field.get("default")}
    if len(others) != 1 or len(members) > 2:
        return Field(kind="nested", null=b"" if "null" in members else None, **common)
    if isinstance(field["type"], list):
        common["value"] = _branch(members.index(others[0]))
    if "null" in members:
        common["null"] = _branch(members.index("null"))
    return _single(others[0], common)


def _branch(index: int) -> bytes:
    """Avro's union index: a zigzag varint, one byte for so few."""
    return bytes([index * 2])


def _single(member: Any, common: dict[str, Any]) -> Field:
    detail = member if isinstance(member, Mapping) else {"type": member}
    kind, logical = detail["type"], detail.get("logicalType")
    if kind == "enum":
        return Field(kind="enum", symbols=tuple(detail["symbols"]), **common)
    if kind not in KINDS or (kind == "bytes" and logical is not None):
        return Field(kind="nested", **common)
    if kind == "bytes" and isinstance(common["default"], str):
        common["default"] = common["default"].encode("latin-1")  # as Avro writes bytes in a schema
    if kind == "long" and logical in INSTANTS:
        return Field(kind="long", ticks=INSTANTS[logical], **common)
    return Field(kind=kind, days=kind == "int" and logical == "date", **common)
