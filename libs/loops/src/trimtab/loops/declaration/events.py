"""The `[events]` table."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from trimtab.loops.columns import field_type, nullable
from trimtab.loops.declaration.quantities import DAY_MS, duration_ms, rate
from trimtab.loops.declaration.reading import Report, Section
from trimtab.loops.declaration.schemas import FindSchema, SchemaError
from trimtab.loops.model import Event, Features, Label

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
SHORTEST_DEDUPE_MS = 7 * DAY_MS
_UNSET = -1


def read_events(section: Section, find: FindSchema) -> dict[str, Event]:
    """The events by name; those whose schema or time is wrong are left out (and noted)."""
    names = section.keys()
    if not names:
        section.report.add(section.path, "no event is declared", 'click = { schema = "click.avsc", time = "at" }')
    found = {name: _event(section.section(name), name, find) for name in names}
    section.report.broken.update(name for name, event in found.items() if event is None)
    return {name: event for name, event in found.items() if event is not None}


def with_dedupe(events: Mapping[str, Event], label: Label, features: Features) -> dict[str, Event]:
    """Fills in `dedupe` where it is not declared: the longest of the label's window, the features' windows and 7 d."""
    windows = (window.width_ms + window.ago_ms for group in features.groups for window in group.windows)
    longest = max(SHORTEST_DEDUPE_MS, label.within_ms, *windows)
    return {
        name: replace(event, dedupe_ms=longest) if event.dedupe_ms == _UNSET else event
        for name, event in events.items()
    }


def fields(event: Event) -> Sequence[str]:
    """The names of an event's scalar fields, in the schema's order."""
    return [field["name"] for field in event.schema["fields"] if field_type(field["type"]) is not None]


def check_field(report: Report, path: tuple[str | int, ...], event: Event, field: str) -> bool:
    """Whether an event has a field; notes a problem when it does not."""
    known = fields(event)
    if field not in known:
        report.unknown(path, field, known, f"field of `{event.name}`")
    return field in known


def check_never_null(report: Report, path: tuple[str | int, ...], event: Event, field: str) -> None:
    """Notes a field that may be null where a value is always needed."""
    if check_field(report, path, event, field) and nullable(_types(event.schema)[field]):
        report.add(path, f"`{field}` may be null in {event.name}'s schema", f'give `{field}` a type without "null"')


def _event(section: Section, name: str, find: FindSchema) -> Event | None:
    if not NAME.fullmatch(name):
        section.report.add(section.path, f"`{name}` is no name of an event", "small letters, digits, _: page_view")
    schema = _schema(section, name, find)
    event = Event(
        name=name,
        schema=schema or {"fields": []},
        time=section.required("time", '"occurred_at"'),
        dedupe_ms=section.positive("dedupe", duration_ms, _UNSET),
        id=section.text("id", "") or None,
        subject=section.text("subject", "") or None,
        expect=section.parsed("expect", rate, (0, 0)) if "expect" in section else None,
        revisions=section.value("revisions", bool, False),
    )
    section.close()
    if schema is None or not event.time:
        return None
    _check(section, event)
    return event if event.time in _types(schema) else None


def _schema(section: Section, name: str, find: FindSchema) -> Mapping[str, Any] | None:
    file = section.required("schema", f'"{name}.avsc"')
    if not file:
        return None
    try:
        return find(name, file)
    except SchemaError as error:
        section.wrong("schema", error.wrong, error.right)
        return None


def _check(section: Section, event: Event) -> None:
    path = section.at("time")
    check_never_null(section.report, path, event, event.time)
    avro = _types(event.schema).get(event.time)
    if avro is not None and not nullable(avro) and not _is_time(avro):
        right = 'a "string" (RFC 3339 with a zone) or a long with logicalType timestamp-millis or timestamp-micros'
        section.report.add(path, f"`{event.time}` cannot be read as a time: its type is {avro!r}", right)
    if event.id is not None:
        check_never_null(section.report, section.at("id"), event, event.id)
    if event.subject is not None:
        check_field(section.report, section.at("subject"), event, event.subject)
    if event.revisions and event.id is None:
        section.wrong("revisions", "corrections are told by their id, and this event has none", 'id = "..."')


def _is_time(avro: Any) -> bool:
    logical = avro.get("logicalType") if isinstance(avro, dict) else None
    return avro == "string" or logical in {"timestamp-millis", "timestamp-micros"}


def _types(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {field["name"]: field["type"] for field in schema["fields"]}
