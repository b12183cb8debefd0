"""The two stages of a loop: accept and dedupe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trimtab.contracts import envelope, telemetry, times, topics
from trimtab.ingest.core.accept import Arrived, Clock, Judged, accept
from trimtab.ingest.core.dedupe import Fate, Horizon, Memo, Promise, dedupe
from trimtab.ingest.core.memory import SEEN, Memory
from trimtab.ingest.core.records import Origin, Quarantine, Source, accepted_records
from trimtab.ingest.core.schemas import KnownSchemas
from trimtab.loops.incoming.contract import Contract, compile_contract
from trimtab.loops.incoming.ports import Keep, ResolveSchema
from trimtab.loops.incoming.verdicts import Refusal, Rejected
from trimtab.loops.model import Loop
from trimtab.runtime.records import Out, Read
from trimtab.runtime.stage import UNKNOWN_MS, Batch, Input, Measure, Output, Result, Stage, Tables
from trimtab.runtime.table import TableSpec

SERVICE = "ingest"
ACCEPT, DEDUPE = "accept", "dedupe"


def _same_text(data: str) -> bytes:
    return data.encode()


def _two(first: int, second: int) -> bytes:
    return f"{first} {second}".encode()


CLOCKS: TableSpec[str, Clock] = TableSpec(
    "clocks",
    _same_text,
    bytes.decode,
    lambda clock: _two(clock.newest_ms, clock.appended_ms),
    lambda data: Clock(*map(int, data.split())),
)
"""Event → how far its source has come."""
HORIZONS: TableSpec[str, Horizon] = TableSpec(
    "horizons",
    _same_text,
    bytes.decode,
    lambda horizon: _two(horizon.newest_ms, horizon.oldest_ms),
    lambda data: Horizon(*map(int, data.split())),
)
"""Event → how far back its ids are known."""


@dataclass(frozen=True, slots=True)
class Edges:
    """What the stages need from outside. `trace_share`: of events without a `traceparent`, how many start one."""

    keep: Keep
    trace_share: float


Contracts = Mapping[str, Contract]
"""By event's name."""


def contracts_of(loop: Loop, resolve: ResolveSchema) -> Contracts:
    """The contracts of a loop's events; the stages and the HTTP door share them."""
    return {event.name: compile_contract(loop, event, resolve) for event in loop.events.values()}


def accept_stage(loop: Loop, contracts: Contracts, edges: Edges) -> Stage:
    """Users' events → accepted or quarantine. Delivery: exactly once from what stands in the source."""
    written = [topics.accepted(loop.name, event) for event in loop.events]
    return Stage(
        group=topics.group(SERVICE, ACCEPT, loop.name),
        changelog=topics.changelog(SERVICE, ACCEPT, loop.name),
        partitions=loop.partitions,
        awaited_grain_ms=loop.features.awaited_ms,
        inputs=[source_input(loop, event) for event in loop.events],
        outputs=[Output(topic, loop.partitions) for topic in [*written, topics.rejected(loop.name)]],
        tables=[CLOCKS],
        views=[KnownSchemas([contract.reader for contract in contracts.values()])],
        step=AcceptStep(loop.name, contracts, edges),
    )


def source_input(loop: Loop, event: str) -> Input:
    """A users' topic. With `clock = "wall"` time goes on in it while no event comes."""
    reach_ms = loop.max_gap_ms if loop.clock == "wall" else None
    return Input(topics.source(loop.name, event), clock="reported", wall_reach_ms=reach_ms)


