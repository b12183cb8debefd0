"""Classical mistakes, each planted alone: a simulation that does not find them proves nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from trimtab.runtime import position
from trimtab.runtime.bus import Fetched, Part, Writes
from trimtab.runtime.errors import OutcomeUnknownError
from trimtab.runtime.memory import MemoryReader, MemoryTransactions
from trimtab.runtime.records import Read
from trimtab.runtime.stage import Batch, Result, Stage, Tables
from trimtab.testing.simulation import SimulatedBus, SimulatedConsumer, SimulatedTransactions

from tests.simulation.pipeline import (
    COUNT_GROUP,
    KEY_GROUP,
    KEYED,
    RAW,
    SUM_GROUP,
    Event,
    Shape,
    keyed,
    numbered,
    numbers,
    pipeline,
)
from tests.simulation.world import Build, plan_of, simulate


def speaking(spoken: type[SimulatedTransactions]) -> Build:
    """A bus whose clients go about their transactions in another way."""

    class Bus(SimulatedBus):
        def transactions(self, transactional_id: str, group: str) -> SimulatedTransactions:
            return spoken(self, transactional_id, group)

    return Build(bus=Bus)


def changing(changes: Mapping[str, Mapping[str, object]]) -> Build:
    """A pipeline with some of its stages changed, by group."""

    def build(shape: Shape) -> Sequence[Stage]:
        return [replace(stage, **changes.get(stage.group, {})) for stage in pipeline(shape)]  # type: ignore[arg-type]

    return Build(pipeline=build)


class PositionFirst(SimulatedTransactions):
    """The position is committed in a transaction of its own, before the outputs."""

    async def commit(self, writes: Writes, offsets: Mapping[Part, int]) -> None:
        first, rest = apart(writes)
        await super().commit(first, offsets)
        await super().commit(rest, {})


class PositionLater(SimulatedTransactions):
    """The position is committed in a transaction of its own, after the outputs: a crash in between loses it."""

    async def commit(self, writes: Writes, offsets: Mapping[Part, int]) -> None:
        last, rest = apart(writes)
        await super().commit(rest, {})
        await super().commit(last, offsets)


def apart(writes: Writes) -> tuple[Writes, Writes]:
    """The positions among writes, and the rest."""
    positions = {part: [out for out in outs if out.key == position.KEY] for part, outs in writes.items()}
    rest = {part: [out for out in outs if out.key != position.KEY] for part, outs in writes.items()}
    return tuple({part: outs for part, outs in some.items() if outs} for some in (positions, rest))  # type: ignore[return-value]  # two of two


class Repeating(SimulatedTransactions):
    """Where no answer came the end is asked for again, under the same epoch: the first may arrive later."""

    async def end(self, offsets: Mapping[Part, int]) -> None:
        try:
            await super().end(offsets)
        except OutcomeUnknownError:
            await super().end(offsets)


class Careless(SimulatedTransactions):
    """A piece that was not acknowledged does not keep the rest from being committed."""

    async def write(self, piece: Writes) -> None:
        try:
            await super().write(piece)
        except OutcomeUnknownError:
            return


class Unfenced(SimulatedBus):
    """Whoever opened a task at some time may write to it for ever."""

    def check_owner(self, owner: MemoryTransactions) -> None:
        self._owners[owner.transactional_id] = owner


class StaleConsumer(SimulatedConsumer):
    """Hands out what it had fetched before an assignment or a seek."""

    def still_counts(self, fetched: Fetched, at: int) -> Fetched:
        return fetched


class Stale(SimulatedBus):
    """A bus with such consumers."""

    consumers = StaleConsumer


class WithoutEntries(MemoryReader):
    """Reads positions, marks and outputs, but no entries of tables."""

    async def poll(self, timeout_s: float) -> Mapping[Part, Sequence[Read]]:
        return {
            part: [record for record in records if not part.topic.endswith(".log") or record.key == position.KEY]
            for part, records in (await super().poll(timeout_s)).items()
        }


class Unrestored(SimulatedBus):
    """Tasks find no tables when they open."""

    async def reader(self, starts: Mapping[Part, int]) -> MemoryReader:
        return WithoutEntries(self, dict(starts))


def key_what_is_new(_partition: int, tables: Tables, batch: Batch) -> Result:
    """Drops what this partition of `raw` has seen: the second copy may stand in another one."""
    seen, fresh = tables["early"], []
    for record in batch.records.get(RAW, ()):
        event = Event.of(record.value)
        if event.id not in seen:
            seen.put(event.id, event.key)
            fresh.append(record)
    return keyed(fresh)


def count_all(_partition: int, tables: Tables, batch: Batch) -> Result:
    """Takes it that second copies were dropped before."""
    return Result([numbered(tables, record) for record in batch.records.get(KEYED, ())])


@dataclass(frozen=True, slots=True)
class Bug:
    """A mistake and what it does to people: every finding that counts says so."""

    build: Build
    symptom: str = ""


BUGS: Mapping[str, Bug] = {
    "commit before produce": Bug(speaking(PositionFirst), "ids at the end: lost"),
    "lost position": Bug(speaking(PositionLater), "too many"),
    "late end of a transaction": Bug(speaking(Repeating)),
    "failed batch committed": Bug(speaking(Careless)),
    "no fencing": Bug(Build(bus=Unfenced), "too many"),
    "stale batch": Bug(Build(bus=Stale), "too many"),
    "table not restored": Bug(Build(bus=Unrestored), "table "),
    "dedupe before keying": Bug(
        changing(
            {KEY_GROUP: {"step": key_what_is_new, "tables": [numbers("early")]}, COUNT_GROUP: {"step": count_all}}
        ),
        "ids at the end: too many",
    ),
    "gate ignored": Bug(changing({SUM_GROUP: {"gate": ()}}), "before its time"),
}


def found(name: str, seed: int) -> bool:
    """Whether the schedule of a seed shows a planted bug."""
    bug = BUGS[name]
    return any(bug.symptom in finding for finding in simulate(plan_of(seed), bug.build).findings)
