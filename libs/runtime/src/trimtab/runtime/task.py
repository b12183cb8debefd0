"""A task: one partition of a stage, opened, run, and opened again after a failure, until it is closed."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import structlog

from trimtab.contracts import telemetry
from trimtab.runtime import parking
from trimtab.runtime.bus import Bus, Consumer, Declared, Part, TopicInfo, Transactions
from trimtab.runtime.errors import (
    BusSilentError,
    RefusalError,
    StageRuntimeError,
    StepRaisedError,
    StrayCancellationError,
)
from trimtab.runtime.inbox import Inbox
from trimtab.runtime.intake import Gate
from trimtab.runtime.marks import task_name
from trimtab.runtime.parking import Parked, Patience
from trimtab.runtime.position import Held, check_topics, starts
from trimtab.runtime.progress import Clock, Progress, ReportedClock, writer_clock
from trimtab.runtime.records import Out, Read
from trimtab.runtime.restore import Restored, restore
from trimtab.runtime.schemas import Published, Resolver
from trimtab.runtime.session import Opened, Session, Surroundings
from trimtab.runtime.stage import UNKNOWN_MS, Measure, Stage
from trimtab.runtime.standing import Standing, until_moved
from trimtab.runtime.views import ViewReader

log = structlog.get_logger(__name__)

State = Literal["opening", "restoring", "waiting", "running", "failed", "stopped", "parked", "closed"]
STANDING = ("stopped", "parked")
"""States that only a person ends."""


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """How a task is. `reason`: why it failed or stands still. `progress_ms` None: unknown yet.

    `tries`: how often its step has failed in a row where it stands. All that follows from `progress_ms` and `positions`
    is committed.
    """

    partition: int
    state: State
    reason: str | None
    positions: Mapping[str, int]
    lag: int
    progress_ms: int | None
    idle: bool
    taken: int
    transactions: int
    restarts: int
    tries: int = 0
    entries: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a task runs: its worker's bus, membership of the group, views and declared topics."""

    bus: Bus
    consumer: Callable[[], Consumer]
    views: Sequence[ViewReader]
    declared: Declared


def clocks_of(stage: Stage) -> dict[str, Clock]:
    """The clocks of a stage's inputs, as they are before anything is known."""
    made: dict[str, Clock] = {}
    for source in stage.inputs:
        if source.clock == "marks":
            made[source.topic] = writer_clock(source.writers)
        elif source.clock == "reported":
            made[source.topic] = ReportedClock(source.wall_reach_ms)
    return made