def dedupe_stage(loop: Loop, edges: Edges) -> Stage:
    """Accepted events → events without copies, or quarantine."""
    writers = {topics.group(SERVICE, ACCEPT, loop.name): loop.partitions}
    written = [topics.events(loop.name, event) for event in loop.events]
    promises = [Promise(event.name, event.dedupe_ms, event.revisions) for event in loop.events.values()]
    return Stage(
        group=topics.group(SERVICE, DEDUPE, loop.name),
        changelog=topics.changelog(SERVICE, DEDUPE, loop.name),
        partitions=loop.partitions,
        awaited_grain_ms=loop.features.awaited_ms,
        inputs=[Input(topics.accepted(loop.name, event), writers=writers) for event in loop.events],
        outputs=[Output(topic, loop.partitions) for topic in [*written, topics.rejected(loop.name)]],
        tables=[SEEN, HORIZONS],
        step=DedupeStep(loop.name, promises, edges),
    )


def stages(loop: Loop, contracts: Contracts, edges: Edges) -> list[Stage]:
    """Both stages of a loop."""
    return [accept_stage(loop, contracts, edges), dedupe_stage(loop, edges)]


class AcceptStep:
    """The step of `accept`; immutable."""

    def __init__(self, loop: str, contracts: Mapping[str, Contract], edges: Edges) -> None:
        source = topics.group(SERVICE, ACCEPT, loop)
        self._loop, self._edges = loop, edges
        self._contracts = [(topics.source(loop, event), contract) for event, contract in contracts.items()]
        self._quarantine = {
            event: Quarantine(topics.rejected(loop), Origin(event, source), edges.keep) for event in contracts
        }

    def __call__(self, partition: int, tables: Tables, batch: Batch) -> Result:
        del partition  # the same for every one
        out: list[Out] = []
        clocks: dict[str, int] = {}
        measures: list[Measure] = []
        for topic, contract in self._contracts:
            records = batch.records.get(topic)
            if not records:
                continue
            judged = self._judge(contract, records, batch.now_ms, tables)
            out += self._records(contract.event, records, judged, batch.now_ms)
            measures += _measured(self._loop, contract.event, judged)
            if judged.accepted:
                clocks[topic] = max(event.time_ms for event in judged.accepted)
        return Result(out, clocks, measures=measures)

    def _judge(self, contract: Contract, records: Sequence[Read], now_ms: int, tables: Tables) -> Judged:
        arrived = Arrived([record.value for record in records], [record.timestamp for record in records], now_ms)
        before: Clock | None = tables[CLOCKS.name].get(contract.event)
        judged = accept(contract, arrived, before)
        if judged.clock is not None and judged.clock != before:
            tables[CLOCKS.name].put(contract.event, judged.clock)
        return judged

    def _records(self, event: str, records: Sequence[Read], judged: Judged, now_ms: int) -> list[Out]:
        quarantine = self._quarantine[event]
        topic, share = topics.accepted(self._loop, event), self._edges.trace_share
        headers = [record.headers for record in records]
        clock_ms = now_ms if judged.clock is None else judged.clock.newest_ms
        passed = accepted_records(topic, quarantine.origin, judged.accepted, headers, share)
        return passed + [
            quarantine.record(one, records[one.index].value or b"", source_of(records[one.index]), (clock_ms, now_ms))
            for one in judged.rejected
        ]


def _measured(loop: str, event: str, judged: Judged) -> list[Measure]:
    """A batch's verdicts as counts."""
    of_event = {"loop": loop, "event": event}
    passed, refused = len(judged.accepted), len(judged.rejected)
    return [
        Measure(telemetry.INGEST_EVENTS, passed + refused, of_event),
        Measure(telemetry.INGEST_ACCEPTED, passed, of_event),
        *(Measure(telemetry.INGEST_REJECTED, 1, {**of_event, "rule": one.refusal.rule}) for one in judged.rejected),
    ]


def source_of(record: Read) -> Source:
    """The place of a record."""
    return Source(record.topic, record.partition, record.offset, envelope.foreign_traceparent(record.headers))


