"""Two versions of a schema in one topic: a step, a table and a view have every record in their own."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import pytest
from trimtab.contracts import topics
from trimtab.contracts.codec import AvroCodec, Schema
from trimtab.runtime.memory import MemoryBus
from trimtab.runtime.records import Out, Read
from trimtab.runtime.schemas import Published, Resolver, published
from trimtab.runtime.stage import Batch, Input, Output, Result, Stage, Tables
from trimtab.runtime.table import TableSpec
from trimtab.testing.stages import Running, run_stages

Value = dict[str, Any]


def schema(*fields: Mapping[str, Any]) -> Schema:
    return {"type": "record", "name": "Seen", "fields": [{"name": "n", "type": "long"}, *fields]}


OLDER = schema()
NEWER = schema({"name": "by", "type": ["null", "string"], "default": None})
VALUES: Mapping[str, tuple[Schema, Value]] = {"a": (OLDER, {"n": 1}), "b": (NEWER, {"n": 2, "by": "kim"})}
"""By key: one record of each version."""


def written(topic: str) -> list[Out]:
    return [Out(topic, key.encode(), AvroCodec(own).encode(value)) for key, (own, value) in VALUES.items()]


def seen_by(reader: Schema) -> dict[bytes, Value]:
    """What a reader of either version has to see."""
    names = [field["name"] for field in reader["fields"]]
    return {key.encode(): {name: value.get(name) for name in names} for key, (_, value) in VALUES.items()}


@pytest.fixture
def bus() -> MemoryBus:
    made = MemoryBus()
    made.create(topics.SCHEMAS, 2)
    made.append(published([OLDER, NEWER], by="test", at_ms=0))
    return made


class Seeing:
    """A stage that remembers what it was shown, by its input, its table and its view."""

    topic = "viewed"
    clock: Literal["marks", "none"] = "none"
    writers: Mapping[str, int] = {}

    def __init__(self, own: Schema) -> None:
        self.schema, self._codec = own, AvroCodec(own)
        self.stepped, self.viewed, self.held = dict[bytes, Value](), dict[bytes, Value](), dict[bytes, Value]()

    def stage(self) -> Stage:
        codec = self._codec
        table: TableSpec[bytes, Value] = TableSpec(
            "held", bytes, bytes, codec.encode, codec.decode, "held", self.schema
        )
        return Stage(
            group="t.see",
            changelog="t-see.changelog",
            partitions=1,
            inputs=[Input("in", "reported", schema=self.schema)],
            outputs=[Output("held", 1, marks=False)],
            tables=[table],
            views=[self],
            step=self._step,
        )

    def apply(self, records: Sequence[Read]) -> None:
        self.viewed |= dict(self._decoded(records))

    def _step(self, _partition: int, tables: Tables, batch: Batch) -> Result:
        for key, value in self._decoded(batch.records.get("in", ())):
            self.stepped[key] = value
            tables["held"].put(key, value)
        self.held |= dict(tables["held"].items())
        return Result()

    def _decoded(self, records: Sequence[Read]) -> Iterator[tuple[bytes, Value]]:
        return ((record.key or b"", self._codec.decode(record.value or b"")) for record in records)


@pytest.mark.parametrize("own", [OLDER, NEWER], ids=["older", "newer"])
async def test_a_step_and_a_view_have_both_versions_in_their_own(bus: MemoryBus, own: Schema) -> None:
    seeing = Seeing(own)
    bus.create("viewed", 1)
    bus.append(written("viewed"))
    await run_stages([seeing.stage()], written("in"), bus=bus)
    assert seeing.stepped == seeing.viewed == seen_by(own)


async def test_a_table_goes_from_version_to_version_and_back(bus: MemoryBus) -> None:
    await run_stages([Seeing(NEWER).stage()], written("in"), bus=bus)
    older, newer = Seeing(OLDER), Seeing(NEWER)
    await run_stages([older.stage()], [Out("in", b"c", AvroCodec(OLDER).encode({"n": 3}))], bus=bus)
    await run_stages([newer.stage()], [Out("in", b"d", AvroCodec(NEWER).encode({"n": 4, "by": "sam"}))], bus=bus)
    assert older.held == {**seen_by(OLDER), b"c": {"n": 3}}
    assert newer.held == {**seen_by(NEWER), b"c": {"n": 3, "by": None}, b"d": {"n": 4, "by": "sam"}}


async def test_a_schema_published_after_the_stage_has_begun_is_found(bus: MemoryBus) -> None:
    latest = schema({"name": "why", "type": "string", "default": "-"})
    seeing = Seeing(OLDER)
    for topic in ("in", "held", "viewed", "t-see.changelog"):
        bus.create(topic, 1)
    async with Running([seeing.stage()], bus) as running:
        bus.append(written("in"))
        await running.until(lambda: len(seeing.stepped) == 2)
        bus.append(published([latest], by="test", at_ms=0))
        bus.append([Out("in", b"c", AvroCodec(latest).encode({"n": 3, "why": "x"}))])
        await running.until(lambda: len(seeing.stepped) == 3)
    assert seeing.stepped[b"c"] == {"n": 3}


async def test_what_nobody_published_or_cannot_be_resolved_stays_as_it_is(bus: MemoryBus) -> None:
    """So that whoever decodes it says what is wrong with it."""
    unpublished = schema({"name": "other", "type": "int", "default": 0})
    narrower = schema({"name": "must", "type": "int"})
    values = [AvroCodec(unpublished).encode({"n": 1, "other": 2}), AvroCodec(OLDER).encode({"n": 1}), b"no Avro", None]
    bus.create("in", 1)
    bus.append([Out("in", b"k", value) for value in values])
    records = bus.records("in")
    assert await Resolver(narrower, Published(bus)).resolved(records) == records
