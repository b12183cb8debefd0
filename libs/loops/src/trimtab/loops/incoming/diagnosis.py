"""What exactly is wrong with a user's JSON: the slow way, for events that the fast decoder refuses."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from trimtab.loops.incoming.contract import Contract, Row
from trimtab.loops.incoming.fields import Field
from trimtab.loops.incoming.verdicts import Refusal
from trimtab.loops.names import nearest

MOST = 5
"""Problems that one reason names."""
_KINDS = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}


def diagnose(contract: Contract, value: bytes) -> Row | Refusal:
    """Every problem of an event; or its row, where only a whole number was written 12.0, which is right."""
    try:
        event = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Refusal("format", f"expected JSON or Avro, got {_excerpt(value)}: {error}")
    if not isinstance(event, dict):
        return Refusal("format", f"expected a JSON object, got {_kind(event)}")
    known = {field.name for field in contract.fields}
    problems = [_unknown(name, known, event) for name in event if name not in known]
    row: list[Any] = []
    for field in contract.fields:
        try:
            row.append(_value(field, event))
        except _UnfitError as unfit:
            problems.append(str(unfit))
    if not problems:
        return tuple(row)
    alone = len(problems) == 1 and problems[0].startswith(f"{contract.fields[contract.time].name}:")
    return Refusal("time" if alone else "schema", _listed(problems))


class _UnfitError(Exception):
    """A value that does not fit its field."""


def _value(field: Field, event: Mapping[str, Any]) -> Any:
    if field.name not in event:
        if field.optional:
            return field.default
        raise _UnfitError(f"{field.name}: expected {field.expected}, got nothing")
    value = event[field.name]
    if isinstance(value, float) and field.kind in ("int", "long") and value.is_integer():
        value = int(value)
    try:
        return msgspec.convert(value, field.json_type)
    except msgspec.ValidationError as error:
        raise _UnfitError(f"{field.name}: expected {field.expected}, got {_shown(value)}") from error


def _unknown(name: str, known: set[str], event: Mapping[str, Any]) -> str:
    near = nearest(name, sorted(known - set(event))) or nearest(name, sorted(known))
    meant = f"did you mean {near}?" if near else f"known are {', '.join(sorted(known))}"
    return f"{name}: there is no such field; {meant}"


def _listed(problems: list[str]) -> str:
    more = len(problems) - MOST
    return "; ".join([*problems[:MOST], *([f"and {more} more"] if more > 0 else [])])


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "a number")


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _excerpt(value: bytes) -> str:
    text = value[:40].decode("utf-8", "backslashreplace")
    return repr(text + "…" if len(value) > 40 else text)
