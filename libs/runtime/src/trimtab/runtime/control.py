"""Control events as stages hear and write them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from trimtab.contracts import control, envelope, topics
from trimtab.contracts.control import (
    TOPIC_OF,
    CommandSettled,
    DeploymentChanged,
    DriftDetected,
    LoopDeclared,
    ModelRegistered,
    ModelTrained,
    PerformanceMeasured,
    PublishedSchema,
    QualityRestored,
    QualityViolated,
    RegistryCommand,
    RetrainAsked,
    RetrainDeclined,
    RetrainRequested,
    TimeAdvanced,
    TrainingFailed,
)
from trimtab.contracts.errors import BadControlEventError, UnknownTopicError
from trimtab.runtime.records import Headers, Out, Read

LoopEvent = (
    CommandSettled
    | DeploymentChanged
    | DriftDetected
    | LoopDeclared
    | ModelRegistered
    | ModelTrained
    | PerformanceMeasured
    | QualityRestored
    | QualityViolated
    | RegistryCommand
    | RetrainAsked
    | RetrainDeclined
    | RetrainRequested
    | TimeAdvanced
    | TrainingFailed
)
"""A control event about a loop: all but published schemas."""
WALL_CLOCK = frozenset({topics.RETRAIN_ASKED, topics.REGISTRY_COMMANDS})
"""Topics of people: their `at` is the wall clock's."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A control event as it was read. `event` None: the loop's end, a tombstone of its declaration. `trace`: its
    traceparent."""

    topic: str
    loop: str
    event: LoopEvent | None
    trace: str | None
    value: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that is no control event: whoever wrote it by hand kept no schema."""

    topic: str
    reason: str


def heard(records: Mapping[str, Sequence[Read]]) -> tuple[list[Heard], list[Refused]]:
    """The events of a batch in the order in which they happened, and what could not be read.

    Topics are read side by side, so that an effect may be read before its cause: within a batch declarations come
    first, then events by event time, then what people want. Events of equal time keep the order of topics and offsets.
    """
    found: list[Heard] = []
    refused: list[Refused] = []
    for topic, read in records.items():
        events, others = as_written(topic, read)
        found += events
        refused += others
    return sorted(found, key=_place), refused


class Message(Protocol):
    """What is looked at of a record."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...


def as_written(topic: str, records: Sequence[Message]) -> tuple[list[Heard], list[Refused]]:
    """The events of one topic in the order of its records, and what could not be read."""
    found: list[Heard] = []
    refused: list[Refused] = []
    for record in records:
        try:
            found.append(_heard(topic, record))
        except BadControlEventError as error:
            refused.append(Refused(topic, error.reason))
    return found, refused


def _heard(topic: str, record: Message) -> Heard:
    trace = envelope.traceparent(record.headers)
    if record.value is None and topic == topics.LOOP_DECLARED:
        return Heard(topic, (record.key or b"").decode("utf-8", "replace"), None, trace, b"")
    if record.value is None:
        raise BadControlEventError(
            topic, f"it is empty: a record without a value says something in {topics.LOOP_DECLARED} alone"
        )
    event = control.decode(topic, record.value)
    if isinstance(event, PublishedSchema):
        raise UnknownTopicError(topic)
    if record.key != event.loop.encode():  # it stands in a partition whose task knows nothing of its loop
        key = repr(record.key)[:60]
        raise BadControlEventError(
            topic, f"its key is {key}, its loop {event.loop!r}: the loop's name has to be the key"
        )
    return Heard(topic, event.loop, event, trace, record.value)


def _place(one: Heard) -> tuple[int, int]:
    if one.event is None or one.topic == topics.LOOP_DECLARED:
        return 0, 0
    return (2, 0) if one.topic in WALL_CLOCK else (1, one.event.at_ms)


def written(event: LoopEvent, *, id: str, source: str, trace: str | None) -> Out:  # CloudEvents' name
    """The record of an event, keyed by its loop. Control events are always sampled: one without a cause begins a trace.

    Only `time.advanced` begins none: it says that nothing happened, thousands of times a year. `id` has to follow from
    the event alone, so that a batch that is run twice writes the same record.
    """
    topic = TOPIC_OF[type(event)]
    begun = None if isinstance(event, TimeAdvanced) else first_trace(id)
    headers = envelope.headers(id, topic, source, event.at_ms, trace or begun)
    return Out(topic, event.loop.encode(), control.encode(event), headers)


def first_trace(id: str) -> str:  # as above
    """A sampled traceparent that follows from an id.

    >>> first_trace("flights-1")
    '00-e55343eaf2f2a455f9c3486c62eb9021-ee9badcaaf184685-01'
    """
    digest = hashlib.sha256(id.encode()).hexdigest()
    return f"00-{digest[:32]}-{digest[32:48]}-01"
