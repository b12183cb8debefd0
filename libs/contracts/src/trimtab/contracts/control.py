"""Control events: JSON on the wire, frozen pydantic models inside.

Models are generated from schemas/control. A field with a time is RFC 3339 in JSON (`at`, `since`) and ms since the
epoch in Python (`at_ms`, `since_ms`); `from` and `schema` are `from_` and `schema_` in Python. Either name constructs
one, and a time may be given as ms or as text; on the wire it is text, of a year from 1000 to 8999.
"""

from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError

from trimtab.contracts._generated.control import *  # noqa: F403 the generated models are this module's content
from trimtab.contracts._generated.events import BY_TOPIC as BY_TOPIC
from trimtab.contracts._generated.events import Event as Event
from trimtab.contracts.errors import BadControlEventError, UnknownTopicError

TOPIC_OF = {model: topic for topic, model in BY_TOPIC.items()}
M = TypeVar("M", bound=BaseModel)


def encode(event: BaseModel) -> bytes:
    """The event as JSON: all fields, times as RFC 3339."""
    return event.model_dump_json(by_alias=True).encode()


def decode(topic: str, value: bytes) -> Event:
    """The event of a control topic. Raises UnknownTopicError, BadControlEventError."""
    model = BY_TOPIC.get(topic)
    if model is None:
        raise UnknownTopicError(topic)
    return decode_as(model, value)


def decode_as(model: type[M], value: bytes) -> M:
    """The event as that model. Raises BadControlEventError.

    Fields that the model does not know are looked at too: signatures are over the whole JSON.
    """
    try:
        given = msgspec.json.decode(value)  # as RFC 8259 has it: no NaN, no infinity, no half of a surrogate pair
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadControlEventError(model.__name__, f"event: Invalid JSON: {error}") from error
    if (beyond := next(_beyond(given, ""), None)) is not None:
        raise BadControlEventError(model.__name__, f"{beyond}: a whole number of more than 64 bits")
    try:
        return model.model_validate_json(value)
    except ValidationError as error:
        raise BadControlEventError(model.__name__, _reason(error)) from error


def _beyond(value: Any, path: str) -> Iterator[str]:
    """The places of integers that neither a database nor a table of ours holds."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        yield path.removeprefix(".") or "event"
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from _beyond(one, f"{path}.{name}")
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _beyond(one, f"{path}.{index}")


def _reason(error: ValidationError) -> str:
    problems = error.errors(include_url=False)
    return "; ".join(f"{'.'.join(map(str, p['loc'])) or 'event'}: {p['msg']}" for p in problems[:5])
