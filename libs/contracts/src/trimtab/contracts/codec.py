"""Bytes ⇄ values: Avro's single-object encoding, the Confluent frame on the reading side.

Values are physical: a timestamp is the integer that stands in the bytes, in the unit its schema names. Nothing is
converted to datetimes or decimals on the way.
"""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from io import BytesIO
from typing import Any, cast

from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro import schema as avro
from fastavro.read import SchemaResolutionError

from trimtab.contracts.errors import (
    BadSchemaError,
    NotSingleObjectError,
    UndecodableError,
    UnencodableError,
    UnknownFingerprintError,
    UnknownSchemaIdError,
)

Schema = Mapping[str, Any]
MARKER = b"\xc3\x01"
"""Start of Avro's single-object encoding (Avro 1.12 specification, "Single-object encoding")."""
HEADER_BYTES = 10
CONFLUENT_MARKER = 0
CONFLUENT_BYTES = 5
_UNFIT = (ValueError, TypeError, KeyError, AttributeError, OverflowError, IndexError)
_BROKEN = (ValueError, IndexError, KeyError, TypeError, OverflowError, AssertionError)


def physical(schema: Any) -> Any:
    """The schema without logical types, so that values are what stands in the bytes. The fingerprint stays."""
    if isinstance(schema, Mapping):
        return {name: physical(value) for name, value in schema.items() if name != "logicalType"}
    return [physical(member) for member in schema] if isinstance(schema, list) else schema


def parsed(schema: Any) -> Any:
    """A schema as fastavro wants it, without logical types. Raises BadSchemaError.

    A few bytes must not become a value without end: a type that contains itself overflows the decoder's stack, which
    kills the process, and an array of items that take no bytes has as many as its count says.
    """
    try:
        found = parse_schema(json.loads(json.dumps(physical(schema))))
    except (avro.SchemaParseException, avro.UnknownType, KeyError, TypeError, ValueError) as error:
        raise BadSchemaError(f"{type(error).__name__}: {error}") from error
    _check_finite(found, ())
    return found


def _check_finite(schema: Any, around: tuple[str, ...]) -> None:
    """Raises BadSchemaError. `schema` is parsed, so that names are whole; `around`: the types that it stands in."""
    if isinstance(schema, str) and schema in around:
        raise BadSchemaError(f"{schema} contains itself; an event has a fixed depth")
    if isinstance(schema, Mapping):
        if schema["type"] == "array" and _takes_no_bytes(schema["items"]):
            raise BadSchemaError("an array's items have to take some bytes")
        inside = (*around, schema["name"]) if "name" in schema else around
        parts = [field["type"] for field in schema.get("fields", ())]
        parts += [schema[part] for part in ("items", "values") if part in schema]
        parts += [schema["type"]] if not isinstance(schema["type"], str) else []
        for part in parts:
            _check_finite(part, inside)
    if isinstance(schema, list):
        for member in schema:
            _check_finite(member, around)


def _takes_no_bytes(schema: Any) -> bool:
    if not isinstance(schema, Mapping):
        return bool(schema == "null")
    fields = schema.get("fields")
    if fields is None:
        return _takes_no_bytes(schema["type"])
    return all(_takes_no_bytes(field["type"]) for field in fields)


def fingerprint(schema: Schema) -> bytes:
    """CRC-64-AVRO of the parsing canonical form: 8 bytes, little-endian as in the single-object encoding.

    >>> fingerprint({"type": "int"}).hex()
    '8f5c393f1ad57572'
    """
    return _crc(avro.to_parsing_canonical_form(parsed(schema)))


@lru_cache(maxsize=512)
def _crc(canonical: str) -> bytes:
    """Byte by byte in Python: a service that starts meets the same few schemas again and again."""
    return bytes.fromhex(avro.fingerprint(canonical, "CRC-64-AVRO"))


