"""Which events keep their contract and its rule, as columns; whatever the stream knows besides comes later.

Ingest judges events by this and the predictor asks over HTTP, so that neither door takes what the other refuses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trimtab.contracts import times
from trimtab.loops.incoming.columns import event_times, failing
from trimtab.loops.incoming.contract import Contract
from trimtab.loops.incoming.diagnosis import brief
from trimtab.loops.incoming.reading import ReadableColumns, read_columns
from trimtab.loops.incoming.verdicts import Refusal, Rejected
from trimtab.loops.keys import value_text

LARGEST_EVENT = 1_000_000
"""Bytes; a broker's default takes a little more with headers and key."""
LONGEST_TEXT = 1_024
"""Characters of a text that is carried on. A tile holds 128 of them for one value of a group, and is one record."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Rows that could be read, as columns of physical values; `indexes` in the batch."""

    indexes: Sequence[int]
    columns: Sequence[Sequence[Any]]
    times_ms: Sequence[int]
    ids: Sequence[bytes | None]

    def without(self, positions: set[int]) -> "Candidates":
        """The others."""
        if not positions:
            return self
        kept = [position for position in range(len(self.indexes)) if position not in positions]
        return Candidates(
            [self.indexes[position] for position in kept],
            [[column[position] for position in kept] for column in self.columns],
            [self.times_ms[position] for position in kept],
            [self.ids[position] for position in kept],
        )

    def reject(self, position: int, refusal: Refusal) -> Rejected:
        """One of them, with the reason."""
        return Rejected(self.indexes[position], refusal, self.ids[position], self.times_ms[position])


def candidates(contract: Contract, values: Sequence[bytes | None]) -> tuple[Candidates, list[Rejected]]:
    """The events that keep their contract and its rule, and the others, in no order."""
    large = _large(values)
    found = read_columns(
        contract, [None if index in large else value for index, value in enumerate(values)] if large else values
    )
    rejected = [*(one for one in found.refused if one.index not in large), *large.values()]
    dated = _dated(contract, found, rejected)
    broken = _broken(contract, dated)
    rejected += [dated.reject(position, refusal) for position, refusal in broken.items()]
    return dated.without(set(broken)), rejected


def beyond_clock(contract: Contract, at_ms: int, now_ms: int) -> str | None:
    """Why an event is dated too far ahead of the clock; None where it is not."""
    latest_ms = now_ms + contract.max_ahead_ms
    if at_ms <= latest_ms:
        return None
    name = contract.fields[contract.time].name
    return f"{name}: expected at most {times.text(latest_ms)} (max_ahead after now), got {times.text(at_ms)}"


def texts(column: Sequence[Any]) -> list[bytes | None]:
    """Ids and keys as they stand in Kafka: UTF-8 of their canonical text."""
    return [
        value.encode() if isinstance(value, str) else None if value is None else value_text(value).encode()
        for value in column
    ]


def _large(values: Sequence[bytes | None]) -> dict[int, Rejected]:
    return {
        index: Rejected(index, Refusal("too_large", f"expected at most {LARGEST_EVENT} bytes, got {len(value)}"))
        for index, value in enumerate(values)
        if value is not None and len(value) > LARGEST_EVENT
    }


def _dated(contract: Contract, found: ReadableColumns, rejected: list[Rejected]) -> Candidates:
    """The rows with an id and an event time, and values that fit."""
    columns = found.columns
    times_ms, untimed = event_times(contract, columns[contract.time])
    unfit = {position: Refusal("schema", reason) for position, reason in contract.encoder.unfit(columns).items()}
    overlong = _overlong(contract, columns)
    bad = _nameless(contract, columns) | untimed | unfit | overlong
    ids = [None] * len(found.indexes) if contract.id is None else texts(columns[contract.id])
    for position, refusal in bad.items():
        at_ms = None if position in untimed else times_ms[position]
        id_ = None if position in overlong else ids[position] or None
        rejected.append(Rejected(found.indexes[position], refusal, id_, at_ms))
    return Candidates(found.indexes, columns, times_ms, ids).without(set(bad))


def _nameless(contract: Contract, columns: Sequence[Sequence[Any]]) -> dict[int, Refusal]:
    return {
        position: Refusal("id", f"{contract.fields[index].name}: it is empty, and names the event: give it a text")
        for index in contract.naming
        if "" in columns[index]
        for position, value in enumerate(columns[index])
        if value == ""
    }


def _overlong(contract: Contract, columns: Sequence[Sequence[Any]]) -> dict[int, Refusal]:
    return {
        position: Refusal(
            "too_large",
            f"{contract.fields[index].name}: expected at most {LONGEST_TEXT} characters, for it becomes a key or a "
            f"category, got {len(value)}",
        )
        for index in contract.carried
        if max(map(len, filter(None, columns[index])), default=0) > LONGEST_TEXT
        for position, value in enumerate(columns[index])
        if value is not None and len(value) > LONGEST_TEXT
    }


def _broken(contract: Contract, dated: Candidates) -> Mapping[int, Refusal]:
    """Those for which the event's rule is not true."""
    rule = contract.rule
    if rule is None or not dated.indexes:
        return {}
    found = {}
    for position in failing(rule, contract, dated.columns, dated.times_ms):
        values = {name: dated.columns[index][position] for name, (index, _) in rule.columns.items()}
        told = ", ".join(f"{name} = {brief(repr(value))}" for name, value in values.items())
        found[position] = Refusal("quality", f"expected {rule.predicate.sql}, got {told}")
    return found