class DedupeStep:
    """The step of `dedupe`. Keeps an index over each open task's table, made anew when the task has a new table."""

    def __init__(self, loop: str, promises: Sequence[Promise], edges: Edges) -> None:
        source = topics.group(SERVICE, DEDUPE, loop)
        self._loop = loop
        self._promises = [(topics.accepted(loop, promise.event), promise) for promise in promises]
        self._quarantine = {
            promise.event: Quarantine(topics.rejected(loop), Origin(promise.event, source), edges.keep)
            for promise in promises
        }
        self._memories: dict[int, Memory] = {}

    def __call__(self, partition: int, tables: Tables, batch: Batch) -> Result:
        memory = self._memory(partition, tables)
        out: list[Out] = []
        measures: list[Measure] = []
        for topic, promise in self._promises:
            records = batch.records.get(topic)
            if not records:
                continue
            memos = _memos(records)
            horizon = _horizon(promise, memos, tables, batch.progress_ms)
            fates = dedupe(promise, memos, horizon, memory, records[0].offset)
            out += self._records(promise.event, _Told(records, memos, fates), batch.now_ms)
            measures += self._measures(promise.event, fates)
        return Result(out, measures=measures)

    def _memory(self, partition: int, tables: Tables) -> Memory:
        memory = self._memories.get(partition)
        if memory is None or memory.table is not tables[SEEN.name]:
            memory = self._memories[partition] = Memory(tables[SEEN.name])
        return memory

    def _records(self, event: str, told: "_Told", now_ms: int) -> list[Out]:
        topic, quarantine = topics.events(self._loop, event), self._quarantine[event]
        out: list[Out] = []
        for index, (record, memo, fate) in enumerate(zip(told.records, told.memos, told.fates, strict=True)):
            if isinstance(fate, Refusal):
                rejected = Rejected(index, fate, memo.id, memo.time_ms)
                known_ms = (memo.time_ms, now_ms)
                out.append(quarantine.record(rejected, record.value or b"", source_of(record), known_ms))
            elif fate != "copy":
                out.append(Out(topic, memo.key, record.value, record.headers))
        return out

    def _measures(self, event: str, fates: Sequence[Fate | Refusal]) -> list[Measure]:
        of_event = {"loop": self._loop, "event": event}
        refused = [fate for fate in fates if isinstance(fate, Refusal)]
        counts = [
            Measure(telemetry.INGEST_DUPLICATES, fates.count("copy"), of_event),
            Measure(telemetry.INGEST_REVISIONS, fates.count("revision"), of_event),
            *(Measure(telemetry.INGEST_REJECTED, 1, {**of_event, "rule": fate.rule}) for fate in refused),
        ]
        return [measure for measure in counts if measure.value]


@dataclass(frozen=True, slots=True)
class _Told:
    """A batch with what is known of each record, and its fate."""

    records: Sequence[Read]
    memos: Sequence[Memo]
    fates: Sequence[Fate | Refusal]


def _horizon(promise: Promise, memos: Sequence[Memo], tables: Tables, progress_ms: int) -> Horizon:
    """The horizon by which a batch is judged: the one that all before it has left. Keeps the one that it leaves."""
    known: Horizon | None = tables[HORIZONS.name].get(promise.event)
    before = known or Horizon(UNKNOWN_MS, UNKNOWN_MS)
    horizon = before.moved(progress_ms, promise.dedupe_ms)
    after = Horizon(max(horizon.newest_ms, max(memo.time_ms for memo in memos)), horizon.oldest_ms)
    if after != known:
        tables[HORIZONS.name].put(promise.event, after)
    return horizon


def _memos(records: Sequence[Read]) -> list[Memo]:
    """What the headers of accepted records say. Raises MissingHeaderError."""
    found = [dict(record.headers) for record in records]
    try:
        times_ms = times.parse_many([headers[envelope.TIME] for headers in found])
        return [
            Memo(headers[envelope.ID], at_ms, headers[envelope.DIGEST], headers[envelope.KEY])
            for headers, at_ms in zip(found, times_ms, strict=True)
        ]
    except KeyError as error:
        raise envelope.MissingHeaderError(str(error.args[0])) from error
