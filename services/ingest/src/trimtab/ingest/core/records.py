"""Verdicts as records: headers, keys, quarantine."""

from collections.abc import Sequence
from dataclasses import dataclass

from trimtab.contracts import data, envelope
from trimtab.contracts.envelope import Headers
from trimtab.loops.incoming.columns import stamps
from trimtab.loops.incoming.ports import Keep
from trimtab.loops.incoming.verdicts import Accepted, Rejected
from trimtab.runtime.control import first_trace
from trimtab.runtime.records import Out

LARGEST_ORIGINAL = 256 * 1024
"""Bytes of an original that quarantine holds itself; a larger one is kept as a blob."""
TRACED_OF = 65_536
_NONE: Headers = ()


@dataclass(frozen=True, slots=True)
class Source:
    """Where an event came from. `trace`: its `traceparent`, where it has one."""

    topic: str
    partition: int
    offset: int
    trace: bytes | None = None

    @property
    def place(self) -> str:
        """The place as one text."""
        return f"{self.topic}-{self.partition}-{self.offset}"


@dataclass(frozen=True, slots=True)
class Origin:
    """Who writes. `event`: its name in the declaration; `source`: the writing stage."""

    event: str
    source: str


def accepted_records(
    topic: str, origin: Origin, events: Sequence[Accepted], headers: Sequence[Headers], trace_share: float
) -> list[Out]:
    """The records of accepted events. `headers`: of the record each came in.

    An event that came with a `traceparent` keeps it; of the others, a share starts a trace, chosen by digest.
    """
    of_type = (envelope.TYPE, origin.event.encode())
    of_source = (envelope.SOURCE, origin.source.encode())
    limit = int(trace_share * TRACED_OF)
    written = stamps([event.time_ms for event in events])
    return [
        Out(
            topic,
            event.id,
            event.body,
            (
                envelope.SPECVERSION,
                (envelope.ID, event.id),
                of_type,
                of_source,
                (envelope.TIME, stamp),
                (envelope.KEY, event.key),
                (envelope.DIGEST, event.digest),
                *_trace(event, headers[event.index], limit),
            ),
        )
        for event, stamp in zip(events, written, strict=True)
    ]


def _trace(event: Accepted, headers: Headers, limit: int) -> Headers:
    if headers and (given := envelope.foreign_traceparent(headers)) is not None:
        return ((envelope.TRACEPARENT, given),)
    if int.from_bytes(event.digest[:2], "big") < limit:
        return ((envelope.TRACEPARENT, first_trace(event.digest.hex()).encode()),)
    return _NONE


@dataclass(frozen=True, slots=True)
class Quarantine:
    """How rejected events are written. `keep` takes originals that are too large."""

    topic: str
    origin: Origin
    keep: Keep

    def record(self, rejected: Rejected, original: bytes, source: Source, known_ms: tuple[int, int]) -> Out:
        """The record of an event. `known_ms`: (event time that counts where its own does not, wall clock)."""
        clock_ms, now_ms = known_ms
        large = len(original) > LARGEST_ORIGINAL
        value = data.Rejected(
            event=self.origin.event,
            rule=rejected.refusal.rule,
            reason=rejected.refusal.reason,
            id=None if rejected.id is None else rejected.id.decode(),
            source_topic=source.topic,
            source_partition=source.partition,
            source_offset=source.offset,
            original=None if large else original,
            blob=self.keep(original) if large else None,
            wall_ms=now_ms,
            event_time_ms=rejected.time_ms,
        )
        own = rejected.time_ms if rejected.refusal.rule != "time_ahead" else None
        trace = None if source.trace is None else source.trace.decode()
        at_ms = clock_ms if own is None else own
        headers = envelope.headers(source.place, "rejected", self.origin.source, at_ms, trace)
        return Out(self.topic, rejected.id or source.place.encode(), data.encode(value), headers)
