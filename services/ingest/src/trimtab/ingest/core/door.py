"""Events over HTTP: a body taken apart, judged, and written to where producers write.

The log gets every event as it came, rejected ones too: the stream judges them again, by the same contract, and puts
them into quarantine. So there is one way in, and the answer tells beforehand what will become of each event.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from trimtab.contracts import envelope, topics
from trimtab.contracts.envelope import Headers
from trimtab.ingest.core.accept import Arrived, accept
from trimtab.ingest.errors import TooMuchError, UnknownEventError, UnknownLoopError, UnreadableBodyError
from trimtab.loops.incoming.candidates import LARGEST_EVENT
from trimtab.loops.incoming.contract import Contract
from trimtab.loops.incoming.unreadable import why
from trimtab.loops.incoming.verdicts import Rejected, Rule
from trimtab.loops.names import nearest
from trimtab.runtime.records import Out

MOST_EVENTS = 10_000
"""In one request."""
_AVRO = (b"\xc3\x01", b"\x00")


class Log(Protocol):
    """Where events are written."""

    async def write(self, outs: Sequence[Out]) -> None:
        """Return once the log has the records. Raises LogAwayError."""
        ...


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one event. `id`: as far as it could be read."""

    verdict: str
    id: str | None = None
    rule: Rule | None = None
    reason: str | None = None


class Answer(msgspec.Struct, frozen=True):
    """What became of a request's events, in their order."""

    accepted: int
    rejected: int
    events: Sequence[Verdict]


@dataclass(frozen=True, slots=True)
class Request:
    """A request. `lines`: one event on each line of the body. `trace`: its traceparent."""

    loop: str
    event: str
    body: bytes
    lines: bool
    trace: bytes | None


class Door:
    """Takes requests for the loops that are at work. `loops` is kept up to date from outside."""

    def __init__(self, loops: Mapping[str, Mapping[str, Contract]], log: Log) -> None:
        self._loops, self._log = loops, log

    async def take(self, request: Request, now_ms: int) -> Answer:
        """Judge a request's events and write them. Once it returns, the log has every one that it says so of.

        Raises UnknownLoopError, UnknownEventError, UnreadableBodyError, TooMuchError, LogAwayError.
        """
        contract = self._contract(request.loop, request.event)
        values = events_in(request)
        verdicts, outs = judged(contract, values, _headers(request.trace), now_ms)
        if outs:
            await self._log.write(outs)
        accepted = sum(verdict.verdict == "accepted" for verdict in verdicts)
        return Answer(accepted, len(verdicts) - accepted, verdicts)

    def _contract(self, loop: str, event: str) -> Contract:
        contracts = self._loops.get(loop)
        if contracts is None:
            raise UnknownLoopError(loop, nearest(loop, self._loops))
        if event not in contracts:
            near = nearest(event, contracts)
            meant = f"did you mean {near!r}?" if near else f"it has {', '.join(sorted(contracts))}"
            raise UnknownEventError(loop, event, meant)
        return contracts[event]


def events_in(request: Request) -> list[bytes]:
    """The events of a body, as bytes. Raises UnreadableBodyError, TooMuchError."""
    body = request.body.strip() if not request.body.startswith(_AVRO) else request.body
    if not body:
        raise UnreadableBodyError("got an empty body")
    if request.lines:
        values = [line for line in body.splitlines() if line.strip()]
    elif body.startswith(b"["):
        values = _elements(body)
    else:
        values = [body]
    if len(values) > MOST_EVENTS:
        raise TooMuchError(f"{MOST_EVENTS} events")
    return values


def _elements(body: bytes) -> list[bytes]:
    try:
        found = msgspec.json.decode(body, type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableBodyError(f"got an array that is no JSON: {why(body)}") from error
    return [bytes(one) for one in found]


def judged(
    contract: Contract, values: Sequence[bytes], headers: Headers, now_ms: int
) -> tuple[list[Verdict], list[Out]]:
    """The verdict on each event, and the records to write: all but those that no record can hold."""
    found = accept(contract, Arrived(values, [now_ms] * len(values), now_ms), None)
    refused = {one.index: one for one in found.rejected}
    ids: dict[int, bytes | None] = {one.index: one.id for one in found.rejected}
    ids |= {one.index: one.id for one in found.accepted}
    verdicts = [_verdict(ids[index], refused.get(index)) for index in range(len(values))]
    topic = topics.source(contract.loop, contract.event)
    outs = [Out(topic, ids[index], value, headers) for index, value in enumerate(values) if len(value) <= LARGEST_EVENT]
    return verdicts, outs


def _verdict(id_: bytes | None, refused: Rejected | None) -> Verdict:
    known = None if id_ is None else id_.decode()
    if refused is None:
        return Verdict("accepted", known)
    return Verdict("rejected", known, refused.refusal.rule, refused.refusal.reason)


def _headers(trace: bytes | None) -> Headers:
    return () if trace is None else ((envelope.TRACEPARENT, trace),)
