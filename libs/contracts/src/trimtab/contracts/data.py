"""Data-plane records with a fixed schema: frozen structs, generated from schemas/data.

A prediction's features depend on the loop: write and read it with `AvroCodec(prediction_schema(...))`.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

import msgspec

from trimtab.contracts._generated.avro import SCHEMAS as SCHEMAS
from trimtab.contracts._generated.data import *  # noqa: F403 the generated structs are this module's content
from trimtab.contracts._generated.data import SCHEMA_OF as SCHEMA_OF
from trimtab.contracts.codec import AvroCodec

S = TypeVar("S", bound=msgspec.Struct)


@cache
def codec(kind: type[msgspec.Struct]) -> AvroCodec:
    """The codec of a generated struct's schema; its values are dicts."""
    return AvroCodec(SCHEMAS[SCHEMA_OF[kind]])


def encode(value: msgspec.Struct) -> bytes:
    """Single-object Avro of a generated struct. Raises UnencodableError."""
    plain: dict[str, Any] = msgspec.to_builtins(value, builtin_types=(bytes,))
    return codec(type(value)).encode(plain)


def decode(kind: type[S], data: bytes) -> S:
    """The struct of a single-object encoding. Raises a CodecError."""
    return known(kind, codec(kind).decode(data))


def known(kind: type[S], value: Mapping[str, Any]) -> S:
    """What a value, decoded by whichever version of its schema, says of the struct's fields."""
    return msgspec.convert(value, kind, builtin_types=(bytes,))
