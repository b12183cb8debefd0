"""Whether schemas/ is what it should be. Every function yields sentences: which file is wrong, and what is right."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from trimtab.contracts.codec import parsed
from trimtab.contracts.errors import BadSchemaError
from trimtab.contracts.generate.source import Sources, load_json, load_yaml, read

NOUNS = {"registry.commands": "RegistryCommand", "schemas": "PublishedSchema"}
"""Control topics that are no events in the past tense, with the name of their model."""
_EVENT = re.compile(r"[a-z]+\.[a-z]+ed")


def problems(folder: Path) -> list[str]:
    """All that is wrong in a schemas/ folder; files that cannot be read hide what depends on them."""
    return list(_shapes(folder)) or list(_contents(folder))


def _shapes(folder: Path) -> Iterator[str]:
    """Every file against the schema of its kind in schemas/meta."""
    kinds = {"topic": sorted((folder / "topics").glob("*.yaml"))}
    kinds |= {"stages": [folder / "stages.yaml"], "telemetry": [folder / "telemetry.yaml"]}
    for kind, paths in kinds.items():
        validator = Draft202012Validator(load_json(folder / "meta" / f"{kind}.schema.json"))
        for path in paths:
            yield from _yaml_shape(path, validator)
    for path in [*(folder / "control").glob("*.json"), *(folder / "data").glob("*.avsc")]:
        try:
            load_json(path)
        except ValueError as error:
            yield f"{path.name}: not JSON: {error}"


def _yaml_shape(path: Path, validator: Draft202012Validator) -> Iterator[str]:
    try:
        content = load_yaml(path)
    except yaml.YAMLError as error:
        yield f"{path.name}: not YAML: {error}"
        return
    for problem in validator.iter_errors(content):
        yield f"{path.name}: {problem.json_path}: {problem.message}"


def _contents(folder: Path) -> Iterator[str]:
    sources = read(folder)
    yield from topic_problems(sources, {path.stem for path in (folder / "topics").glob("*.yaml")})
    for topic, schema in sources.control.items():
        yield from control_problems(topic, schema, sources.definitions)
    for name, definition in sources.definitions.items():
        yield from _object_problems(f"common.schema.json: {name}", definition)
    for stem, schema in sources.data.items():
        yield from avro_problems(stem, schema)
    yield from _record_problems(sources.data)
    yield from metric_problems(sources)


def topic_problems(sources: Sources, stems: set[str]) -> Iterator[str]:
    """Names, planes and ends of the topics; files that nobody names."""
    known = {*sources.stages, *sources.edges, "each stage"}
    for topic in sources.topics.values():
        stem = topic.topic if topic.per == "all" else topic.name.replace("_", "-")
        if stem not in stems:
            yield f"{topic.name}: its file should be called {stem}.yaml"
        if topic.plane == "data" and not topic.topic.startswith("{loop}."):
            yield f"{topic.name}: a data topic starts with {{loop}}., got {topic.topic}"
        if topic.per == "all" and topic.topic not in NOUNS and not _EVENT.fullmatch(topic.topic):
            yield f"{topic.name}: a control topic is <noun>.<past tense>, got {topic.topic}"
        for end in {*topic.writers, *topic.readers} - known:
            yield f"{topic.name}: {end} is neither a stage nor an edge of stages.yaml"
        if topic.schema is None and topic.value in ("avro", "prediction", "json"):
            yield f"{topic.name}: a value of kind {topic.value} needs a schema"
        if topic.schema is not None and _schema(sources, topic.schema) is None:
            yield f"{topic.name}: {topic.schema} does not exist"
    used = {topic.schema for topic in sources.topics.values()}
    files = [f"control/{name}.schema.json" for name in sources.control] + [f"data/{name}.avsc" for name in sources.data]
    yield from (f"{name} is the schema of no topic" for name in files if name not in used)


def _schema(sources: Sources, path: str) -> Mapping[str, Any] | None:
    kind, _, name = path.partition("/")
    if kind == "control":
        return sources.control.get(name.removesuffix(".schema.json"))
    return sources.data.get(name.removesuffix(".avsc"))


def control_problems(topic: str, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[str]:
    """A control event's schema: valid, closed, named after its topic, with `loop` and `at`."""
    name = f"{topic}.schema.json"
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        yield f"{name}: {error.json_path}: {error.message}"
        return
    title = NOUNS.get(topic, "".join(part.capitalize() for part in topic.split(".")))
    if schema.get("title") != title:
        yield f"{name}: the title should be {title}, got {schema.get('title')}"
    if topic != "schemas" and not {"loop", "at"} <= set(schema.get("required", ())):
        yield f"{name}: loop and at are required of every control event"
    yield from _object_problems(name, schema)
    for reference in _references(schema):
        if reference.removeprefix("common.schema.json#/$defs/") not in definitions:
            yield f"{name}: {reference} is not in common.schema.json"


