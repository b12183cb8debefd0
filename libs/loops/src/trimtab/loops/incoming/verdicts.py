"""What became of an event."""

from typing import Literal

import msgspec

Rule = Literal[
    "format", "schema_id", "schema", "id", "time", "quality", "time_ahead", "too_old", "conflict", "too_large"
]
"""Which promise an event broke.

format: neither JSON nor Avro. schema_id: an Avro schema nobody knows. schema: a field that is missing, unknown or of
another type. id: no id. time: no readable event time. quality: a rule of the declaration. time_ahead: dated beyond the
clock, or far beyond all before it. too_old: dated before what is remembered of ids. conflict: the id of another body.
too_large: more than a record may hold.
"""


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """Why an event does not pass. `reason` names field, expectation and what was found."""

    rule: Rule
    reason: str


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """An event that does not pass: `index` in its batch, and its id and time as far as they could be read."""

    index: int
    refusal: Refusal
    id: bytes | None = None
    time_ms: int | None = None


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """An event that passes. `key`: its routing key; `digest`: 16 bytes of its body."""

    index: int
    id: bytes
    key: bytes
    time_ms: int
    digest: bytes
    body: bytes
