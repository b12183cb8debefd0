"""Times: ms since the epoch (UTC) inside, RFC 3339 with milliseconds and `Z` on the wire."""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Annotated

import numpy as np
from pydantic import BeforeValidator, PlainSerializer, ValidationInfo, WithJsonSchema

from trimtab.contracts.errors import BadTimeError, BeyondTimeError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d):(\d\d):(\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_SHAPE = "0000-00-00T00:00:00.000Z"
_LENGTH = len(_SHAPE)
_DIGITS = [at for at, sign in enumerate(_SHAPE) if sign == "0"]
_MARKS = [at for at, sign in enumerate(_SHAPE) if sign != "0"]
_MARKS_ARE = np.array([ord(_SHAPE[at]) for at in _MARKS], np.uint8)


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
    match = _RFC3339.fullmatch(value)
    if not match:
        raise BadTimeError(value)
    day, hour, minute, second, fraction, zone = match.groups()
    if hour > "23" or minute > "59" or second > "59":
        raise BadTimeError(value)
    ms = _day_ms(day) + int(hour) * 3_600_000 + int(minute) * 60_000 + int(second) * 1000
    if fraction:
        ms += int(f"{fraction}000"[1:4])
    return ms if zone in "Zz" else ms - _zone_ms(value, zone)


def parse_many(values: Sequence[bytes]) -> list[int]:
    """Many times as `parse` reads them, in the UTF-8 of headers; those that `text` wrote all at once.

    >>> parse_many([b"1970-01-01T00:00:00.007Z", b"1970-01-01T01:00:00+01:00"])
    [7, 0]
    """
    data = b"".join(values)
    if len(data) != _LENGTH * len(values) or any(map(_LENGTH.__ne__, map(len, values))) or not values:
        return [parse(value.decode()) for value in values]
    octets = np.frombuffer(data, np.uint8).reshape(-1, _LENGTH)
    if not ((octets[:, _MARKS] == _MARKS_ARE).all() and ((octets[:, _DIGITS] ^ 0x30) < 10).all()):
        return [parse(value.decode()) for value in values]
    try:
        moments = np.ascontiguousarray(octets[:, : _LENGTH - 1]).view("S23").ravel().astype("datetime64[ms]")
    except ValueError:
        return [parse(value.decode()) for value in values]
    found: list[int] = moments.astype(np.int64).tolist()
    return found


@lru_cache(maxsize=8192)
def _second_text(second: int) -> str:
    return (EPOCH + timedelta(seconds=second)).isoformat()[:19]


@lru_cache(maxsize=8192)
def _day_ms(value: str) -> int:
    try:
        return (date.fromisoformat(value) - EPOCH.date()).days * 86_400_000
    except ValueError as error:
        raise BadTimeError(value) from error


def _zone_ms(value: str, zone: str) -> int:
    if zone in "Zz":
        return 0
    hours, minutes = int(zone[1:3]), int(zone[4:6])
    if hours > 23 or minutes > 59:
        raise BadTimeError(value)
    return (hours * 60 + minutes) * 60_000 * (-1 if zone[0] == "-" else 1)


EARLIEST_MS = parse("1000-01-01T00:00:00Z")
LATEST_MS = parse("8999-12-31T23:59:59.999Z")
"""What comes from outside is dated between these: a thousand years on either side are left for what is reckoned from it
before a time has no text any more."""


def _instant(value: object, info: ValidationInfo) -> object:
    """Raises BadTimeError, and BeyondTimeError for JSON's."""
    found = parse(value) if isinstance(value, str) else None
    if found is None and info.mode != "json":
        return value
    if found is None or (info.mode == "json" and not EARLIEST_MS <= found <= LATEST_MS):
        raise BeyondTimeError(value)
    return found


Instant = Annotated[
    int,
    BeforeValidator(_instant),
    PlainSerializer(text, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""A field of a control event: RFC 3339 on the wire, ms since the epoch in Python; either constructs one."""