class AvroCodec:
    """One schema's single-object encoding; `head` is what every record begins with.

    >>> codec = AvroCodec({"type": "record", "name": "Click", "fields": [{"name": "at_ms", "type": "long"}]})
    >>> codec.decode(codec.encode({"at_ms": 5}))
    {'at_ms': 5}
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.fingerprint = fingerprint(schema)
        self._parsed = parsed(schema)
        self.head = MARKER + self.fingerprint

    def encode(self, value: Mapping[str, Any]) -> bytes:
        """Header and body. Raises UnencodableError, which names the field where it can be told."""
        out = BytesIO()
        out.write(self.head)
        try:
            schemaless_writer(out, self._parsed, value)
        except _UNFIT as error:
            raise UnencodableError(str(self.schema.get("name", "?")), f"{type(error).__name__}: {error}") from error
        return out.getvalue()

    def decode(self, data: bytes) -> dict[str, Any]:
        """The value. Raises NotSingleObjectError, UnknownFingerprintError, UndecodableError."""
        if data[:HEADER_BYTES] != self.head:
            raise _wrong_head(data)
        return _read(data, HEADER_BYTES, self._parsed, None)


class Reader:
    """Decodes what any of several writers' schemas produced, resolved to `expected` where given.

    `schemas`: fingerprint → schema; `resolve`: Confluent schema id → schema, None where it is not known. New schemas
    may be added while it lives (`add`), as they are published.
    """

    def __init__(
        self,
        schemas: Mapping[bytes, Schema],
        *,
        expected: Schema | None = None,
        resolve: Callable[[int], Schema | None] | None = None,
    ) -> None:
        self._parsed = {mark: parsed(schema) for mark, schema in schemas.items()}
        self._expected = None if expected is None else parsed(expected)
        self._expected_mark = None if expected is None else fingerprint(expected)
        self._resolve = resolve
        self._by_id: dict[int, Any] = {}

    def add(self, schema: Schema) -> None:
        """Know one more writer's schema."""
        self._parsed[fingerprint(schema)] = parsed(schema)

    def knows(self, mark: bytes) -> bool:
        """Whether a writer's schema with that fingerprint is known."""
        return mark in self._parsed

    def decode(self, data: bytes) -> dict[str, Any]:
        """The value of a single-object encoding or a Confluent frame. Raises a CodecError."""
        if data[:2] == MARKER and len(data) >= HEADER_BYTES:
            return self._single(data)
        if len(data) >= CONFLUENT_BYTES and data[0] == CONFLUENT_MARKER:
            return self._confluent(data)
        raise NotSingleObjectError(data[:4])

    def _single(self, data: bytes) -> dict[str, Any]:
        mark = data[2:HEADER_BYTES]
        writer = self._parsed.get(mark)
        if writer is None:
            raise UnknownFingerprintError(mark)
        return _read(data, HEADER_BYTES, writer, None if mark == self._expected_mark else self._expected)

    def _confluent(self, data: bytes) -> dict[str, Any]:
        schema_id = int.from_bytes(data[1:CONFLUENT_BYTES], "big")
        if schema_id not in self._by_id:
            found = self._resolve(schema_id) if self._resolve else None
            if found is None:
                raise UnknownSchemaIdError(schema_id)
            self._by_id[schema_id] = parsed(found)
        return _read(data, CONFLUENT_BYTES, self._by_id[schema_id], self._expected)


def _wrong_head(data: bytes) -> NotSingleObjectError | UnknownFingerprintError:
    if data[:2] != MARKER or len(data) < HEADER_BYTES:
        return NotSingleObjectError(data[:4])
    return UnknownFingerprintError(data[2:HEADER_BYTES])


def _read(data: bytes, start: int, writer: Any, reader: Any) -> dict[str, Any]:
    stream = BytesIO(data)
    stream.seek(start)
    try:
        value = cast("dict[str, Any]", schemaless_reader(stream, writer, reader))
    except SchemaResolutionError as error:
        raise UndecodableError(
            f"what was written as {writer.get('name')} cannot be read as {(reader or {}).get('name')}: a field or its "
            "type does not fit"
        ) from error
    except EOFError as error:
        raise UndecodableError("they end in the middle of a value") from error
    except UnicodeDecodeError as error:
        raise UndecodableError("a text in them is not UTF-8") from error
    except (*_BROKEN, avro.SchemaParseException, avro.UnknownType) as error:
        raise UndecodableError(f"{type(error).__name__}: {error}") from error
    if stream.tell() != len(data):
        raise UndecodableError(f"{len(data) - stream.tell()} bytes are left over")
    return value
