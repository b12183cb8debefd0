"""The stages that are simulated: key, count (two tables), sum (a table, and a view behind a gate).

Users write `raw`, into any partition and now and then twice. `key` gives every record its key's partition; `count`
drops what it has seen and numbers the records of each key; `sum`, keyed by group, numbers the records of each group and
asks the view of `online`, which holds each key's newest number, for its answer as of the record's time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple

from trimtab.contracts import envelope, times
from trimtab.runtime.records import Headers, Out, Read
from trimtab.runtime.stage import Batch, Input, Output, Result, Stage, Step, Tables
from trimtab.runtime.table import TableSpec

RAW, KEYED, COUNTED, ONLINE, SUMMED = "raw", "keyed", "counted", "online", "summed"
KEY_GROUP, COUNT_GROUP, SUM_GROUP = "sim.key", "sim.count", "sim.sum"
KEYS, GROUPS = 5, 2
BEGAN_MS = 1_800_000_000_000
"""The simulated wall clock at the start; events are dated an hour earlier, so gates wait without bound."""
EVENTS_MS = BEGAN_MS - 3_600_000


class Event(NamedTuple):
    """What a value says. `at`: where it stood in `raw` (partition:offset). Later stages fill in the rest."""

    id: int
    key: int
    at: str
    number: int = 0
    total: int = 0
    answer: int = 0

    @classmethod
    def of(cls, value: bytes | None) -> "Event":
        id, key, at, *rest = (value or b"").decode().split()
        return cls(int(id), int(key), at, *map(int, rest))

    @property
    def value(self) -> bytes:
        return " ".join(map(str, self)).encode()


def raw(id: int, partition: int) -> Out:
    """An event as users send it."""
    headers: Headers = ((envelope.TIME, times.text(EVENTS_MS + id).encode()),)
    return Out(RAW, None, Event(id, key_of(id), "?").value, headers, partition)


def key_of(id: int) -> int:
    return id * 7 % KEYS


def events(records: Sequence[Read]) -> list[Event]:
    return [Event.of(record.value) for record in records]


def key(_partition: int, _tables: Tables, batch: Batch) -> Result:
    return keyed(batch.records.get(RAW, ()))


def keyed(records: Sequence[Read]) -> Result:
    outs, newest_ms = [], []
    for record in records:
        event = Event.of(record.value)._replace(at=f"{record.partition}:{record.offset}")
        outs.append(Out(KEYED, b"k%d" % event.key, event.value, record.headers))
        newest_ms.append(envelope.event_time_ms(record.headers))
    return Result(outs, {RAW: max(newest_ms)} if newest_ms else {})


def count(_partition: int, tables: Tables, batch: Batch) -> Result:
    outs: list[Out] = []
    for record in batch.records.get(KEYED, ()):
        if Event.of(record.value).id not in tables["seen"]:
            outs.append(numbered(tables, record))
    return Result(outs)


def numbered(tables: Tables, record: Read) -> Out:
    event = Event.of(record.value)
    tables["seen"].put(event.id, event.key)
    event = event._replace(number=(tables["online"].get(event.key) or 0) + 1)
    tables["online"].put(event.key, event.number)
    return Out(COUNTED, b"g%d" % (event.key % GROUPS), event.value, record.headers)


@dataclass(slots=True)
class Newest:
    """The view of `online`: each key's newest number."""

    writers: Mapping[str, int]
    topic: str = ONLINE
    clock: Literal["marks", "none"] = "marks"
    numbers: dict[bytes | None, int] = field(default_factory=dict)

    def apply(self, records: Sequence[Read]) -> None:
        self.numbers.update((record.key, int(record.value or b"0")) for record in records)


def summing(view: Newest) -> Step:
    def step(_partition: int, tables: Tables, batch: Batch) -> Result:
        totals, outs = tables["totals"], []
        for record in batch.records.get(COUNTED, ()):
            event = Event.of(record.value)
            group = event.key % GROUPS
            total = (totals.get(group) or 0) + 1
            totals.put(group, total)
            event = event._replace(total=total, answer=view.numbers.get(b"%d" % event.key, 0))
            outs.append(Out(SUMMED, record.key, event.value, record.headers))
        return Result(outs)

    return step


def numbers(name: str, topic: str | None = None) -> TableSpec[int, int]:
    return TableSpec(name, lambda key: b"%d" % key, int, lambda value: b"%d" % value, int, topic)


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a pipeline is. `batch`: most records in one transaction; the fewer, the more transactions."""

    partitions: int = 2
    batch: int = 5


Pipeline = Callable[[Shape], Sequence[Stage]]
"""The stages of one process."""


def pipeline(shape: Shape) -> Sequence[Stage]:
    partitions = shape.partitions
    view = Newest(MappingProxyType({COUNT_GROUP: partitions}))
    return [
        Stage(
            group=KEY_GROUP,
            changelog="key.log",
            partitions=partitions,
            inputs=[Input(RAW, "reported")],
            step=key,
            outputs=[Output(KEYED, partitions)],
            max_batch=shape.batch,
        ),
        Stage(
            group=COUNT_GROUP,
            changelog="count.log",
            partitions=partitions,
            inputs=[Input(KEYED, "marks", MappingProxyType({KEY_GROUP: partitions}))],
            step=count,
            outputs=[Output(COUNTED, partitions), Output(ONLINE, partitions)],
            tables=[numbers("seen"), numbers("online", ONLINE)],
            max_batch=shape.batch,
        ),
        Stage(
            group=SUM_GROUP,
            changelog="sum.log",
            partitions=partitions,
            inputs=[Input(COUNTED, "marks", MappingProxyType({COUNT_GROUP: partitions}))],
            step=summing(view),
            outputs=[Output(SUMMED, partitions, marks=False)],
            tables=[numbers("totals")],
            views=[view],
            gate=[ONLINE],
            max_batch=shape.batch,
        ),
    ]
