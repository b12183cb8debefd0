"""The first half: does an event keep its contract?"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from trimtab.contracts import times
from trimtab.contracts.codec import HEADER_BYTES
from trimtab.loops.incoming.columns import event_times, failing
from trimtab.loops.incoming.contract import Contract
from trimtab.loops.incoming.reading import ReadableColumns, read_columns
from trimtab.loops.incoming.verdicts import Accepted, Refusal, Rejected
from trimtab.loops.keys import value_text

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


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Rows that could be read, as columns; `indexes` in the batch."""

    indexes: Sequence[int]
    columns: Sequence[Sequence[Any]]
    times_ms: Sequence[int]
    ids: Sequence[bytes | None]

    def without(self, positions: set[int]) -> "_Candidates":
        """The others."""
        if not positions:
            return self
        kept = [position for position in range(len(self.indexes)) if position not in positions]
        return _Candidates(
            [self.indexes[position] for position in kept],
            [[column[position] for position in kept] for column in self.columns],
            [self.times_ms[position] for position in kept],
            [self.ids[position] for position in kept],
        )

    def reject(self, position: int, refusal: Refusal) -> Rejected:
        """One of them, with the reason."""
        return Rejected(self.indexes[position], refusal, self.ids[position], self.times_ms[position])


def accept(contract: Contract, arrived: Arrived, clock: Clock | None) -> Judged:
    """The verdict on each event of a batch.

    Depends on nothing but its arguments: the same batch with the same clock gets the same verdicts.
    """
    found = read_columns(contract, arrived.values)
    rejected = list(found.refused)
    candidates = _dated(contract, found, rejected)
    candidates = _quality(contract, candidates, rejected)
    candidates, after = _timely(contract, candidates, arrived, clock, rejected)
    rejected.sort(key=lambda one: one.index)
    return Judged(_passed(contract, candidates), rejected, after)


def _dated(contract: Contract, found: ReadableColumns, rejected: list[Rejected]) -> _Candidates:
    """The rows with an id and an event time, and nested values that fit."""
    columns = found.columns
    times_ms, untimed = event_times(contract, columns[contract.time])
    ids = [None] * len(found.indexes) if contract.id is None else _texts(columns[contract.id])
    candidates = _Candidates(found.indexes, columns, times_ms, ids)
    nameless = {position: _NO_ID for position, id_ in enumerate(ids) if id_ == b""} if b"" in ids else {}
    unfit = {position: Refusal("schema", reason) for position, reason in contract.encoder.unfit(columns).items()}
    bad = nameless | untimed | unfit
    for position, refusal in bad.items():
        at_ms = None if position in untimed else times_ms[position]
        rejected.append(Rejected(found.indexes[position], refusal, ids[position] or None, at_ms))
    return candidates.without(set(bad))


_NO_ID = Refusal("id", "the id is empty: each event needs one of its own, the same again when it is sent again")


def _texts(column: Sequence[Any]) -> list[bytes | None]:
    """Ids and keys as they stand in Kafka: UTF-8 of their canonical text."""
    return [
        value.encode() if isinstance(value, str) else None if value is None else value_text(value).encode()
        for value in column
    ]


def _quality(contract: Contract, candidates: _Candidates, rejected: list[Rejected]) -> _Candidates:
    rule = contract.rule
    if rule is None or not candidates.indexes:
        return candidates
    broken = failing(rule, contract, candidates.columns, candidates.times_ms)
    for position in broken:
        found = ", ".join(
            f"{name} = {candidates.columns[index][position]!r}" for name, (index, _) in rule.columns.items()
        )
        reason = f"expected {rule.predicate.sql}, got {found}"
        rejected.append(candidates.reject(position, Refusal("quality", reason)))
    return candidates.without(set(broken))


def _timely(
    contract: Contract, candidates: _Candidates, arrived: Arrived, clock: Clock | None, rejected: list[Rejected]
) -> tuple[_Candidates, Clock | None]:
    """Leaves out what is dated ahead of the clock, or far ahead of everything before it; neither moves the clock."""
    if not candidates.indexes:
        return candidates, clock
    latest_ms = arrived.now_ms + contract.max_ahead_ms
    newest_ms = max(candidates.times_ms)
    if newest_ms <= latest_ms and clock is not None and newest_ms <= clock.newest_ms + contract.max_gap_ms:
        return candidates, _advanced(clock, newest_ms, arrived.appended_ms[candidates.indexes[-1]])
    ahead: set[int] = set()
    for position, at_ms in enumerate(candidates.times_ms):
        appended_ms = arrived.appended_ms[candidates.indexes[position]]
        reason = _ahead(contract, at_ms, latest_ms, clock, appended_ms)
        if reason is None:
            clock = Clock(at_ms, appended_ms) if clock is None else _advanced(clock, at_ms, appended_ms)
        else:
            ahead.add(position)
            rejected.append(candidates.reject(position, Refusal("time_ahead", reason)))
    return candidates.without(ahead), clock


def _advanced(clock: Clock, at_ms: int, appended_ms: int) -> Clock:
    return Clock(max(clock.newest_ms, at_ms), max(clock.appended_ms, appended_ms))


def _ahead(contract: Contract, at_ms: int, latest_ms: int, clock: Clock | None, appended_ms: int) -> str | None:
    """Why an event is dated too far ahead. A gap in event time that passed by the broker's clock as well is none."""
    name = contract.fields[contract.time].name
    if at_ms > latest_ms:
        return f"{name}: expected at most {times.text(latest_ms)} (max_ahead after now), got {times.text(at_ms)}"
    if clock is None:
        return None
    passed_ms = max(0, appended_ms - clock.appended_ms)
    if at_ms <= clock.newest_ms + contract.max_gap_ms + passed_ms:
        return None
    days = contract.max_gap_ms / _DAY_MS
    return (
        f"{name}: expected at most {days:g} d (max_gap) after the newest event before it, "
        f"{times.text(clock.newest_ms)}, got {times.text(at_ms)}; if the gap is real, raise loop.max_gap and re-drive"
    )


def _passed(contract: Contract, candidates: _Candidates) -> list[Accepted]:
    if not candidates.indexes:
        return []
    bodies = contract.encoder.encode(candidates.columns)
    digests = [blake2b(body[HEADER_BYTES:], digest_size=DIGEST_BYTES).digest() for body in bodies]
    ids = [id_ or digest.hex().encode() for id_, digest in zip(candidates.ids, digests, strict=True)]
    routing = [None] * len(ids) if contract.key is None else _texts(candidates.columns[contract.key])
    return [
        Accepted(index, id_, key or id_, at_ms, digest, body)
        for index, id_, key, at_ms, digest, body in zip(
            candidates.indexes, ids, routing, candidates.times_ms, digests, bodies, strict=True
        )
    ]
