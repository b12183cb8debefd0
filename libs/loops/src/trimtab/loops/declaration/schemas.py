"""The Avro schemas of a loop's events: read from beside the declaration and checked."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fastavro
from fastavro.schema import SchemaParseException, UnknownType

from trimtab.contracts.codec import parsed
from trimtab.contracts.errors import BadSchemaError
from trimtab.loops.columns import field_type
from trimtab.loops.errors import LoopsError
from trimtab.loops.names import nearest

FindSchema = Callable[[str, str], Mapping[str, Any]]
"""(event, file name in the declaration) → schema; raises SchemaError."""


class SchemaError(LoopsError):
    """A schema that cannot be used for an event."""

    def __init__(self, wrong: str, right: str) -> None:
        super().__init__(f"{wrong}; right: {right}")
        self.wrong = wrong
        self.right = right


def beside(folder: Path) -> FindSchema:
    """Schemas from the files beside a declaration; never from outside its folder."""

    def find(event: str, file: str) -> Mapping[str, Any]:
        if Path(file).name != file:
            raise SchemaError(f"`{file}` is not beside the declaration", f'a file name without folders: "{event}.avsc"')
        known = sorted(path.name for path in folder.glob("*.avsc"))
        if file not in known:
            near = nearest(file, known)
            raise SchemaError(f"there is no file `{file}`", f"`{near}`" if near else f"write the schema to {file}")
        return checked(_json(folder / file))

    return find


def _json(path: Path) -> Any:
    """Raises SchemaError."""
    try:
        return json.loads(path.read_bytes().decode())
    except json.JSONDecodeError as error:
        wrong = f"{error.msg} at line {error.lineno}, column {error.colno}"
        raise SchemaError(f"`{path.name}` is not JSON: {wrong}", "an Avro schema is a JSON object") from error
    except UnicodeDecodeError as error:
        raise SchemaError(f"`{path.name}` is not JSON: byte {error.start} is not UTF-8", "save it as UTF-8") from error
    except (RecursionError, ValueError) as error:
        raise SchemaError(f"`{path.name}` is not JSON: {error}", "an Avro schema is a JSON object") from error


def given(schemas: Mapping[str, Mapping[str, Any]]) -> FindSchema:
    """Schemas that came with a declaration, by event."""

    def find(event: str, file: str) -> Mapping[str, Any]:
        if event not in schemas:
            raise SchemaError(f"there is no schema for the event `{event}`", f"the content of {file or 'its schema'}")
        return checked(schemas[event])

    return find


def checked(schema: Any) -> Mapping[str, Any]:
    """The same schema when it is an Avro record with fields; SchemaError otherwise."""
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise SchemaError("an event's schema must be a record", '{"type": "record", "name": ..., "fields": [...]}')
    try:
        fastavro.parse_schema(schema, _write_hint=False)
    except UnknownType as error:
        raise SchemaError(
            f"unknown Avro type {error}", "string, long, int, double, float, boolean, bytes ..."
        ) from error
    except (SchemaParseException, KeyError, TypeError, AttributeError) as error:
        raise SchemaError(f"not an Avro schema: {error}", "a record as the Avro specification has it") from error
    try:
        parsed(schema)
    except BadSchemaError as error:
        raise SchemaError(error.reason, "nested records, arrays and maps of a fixed depth") from error
    unnamed = [field["name"] for field in schema["fields"] if not isinstance(field["name"], str)]
    if unnamed:
        raise SchemaError(f"a field's name is {unnamed[0]!r}", 'a text: {"name": "amount", "type": "double"}')
    if not _has_scalar(schema):
        raise SchemaError("the record has no scalar field", "at least a time field")
    return schema


def _has_scalar(schema: Mapping[str, Any]) -> bool:
    try:
        types = [field_type(field["type"]) for field in schema["fields"]]
    except TypeError as error:  # a list or an object for a logicalType, which the parser passes over
        raise SchemaError(f"not an Avro schema: {error}", "a record as the Avro specification has it") from error
    return any(dtype is not None for dtype in types)
