"""One life of a task, from opening to closing or the first failure: take, step, commit, at a rhythm."""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import structlog

from trimtab.contracts import telemetry
from trimtab.contracts.specs import Metric
from trimtab.runtime.bus import Part, Transactions
from trimtab.runtime.clock import Now
from trimtab.runtime.effects import Effects
from trimtab.runtime.errors import RecordRefusedError, RefusalError, StepRaisedError
from trimtab.runtime.gate import LIVE_MS
from trimtab.runtime.inbox import Inbox
from trimtab.runtime.intake import Gate, Intake
from trimtab.runtime.marks import Mark, mark_of, task_name
from trimtab.runtime.options import Options
from trimtab.runtime.outgoing import Draft
from trimtab.runtime.parking import WIDE, Narrowed
from trimtab.runtime.position import Position
from trimtab.runtime.progress import Progress
from trimtab.runtime.records import Read
from trimtab.runtime.schemas import Resolver
from trimtab.runtime.stage import UNKNOWN_MS, Batch, EffectDone, Measure, Record, Result, Stage, unrecorded
from trimtab.runtime.table import Table
from trimtab.runtime.tracing import NO_TRACING, UNTRACED, Traced, Tracing

log = structlog.get_logger(__name__)

NOTHING = Result()
FIRST_S = 0.25
"""What came while nobody worked is on its way: the first step waits so long for it, for an empty transaction would only
hold it up."""
SLOW_STEP_S = 2.0
"""A step that takes longer costs the process heartbeats: such work belongs into an effect."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all tasks of a worker share."""

    now_ms: Now
    options: Options
    record: Record = unrecorded
    tracing: Tracing = NO_TRACING


@dataclass(frozen=True, slots=True)
class Opened:
    """What opening a task brought: tables as restored, where to read on, what is open.

    `refill` asks the dispatcher for more where an inbox has run low. `narrowed`: what failed before is taken in small.
    `resolvers`: by input topic, of those that are read in one schema.
    """

    transactions: Transactions
    tables: Mapping[str, Table[Any, Any]]
    progress: Progress
    topic_ids: Mapping[str, str]
    inboxes: Mapping[str, Inbox]
    gate: Gate
    refill: Callable[[], None]
    narrowed: Narrowed = WIDE
    resolvers: Mapping[str, Resolver] = field(default_factory=dict)


class Tried(NamedTuple):
    """What a step is given in one batch."""

    records: Mapping[str, Sequence[Read]]
    others: int = 0


NOTHING_TRIED = Tried({})


