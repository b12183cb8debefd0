"""Times: ms since the epoch (UTC) inside, RFC 3339 with milliseconds and `Z` on the wire."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from trimtab.contracts.errors import BadTimeError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_MS = timedelta(milliseconds=1)
_LENGTH = len("2013-01-01T00:00:00.000Z")


def text(ms: int) -> str:
    """RFC 3339 in UTC with three decimals.

    >>> text(1_356_998_400_007)
    '2013-01-01T00:00:00.007Z'
    """
    second, rest = divmod(ms, 1000)
    return f"{_second_text(second)}.{rest:03d}Z"


def parse(value: str) -> int:
    """Ms since the epoch of an RFC 3339 time with a zone; finer fractions are cut off. Raises BadTimeError.

    >>> parse("2013-01-01T05:15:00.250-05:00")
    1357035300250
    """
    if len(value) == _LENGTH and value[23] == "Z" and value[19] == "." and value[20:23].isdecimal():
        return _second_ms(value[:19]) + int(value[20:23])
    match = _RFC3339.fullmatch(value)
    if not match:
        raise BadTimeError(value)
    date, clock, fraction, zone = match.groups()
    ms = _second_ms(f"{date}T{clock}") - _zone_ms(value, zone)
    return ms + int(f"{fraction or '.'}000"[1:4])


@lru_cache(maxsize=8192)
def _second_text(second: int) -> str:
    return (EPOCH + timedelta(seconds=second)).isoformat()[:19]


@lru_cache(maxsize=8192)
def _second_ms(value: str) -> int:
    try:
        return (datetime.strptime(value, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC) - EPOCH) // _MS
    except ValueError as error:
        raise BadTimeError(value) from error


def _zone_ms(value: str, zone: str) -> int:
    if zone in "Zz":
        return 0
    hours, minutes = int(zone[1:3]), int(zone[4:6])
    if hours > 23 or minutes > 59:
        raise BadTimeError(value)
    return (hours * 60 + minutes) * 60_000 * (-1 if zone[0] == "-" else 1)


def _instant(value: object) -> object:
    return parse(value) if isinstance(value, str) else value


Instant = Annotated[
    int,
    BeforeValidator(_instant),
    PlainSerializer(text, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""A field of a control event: RFC 3339 on the wire, ms since the epoch in Python; either constructs one."""
