"""Examples ⇄ schemas ⇄ models: every topic has examples, each keeps its schema and survives the round trip."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from trimtab.contracts import control, data
from trimtab.contracts.codec import AvroCodec
from trimtab.contracts.prediction import prediction_schema
from trimtab.contracts.specs import TopicTemplate
from trimtab.contracts.topics import TEMPLATES

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
EXAMPLES = SCHEMAS / "examples"
OPAQUE = {"changelog", "control_changelog"}
"""Each stage's own tables: nobody else reads them."""


def examples(*values: str) -> list[Any]:
    """(template, path) of all examples of topics with such values."""
    return [
        pytest.param(template, path, id=f"{folder}-{path.stem}")
        for template in TEMPLATES.values()
        if template.value in values
        for folder in [template.topic if template.per == "all" else template.name]
        for path in sorted((EXAMPLES / folder).glob("*.json"))
    ]


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def without_nulls(value: Any) -> Any:
    """A field left out and a field that is null say the same."""
    if isinstance(value, dict):
        return {name: without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("template", [t for t in TEMPLATES.values() if t.name not in OPAQUE], ids=lambda t: t.name)
def test_a_topic_has_two_examples(template: TopicTemplate) -> None:
    folder = EXAMPLES / (template.topic if template.per == "all" else template.name)
    assert len(list(folder.glob("*.json"))) >= 2, f"{folder} needs two examples"


def test_no_example_is_of_an_unknown_topic() -> None:
    known = {template.topic if template.per == "all" else template.name for template in TEMPLATES.values()}
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir()} <= known


@pytest.fixture(scope="module")
def registry() -> Registry[Any]:
    schemas = [load(path) for path in (SCHEMAS / "control").glob("*.json")]
    return Registry().with_resources([(schema["$id"], Resource.from_contents(schema)) for schema in schemas])


@pytest.mark.parametrize(("template", "path"), examples("json"))
def test_a_control_example_keeps_its_schema(template: TopicTemplate, path: Path, registry: Registry[Any]) -> None:
    assert template.schema
    validator = Draft202012Validator(load(SCHEMAS / template.schema), registry=registry)
    assert list(validator.iter_errors(load(path))) == []


@pytest.mark.parametrize(("template", "path"), examples("json"))
def test_a_control_example_survives_the_model(template: TopicTemplate, path: Path, registry: Registry[Any]) -> None:
    event = control.decode(template.topic, path.read_bytes())
    written = control.encode(event)
    assert without_nulls(json.loads(written)) == without_nulls(load(path))
    assert control.decode(template.topic, written) == event
    assert control.TOPIC_OF[type(event)] == template.topic


@pytest.mark.parametrize(("template", "path"), examples("json"))
def test_a_model_never_writes_what_its_schema_refuses(
    template: TopicTemplate, path: Path, registry: Registry[Any]
) -> None:
    """Left-out fields too: the model fills them with null, which the schema has to admit."""
    assert template.schema
    schema = load(SCHEMAS / template.schema)
    required = {name: value for name, value in load(path).items() if name in schema["required"]}
    written = json.loads(control.encode(control.decode(template.topic, json.dumps(required).encode())))
    assert set(written) == set(schema["properties"])
    assert list(Draft202012Validator(schema, registry=registry).iter_errors(written)) == []


STRUCTS = {stem: kind for kind, stem in data.SCHEMA_OF.items()}


@pytest.mark.parametrize(("template", "path"), examples("avro"))
def test_a_data_example_survives_struct_and_avro(template: TopicTemplate, path: Path) -> None:
    assert template.schema
    kind = STRUCTS[Path(template.schema).stem]
    value = msgspec.json.decode(path.read_bytes(), type=kind)
    assert data.decode(kind, data.encode(value)) == value
    assert without_nulls(json.loads(msgspec.json.encode(value))) == without_nulls(load(path))


@pytest.mark.parametrize(("template", "path"), examples("prediction"))
def test_a_prediction_keeps_its_loops_schema(template: TopicTemplate, path: Path) -> None:
    value = load(path)
    categorical = [name for name, feature in value["features"].items() if isinstance(feature, str)]
    schema = prediction_schema("flights", list(value["features"]), categorical=categorical, aged=list(value["ages_ms"]))
    assert AvroCodec(schema).decode(AvroCodec(schema).encode(value)) == value
    struct = msgspec.convert(value, data.Prediction)
    assert msgspec.to_builtins(struct) == value


@pytest.mark.parametrize(("template", "path"), examples("declared"))
def test_an_event_keeps_the_declared_schema(template: TopicTemplate, path: Path) -> None:
    codec = AvroCodec(load(EXAMPLES / "departure.avsc"))
    assert codec.decode(codec.encode(load(path))) == load(path)
