"""Old and new schemas read each other; a change that would break that is refused."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trimtab.contracts import control
from trimtab.contracts.codec import AvroCodec, Reader, fingerprint
from trimtab.contracts.generate import compat
from trimtab.contracts.generate.source import Sources, read

ROOT = Path(__file__).resolve().parents[2]
RELEASED = ROOT / "schemas/compat/released.json"


@pytest.fixture(scope="module")
def sources() -> Sources:
    return read(ROOT / "schemas")


def test_nothing_released_is_broken(sources: Sources) -> None:
    """Before the first release there is no such file, and everything may change."""
    if RELEASED.is_file():
        assert list(compat.broken(json.loads(RELEASED.read_text()), sources)) == []


def test_releasing_twice_changes_nothing(sources: Sources) -> None:
    assert list(compat.broken(json.loads(compat.released(sources)), sources)) == []


def add(schema: Any, **field: Any) -> None:
    schema["fields"].append({"doc": "x", **field})


def retype(schema: Any, name: str, kind: Any) -> None:
    next(field for field in schema["fields"] if field["name"] == name)["type"] = kind


def drop(schema: Any, name: str) -> None:
    schema["fields"] = [field for field in schema["fields"] if field["name"] != name]


RECORD: dict[str, tuple[Callable[[Any], None], str | None]] = {
    "a nullable field": (lambda s: add(s, name="note", type=["null", "string"], default=None), None),
    "a field without default": (lambda s: add(s, name="note", type="string"), "new field Outcome.note needs a default"),
    "a field less": (lambda s: drop(s, "suspect"), "field Outcome.suspect is gone"),
    "another type": (lambda s: retype(s, "status", "int"), "field Outcome.status has another type"),
    "a narrower union": (lambda s: retype(s, "label", "double"), "field Outcome.label has another type"),
}


@pytest.mark.parametrize("change", RECORD)
def test_a_change_of_a_record(change: str, sources: Sources) -> None:
    edit, expected = RECORD[change]
    found = list(compat.broken(json.loads(compat.released(sources)), edited(sources, edit)))
    assert [expected] == [sentence.partition(": ")[2] for sentence in found] if expected else found == []


def edited(sources: Sources, edit: Callable[[Any], None]) -> Sources:
    schema = copy.deepcopy(sources.data["outcome"])
    edit(schema)
    return replace(sources, data={**sources.data, "outcome": schema})


def test_old_and_new_records_read_each_other(sources: Sources) -> None:
    old = sources.data["outcome"]
    new = edited(sources, RECORD["a nullable field"][0]).data["outcome"]
    value = json.loads((ROOT / "schemas/examples/outcomes/labelled.json").read_text())
    written = {fingerprint(old): AvroCodec(old).encode(value), fingerprint(new): AvroCodec(new).encode(value)}
    both = {fingerprint(old): old, fingerprint(new): new}
    for body in written.values():
        assert Reader(both, expected=old).decode(body) == value
        assert Reader(both, expected=new).decode(body) == {**value, "note": None}


NULLABLE = {"type": ["string", "null"], "default": None, "description": "x"}
EVENT: dict[str, tuple[Callable[[Any], Any], str | None]] = {
    "a nullable field": (lambda s: s["properties"].update(note=NULLABLE), None),
    "another description": (lambda s: s["properties"]["looks"].update(description="else"), None),
    "a required field": (
        lambda s: (s["properties"].update(note={"type": "string"}), s["required"].append("note")),
        "new field note is required",
    ),
    "a field less": (lambda s: s["properties"].pop("looks"), "field looks is gone"),
    "another type": (lambda s: s["properties"]["looks"].update(type="number"), "field looks has changed"),
    "no longer required": (lambda s: s["required"].remove("looks"), "what is required has changed"),
}


@pytest.mark.parametrize("change", EVENT)
def test_a_change_of_a_control_event(change: str, sources: Sources) -> None:
    edit, expected = EVENT[change]
    schema = copy.deepcopy(sources.control["drift.detected"])
    edit(schema)
    changed = replace(sources, control={**sources.control, "drift.detected": schema})
    found = list(compat.broken(json.loads(compat.released(sources)), changed))
    assert any(expected in sentence for sentence in found) if expected else found == []


def test_a_reader_passes_over_fields_of_a_later_version() -> None:
    later = {"loop": "flights", "at": "2013-01-01T00:00:00.000Z", "added_later": 7}
    event = control.decode_as(control.TimeAdvanced, json.dumps(later).encode())
    assert event.loop == "flights"


def test_a_topic_keeps_its_partitions(sources: Sources) -> None:
    moved = replace(sources.topics["signals"], partitions="loop")
    changed = replace(sources, topics={**sources.topics, "signals": moved})
    found = list(compat.broken(json.loads(compat.released(sources)), changed))
    assert len(found) == 1
    assert found[0].startswith("topic signals: was")