class Session:
    """Runs the step of one open task. Mutable; ends with the first exception, nothing of which was committed.

    `settled_ms`, `settled`: progress and positions whose outputs are all committed. Who reads the log after asking for
    them finds everything that follows from them.
    """

    def __init__(self, stage: Stage, partition: int, opened: Opened, around: Surroundings) -> None:
        self._stage, self._partition, self._opened, self._around = stage, partition, opened, around
        self._name = task_name(stage.group, partition)
        self._marking = any(output.marks for output in stage.outputs)
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._intake = Intake(opened.inboxes, opened.progress, opened.gate)
        self.effects = Effects(stage.perform, self._wake.set)
        # What the last life reached it may have died before stepping: the first step is at that time once more.
        self._stepped_ms = UNKNOWN_MS
        self._bound_ms: int | None = None
        self._said: Mark | None = None
        self._said_ms = UNKNOWN_MS
        self._placed = self._positions()
        self._shown: Mapping[Part, int] = {}
        self._tried = NOTHING_TRIED
        self._hurried = False
        self._rest_until_s = self._committed_s = self._shown_s = self._marked_s = 0.0
        self.closing = False
        self.refusal: RefusalError | None = None
        self.committed = 0
        self.taken = 0
        self.settled_ms = self._stepped_ms
        self.settled = self._placed

    def wake(self) -> None:
        """Records have come, or the session is to close."""
        self._wake.set()

    def heard(self, records: Sequence[Read]) -> None:
        """Records have come. A mark of now from a grain of time that somebody awaits ends the rest."""
        if self._stage.awaited_grain_ms is not None and self.is_live():
            self._hurried = self._hurried or any(self._is_awaited(mark_of(one)) for one in records)
        self._wake.set()

    def _is_awaited(self, mark: Mark | None) -> bool:
        """Whether a mark is of now, and from a later grain than what this task has said, where somebody awaits that."""
        grain_ms = self._stage.awaited_grain_ms
        if grain_ms is None or mark is None or mark.ms is None or not self.is_live():
            return False
        return mark.ms // grain_ms > self._said_ms // grain_ms

    def release(self) -> None:
        """A view has moved."""
        self._intake.release()
        self._wake.set()

    async def run(self) -> None:
        """Work until `closing`."""
        with self._blaming():
            resumed = self._stage.resume(self._partition, self._opened.tables)
        self.effects.start(resumed)
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), FIRST_S)
            while not self.closing:
                if self.refusal is not None:
                    raise self.refusal
                self._wake.clear()
                at_s = self._next_s()
                if at_s <= self._loop.time():
                    await self._turn()
                else:
                    await self._sleep(at_s)
            await self._commit(NOTHING, UNTRACED)
        finally:
            await self.effects.close()

    async def _sleep(self, until_s: float) -> None:
        if until_s == math.inf:
            await self._wake.wait()
            return
        handle = self._loop.call_at(until_s, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            handle.cancel()

    def _next_s(self) -> float:
        now_s = self._loop.time()
        if self._hurried or self._intake.full(self._limit()):
            return now_s
        at_ms, _ = self._opened.progress.now()
        rest_until_s, marks_s = max(now_s, self._rest_until_s), self._marks_s()
        if self._intake.ready(now_s) or self.effects.ended or at_ms > self._stepped_ms:
            return min(rest_until_s, marks_s)
        unplaced = self._positions() != self._placed or self._offsets() != self._shown
        flush_s = max(self._committed_s, self._shown_s) + self._around.options.flush_s if unplaced else math.inf
        return min(self._intake.wakes_s(), flush_s, marks_s)

    def _narrow(self) -> bool:
        """Whether the record that made the task fail may still be ahead (or is just being tried)."""
        return self._opened.narrowed.covers(self._placed)

    def _limit(self) -> int:
        return min(self._opened.narrowed.limit, self._stage.max_batch) if self._narrow() else self._stage.max_batch

    async def _take(self, now_s: float) -> Mapping[str, Sequence[Read]]:
        """The next batch's records; where a cause is looked for, effects and time are stepped without any."""
        at_ms, _ = self._opened.progress.now()
        if self._narrow() and (self.effects.ended or at_ms > self._stepped_ms):
            return {}
        taken = self._intake.take(self._limit(), now_s, self._around.now_ms())
        for topic in taken.keys() & self._opened.resolvers.keys():
            taken[topic] = await self._opened.resolvers[topic].resolved(taken[topic])
        return taken

    @contextmanager
    def _blaming(self) -> Iterator[None]:
        """What is raised in here is a defect of ours. Raises StepRaisedError."""
        try:
            yield
        except Exception as error:
            raise self._raised(error) from error

    def _raised(self, error: Exception) -> StepRaisedError:
        spans = {topic: (some[0].offset, some[-1].offset) for topic, some in self._tried.records.items()}
        count = sum(map(len, self._tried.records.values()))
        return StepRaisedError(error, spans, count, alone=not count or count + self._tried.others == 1)

    async def _turn(self) -> None:
        await self._work()
        self.settled_ms, self.settled = self._stepped_ms, self._positions()

    async def _work(self) -> None:
        now_s = self._loop.time()
        self._intake.expire(now_s, self._around.now_ms())
        self._hurried = False
        records = await self._take(now_s)
        self._opened.refill()
        done = self.effects.take()
        self._around.record(self._waits(done))
        at_ms, _ = self._opened.progress.now()
        self._tried = Tried(records, len(done) + (at_ms > self._stepped_ms))
        if not records and not done and at_ms <= self._stepped_ms:
            self._intake.after_step()
            await self._commit(NOTHING, UNTRACED)
            return
        self._stepped_ms = at_ms
        started_s = time.perf_counter()
        traced = self._around.tracing.begin(self._stage.group, records)
        with self._blaming():
            result = self._stage.step(
                self._partition, self._opened.tables, Batch(records, at_ms, self._around.now_ms(), done)
            )
        spent_s = time.perf_counter() - started_s
        if spent_s > SLOW_STEP_S:
            log.warning(
                "step slow", task=self._name, seconds=round(spent_s, 1), records=sum(map(len, records.values()))
            )
        self._bound_ms = result.progress_ms
        for topic, reported_ms in result.clocks.items():
            if (clock := self._opened.progress.clock(topic)) is not None:
                clock.report(reported_ms)
        self._intake.after_step()
        self.taken += sum(map(len, records.values()))
        self._around.record(self._step_measures(records, spent_s))
        await self._commit(result, traced)
        self.effects.start(result.effects)

    async def _commit(self, result: Result, traced: Traced) -> None:
        draft = Draft(self._stage, self._partition)
        with self._blaming():
            draft.add(traced.rewrite(result.out, result.milestones))
            changed = draft.flush(self._opened.tables)
        positions, offsets, now_s = self._positions(), self._offsets(), self._loop.time()
        claim = self._claim()
        marks = self._marks(claim) if self.closing or now_s >= self._marks_due_s(claim) else []
        flush_s = 0.0 if self.closing or self._narrow() else self._around.options.flush_s
        due = now_s >= self._committed_s + flush_s and positions != self._placed
        show = now_s >= self._shown_s + flush_s and offsets != self._shown
        if not (changed or result.out or marks or due or show):
            self._settle(result, traced)
            return
        started_s = self._loop.time()
        draft.place(Position(positions, dict(self._opened.topic_ids), self._opened.progress.state()))
        try:
            await self._opened.transactions.commit(draft.writes(marks), offsets if show else {})
        except RecordRefusedError as error:
            raise self._raised(error) from error
        ended_s = self._loop.time()
        self._placed, self._committed_s = positions, ended_s
        if marks:
            self._marked_s = ended_s
        for mark in marks:
            self._said = mark
            self._said_ms = self._said_ms if mark.ms is None else mark.ms
        if show:
            self._shown, self._shown_s = offsets, ended_s
        spent_s = ended_s - started_s
        stage, breath_s = self._stage, min(spent_s, self._around.options.breath_s)
        interval_ms = max(stage.commit_interval_ms, stage.live_interval_ms if self.is_live() else 0)
        self._rest_until_s = ended_s + max(interval_ms / 1000, breath_s)
        self.committed += 1
        self._settle(result, traced)
        self._around.record(self._commit_measures(result, spent_s))

    def _settle(self, result: Result, traced: Traced) -> None:
        traced.end()
        if result.measures:
            self._around.record(result.measures)

    def _claim(self) -> Mark | None:
        """What this task may say of its progress; None: nothing yet, or nobody listens."""
        if not self._marking:
            return None
        at_ms, idle = self._opened.progress.now()
        if self._bound_ms is not None and self._bound_ms < at_ms:
            at_ms, idle = self._bound_ms, False
        if idle:
            return Mark(self._name, None)
        return None if at_ms == UNKNOWN_MS else Mark(self._name, max(at_ms, self._said_ms))

    def _marks(self, claim: Mark | None) -> list[Mark]:
        """The marks to write: before `idle`, how far it came, also where it was idle in between and is so again."""
        if claim is None:
            return []
        at_ms, _ = self._opened.progress.now()
        if claim.ms is None and at_ms > self._said_ms:
            return [Mark(self._name, at_ms), claim]
        return [] if claim == self._said else [claim]

    def _marks_s(self) -> float:
        """When marks will be written, where there are any to write: those that somebody awaits end the rest."""
        claim = self._claim()
        if not self._marks(claim):
            return math.inf
        due_s = self._marks_due_s(claim)
        return due_s if self._is_awaited(claim) else max(due_s, self._rest_until_s)

    def _marks_due_s(self, claim: Mark | None) -> float:
        if not self.is_live():
            return self._marked_s
        options = self._around.options
        return self._marked_s + (options.marks_s if self._is_awaited(claim) else options.marks_rest_s)

    def is_live(self) -> bool:
        """Whether event time is the wall clock's; in a replay and behind an outage it is not."""
        at_ms, _ = self._opened.progress.now()
        return abs(self._around.now_ms() - at_ms) <= LIVE_MS

    def _positions(self) -> dict[str, int]:
        return {topic: box.position for topic, box in self._opened.inboxes.items()}

    def _offsets(self) -> dict[Part, int]:
        return {Part(topic, self._partition): offset for topic, offset in self._positions().items()}

    def _waits(self, done: Sequence[EffectDone]) -> Iterable[Measure]:
        for one in done:
            outcome = "ok" if one.error is None else type(one.error).__name__
            yield self._measure(telemetry.RUNTIME_EFFECTS, 1, outcome=outcome)
        for waited_s in self._intake.take_waits():
            yield self._measure(telemetry.RUNTIME_GATE_WAIT, waited_s)

    def _step_measures(self, records: Mapping[str, Sequence[Read]], spent_s: float) -> Iterable[Measure]:
        yield self._measure(telemetry.RUNTIME_STEP_DURATION, spent_s)
        yield self._measure(telemetry.RUNTIME_BATCH_SIZE, sum(map(len, records.values())))
        for topic, found in records.items():
            yield self._measure(telemetry.RUNTIME_RECORDS_READ, len(found), topic=topic)

    def _commit_measures(self, result: Result, spent_s: float) -> Iterable[Measure]:
        yield self._measure(telemetry.RUNTIME_TRANSACTIONS, 1, outcome="ok")
        yield self._measure(telemetry.RUNTIME_TRANSACTION_DURATION, spent_s)
        counts: dict[str, int] = {}
        for out in result.out:
            counts[out.topic] = counts.get(out.topic, 0) + 1
        for topic, count in counts.items():
            yield self._measure(telemetry.RUNTIME_RECORDS_WRITTEN, count, topic=topic)

    def _measure(self, metric: Metric, value: float, **attributes: str) -> Measure:
        return Measure(metric, value, {"stage": self._stage.group, **attributes})
