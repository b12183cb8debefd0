"""The validator itself, on deliberately bad files: each mistake is found, and the sentence says what is right."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from trimtab.contracts.generate.validate import problems

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SCHEMAS, tmp_path / "schemas"))


def test_the_schemas_are_right() -> None:
    assert problems(SCHEMAS) == []


def change_yaml(name: str, change: Callable[[Any], None]) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        path = folder / name
        content = yaml.safe_load(path.read_text())
        change(content)
        path.write_text(yaml.safe_dump(content))

    return run


def change_json(name: str, change: Callable[[Any], None]) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        path = folder / name
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return run


def write(name: str, text: str) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        (folder / name).write_text(text)

    return run


def rename_outcomes(folder: Path) -> None:
    (folder / "topics/outcomes.yaml").rename(folder / "topics/results.yaml")


def topic(**fields: Any) -> Callable[[Path], None]:
    return change_yaml("topics/outcomes.yaml", lambda content: content.update(fields))


def event(**fields: Any) -> Callable[[Path], None]:
    return change_json("control/drift.detected.schema.json", lambda content: content.update(fields))


def field(name: str, value: Any) -> Callable[[Path], None]:
    return change_json(
        "control/drift.detected.schema.json", lambda content: content["properties"].update({name: value})
    )


def outcome(change: Callable[[Any], None]) -> Callable[[Path], None]:
    return change_json("data/outcome.avsc", change)


def metric(**fields: Any) -> Callable[[Path], None]:
    def change(content: Any) -> None:
        content["metrics"]["trimtab.ingest.events"].update(fields)

    return change_yaml("telemetry.yaml", change)


OTHER_OUTCOME = {"name": "other", "doc": "x", "type": {"type": "record", "name": "Outcome", "doc": "x", "fields": []}}
METRIC = {"kind": "counter", "unit": "1", "attributes": [], "description": "x"}
BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "topic: not YAML": (write("topics/outcomes.yaml", "topic: [x"), "outcomes.yaml: not YAML"),
    "topic: a key is missing": (
        change_yaml("topics/outcomes.yaml", lambda content: content.pop("key")),
        "'key' is a required property",
    ),
    "topic: an unknown key": (topic(owner="me"), "'owner' was unexpected"),
    "topic: cleanup": (topic(cleanup="shred"), "'shred' is not one of ['delete', 'compact']"),
    "topic: partitions": (topic(partitions=0), "$.partitions"),
    "topic: nobody writes": (topic(writers=[]), "$.writers"),
    "topic: an unknown reader": (topic(readers=["trainer.sit"]), "trainer.sit is neither a stage nor an edge"),
    "topic: no such schema": (topic(schema="data/outcame.avsc"), "data/outcame.avsc does not exist"),
    "topic: a data topic of no loop": (topic(topic="outcomes"), "a data topic starts with {loop}."),
    "topic: a file under another name": (
        rename_outcomes,
        "its file should be called outcomes.yaml",
    ),
    "topic: present tense": (
        change_yaml("topics/drift.detected.yaml", lambda content: content.update(topic="drift.detects")),
        "<noun>.<past tense>, got drift.detects",
    ),
    "topic: gone, its schema left behind": (
        lambda folder: (folder / "topics/outcomes.yaml").unlink(),
        "data/outcome.avsc is the schema of no topic",
    ),
    "event: not JSON": (write("control/drift.detected.schema.json", "{"), "not JSON"),
    "event: another title": (event(title="Drift"), "the title should be DriftDetected, got Drift"),
    "event: open": (event(additionalProperties=True), "needs additionalProperties: false"),
    "event: no schema": (event(type=7), "drift.detected.schema.json: $.type"),
    "event: without loop and at": (event(required=["drift_id"]), "loop and at are required"),
    "event: camelCase": (field("driftKind", {"type": ["string", "null"], "default": None}), "should be snake_case"),
    "event: neither required nor nullable": (field("extra", {"type": "string"}), "either required or nullable"),
    "event: a default that is not null": (field("extra", {"type": "string", "default": ""}), "should admit null"),
    "event: a reference to nowhere": (
        field("extra", {"$ref": "common.schema.json#/$defs/Nothing", "default": None}),
        "#/$defs/Nothing is not in common.schema.json",
    ),
    "event: an object in place": (
        field("extra", {"type": ["object", "null"], "properties": {}, "default": None}),
        "should be a named definition",
    ),
    "record: no Avro": (outcome(lambda content: content.update(type="recorde")), "not an Avro schema"),
    "record: another name": (
        outcome(lambda content: content.update(name="Result")),
        "named after the file, got Result",
    ),
    "record: no doc": (outcome(lambda content: content["fields"][0].pop("doc")), "field key needs a doc"),
    "record: camelCase": (
        outcome(lambda content: content["fields"][0].update(name="theKey")),
        "theKey should be snake",
    ),
    "record: a logical type": (
        outcome(lambda content: content["fields"][3].update(type={"type": "long", "logicalType": "timestamp-millis"})),
        "at_ms: no logical types",
    ),
    "record: two shapes under one name": (
        change_json("data/signals.avsc", lambda content: content.update(fields=[*content["fields"], OTHER_OUTCOME])),
        "record Outcome differs",
    ),
    "metric: unit": (metric(unit=""), "$.metrics['trimtab.ingest.events'].unit"),
    "metric: kind": (metric(kind="timer"), "'timer' is not one of"),
    "metric: attribute": (metric(attributes=["loop", "user"]), "attribute user is not declared"),
    "metric: name": (
        change_yaml("telemetry.yaml", lambda content: content["metrics"].update({"Trimtab.X": METRIC})),
        "'Trimtab.X' does not match",
    ),
    "stage: without partitions": (
        change_yaml("stages.yaml", lambda content: content["stages"]["trainer.fit"].pop("partitions")),
        "'partitions' is a required property",
    ),
}


@pytest.mark.parametrize("mistake", BAD)
def test_a_mistake_is_found_and_named(mistake: str, folder: Path) -> None:
    spoil, expected = BAD[mistake]
    spoil(folder)
    found = problems(folder)
    assert any(expected in sentence for sentence in found), found
