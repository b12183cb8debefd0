"""Whether what one Avro schema wrote can be read as another (Avro 1.12, "Schema Resolution")."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trimtab.contracts.codec import Schema, physical

_PROMOTED = {
    "int": ("long", "float", "double"),
    "long": ("float", "double"),
    "float": ("double",),
    "string": ("bytes",),
    "bytes": ("string",),
}


def unreadable(writer: Schema, reader: Schema) -> Sequence[str]:
    """Why records of `writer` cannot be read as `reader`, a sentence each; none: they can.

    >>> old = {"type": "record", "name": "Click", "fields": [{"name": "n", "type": "int"}]}
    >>> more = [{"name": "n", "type": "long"}, {"name": "by", "type": "string"}]
    >>> unreadable(old, {**old, "fields": more})
    ['field by is new and needs a default']
    """
    return list(_of_records(physical(writer), physical(reader)))


def _of_records(writer: Schema, reader: Schema) -> Iterator[str]:
    if _short(writer["name"]) != _short(reader["name"]):
        yield f"the record was called {writer['name']} and is now called {reader['name']}"
    written = {field["name"]: field["type"] for field in writer["fields"]}
    for field in reader["fields"]:
        before = next((written[name] for name in (field["name"], *field.get("aliases", ())) if name in written), None)
        if before is None and "default" not in field:
            yield f"field {field['name']} is new and needs a default"
        elif before is not None and not _resolves(before, field["type"]):
            yield f"field {field['name']} has another type"


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _resolves(writer: Any, reader: Any) -> bool:
    """Whether every value of one type is one of the other."""
    writer, reader = _plain(writer), _plain(reader)
    if isinstance(writer, list):
        return all(_resolves(branch, reader) for branch in writer)
    if isinstance(reader, list):
        return any(_resolves(writer, branch) for branch in reader)
    if isinstance(writer, Mapping) and isinstance(reader, Mapping):
        return writer.get("type") == reader.get("type") and _alike(writer, reader)
    return writer == reader or (isinstance(writer, str) and reader in _PROMOTED.get(writer, ()))


def _plain(schema: Any) -> Any:
    """A type without what is said about it: `{"type": "long"}` is `"long"`."""
    alone = isinstance(schema, Mapping) and (isinstance(schema["type"], Mapping | list) or schema.keys() == {"type"})
    return _plain(schema["type"]) if alone else schema


def _alike(writer: Mapping[str, Any], reader: Mapping[str, Any]) -> bool:
    """Two named or nested types of one kind."""
    match writer["type"]:
        case "record":
            return not unreadable(writer, reader)
        case "enum":
            return set(writer["symbols"]) <= set(reader["symbols"]) or "default" in reader
        case "array":
            return _resolves(writer["items"], reader["items"])
        case "map":
            return _resolves(writer["values"], reader["values"])
        case _:
            return writer.get("size") == reader.get("size")
