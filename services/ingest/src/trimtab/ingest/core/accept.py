"""The first half: does an event keep its contract?"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from trimtab.contracts import times
from trimtab.loops.incoming.candidates import Candidates, beyond_clock, candidates, texts
from trimtab.loops.incoming.contract import Contract
from trimtab.loops.incoming.verdicts import Accepted, Refusal, Rejected

DIGEST_BYTES = 16
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Clock:
    """The newest event time accepted in a partition of a source, and when its record was appended to the log."""

    newest_ms: int
    appended_ms: int


@dataclass(frozen=True, slots=True)
class Arrived:
    """A batch of one event's source in one partition. `appended_ms`: the broker's append time of each value."""

    values: Sequence[bytes | None]
    appended_ms: Sequence[int]
    now_ms: int


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of a batch; `clock` is the one to give with the next."""

    accepted: Sequence[Accepted]
    rejected: Sequence[Rejected]
    clock: Clock | None


def accept(contract: Contract, arrived: Arrived, clock: Clock | None) -> Judged:
    """The verdict on each event of a batch.

    Depends on nothing but its arguments: the same batch with the same clock gets the same verdicts.
    """
    kept, rejected = candidates(contract, arrived.values)
    timely, after = _timely(contract, kept, arrived, clock, rejected)
    rejected.sort(key=lambda one: one.index)
    return Judged(_passed(contract, timely), rejected, after)


def _timely(
    contract: Contract, kept: Candidates, arrived: Arrived, clock: Clock | None, rejected: list[Rejected]
) -> tuple[Candidates, Clock | None]:
    """Leaves out what is dated ahead of the clock, or far ahead of everything before it; neither moves the clock."""
    if not kept.indexes:
        return kept, clock
    latest_ms = arrived.now_ms + contract.max_ahead_ms
    newest_ms = max(kept.times_ms)
    if newest_ms <= latest_ms and clock is not None and newest_ms <= clock.newest_ms + contract.max_gap_ms:
        return kept, _advanced(clock, newest_ms, arrived.appended_ms[kept.indexes[-1]])
    ahead: set[int] = set()
    for position, at_ms in enumerate(kept.times_ms):
        appended_ms = arrived.appended_ms[kept.indexes[position]]
        reason = beyond_clock(contract, at_ms, arrived.now_ms) or _gap(contract, at_ms, clock, appended_ms)
        if reason is None:
            clock = Clock(at_ms, appended_ms) if clock is None else _advanced(clock, at_ms, appended_ms)
        else:
            ahead.add(position)
            rejected.append(kept.reject(position, Refusal("time_ahead", reason)))
    return kept.without(ahead), clock


def _advanced(clock: Clock, at_ms: int, appended_ms: int) -> Clock:
    return Clock(max(clock.newest_ms, at_ms), max(clock.appended_ms, appended_ms))


def _gap(contract: Contract, at_ms: int, clock: Clock | None, appended_ms: int) -> str | None:
    """Why an event is too far ahead of all before it. A gap that passed by the broker's clock as well is none."""
    if clock is None:
        return None
    passed_ms = max(0, appended_ms - clock.appended_ms)
    if at_ms <= clock.newest_ms + contract.max_gap_ms + passed_ms:
        return None
    name, days = contract.fields[contract.time].name, contract.max_gap_ms / _DAY_MS
    return (
        f"{name}: expected at most {days:g} d (max_gap) after the newest event before it, "
        f"{times.text(clock.newest_ms)}, got {times.text(at_ms)}; if the gap is real, raise loop.max_gap and re-drive"
    )


def _passed(contract: Contract, kept: Candidates) -> list[Accepted]:
    if not kept.indexes:
        return []
    bodies, told = contract.encoder.encode_both(kept.columns)
    digests = [blake2b(one, digest_size=DIGEST_BYTES).digest() for one in told]
    ids = [id_ or digest.hex().encode() for id_, digest in zip(kept.ids, digests, strict=True)]
    routing = [None] * len(ids) if contract.key is None else texts(kept.columns[contract.key])
    return [
        Accepted(index, id_, key or id_, at_ms, digest, body)
        for index, id_, key, at_ms, digest, body in zip(
            kept.indexes, ids, routing, kept.times_ms, digests, bodies, strict=True
        )
    ]
