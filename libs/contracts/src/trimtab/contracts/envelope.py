"""Headers of a record: CloudEvents in binary mode, `traceparent`, and the runtime's own marks."""

import re
from collections.abc import Sequence

from trimtab.contracts import times
from trimtab.contracts.errors import ContractError

Headers = tuple[tuple[str, bytes], ...]

SPECVERSION = ("ce_specversion", b"1.0")
"""The header that makes a reader of CloudEvents take a record for one (their Kafka binding, section 3.2)."""
ID = "ce_id"
TYPE = "ce_type"
SOURCE = "ce_source"
TIME = "ce_time"
TRACEPARENT = "traceparent"
KEY = "tt_key"
"""Routing key of an accepted event."""
DIGEST = "tt_digest"
"""16 bytes of the digest of an accepted event's body."""
MARK = "tt_mark"
"""Progress in ms since the epoch, or `idle`; only on records without a value."""
TASK = "tt_task"
"""Who wrote a mark: <group>-<partition>."""

_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class MissingHeaderError(ContractError):
    """A record of ours without a header that every record has."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the record has no header {name}; producers to Trimtab's own topics have to set it")
        self.name = name


def headers(id: str, type: str, source: str, time_ms: int, traceparent: str | None = None) -> Headers:
    """The headers of a data or control record. `time_ms` is its event time.

    >>> headers("7", "departure", "ingest.accept.flights", 0)[-1]
    ('ce_time', b'1970-01-01T00:00:00.000Z')
    """
    plain = (
        SPECVERSION,
        (ID, id.encode()),
        (TYPE, type.encode()),
        (SOURCE, source.encode()),
        (TIME, times.text(time_ms).encode()),
    )
    return plain if traceparent is None else (*plain, (TRACEPARENT, traceparent.encode()))


def get(headers: Headers, name: str) -> bytes | None:
    """The first header of that name; None where there is none."""
    for key, value in headers:
        if key == name:
            return value
    return None


def traceparent(headers: Headers) -> str | None:
    """The record's `traceparent`; None where there is none."""
    found = get(headers, TRACEPARENT)
    return None if found is None else found.decode("ascii", "replace")


def foreign_traceparent(headers: Headers) -> bytes | None:
    """The `traceparent` of a record that others wrote; None where it is none (W3C Trace Context, "traceparent")."""
    given = get(headers, TRACEPARENT)
    return given if given is not None and _TRACEPARENT.fullmatch(given) else None


def require(headers: Headers, name: str) -> bytes:
    """The first header of that name. Raises MissingHeaderError."""
    value = get(headers, name)
    if value is None:
        raise MissingHeaderError(name)
    return value


def event_time_ms(headers: Headers) -> int:
    """The record's event time in ms since the epoch. Raises MissingHeaderError, BadTimeError."""
    return times.parse(require(headers, TIME).decode())


def event_times_ms(found: Sequence[Headers]) -> list[int]:
    """The same of many records at once."""
    return times.parse_many([require(headers, TIME) for headers in found])
