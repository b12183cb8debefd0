"""When a task gives up: how often it failed where it stands, and which record did it.

A parked task stands still until a person has decided. That it is parked is a record in its changelog, so it is parked
wherever it is opened next.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from trimtab.runtime.errors import StepRaisedError
from trimtab.runtime.position import RESERVED

KEY = RESERVED + b"parked"
_SKIPPED = RESERVED + b"skipped:"
_PART = 8
"""The next try of a batch that failed takes an eighth of it: 5,000 records are down to one after five failures."""


class RecordAt(msgspec.Struct, frozen=True):
    """A record in the task's partition of an input."""

    topic: str
    offset: int


class Parked(msgspec.Struct, frozen=True):
    """A task that stands still. `by`: the person who wanted it; None: it gave up by itself, after `tries` failures.

    `offsets`: its position, by input topic. `record`: which one did it; None: the failure needs no record.
    """

    reason: str
    at_ms: int
    offsets: dict[str, int]
    by: str | None = None
    tries: int = 0
    record: RecordAt | None = None

    def told(self, task: str) -> str:
        """Why, and which command decides.

        >>> Parked("a fix is on its way", 0, {"in": 4}, by="kim").told("a.b-0")
        'parked by kim: a fix is on its way; `trimtab tasks retry a.b-0` lets it go on'
        """
        retry = f"`trimtab tasks retry {task}`"
        if self.by is not None:
            return f"parked by {self.by}: {self.reason}; {retry} lets it go on"
        if self.record is None:
            return f"failed {self.tries} times, over no single record: {self.reason}; {retry} tries again"
        at = f"{self.record.topic} {self.record.offset}"
        skip = f"`trimtab tasks skip {task} {at}`"
        return f"failed {self.tries} times at {at}: {self.reason}; {retry} tries again, {skip} passes the record over"


class Skipped(msgspec.Struct, frozen=True):
    """A record that a person had passed over, as it was, with who decided that, when and why."""

    by: str
    at_ms: int
    why: str
    topic: str
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


def skipped_key(topic: str, offset: int) -> bytes:
    """Under which the changelog keeps a skipped record, for good.

    >>> skipped_key("in", 4)
    b'\\x00skipped:in 4'
    """
    return b"%s%s %d" % (_SKIPPED, topic.encode(), offset)


def is_skipped(key: bytes | None) -> bool:
    """Whether a changelog record is one."""
    return key is not None and key.startswith(_SKIPPED)


encode = msgspec.msgpack.Encoder().encode
"""Both as they stand in the changelog."""
decode = msgspec.msgpack.Decoder(Parked).decode
decode_skipped = msgspec.msgpack.Decoder(Skipped).decode


class Narrowed(NamedTuple):
    """Take at most `limit` records, of whatever input, until all that once failed (`until`: last offsets) is behind."""

    limit: int
    until: Mapping[str, int]

    def covers(self, positions: Mapping[str, int]) -> bool:
        """Whether something of it is still ahead."""
        return any(positions.get(topic, math.inf) <= last for topic, last in self.until.items())


WIDE = Narrowed(0, {})
"""Nothing has failed."""


class Patience:
    """How often a task has failed in a row where it stands. Mutable: the task alone owns it.

    Counted is what a step, a decoder or a table raised. What the log or the network do to a task says nothing about
    its records.
    """

    def __init__(self, park_after: int) -> None:
        self._park_after = park_after
        self._at: Mapping[str, int] = {}
        self._last: StepRaisedError | None = None
        self.tries = 0
        self.narrowed = WIDE

    def opened(self, offsets: Mapping[str, int]) -> None:
        """Where the task stands as it opens. Come on in an input that failed, it counts anew; others may flow on."""
        failed = self._last.spans.keys() if self._last is not None else ()
        if any(offsets.get(topic) != self._at.get(topic) for topic in failed or offsets):
            self.forget()
        self._at = offsets

    def failed(self, error: StepRaisedError) -> None:
        """It raised once more: the next try takes less, until the failure has a single cause."""
        self._last = error
        self.tries += 1
        if error.spans:
            limit = max(1, error.records // _PART)
            lasts = {topic: max(last, self.narrowed.until.get(topic, last)) for topic, (_, last) in error.spans.items()}
            self.narrowed = Narrowed(limit, {**self.narrowed.until, **lasts})

    def forget(self) -> None:
        """Count anew."""
        self._last = None
        self.tries = 0

    def verdict(self, offsets: Mapping[str, int], now_ms: int) -> Parked | None:
        """How it is to be parked at this position; None: it is worth another try."""
        error = self._last
        if error is None or not error.alone or self.tries < self._park_after:
            return None
        places = [RecordAt(topic, first) for topic, (first, _) in error.spans.items()]
        return Parked(str(error), now_ms, dict(offsets), tries=self.tries, record=places[0] if places else None)
