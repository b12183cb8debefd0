"""Control events: JSON on the wire, frozen pydantic models inside.

Models are generated from schemas/control. A field with a time is RFC 3339 in JSON (`at`, `since`) and ms since the
epoch in Python (`at_ms`, `since_ms`); `from` and `schema` are `from_` and `schema_` in Python. Either name constructs
one, and a time may be given as ms or as text.
"""

from typing import TypeVar

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
    """The event as that model. Raises BadControlEventError."""
    try:
        return model.model_validate_json(value)
    except ValidationError as error:
        raise BadControlEventError(model.__name__, _reason(error)) from error


def _reason(error: ValidationError) -> str:
    problems = error.errors(include_url=False)
    return "; ".join(f"{'.'.join(map(str, p['loc'])) or 'event'}: {p['msg']}" for p in problems[:5])
