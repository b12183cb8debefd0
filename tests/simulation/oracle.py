"""What must be true at the end of every schedule, computed from the log alone. Each finding is a sentence."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from trimtab.runtime import marks
from trimtab.runtime.bus import Part
from trimtab.runtime.memory import MemoryBus
from trimtab.runtime.records import Read
from trimtab.runtime.restore import Restored
from trimtab.runtime.stage import Stage
from trimtab.runtime.worker import StageStatus

from tests.simulation.pipeline import COUNTED, GROUPS, KEYED, RAW, SUMMED, Event, events

ALL = 1_000_000


def findings(bus: MemoryBus, stages: Sequence[Stage], seen: Sequence[Read]) -> list[str]:
    """`seen`: what a reader of `summed` saw while it all happened."""
    topics = {topic: data(bus, topic) for topic in (RAW, KEYED, COUNTED, SUMMED)}
    return [
        *_keyed(topics[RAW], topics[KEYED]),
        *_counted(topics[KEYED], topics[COUNTED]),
        *_summed(topics[COUNTED], topics[SUMMED]),
        *_ends(topics[RAW], topics[SUMMED], seen),
        *_tables(bus, stages, topics[COUNTED]),
    ]


def data(bus: MemoryBus, topic: str) -> list[Read]:
    return [record for record in bus.records(topic) if not marks.is_mark(record)]


def _keyed(before: Sequence[Read], after: Sequence[Read]) -> Iterator[str]:
    """Each raw record once, those of one partition and key in their order."""
    expected = Counter(f"{record.partition}:{record.offset}" for record in before)
    yield from differ("keyed records", expected, Counter(event.at for event in events(after)))
    last: dict[tuple[str, int], int] = {}
    for event in events(after):
        partition, offset = event.at.split(":")
        if last.get((partition, event.key), -1) > int(offset):
            yield f"keyed: {event} is out of order"
        last[partition, event.key] = int(offset)


def _counted(before: Sequence[Read], after: Sequence[Read]) -> Iterator[str]:
    """The fold: of each id the first record, numbered by key."""
    expected: dict[int, list[Event]] = defaultdict(list)
    known: set[int] = set()
    for event in events(before):
        if event.id not in known:
            known.add(event.id)
            expected[event.key].append(event._replace(number=len(expected[event.key]) + 1))
    yield from _sequences("counted, key", expected, _by(events(after), lambda event: event.key))


def _summed(before: Sequence[Read], after: Sequence[Read]) -> Iterator[str]:
    """The fold: numbered by group; and no answer that is older than its question."""
    expected = {
        group: [event._replace(total=total) for total, event in enumerate(found, 1)]
        for group, found in _by(events(before), lambda event: event.key % GROUPS).items()
    }
    found = events(after)
    without = _by([event._replace(answer=0) for event in found], lambda event: event.key % GROUPS)
    yield from _sequences("summed, group", expected, without)
    yield from (f"summed: {event} was answered before its time" for event in found if event.answer < event.number)


def _ends(sent: Sequence[Read], got: Sequence[Read], seen: Sequence[Read]) -> Iterator[str]:
    """Every id that was sent came out once; who read along saw just that."""
    ids = Counter(event.id for event in events(got))
    yield from differ("ids at the end", Counter({event.id for event in events(sent)}), ids)
    yield from differ(
        "records of a reader",
        Counter((one.partition, one.offset) for one in got),
        Counter((one.partition, one.offset) for one in seen),
    )


def _tables(bus: MemoryBus, stages: Sequence[Stage], counted: Sequence[Read]) -> Iterator[str]:
    """Tables equal their recomputation; positions stand at the ends."""
    tables: dict[str, dict[int, int]] = defaultdict(dict)
    for stage in stages:
        for partition in range(stage.partitions):
            restored = Restored(stage, partition)
            for part in restored.parts:
                restored.apply(part, bus.after(part, 0, ALL)[0])
            for name, table in restored.tables.items():
                tables[name] |= dict(table.items())
            yield from positions(bus, stage, partition, restored)
    found = events(counted)
    expected = {
        "seen": {event.id: event.key for event in found},
        "online": dict(Counter(event.key for event in found)),
        "totals": dict(Counter(event.key % GROUPS for event in found)),
    }
    for name, entries in expected.items():
        if tables[name] != entries:
            yield f"table {name} holds {tables[name]}, recomputed {entries}"


def positions(bus: MemoryBus, stage: Stage, partition: int, restored: Restored) -> Iterator[str]:
    for source in stage.inputs:
        offset = restored.position.offsets.get(source.topic, 0) if restored.position is not None else 0
        left, _ = bus.after(Part(source.topic, partition), offset, ALL)
        if left:
            yield f"{stage.group}-{partition} stands at {offset} of {source.topic}, with {len(left)} records left"


def unfinished(stages: Sequence[Stage], status: Sequence[StageStatus]) -> list[str]:
    """Tasks that are not where they should be in the end: each once, idle, with everything read."""
    tasks = [(one.group, task) for one in status for task in one.tasks]
    clocked = {stage.group for stage in stages if any(source.clock != "none" for source in stage.inputs)}
    expected = Counter((stage.group, partition) for stage in stages for partition in range(stage.partitions))
    return [
        *differ("tasks", expected, Counter((group, task.partition) for group, task in tasks)),
        *(
            f"task {group}-{task.partition} is {task.state}, lag {task.lag}, idle {task.idle}: {task.reason}"
            for group, task in tasks
            if task.state != "running" or task.lag or (group in clocked and not task.idle)
        ),
    ]


K = TypeVar("K")


def _by(found: Iterable[Event], name: Callable[[Event], int]) -> dict[int, list[Event]]:
    groups: dict[int, list[Event]] = defaultdict(list)
    for event in found:
        groups[name(event)].append(event)
    return groups


def differ(what: str, expected: Counter[K], found: Counter[K]) -> Iterator[str]:
    if lost := expected - found:
        yield f"{what}: lost {sorted(lost.elements(), key=str)}"
    if doubled := found - expected:
        yield f"{what}: too many {sorted(doubled.elements(), key=str)}"


def _sequences(what: str, expected: Mapping[int, list[Event]], found: Mapping[int, list[Event]]) -> Iterator[str]:
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            yield f"{what} {name}: {_short(found.get(name))} instead of {_short(expected.get(name))}"


def _short(found: Sequence[Event] | None) -> list[str]:
    return [f"{event.id}#{event.number}/{event.total}" for event in found or ()]
