"""The events that a loop has accepted: which they are, what they ask, and which of the asks have a label."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from zlib import crc32

import numpy as np

from trimtab.contracts import envelope
from trimtab.loops.keys import key_text, value_text
from trimtab.loops.labels import BUCKETS_PER_WINDOW, NO_ASKS, NO_EVENTS, Asks, LabelEvents, LabelJoin
from trimtab.loops.model import Event, Loop
from trimtab.loops.rows import EventReader
from trimtab.monitor.core.silence import advance, expectation, floor, opened
from trimtab.monitor.stages.decoding import LabelReader, LabelRows, keyed_alike
from trimtab.runtime.records import Read
from trimtab.runtime.stage import UNKNOWN_MS

PARTS = 64
"""Labels are joined in so many parts, one after the other: what a join holds is a hundred times the asks' own bytes."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """Events of one name that passed ingest. `bodies`: distinct ones, a correction is one more. `ids`: see `named`."""

    records: int
    bodies: int
    ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class Events:
    """`accepted`: events by name. `asks`: keys of those that ask. `labelled`: of those whose label is known."""

    accepted: Mapping[str, Accepted]
    asks: frozenset[str]
    labelled: frozenset[str]


def named(event: Event, id_: str | None, body: bytes) -> str:
    """What an event is known by from its source to the loop's events: its id; where it has none, what it says."""
    return sha256(body).hexdigest() if event.id is None else id_ or ""


class Reading:
    """Takes the records of the loop's events in, then says what they are. Mutable; lives for one pass."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._records = dict.fromkeys(loop.events, 0)
        self._ids: dict[str, set[str]] = {name: set() for name in loop.events}
        self._bodies: dict[str, set[tuple[bytes, bytes]]] = {n: set() for n, e in loop.events.items() if e.revisions}
        self._asking = EventReader(loop.asks, [loop.predict.key, *loop.label.by])
        self._asked: dict[str, tuple[str, int]] = {}
        self._labels, self._label_ids = LabelReader(loop, {}), dict[str, int]()
        self._told: list[LabelRows] = []
        self._came_ms: list[int] = []
        self._newest_ms = UNKNOWN_MS

    def take(self, name: str, records: Sequence[Read]) -> None:
        """Some accepted events of one name, in the log's order."""
        if not records:
            return
        event = self._loop.events[name]
        headers = [dict(record.headers) for record in records]
        ids = [named(event, one[envelope.ID].decode(), r.value or b"") for one, r in zip(headers, records, strict=True)]
        at_ms = envelope.event_times_ms([record.headers for record in records])
        self._records[name] += len(records)
        self._ids[name].update(ids)
        if event.revisions:
            self._bodies[name].update((one[envelope.ID], one[envelope.DIGEST]) for one in headers)
        self._newest_ms = max(self._newest_ms, *at_ms)
        if name == self._loop.predict.on:
            self._ask(records, at_ms)
        if name == self._loop.label.of:
            numbers = [self._label_ids.setdefault(id_, len(self._label_ids)) for id_ in ids]
            told = self._labels.read(records, np.array(at_ms, np.int64), numbers)
            self._told.append(replace(told, records=()))
            self._came_ms += at_ms

    def events(self) -> Events:
        """All that was taken in."""
        accepted = {
            name: Accepted(count, len(self._bodies.get(name, self._ids[name])), frozenset(self._ids[name]))
            for name, count in self._records.items()
        }
        return Events(accepted, frozenset(self._asked), frozenset(self._labelled()))

    def _ask(self, records: Sequence[Read], at_ms: Sequence[int]) -> None:
        values = self._asking.read([record.value or b"" for record in records]).values
        keys = [value_text(key) for key in values[self._loop.predict.key]]
        by = [key_text(one) for one in zip(*(values[name] for name in self._loop.label.by), strict=True)]
        for key, place, at in zip(keys, by, at_ms, strict=True):
            self._asked.setdefault(key, (place or "", at))

    def _labelled(self) -> Iterator[str]:
        """By the loop's own join: whatever came in an ask's window counts, however late it came."""
        loop = self._loop
        through_ms = self._through_ms()
        buckets = 1 if keyed_alike(loop) else BUCKETS_PER_WINDOW
        for asks, events in self._parts():
            join = LabelJoin(self._labels.window, keep_ms=0, buckets=buckets)
            told = [join.fold(asks, events, UNKNOWN_MS).outcomes, join.fold(NO_ASKS, NO_EVENTS, through_ms).outcomes]
            last = {
                key: known == known or known_class is not None
                for some in told
                for key, known, known_class in zip(some.key, some.label, some.label_class, strict=True)
            }
            yield from (key for key, is_known in last.items() if is_known)

    def _parts(self) -> Iterator[tuple[Asks, LabelEvents]]:
        """Asks with a `by`, and the label events that may be theirs."""
        asked = [(key, by, at_ms) for key, (by, at_ms) in self._asked.items() if by]
        by = [one for some in self._told for one in some.by]
        at_ms = [one for some in self._told for one in some.at_ms.tolist()]
        ids = [one for some in self._told for one in some.id.tolist()]
        numbers = [one for some in self._told for one in some.numbers]
        texts = [one for some in self._told for one in some.texts]
        ask_part = np.array([crc32(one.encode()) % PARTS for _, one, _ in asked], np.int64)
        event_part = np.array([crc32(one.encode()) % PARTS for one in by], np.int64)
        for part in range(PARTS):
            asks = [asked[row] for row in np.flatnonzero(ask_part == part)]
            rows = np.flatnonzero(event_part == part).tolist()
            yield (
                Asks([one[0] for one in asks], [one[1] for one in asks], [one[2] for one in asks], [b""] * len(asks)),
                LabelEvents(
                    by=[by[row] for row in rows],
                    at_ms=[at_ms[row] for row in rows],
                    id=[ids[row] for row in rows],
                    numbers=[numbers[row].tolist() for row in rows],
                    texts=[texts[row] for row in rows],
                ),
            )

    def _through_ms(self) -> int:
        """How far windows are closed once all services have read all of it; a silent source keeps them open."""
        watermark_ms = self._newest_ms - self._loop.lateness_ms
        expect = self._loop.events[self._loop.label.of].expect
        if expect is None or not self._came_ms:
            return watermark_ms
        expected = expectation(expect)
        starts, counts = np.unique(np.array(self._came_ms) // expected.width_ms * expected.width_ms, return_counts=True)
        arrived = dict(zip(starts.tolist(), counts.tolist(), strict=True))
        asked_ms = min((at_ms for _, at_ms in self._asked.values()), default=self._newest_ms)
        began_ms = min(int(starts[0]), floor(asked_ms, expected.width_ms))
        before = opened(began_ms, expected)
        return advance(before, lambda start: arrived.get(start, 0), expected, began_ms, watermark_ms)[0].through_ms
