"""Broadcast inputs: read every partition from the start, in no group, and keep the view up to date."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog

from trimtab.contracts import telemetry
from trimtab.runtime import marks
from trimtab.runtime.bus import Bus, Part, Reader
from trimtab.runtime.control import Refused
from trimtab.runtime.errors import BusSilentError, TopicMissingError
from trimtab.runtime.progress import Progress, WriterClock, writer_clock
from trimtab.runtime.records import Read
from trimtab.runtime.schemas import Published, Resolver
from trimtab.runtime.stage import UNKNOWN_MS, AvroView, Measure, PreparedView, Record, TimedView, View, unrecorded

log = structlog.get_logger(__name__)

_POLL_S, _AGAIN_S = 1.0, 0.1


class ViewReader:
    """Keeps one view current. Ready once it has read what was committed when it began, and prepared itself.

    `progress`: of all partitions; None for a view without a clock. `refused`: how many records were passed over because
    they could not be read, `refusal`: why the last of them.
    """

    def __init__(self, view: View, bus: Bus, record: Record = unrecorded) -> None:
        self.view, self._record = view, record
        self.ready = asyncio.Event()
        self.records = self.refused = 0
        self.refusal: str | None = None
        self.progress: Progress | None = None
        self._bus = bus
        self._resolver = Resolver(view.schema, Published(bus)) if isinstance(view, AvroView) else None
        self._timed = view if isinstance(view, TimedView) else None
        self._listeners: dict[Callable[[], None], None] = {}

    def listen(self, listener: Callable[[], None]) -> None:
        """Call this whenever the view has moved."""
        self._listeners[listener] = None

    def forget(self, listener: Callable[[], None]) -> None:
        """Call it no more."""
        self._listeners.pop(listener, None)

    async def run(self) -> None:
        """Read until cancelled. Whatever the view raises ends it: a view that missed a record is wrong."""
        reader, ends = await self._opened()
        try:
            await self._follow(reader, ends)
        finally:
            await reader.close()

    async def _opened(self) -> tuple[Reader, Mapping[Part, int]]:
        """A reader, and to where it is to be read; again and again while the log does not answer."""
        while True:
            try:
                partitions = await self._partitions()
                bounds = await self._bus.catalog.stable(partitions)  # what is uncommitted may be our own predecessor's
                reader = await self._bus.reader({part: begin for part, (begin, _) in bounds.items()})
            except BusSilentError as error:
                log.warning("view waits for the log", topic=self.view.topic, error=str(error))
                await asyncio.sleep(_AGAIN_S)
                continue
            if self.view.clock == "marks":
                self.progress = Progress({str(part.partition): writer_clock(self.view.writers) for part in partitions})
            return reader, {part: end for part, (_, end) in bounds.items()}

    async def _partitions(self) -> list[Part]:
        topic = self.view.topic
        found = await self._bus.catalog.describe([topic])
        if topic not in found:
            raise TopicMissingError(topic)
        return [Part(topic, partition) for partition in range(found[topic].partitions)]

    async def _follow(self, reader: Reader, ends: Mapping[Part, int]) -> None:
        await self._check_ready(reader, ends)
        while True:
            fetched = await reader.poll(_POLL_S)
            for part, records in fetched.items():
                self._fold(part, records if self._resolver is None else await self._resolver.resolved(records))
            await self._check_ready(reader, ends)
            if fetched:
                for listener in tuple(self._listeners):
                    listener()

    async def _check_ready(self, reader: Reader, ends: Mapping[Part, int]) -> None:
        if not self.ready.is_set():
            positions = reader.positions()
            if all(positions[part] >= end for part, end in ends.items()):
                if isinstance(self.view, PreparedView):
                    await self.view.prepare()
                self.ready.set()

    def _fold(self, part: Part, records: Sequence[Read]) -> None:
        data = [record for record in records if record.value is not None or not marks.is_mark(record)]
        if data:
            self._refuse(self.view.apply(data) or ())
            self.records += len(data)
            self._record([Measure(telemetry.RUNTIME_VIEW_RECORDS, len(data), {"topic": part.topic})])
        if self.progress is not None and len(data) < len(records):
            clock = self.progress.clock(str(part.partition))
            for record in records:
                mark = marks.mark_of(record)
                if mark is not None and isinstance(clock, WriterClock):
                    clock.mark(mark)
            if self._timed is not None:
                at_ms, idle = self.progress.now()
                self._timed.reached(UNKNOWN_MS if idle else at_ms)

    def _refuse(self, refused: Sequence[Refused]) -> None:
        """What somebody wrote by hand and kept no schema: it is passed over, and told."""
        self.refused += len(refused)
        for one in refused:
            self.refusal = one.reason
            log.error("record refused", topic=one.topic, reason=one.reason)
            self._record([Measure(telemetry.RUNTIME_VIEW_REFUSED, 1, {"topic": one.topic})])


class Views:
    """The view readers of a process, each run once however many stages look at it.

    A reader's failure is the process's: `failed` completes with it.
    """

    def __init__(self, bus: Bus, record: Record = unrecorded) -> None:
        self._bus, self._record = bus, record
        self._readers: dict[int, tuple[ViewReader, asyncio.Task[None]]] = {}
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self, view: View) -> ViewReader:
        """The reader of a view, started if it does not run yet."""
        if id(view) not in self._readers:
            reader = ViewReader(view, self._bus, self._record)
            task = asyncio.create_task(reader.run(), name=f"view {view.topic}")
            task.add_done_callback(self._ended)
            self._readers[id(view)] = (reader, task)
        return self._readers[id(view)][0]

    def all(self) -> list[ViewReader]:
        """Those that run."""
        return [reader for reader, _ in self._readers.values()]

    async def keep(self, views: Sequence[View]) -> None:
        """Stop every reader but those of these views."""
        kept = {id(view) for view in views}
        gone = [key for key in self._readers if key not in kept]
        tasks = [self._readers.pop(key)[1] for key in gone]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not self.failed.done():
            self.failed.set_exception(error)
