"""The join of predictions with their labels: what settles, what is revised, what waits for a silent source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import msgspec
import numpy as np

from trimtab.loops import label_state
from trimtab.loops.label_state import Chunk, ChunkKey, PendingAsk
from trimtab.loops.labels import (
    BUCKETS_PER_WINDOW,
    NO_ASKS,
    NO_EVENTS,
    Asks,
    Counts,
    LabelEvents,
    LabelJoin,
    LabelWindow,
    Outcomes,
    bucket_ms,
)
from trimtab.monitor.core.ledger import Closed
from trimtab.monitor.core.observe import Named
from trimtab.monitor.core.plan import Plan
from trimtab.monitor.core.predictions import Ints
from trimtab.monitor.core.rows import Rows
from trimtab.monitor.core.settled import Carried, Settled, carried, shown
from trimtab.monitor.core.silence import HOUR_MS, Closing, Waited, advance, floor, opened
from trimtab.runtime.table import Table, TableSpec

Spans = tuple[tuple[int, int], ...]
"""Stretches of asking time in which the stream was held: since ≤ at < until."""


class JoinClock(msgspec.Struct, frozen=True, array_like=True):
    """The scalars of a join.

    `spans`: the holds that the outcomes written so far have heeded. `label`, `bucket_ms`: of which label's definition
    the chunks are, and the stretch of time that each covers.
    """

    began_ms: int
    closing: Closed
    spans: Spans
    label: str
    bucket_ms: int


def _integer(value: int) -> bytes:
    return value.to_bytes(8, "big", signed=True)


def _from_integer(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


CHUNKS: TableSpec[ChunkKey, Chunk] = TableSpec(
    "chunks", label_state.encode_key, label_state.decode_key, label_state.encode, label_state.decode
)
"""Asks and label events that may still meet."""
SOURCE: TableSpec[int, int] = TableSpec("source", _integer, _from_integer, _integer, _from_integer)
"""Start of a bucket → label events of the whole loop in it."""
CLASSES: TableSpec[int, list[str]] = TableSpec(
    "classes", _integer, _from_integer, msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(list[str]).decode
)
"""Version → its classes (multiclass)."""
CLOCK: TableSpec[str, JoinClock] = TableSpec(
    "clock", str.encode, bytes.decode, msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(JoinClock).decode
)
SPECS = (CHUNKS, SOURCE, CLASSES, CLOCK)


class JoinState:
    """A join's tables, typed. They are the task's own and change in place."""

    def __init__(self, tables: Mapping[str, Table[Any, Any]]) -> None:
        self.chunks: Table[ChunkKey, Chunk] = tables[CHUNKS.name]
        self.source: Table[int, int] = tables[SOURCE.name]
        self.classes: Table[int, list[str]] = tables[CLASSES.name]
        self._clock: Table[str, JoinClock] = tables[CLOCK.name]

    @property
    def clock(self) -> JoinClock | None:
        """The scalars; None before the first data."""
        return self._clock.get("")

    def set_clock(self, clock: JoinClock) -> None:
        """Set the scalars."""
        self._clock.put("", clock)


@dataclass(frozen=True, slots=True)
class Joinables:
    """What goes into the join: asks with their payloads, label events, counts of label events by bucket, classes."""

    asks: Asks
    events: LabelEvents
    source: Sequence[tuple[int, int]] = ()
    classes: Sequence[tuple[int, Sequence[str]]] = ()


@dataclass(frozen=True, slots=True)
class Joined:
    """What came out: outcomes with what their asks carried, whether each is suspect, what the labels show, counts."""

    outcomes: Outcomes
    carried: Carried
    suspect: Sequence[bool]
    shown: Named
    counts: Counts
    silent: bool


def keep_ms(plan: Plan, within_ms: int) -> int:
    """How long after its window an ask is kept for late events, corrections, and holds that are found an hour later."""
    return max(min(within_ms, 7 * 24 * HOUR_MS), plan.lateness_ms, HOUR_MS + 2 * plan.lateness_ms)


def opened_join(plan: Plan, state: JoinState, window: LabelWindow) -> LabelJoin:
    """The fold over the state's chunks, made to fit the label as it is declared now.

    Another length of the window moves asks and events into other chunks. Another `of`, `by` or `value` makes them
    meaningless: windows that are open then get no outcome.
    """
    buckets = 1 if plan.keyed_alike else BUCKETS_PER_WINDOW
    length = bucket_ms(window.within_ms, buckets)
    clock = state.clock
    if clock is not None and (clock.label, clock.bucket_ms) != (plan.label, length):
        held = [(key, chunk) for key, chunk in state.chunks.items()]
        for key, _ in held:
            state.chunks.remove(key)
        if clock.label == plan.label:
            _cut_anew(state, held, length)
        state.set_clock(msgspec.structs.replace(clock, label=plan.label, bucket_ms=length))
    return LabelJoin(window, keep_ms=keep_ms(plan, window.within_ms), chunks=state.chunks, buckets=buckets)


def _cut_anew(state: JoinState, held: Sequence[tuple[ChunkKey, Chunk]], length: int) -> None:
    for (by, _), chunk in held:
        for ask in chunk.asks.values():
            _chunk_at(state, (by, ask.at_ms // length)).asks[ask.key] = ask
        for event in chunk.events.values():
            _chunk_at(state, (by, event.at_ms // length)).events[event.id] = event


def _chunk_at(state: JoinState, key: ChunkKey) -> Chunk:
    chunk = state.chunks.get(key) or Chunk()
    state.chunks.put(key, chunk)
    return chunk


def join(plan: Plan, state: JoinState, labels: LabelJoin, new: Joinables, *, spans: Spans, progress_ms: int) -> Joined:
    """Take in `new`, close what the watermark allows, and revise what a new hold, or its end, makes (un)suspect.

    `progress_ms` is what the inputs have reached after `new`: nothing in it is late for having come in one batch.
    """
    clock = _begun(plan, state, labels, new)
    if clock is None:
        return Joined(Outcomes(), carried(()), (), Named([], Rows()), Counts(), silent=False)
    for start, count in new.source:
        state.source.put(start, (state.source.get(start) or 0) + count)
    for version, classes in new.classes:
        if version not in state.classes:
            state.classes.put(version, list(classes))
    turned = _turned(state, clock.spans, spans)
    closing, waited = _closed(plan, state, clock, progress_ms)
    came = labels.fold(new.asks, new.events, clock.closing.through_ms)
    ended = labels.fold(NO_ASKS, NO_EVENTS, closing.through_ms)
    outcomes = _chained(turned, came.outcomes, _postponed(ended.outcomes, waited))
    closed = Closed.of(closing)
    after = msgspec.structs.replace(clock, closing=closed, spans=spans)
    if after != state.clock:
        state.set_clock(after)
    suspect = [in_spans(spans, at_ms) for at_ms in outcomes.at_ms]
    was_suspect = [in_spans(clock.spans, at_ms) for at_ms in turned.at_ms] + suspect[len(turned) :]
    settled = Settled(outcomes, carried(outcomes.payload), _sign(outcomes, suspect), _before(outcomes, was_suspect))
    rows = shown(plan, settled, dict(state.classes.items()))
    counts = replace(came.counts, without_label=came.counts.without_label + ended.counts.without_label)
    return Joined(outcomes, settled.carried, suspect, rows, counts, closing.silent)


def in_spans(spans: Spans, at_ms: int) -> bool:
    """Whether a hold covers the time."""
    return any(since <= at_ms < until for since, until in spans)


def _begun(plan: Plan, state: JoinState, labels: LabelJoin, new: Joinables) -> JoinClock | None:
    """The clock, begun at the earliest thing that came; None while nothing has."""
    clock = state.clock
    came_ms = [*(start for start, _ in new.source), *new.asks.at_ms, *new.events.at_ms]
    if clock is not None:
        began_ms = min([clock.began_ms, *came_ms])
        return clock if began_ms == clock.began_ms else msgspec.structs.replace(clock, began_ms=began_ms)
    if not came_ms:
        return None
    closing = opened(min(came_ms), plan.expected.get(plan.label_of))
    closed = Closed.of(closing)
    return JoinClock(min(came_ms), closed, (), plan.label, labels.bucket_ms)


def _closed(plan: Plan, state: JoinState, clock: JoinClock, progress_ms: int) -> tuple[Closing, Sequence[Waited]]:
    """How far windows may close now; buckets of the source that nobody looks back to are dropped."""
    expected = plan.expected.get(plan.label_of)
    before = clock.closing.closing()
    closing, waited = advance(
        before, lambda start: state.source.get(start) or 0, expected, clock.began_ms, progress_ms - plan.lateness_ms
    )
    if expected is not None and closing.judged_ms > before.judged_ms:
        oldest = floor(closing.judged_ms - 2 * expected.per_ms, expected.width_ms)
        for start in [s for s, _ in state.source.items() if s < oldest]:
            state.source.remove(start)
    return closing, waited


def _postponed(ended: Outcomes, waited: Sequence[Waited]) -> Outcomes:
    """Windows that waited for their source settled just before it was heard again, in the bucket that ends then."""
    if not waited:
        return ended
    return replace(ended, settled_at_ms=[_until(settled_ms, waited) for settled_ms in ended.settled_at_ms])


def _until(settled_ms: int, waited: Sequence[Waited]) -> int:
    return next((w.until_ms - 1 for w in waited if w.from_ms <= settled_ms < w.until_ms), settled_ms)


def _turned(state: JoinState, old: Spans, new: Spans) -> Outcomes:
    """The settled asks that are suspect by one set of holds and not by the other, each with one more revision."""
    turned = Outcomes()
    if old == new:
        return turned
    for key, chunk in list(state.chunks.items()):
        those = [a for a in chunk.asks.values() if a.revision >= 0 and in_spans(old, a.at_ms) != in_spans(new, a.at_ms)]
        for ask in those:
            ask.revision += 1
            _append(turned, ask)
        if those:
            state.chunks.put(key, chunk)
    return turned


def _append(outcomes: Outcomes, ask: PendingAsk) -> None:
    """The outcome of an ask as it stands; its label replaces itself."""
    label = ask.label
    outcomes.key.append(ask.key)
    outcomes.at_ms.append(ask.at_ms)
    outcomes.settled_at_ms.append(ask.settled_ms)
    outcomes.label.append(float("nan") if label is None or isinstance(label, str) else float(label))
    outcomes.label_class.append(label if isinstance(label, str) else None)
    outcomes.revision.append(ask.revision)
    outcomes.payload.append(ask.payload)
    outcomes.before.append(label)


def _chained(*parts: Outcomes) -> Outcomes:
    """All parts, one after the other."""
    return Outcomes(*([value for part in parts for value in getattr(part, f.name)] for f in fields(Outcomes)))


def _sign(outcomes: Outcomes, suspect: Sequence[bool]) -> Ints:
    """How each row counts now: 1 with a label, 0 without one or when it is suspect."""
    known = np.array([label is not None for label in outcomes.label_class], np.bool_)
    known |= ~np.isnan(np.array(outcomes.label, np.float64))
    return (known & ~np.array(suspect, np.bool_)).astype(np.int64)


def _before(outcomes: Outcomes, was_suspect: Sequence[bool]) -> Ints:
    """How the label that each row replaces counted, taken back."""
    held = np.array([label is not None for label in outcomes.before], np.bool_)
    return -(held & ~np.array(was_suspect, np.bool_)).astype(np.int64)
