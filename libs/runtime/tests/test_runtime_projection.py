"""Projections and the edge's producer, on both buses."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from trimtab.runtime import marks
from trimtab.runtime.bus import Part
from trimtab.runtime.edge import Edge
from trimtab.runtime.errors import EdgeBusyError, PositionOutOfRangeError, TopicMissingError
from trimtab.runtime.kafka import IdempotentProducer
from trimtab.runtime.marks import Mark
from trimtab.runtime.memory import MemoryBus
from trimtab.runtime.projection import Projection
from trimtab.runtime.records import Out, Read
from trimtab.testing import KafkaLab, Lab


class Database:
    """Values and positions, stored together."""

    def __init__(self) -> None:
        self.values: list[bytes | None] = []
        self.positions: dict[Part, int] = {}

    async def load(self) -> Mapping[Part, int]:
        return self.positions

    async def apply(self, records: Mapping[Part, Sequence[Read]], positions: Mapping[Part, int]) -> None:
        self.values += [record.value for read in records.values() for record in read]
        self.positions |= positions


async def test_a_projection_goes_on_where_its_database_stands(lab: Lab) -> None:
    topic, database = lab.prefix + "t", Database()
    await lab.create({topic: 2})
    mark = Mark("x-0", 5)
    await lab.append([Out(topic, b"a", b"1", (), 0), Out(topic, marks.key_of("x-0"), None, marks.headers_of(mark), 0)])
    for offset, value in enumerate((b"2", b"3")):
        projection = Projection("names", [topic], database.load, database.apply)
        running = asyncio.create_task(projection.run(lab.bus))
        await projection.ready.wait()
        await lab.append([Out(topic, b"a", value, (), 1)])
        await asyncio.wait_for(projection.reached(Part(topic, 1), offset), 30)
        running.cancel()
        assert projection.status().ready
        assert projection.status().lag == 0
    assert database.values == [b"1", b"2", b"3"]


async def test_a_projection_refuses_a_position_that_is_not_there(lab: Lab) -> None:
    topic, database = lab.prefix + "t", Database()
    with pytest.raises(TopicMissingError):
        await Projection("names", [topic], database.load, database.apply).run(lab.bus)
    await lab.create({topic: 1})
    database.positions[Part(topic, 0)] = 7
    with pytest.raises(PositionOutOfRangeError):
        await Projection("names", [topic], database.load, database.apply).run(lab.bus)


async def check_edge(edge: Edge, lab: Lab, topic: str) -> None:
    """What every edge promises: everything is in the log when `send` returns, in order within a partition."""
    outs = [Out(topic, b"k", b"%d" % number, (("h", b"x"),)) for number in range(50)]
    placed = await edge.send(outs)
    assert len({one.partition for one in placed}) == 1
    assert [one.offset for one in placed] == list(range(50))
    assert [record.value for record in await lab.read(topic)] == [out.value for out in outs]
    (named,) = await edge.send([Out(topic, b"k", b"v", (), 1)])
    assert (named.topic, named.partition) == (topic, 1)


async def test_what_the_edge_sent_is_in_the_log(lab: Lab) -> None:
    topic = lab.prefix + "t"
    await lab.create({topic: 2})
    if isinstance(lab, KafkaLab):
        async with IdempotentProducer(lab.connection) as producer:
            await check_edge(producer, lab, topic)
    else:
        assert isinstance(lab.bus, MemoryBus)
        await check_edge(lab.bus, lab, topic)


@pytest.mark.kafka
async def test_an_edge_that_holds_too_much_refuses_at_once(kafka_lab: KafkaLab) -> None:
    topic = kafka_lab.prefix + "t"
    await kafka_lab.create({topic: 1})
    async with IdempotentProducer(kafka_lab.connection, most_waiting=10) as producer:
        with pytest.raises(EdgeBusyError):
            await producer.send([Out(topic, b"k", b"v")] * 11)
        await producer.send([Out(topic, b"k", b"v")] * 10)
    assert len(await kafka_lab.read(topic)) == 10
