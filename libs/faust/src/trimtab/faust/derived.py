"""Derived events: what a person's function made of an event, as records for the loop's door."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trimtab.contracts import data, envelope, topics
from trimtab.contracts.codec import AvroCodec, Reader, fingerprint
from trimtab.contracts.envelope import Headers
from trimtab.faust.errors import EventWithoutIdError, UnknownEventError
from trimtab.loops.model import Event, Loop

Fields = Mapping[str, Any]
"""An event's fields as they stand in Avro: a timestamp is an integer in its schema's unit (ms, say)."""
Made = Fields | Sequence[Fields] | None
"""What a function makes of one event: nothing, an event, or several."""
QUARANTINED = "processor"
"""The rule that an event broke when a processor refused it."""


@dataclass(frozen=True, slots=True)
class Came:
    """An event as it was read. `headers`: CloudEvents and, when sampled, `traceparent`."""

    topic: str
    partition: int
    offset: int
    headers: Headers
    value: bytes

    @property
    def id(self) -> str:
        """Its id: ingest gave every event one."""
        return envelope.require(self.headers, envelope.ID).decode()

    @property
    def trace(self) -> str | None:
        """Its traceparent, if it has one; what is derived from it carries it on."""
        return envelope.traceparent(self.headers)


@dataclass(frozen=True, slots=True)
class Goes:
    """A record to write. Its key lets equal keys keep their order."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers


def derived_id(processor: str, source_id: str, number: int) -> str:
    """Follows from what it was derived from alone: derived again, it is a copy, and ingest drops it.

    >>> derived_id("inbound", "2013-01-01-UA-1", 0)
    '02f0f69afa7e502ccb434d985499c10d'
    """
    return hashlib.sha256(f"{processor}|{source_id}|{number}".encode()).hexdigest()[:32]


class Derivation:
    """Events `of` a loop → derived events of another kind of the same loop, which enter by its source topic.

    Raises UnknownEventError, EventWithoutIdError.
    """

    def __init__(self, processor: str, loop: Loop, event: str, of: str) -> None:
        self.processor, self.loop = processor, loop
        source, derived = _declared(loop, of), _declared(loop, event)
        if derived.id is None:
            raise EventWithoutIdError(loop.name, event)
        self.topic = topics.events(loop.name, of)
        self.name = f"{processor}.{event}.{of}"
        self._id_field = derived.id
        self._event, self._of = event, of
        self._target = topics.source(loop.name, event)
        self._codec = AvroCodec(derived.schema)
        self._reader = Reader({fingerprint(source.schema): source.schema}, expected=source.schema)

    def fields(self, came: Came) -> Fields:
        """The fields of an event. Raises CodecError."""
        return self._reader.decode(came.value)

    def learn(self, schema: Mapping[str, Any]) -> None:
        """Know one more schema that the loop's events were written with."""
        self._reader.add(schema)

    def records(self, came: Came, made: Made) -> list[Goes]:
        """What was made of an event, for the loop's door. The id is filled in. Raises UnencodableError."""
        events = [] if made is None else [made] if isinstance(made, Mapping) else list(made)
        return [self._record(came, fields, number) for number, fields in enumerate(events)]

    def refused(self, came: Came, reason: str, wall_ms: int) -> Goes:
        """An event from which nothing could be derived, for the quarantine: the derived event is what is missing."""
        at_ms = envelope.event_time_ms(came.headers)
        rejected = data.Rejected(
            event=self._event,
            rule=QUARANTINED,
            reason=reason,
            id=derived_id(self.name, came.id, 0),
            source_topic=came.topic,
            source_partition=came.partition,
            source_offset=came.offset,
            original=came.value,
            wall_ms=wall_ms,
            event_time_ms=at_ms,
        )
        place = f"{came.topic}-{came.partition}-{came.offset}"
        headers = envelope.headers(place, "rejected", self.name, at_ms, came.trace)
        return Goes(topics.rejected(self.loop.name), came.id.encode(), data.encode(rejected), headers)

    def _record(self, came: Came, fields: Fields, number: int) -> Goes:
        name = derived_id(self.name, came.id, number)
        value = self._codec.encode({**fields, self._id_field: name})
        at_ms = envelope.event_time_ms(came.headers)
        headers = envelope.headers(name, self._event, self.name, at_ms, came.trace)
        return Goes(self._target, name.encode(), value, headers)


def _declared(loop: Loop, event: str) -> Event:
    if event not in loop.events:
        raise UnknownEventError(loop.name, event, list(loop.events))
    return loop.events[event]
