"""What exactly is wrong with a user's JSON: the slow way, for events that the fast decoder refuses."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from trimtab.loops.incoming.contract import Contract, Row
from trimtab.loops.incoming.fields import Field
from trimtab.loops.incoming.unreadable import why
from trimtab.loops.incoming.verdicts import Refusal
from trimtab.loops.names import nearest

MOST = 5
"""Problems that one reason names."""
LONGEST_SHOWN = 60
_KINDS = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}


def diagnose(contract: Contract, value: bytes) -> Row | Refusal:
    """Every problem of an event; or its row, where only a whole number was written 12.0, which is right."""
    try:
        return _judged(contract, msgspec.json.decode(value))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Refusal("format", f"expected JSON or Avro: {why(value)}")


def _judged(contract: Contract, event: object) -> Row | Refusal:
    if not isinstance(event, dict):
        return Refusal("format", f"expected a JSON object, got {_kind(event)}")
    known = {field.name for field in contract.fields}
    unknown = [name for name in event if name not in known]
    problems = [_unknown(name, known, event) for name in unknown[:MOST]]
    row: list[Any] = []
    for field in contract.fields:
        try:
            row.append(_value(field, event))
        except _UnfitError as unfit:
            problems.append(str(unfit))
    if not problems:
        return tuple(row)
    alone = len(problems) == 1 and problems[0].startswith(f"{contract.fields[contract.time].name}:")
    return Refusal("time" if alone else "schema", _listed(problems, len(unknown[MOST:])))


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
    word = brief(name)
    near = nearest(word, sorted(known - set(event))) or nearest(word, sorted(known))
    meant = f"did you mean {near}?" if near else f"known are {', '.join(sorted(known))}"
    return f"{word}: there is no such field; {meant}"


def _listed(problems: list[str], untold: int) -> str:
    more = len(problems[MOST:]) + untold
    return "; ".join([*problems[:MOST], *([f"and {more} more"] if more > 0 else [])])


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "a number")


def _shown(value: object) -> str:
    return brief(json.dumps(value, ensure_ascii=False))


def brief(text: str) -> str:
    """A text as a reason shows it: whatever an event holds, a reason stays short."""
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}…"