class Task:
    """Keeps one task running. `inboxes` are filled by the worker's dispatcher."""

    def __init__(self, stage: Stage, partition: int, place: Place, around: Surroundings) -> None:
        self.partition = partition
        self.name = task_name(stage.group, partition)
        self.inboxes = {source.topic: Inbox(2 * stage.max_batch) for source in stage.inputs}
        self._stage, self._place, self._around = stage, place, around
        self._gate, published = Gate(stage, place.views), Published(place.bus)
        self._resolvers = {one.topic: Resolver(one.schema, published) for one in stage.inputs if one.schema is not None}
        self._patience = Patience(around.options.park_after)
        self._changelog = Part(stage.changelog, partition)
        self._read_to: int | None = None
        self._closing = asyncio.Event()
        self._session: Session | None = None
        self._opened: Opened | None = None
        self._state: State = "opening"
        self._reason: str | None = None
        self._topics: Mapping[str, TopicInfo] = {}
        self._restarts = self._failures = self._taken = self._committed = 0

    async def run(self) -> None:
        """Run until closed. Failures are logged and tried again; a refusal stands until the task is moved or closed.

        A step that fails again and again parks the task: it stands until a person has decided.
        """
        while not self._closing.is_set():
            try:
                if self._state == "stopped":
                    await until_moved(self._place.bus, self._changelog, self._read_to, self._closing)
                if not self._closing.is_set():
                    await self._live()
            except RefusalError as refusal:
                self._note("stopped", refusal)
            except asyncio.CancelledError as cancelled:
                if _really(cancelled):
                    raise
                await self._fail(StrayCancellationError(self.name))
            except Exception as error:  # noqa: BLE001 the runtime's loop: nothing of the batch was committed
                await self._fail(error)
        self._state = "closed"

    def close(self) -> None:
        """Let the running transaction end, and `run` return."""
        self._closing.set()
        if self._session is not None:
            self._session.closing = True
        self._wake()

    def refuse(self, refusal: RefusalError) -> None:
        """Stand still for a reason found from outside."""
        if self._state != "stopped" and self._session is not None:
            self._session.refusal = refusal
        self._wake()

    @property
    def topics(self) -> Mapping[str, TopicInfo]:
        """The stage's topics as they were when the task opened."""
        return self._topics

    def note_end(self, topic: str, end: int, *, ended: bool) -> None:
        """What the dispatcher heard of an input's end; reaching it starts the time after which it counts as idle."""
        box = self.inboxes[topic]
        if ended and not box.ended:
            self._wake()
        box.end, box.ended = end, ended

    def put(self, topic: str, records: Sequence[Read], now_s: float) -> None:
        """Records of an input have been fetched."""
        self.inboxes[topic].put(records, now_s)
        if self._session is not None:
            self._session.heard(records)

    def resume(self, consumer: Consumer) -> None:
        """After a new assignment that left this task here: go on where the dispatcher was."""
        for topic, box in self.inboxes.items():
            if box.open and box.flowing:
                consumer.seek(Part(topic, self.partition), box.next_offset)

    @property
    def is_live(self) -> bool:
        """Whether it works, and on events of now."""
        return self._session is not None and self._session.is_live()

    def status(self) -> TaskStatus:
        """How it is now."""
        session, opened = self._session, self._opened
        at_ms = session.settled_ms if session is not None else UNKNOWN_MS
        positions = session.settled if session is not None else {t: box.position for t, box in self.inboxes.items()}
        return TaskStatus(
            partition=self.partition,
            state=self._state,
            reason=self._reason,
            positions=positions,
            lag=sum(box.lag for box in self.inboxes.values()),
            progress_ms=None if at_ms == UNKNOWN_MS else at_ms,
            idle=opened is not None and opened.progress.now()[1],
            taken=self._taken + (session.taken if session is not None else 0),
            transactions=self._committed + (session.committed if session is not None else 0),
            restarts=self._restarts,
            tries=self._patience.tries,
            entries={name: len(table) for name, table in opened.tables.items()} if opened is not None else {},
        )

    async def _live(self) -> None:
        """One life: open, work, close. A parked task stands still instead, and lives on when a person has decided."""
        self._halt()
        transactions = self._place.bus.transactions(self.name, self._stage.group)
        try:
            started_s = asyncio.get_running_loop().time()
            opened = await self._open(transactions)
            if isinstance(opened, Opened):
                spent_s = asyncio.get_running_loop().time() - started_s
                stage = {"stage": self._stage.group}
                self._around.record([Measure(telemetry.RUNTIME_RESTORE_DURATION, spent_s, stage)])
                await self._work(opened)
        finally:
            self._halt()
            await transactions.close()
        if isinstance(opened, Standing):
            await self._stand(opened)

    def _wake(self) -> None:
        if self._session is not None:
            self._session.wake()

    def _halt(self) -> None:
        for topic, box in self.inboxes.items():
            if box.open:
                self._place.consumer().pause(Part(topic, self.partition))
            box.stop()

    async def _open(self, transactions: Transactions) -> Opened | Standing | None:
        """Fence, restore, check, seek; None when closed meanwhile. Raises RefusalError, StepRaisedError."""
        self._state, self._read_to = "opening", None
        needed: dict[str, int | None] = {source.topic: self._stage.partitions for source in self._stage.inputs}
        needed |= {view.topic: None for view in self._stage.views}
        needed |= {self._stage.changelog: self._stage.partitions}
        needed |= {output.topic: output.partitions for output in self._stage.outputs}
        found = await self._place.bus.catalog.describe(list(needed))
        check_topics(found, needed, self._place.declared)
        self._topics = found
        await transactions.open()
        self._state = "restoring"
        ids = {source.topic: found[source.topic].id for source in self._stage.inputs}
        restored, committed = await self._find([Part(topic, self.partition) for topic in ids])
        self._read_to = restored.end
        parked = restored.parked or await self._give_up(restored, transactions)
        if parked is not None:
            return Standing(parked, self._changelog, restored.end)
        if restored.error is not None:
            raise StepRaisedError(restored.error, {}, 0, alone=True)
        offsets = await self._starts(restored, committed, ids)
        self._state = "waiting"
        if not await self._views_ready():
            return None
        progress = Progress(clocks_of(self._stage))
        if restored.position is not None:
            progress.restore(restored.position.progress)
        self._start(offsets)
        narrowed = self._patience.narrowed
        return Opened(
            transactions,
            restored.tables,
            progress,
            ids,
            self.inboxes,
            self._gate,
            self._refill,
            narrowed,
            self._resolvers,
        )

    async def _give_up(self, restored: Restored, transactions: Transactions) -> Parked | None:
        """Park the task if it has failed too often where it stands.

        Only here: what has just been restored under our own epoch is where the task stands, whoever ran it in between.
        """
        offsets = restored.position.offsets if restored.position is not None else {}
        self._patience.opened(offsets)
        parked = self._patience.verdict(offsets, self._around.now_ms())
        if parked is not None:
            out = Out(self._changelog.topic, parking.KEY, parking.encode(parked))
            await transactions.commit({self._changelog: [out]}, {})
        return parked

    async def _stand(self, standing: Standing) -> None:
        """Do nothing until a person has decided."""
        await standing.show(self._place.bus, self.inboxes)
        parked = standing.parked
        self._opened, self._failures, self._patience.tries = None, 0, parked.tries
        self._state, self._reason = "parked", parked.told(self.name)
        log.error("task parked", task=self.name, reason=self._reason, positions=parked.offsets, tries=parked.tries)
        await standing.until_decided(self._place.bus, self.inboxes, self._closing)
        self._patience.forget()

    async def _find(self, parts: Sequence[Part]) -> tuple[Restored, Mapping[Part, int]]:
        """State and position, and the group's offsets where there is no position.

        Traces of earlier work without one are looked at twice: another process may have fenced this one and begun the
        task between two looks. Who looks again finds the position that was committed with them, if there is one.
        """
        restored = await restore(self._stage, self.partition, self._place.bus, self._around.now_ms)
        if restored.position is not None:
            return restored, {}
        committed = await self._place.bus.catalog.committed(self._stage.group, parts)
        if committed or restored.entries:
            restored = await restore(self._stage, self.partition, self._place.bus, self._around.now_ms)
        return restored, committed

    async def _starts(
        self, restored: Restored, committed: Mapping[Part, int], ids: Mapping[str, str]
    ) -> dict[str, int]:
        bounds = await self._place.bus.catalog.bounds([Part(topic, self.partition) for topic in ids])
        held = Held(
            task=self.name,
            changelog=self._stage.changelog,
            position=restored.position,
            entries=restored.entries,
            committed={part.topic: offset for part, offset in committed.items()},
        )
        return starts(held, ids, {part.topic: bound for part, bound in bounds.items()})

    async def _views_ready(self) -> bool:
        """Wait until all views have been read to their ends; False when closed meanwhile."""
        waits = [asyncio.create_task(reader.ready.wait()) for reader in self._place.views]
        closing = asyncio.create_task(self._closing.wait())
        try:
            while not closing.done() and not all(wait.done() for wait in waits):
                pending = [wait for wait in waits if not wait.done()]
                await asyncio.wait([closing, *pending], return_when=asyncio.FIRST_COMPLETED)
            return not closing.done()
        finally:
            for wait in (closing, *waits):
                wait.cancel()

    def _start(self, offsets: Mapping[str, int]) -> None:
        now_s = asyncio.get_running_loop().time()
        for topic, offset in offsets.items():
            self.inboxes[topic].start(offset, now_s)
            self._place.consumer().seek(Part(topic, self.partition), offset)

    def _refill(self) -> None:
        for topic, box in self.inboxes.items():
            if box.open and not box.flowing and box.thirsty:
                box.flowing = True
                self._place.consumer().seek(Part(topic, self.partition), box.next_offset)

    async def _work(self, opened: Opened) -> None:
        session = Session(self._stage, self.partition, opened, self._around)
        self._session, self._opened = session, opened
        self._state, self._reason, self._read_to = "running", None, None
        session.closing = self._closing.is_set()
        for reader in self._place.views:
            reader.listen(session.release)
        try:
            await session.run()
        finally:
            for reader in self._place.views:
                reader.forget(session.release)
            self._failures = 0 if session.committed else self._failures
            self._taken, self._committed = self._taken + session.taken, self._committed + session.committed
            self._session = None

    async def _fail(self, error: Exception) -> None:
        self._note("failed", error)
        await self._back_off()

    def _note(self, state: Literal["failed", "stopped"], error: Exception) -> None:
        if isinstance(error, StepRaisedError):
            self._patience.failed(error)
            error = error.cause
        was, self._state, self._reason = self._state, state, f"{type(error).__name__}: {error}"
        self._restarts += 1
        self._failures += 0 if isinstance(error, BusSilentError) else 1
        lost = {"stage": self._stage.group, "outcome": type(error).__name__}
        self._around.record([Measure(telemetry.RUNTIME_TRANSACTIONS, 1, lost)] if was == "running" else [])
        self._around.record(
            [Measure(telemetry.RUNTIME_RESTARTS, 1, {"stage": self._stage.group, "reason": type(error).__name__})]
        )
        expected = isinstance(error, StageRuntimeError)
        positions = {topic: box.position for topic, box in self.inboxes.items()}
        log.error(
            "task failed" if state == "failed" else "task stopped",
            task=self.name,
            error=self._reason,
            positions=positions,
            exc_info=None if expected else error,
        )

    async def _back_off(self) -> None:
        options = self._around.options
        delay_s = min(
            options.backoff_s * 2 ** min(max(self._failures, self._patience.tries, 1) - 1, 10), options.backoff_most_s
        )
        try:
            await asyncio.wait_for(self._closing.wait(), delay_s)
        except TimeoutError:
            return


def _really(_: asyncio.CancelledError) -> bool:
    """Whether this task was cancelled, rather than something it awaited (aiokafka lets such cancellations through)."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