def _object_problems(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    """Closed objects whose fields are either required or nullable with default null."""
    if "description" not in schema:
        yield f"{name}: needs a description"
    if "properties" not in schema:
        return
    if schema.get("additionalProperties") is not False:
        yield f"{name}: needs additionalProperties: false"
    required = set(schema.get("required", ()))
    for field, value in schema["properties"].items():
        if not re.fullmatch(r"[a-z][a-z0-9_]*", field):
            yield f"{name}: {field} should be snake_case"
        if (field in required) == ("default" in value):
            yield f"{name}: {field} should be either required or nullable with default null"
        if field not in required and not _nullable(value):
            yield f"{name}: {field} may be left out, so it should admit null"
        if "properties" in value:
            yield f"{name}: {field} should be a named definition of common.schema.json"


def _nullable(value: Mapping[str, Any]) -> bool:
    types = value.get("type", [])
    return value.get("default", 0) is None and ("null" in types or {"type": "null"} in value.get("anyOf", []))


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    if isinstance(node, list):
        for value in node:
            yield from _references(value)


def avro_problems(stem: str, schema: Mapping[str, Any]) -> Iterator[str]:
    """A data schema: readable, physical, documented, named after its file."""
    name = f"{stem}.avsc"
    try:
        parsed(schema)
    except BadSchemaError as error:
        yield f"{name}: {error}"
        return
    if schema.get("name", "").lower() != stem.replace("_", ""):
        yield f"{name}: the record should be named after the file, got {schema.get('name')}"
    for record in records(schema):
        yield from _fields_problems(name, record)


def _fields_problems(name: str, record: Mapping[str, Any]) -> Iterator[str]:
    if not record.get("doc"):
        yield f"{name}: record {record['name']} needs a doc"
    for field in record["fields"]:
        if not field.get("doc"):
            yield f"{name}: field {field['name']} needs a doc"
        if not re.fullmatch(r"[a-z][a-z0-9_]*", field["name"]):
            yield f"{name}: {field['name']} should be snake_case"
        if "logicalType" in str(field["type"]):
            yield f"{name}: {field['name']}: no logical types; a time is a long named *_ms"


def records(schema: Any) -> Iterator[Mapping[str, Any]]:
    """A schema's records, the outermost first."""
    if isinstance(schema, list):
        for member in schema:
            yield from records(member)
    if isinstance(schema, Mapping):
        if schema.get("type") == "record":
            yield schema
            for field in schema["fields"]:
                yield from records(field["type"])
        elif "type" in schema:
            yield from records(schema.get("items", schema.get("values", schema["type"])))


def _record_problems(data: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """One name, one shape: structs are generated by name."""
    seen: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for stem, schema in data.items():
        for record in records(schema):
            other, first = seen.setdefault(record["name"], (stem, record))
            if {**first, "namespace": ""} != {**record, "namespace": ""}:
                yield f"{stem}.avsc: record {record['name']} differs from that of {other}.avsc"


def metric_problems(sources: Sources) -> Iterator[str]:
    """Attributes are declared, and each is used."""
    used: set[str] = set()
    for metric in sources.metrics.values():
        used |= set(metric.attributes)
        for attribute in set(metric.attributes) - set(sources.attributes):
            yield f"telemetry.yaml: {metric.name}: attribute {attribute} is not declared"
    for attribute in set(sources.attributes) - used:
        yield f"telemetry.yaml: attribute {attribute} is used by no metric"
