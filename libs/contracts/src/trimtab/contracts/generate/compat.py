"""Whether a change keeps what is released readable: old and new schema have to read each other.

What is released stands in schemas/compat/released.json, written by `--release` and by nothing else.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from trimtab.contracts.generate.source import Sources
from trimtab.contracts.generate.validate import records

FIXED = ("topic", "value", "partitions", "cleanup", "per")
"""What a topic may never change in place."""


def released(sources: Sources) -> str:
    """The content of released.json."""
    content = {
        "topics": {name: {key: asdict(topic)[key] for key in FIXED} for name, topic in sources.topics.items()},
        "control": dict(sources.control),
        "definitions": dict(sources.definitions),
        "data": dict(sources.data),
    }
    return json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def broken(old: Mapping[str, Any], sources: Sources) -> Iterator[str]:
    """What the current schemas/ breaks of the released one."""
    now = json.loads(released(sources))
    for name, topic in old["topics"].items():
        if now["topics"].get(name) != topic:
            yield f"topic {name}: was {topic}, is {now['topics'].get(name)}: make a new topic instead"
    for kind in ("control", "definitions"):
        for name, schema in old[kind].items():
            yield from broken_object(name, schema, now[kind].get(name))
    for name, schema in old["data"].items():
        yield from broken_record(name, schema, now["data"].get(name))


def broken_object(name: str, old: Mapping[str, Any], new: Mapping[str, Any] | None) -> Iterator[str]:
    """A control schema: fields stay as they are, new ones may be left out."""
    if new is None:
        yield f"{name}: is gone"
        return
    before, after = old.get("properties", {}), new.get("properties", {})
    for field in sorted(before):
        if field not in after:
            yield f"{name}: field {field} is gone: old readers need it"
        elif _bare(before[field]) != _bare(after[field]):
            yield f"{name}: field {field} has changed: add a nullable field, or make a new version"
    for field in sorted(set(after) - set(before)):
        if field in new.get("required", ()):
            yield f"{name}: new field {field} is required: events already written do not have it"
    if set(old.get("required", ())) != set(new.get("required", ())) & set(before):
        yield f"{name}: what is required has changed"
    if "properties" not in old and _bare(old) != _bare(new):
        yield f"{name}: has changed"


def _bare(schema: Any) -> Any:
    """A schema without words for people."""
    if isinstance(schema, Mapping):
        return {key: _bare(value) for key, value in schema.items() if key not in ("description", "doc", "title")}
    return [_bare(member) for member in schema] if isinstance(schema, list) else schema


def broken_record(name: str, old: Mapping[str, Any], new: Mapping[str, Any] | None) -> Iterator[str]:
    """An Avro schema: fields stay as they are, new ones have a default."""
    if new is None:
        yield f"{name}: is gone"
        return
    after = {record["name"]: {field["name"]: field for field in record["fields"]} for record in records(new)}
    for record in records(old):
        fields = after.get(record["name"], {})
        before = {field["name"] for field in record["fields"]}
        for field in record["fields"]:
            if field["name"] not in fields:
                yield f"{name}: field {record['name']}.{field['name']} is gone"
            elif _flat(field["type"]) != _flat(fields[field["name"]]["type"]):
                yield f"{name}: field {record['name']}.{field['name']} has another type"
        for added in sorted(set(fields) - before):
            if "default" not in fields[added]:
                yield f"{name}: new field {record['name']}.{added} needs a default"


def _flat(schema: Any) -> Any:
    """A type with the records inside it by name alone; they are compared by themselves."""
    if isinstance(schema, list):
        return [_flat(member) for member in schema]
    if isinstance(schema, Mapping):
        return (
            schema["name"] if schema.get("type") == "record" else {key: _flat(value) for key, value in schema.items()}
        )
    return schema
