"""What only a real broker can do to a stage: late and lost answers, refused records, slow restores."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import aiokafka.errors as kafka_errors
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.conn import create_conn
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    TxnOffsetCommitRequest,
)
from trimtab.runtime.bus import Catalog, Consumer, Membership, Part, Reader, Transactions
from trimtab.runtime.errors import OutcomeUnknownError
from trimtab.runtime.kafka import coordinator
from trimtab.runtime.kafka.transactions import KafkaTransactions
from trimtab.runtime.kafka.wire_transactions import EndTxnV5Request, ProduceV12Request, TxnOffsetCommitV5Request
from trimtab.runtime.records import Out, Read
from trimtab.runtime.stage import Batch, Input, Output, Result, Stage, Tables
from trimtab.runtime.table import TableSpec
from trimtab.runtime.unreadable import Unreadable
from trimtab.runtime.views import Views
from trimtab.testing import KafkaLab, Running

pytestmark = pytest.mark.kafka

Send = Callable[[Any, Any], Any]
READY_S = 5.0
"""Half of the time after which a broker ends a transaction that was left."""


ENDS, WRITES = (EndTxnRequest, EndTxnV5Request), (ProduceRequest, ProduceV12Request)


@pytest.fixture(params=[2, 1], ids=["version 2", "version 1"])
def spoken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The version of transactions; a cluster of Kafka 4 speaks both."""
    if request.param == 1:
        monkeypatch.setattr(coordinator, "TRANSACTION_VERSION", "a feature that no cluster has")
    version: int = request.param
    return version


class BadNetwork:
    """The lab's bus, with something between producers and the broker, and slow readers if asked for.

    `spoil(send)` is given aiokafka's `client.send` and returns what producers get instead.
    """

    def __init__(
        self, lab: KafkaLab, spoil: Callable[[Any], Any] = lambda send: send, read_delay_s: float = 0.0
    ) -> None:
        self._lab, self._spoil, self._read_delay_s = lab, spoil, read_delay_s
        self.assigned: list[frozenset[int]] = []

    @property
    def catalog(self) -> Catalog:
        return self._lab.bus.catalog

    async def consumer(self, membership: Membership) -> Consumer:
        def assigned(units: frozenset[int]) -> None:
            self.assigned.append(units)
            membership.assigned(units)

        spied = Membership(membership.group, membership.topics, membership.partitions, assigned)
        return await self._lab.bus.consumer(spied)

    def transactions(self, transactional_id: str, group: str) -> Transactions:
        return SpoiltTransactions(self._lab, transactional_id, group, self._spoil)

    async def reader(self, starts: Mapping[Part, int]) -> Reader:
        return SlowReader(await self._lab.bus.reader(starts), self._read_delay_s)


class SlowReader:
    def __init__(self, reader: Reader, delay_s: float) -> None:
        self._reader, self._delay_s = reader, delay_s
        self.positions, self.close = reader.positions, reader.close

    async def poll(self, timeout_s: float) -> Mapping[Part, Sequence[Read]]:
        await asyncio.sleep(self._delay_s)
        return await self._reader.poll(timeout_s)


class SpoiltTransactions(KafkaTransactions):
    def __init__(self, lab: KafkaLab, transactional_id: str, group: str, spoil: Callable[[Any], Any]) -> None:
        super().__init__(lab.connection, transactional_id, group)
        self._spoil_send = spoil

    async def open(self) -> None:
        await super().open()
        client: Any = self._client
        client.send = self._spoil_send(client.send)


def numbering(lab: KafkaLab, partitions: int = 2, spec: TableSpec[bytes, int] | None = None) -> Stage:
    source, target = lab.prefix + "in", lab.prefix + "out"

    def step(_partition: int, tables: Tables, batch: Batch) -> Result:
        table, outs = tables["n"], []
        for record in batch.records.get(source, ()):
            number = (table.get(record.key) or 0) + 1
            table.put(record.key, number)
            outs.append(Out(target, record.key, b"%s %d" % (record.value, number)))
        return Result(outs)

    return Stage(
        group=lab.prefix + "t.count",
        changelog=lab.prefix + "t-count.changelog",
        partitions=partitions,
        inputs=[Input(source, "none")],
        step=step,
        outputs=[Output(target, partitions)],
        tables=[spec or TableSpec("n", bytes, bytes, lambda count: b"%d" % count, int)],
        max_batch=50,
    )


async def prepare(lab: KafkaLab, stage: Stage, count: int) -> None:
    names = [lab.prefix + "in", lab.prefix + "out", stage.changelog]
    await lab.create(dict.fromkeys(names, stage.partitions), compacted=[stage.changelog])
    await lab.append([Out(names[0], b"k%d" % (number % 7), b"%d" % number) for number in range(count)])


async def outputs(lab: KafkaLab, count: int) -> list[tuple[bytes | None, bytes]]:
    found = await lab.read(lab.prefix + "out")
    while len(found) < count:
        await asyncio.sleep(0.05)
        found = await lab.read(lab.prefix + "out")
    return [(record.key, record.value or b"") for record in found]


def assert_exactly_once(found: Sequence[tuple[bytes | None, bytes]], count: int) -> None:
    assert sorted(int(value.split()[0]) for _, value in found) == list(range(count))
    last: Counter[bytes | None] = Counter()
    for key, value in found:
        last[key] += 1
        assert int(value.split()[1]) == last[key]


@pytest.mark.usefixtures("spoken")
async def test_an_end_of_transaction_that_arrives_late_tears_nothing(kafka_lab: KafkaLab) -> None:
    """The first EndTxn is held up. Its producer is given up, and the next one's transactions stay whole."""
    held: list[Any] = []

    def hold_the_first(send: Any) -> Any:
        async def spoilt(node: int, request: Any, **more: Any) -> Any:
            if isinstance(request, ENDS) and not held:
                held.append(request)
                raise kafka_errors.RequestTimedOutError
            return await send(node, request, **more)

        return spoilt

    lab, part = kafka_lab, Part(kafka_lab.prefix + "out", 0)
    await lab.create({part.topic: 1})
    transactions = SpoiltTransactions(lab, lab.prefix + "id", lab.prefix + "g", hold_the_first)
    await transactions.open()
    with pytest.raises(OutcomeUnknownError):
        await transactions.commit({part: [Out(part.topic, b"k", b"first")]}, {})
    await transactions.open()
    again = asyncio.create_task(transactions.commit({part: [Out(part.topic, b"k", b"first again")]}, {}))
    host, port = lab.connection.bootstrap_servers.split(":")
    connection = await create_conn(host, int(port))
    response = await connection.send(held[0])
    connection.close()
    await again
    await transactions.close()
    assert kafka_errors.for_code(response.error_code) is not kafka_errors.NoError
    assert [record.value for record in await lab.read(part.topic)] == [b"first again"]


@pytest.mark.parametrize("arrives", [True, False], ids=["answers are lost", "requests are lost"])
async def test_a_network_that_loses_the_requests_of_transactions_loses_no_record(
    kafka_lab: KafkaLab, arrives: bool, spoken: int
) -> None:
    """The first and then every seventh request of each kind times out, whether it took effect or not."""
    sent, lost = Counter[str](), Counter[str]()
    offsets = (AddOffsetsToTxnRequest, TxnOffsetCommitRequest, TxnOffsetCommitV5Request)
    kinds = (AddPartitionsToTxnRequest, *WRITES, *offsets, *ENDS)

    def lossy(send: Any) -> Any:
        async def spoilt(node: int, request: Any, **more: Any) -> Any:
            kind = type(request).__name__
            sent[kind] += 1
            if isinstance(request, kinds) and sent[kind] % 7 == 1:
                lost[kind] += 1
                if arrives:
                    await send(node, request, **more)
                raise kafka_errors.RequestTimedOutError
            return await send(node, request, **more)

        return spoilt

    stage = numbering(kafka_lab)
    await prepare(kafka_lab, stage, 1_000)
    async with Running([stage], BadNetwork(kafka_lab, lossy)):
        assert_exactly_once(await outputs(kafka_lab, 1_000), 1_000)
    assert lost[ENDS[spoken - 1].__name__] > 0
    assert lost[WRITES[spoken - 1].__name__] > 0


@pytest.mark.usefixtures("spoken")
async def test_a_coordinator_that_is_not_there_is_looked_for_again_and_the_transaction_goes_on(
    kafka_lab: KafkaLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its broker is gone, and a lookup fails: nothing was sent, so nothing is in doubt."""
    lab, source, target = kafka_lab, Part(kafka_lab.prefix + "in", 0), Part(kafka_lab.prefix + "out", 0)
    gone, unfound, lookup = Counter[str](), list[str](), AIOKafkaClient.coordinator_lookup
    offsets = (AddOffsetsToTxnRequest, TxnOffsetCommitRequest, TxnOffsetCommitV5Request)

    def away(send: Any) -> Any:
        async def spoilt(node: int, request: Any, **more: Any) -> Any:
            kind = type(request).__name__
            if isinstance(request, (*offsets, *ENDS)) and gone[kind] < 2:
                gone[kind] += 1
                raise kafka_errors.NodeNotReadyError
            return await send(node, request, **more)

        return spoilt

    async def failing_once(client: AIOKafkaClient, kind: CoordinationType, key: str) -> int:
        if gone and key not in unfound:
            unfound.append(key)
            raise kafka_errors.GroupCoordinatorNotAvailableError
        return int(await lookup(client, kind, key))

    await lab.create({source.topic: 1, target.topic: 1})
    transactions = SpoiltTransactions(lab, lab.prefix + "id", lab.prefix + "g", away)
    await transactions.open()
    monkeypatch.setattr(AIOKafkaClient, "coordinator_lookup", failing_once)
    for value in (b"one", b"two"):
        await transactions.commit({target: [Out(target.topic, b"k", value)]}, {source: 0})
    await transactions.close()
    assert set(gone.values()) == {2}
    assert set(unfound) == {lab.prefix + "g", lab.prefix + "id"}
    assert [record.value for record in await lab.read(target.topic)] == [b"one", b"two"]


async def test_a_write_of_an_earlier_transaction_that_arrives_late_is_refused(kafka_lab: KafkaLab) -> None:
    """By its epoch, and the transactions behind it go on: in version 1 the broker refuses the next write as well."""
    sent: list[Any] = []

    def kept(send: Any) -> Any:
        async def spoilt(node: int, request: Any, **more: Any) -> Any:
            sent.extend([request] if isinstance(request, ProduceV12Request) else [])
            return await send(node, request, **more)

        return spoilt

    lab, part = kafka_lab, Part(kafka_lab.prefix + "out", 0)
    await lab.create({part.topic: 1})
    transactions = SpoiltTransactions(lab, lab.prefix + "id", lab.prefix + "g", kept)
    await transactions.open()
    for number in range(7):  # a broker remembers five batches of a producer
        await transactions.commit({part: [Out(part.topic, b"k", b"%d" % number)]}, {})
    host, port = lab.connection.bootstrap_servers.split(":")
    connection = await create_conn(host, int(port))
    late = await connection.send(sent[0])
    connection.close()
    await transactions.commit({part: [Out(part.topic, b"k", b"7")]}, {})
    await transactions.close()
    [(_, [(_, code, *_)], *_)] = late.topics
    assert kafka_errors.for_code(code) is kafka_errors.InvalidProducerEpoch
    assert [record.value for record in await lab.read(part.topic)] == [b"%d" % number for number in range(8)]


async def test_a_record_that_the_broker_refuses_commits_nothing(kafka_lab: KafkaLab) -> None:
    stage = numbering(kafka_lab, partitions=1)
    plain, oversized = stage.step, True

    def step(partition: int, tables: Tables, batch: Batch) -> Result:
        result = plain(partition, tables, batch)
        if not oversized or not batch.records:
            return result
        return Result([*result.out, Out(kafka_lab.prefix + "out", b"large", b"x" * 3_000_000)])

    running_stage = Stage(**{name: getattr(stage, name) for name in Stage.__slots__} | {"step": step})
    await prepare(kafka_lab, stage, 100)
    async with Running([running_stage], kafka_lab.bus) as running:
        await running.until(lambda: any(task.restarts >= 2 for task in running.workers[0].status().tasks))
        (task,) = running.workers[0].status().tasks
        assert "MessageSizeTooLarge" in (task.reason or "")
        assert await kafka_lab.read(kafka_lab.prefix + "out") == []
        oversized = False
        assert_exactly_once(await outputs(kafka_lab, 100), 100)


async def test_a_restore_may_take_longer_than_the_session_timeout(kafka_lab: KafkaLab) -> None:
    stage = numbering(kafka_lab, partitions=1)
    await prepare(kafka_lab, stage, 100)
    async with Running([stage], kafka_lab.bus):
        await outputs(kafka_lab, 100)
    slow = BadNetwork(kafka_lab, read_delay_s=7.0)
    await kafka_lab.append([Out(kafka_lab.prefix + "in", b"k0", b"100")])
    async with Running([stage], slow) as running:
        await running.until(lambda: len(running.workers[0].status().tasks) == 1)
        assert_exactly_once(await outputs(kafka_lab, 101), 101)
        assert slow.assigned == [frozenset({0})]
        assert running.workers[0].status().tasks[0].restarts == 0


async def test_an_exception_in_restore_is_told_and_tried_again(kafka_lab: KafkaLab) -> None:
    broken = True

    def decode(value: bytes) -> int:
        if broken:
            raise ValueError("cannot read this entry")
        return int(value)

    stage = numbering(kafka_lab, 2, TableSpec("n", bytes, bytes, lambda count: b"%d" % count, decode))
    await prepare(kafka_lab, stage, 100)
    async with Running([stage], kafka_lab.bus):
        await outputs(kafka_lab, 100)
    await kafka_lab.append([Out(kafka_lab.prefix + "in", b"k0", b"100")])
    async with Running([stage], kafka_lab.bus) as running:
        await running.until(lambda: "cannot read this entry" in str(running.workers[0].status()))
        broken = False
        assert_exactly_once(await outputs(kafka_lab, 101), 101)


async def test_a_transaction_of_others_that_hangs_in_a_tables_topic_hides_nothing_from_restore(
    kafka_lab: KafkaLab,
) -> None:
    """Marks of one task stand in the table partition of another; open, they must not make that one's restore short."""
    stage = numbering(
        kafka_lab, 1, TableSpec("n", bytes, bytes, lambda count: b"%d" % count, int, kafka_lab.prefix + "tab")
    )
    await kafka_lab.create({kafka_lab.prefix + "tab": 1})
    await prepare(kafka_lab, stage, 0)
    other, address = kafka_lab.prefix + "other-1", kafka_lab.connection.bootstrap_servers
    hanging: Any = AIOKafkaProducer(bootstrap_servers=address, transactional_id=other)
    await hanging.start()
    async with Running([stage], kafka_lab.bus) as running:
        await running.until(running.settled)
        await hanging.begin_transaction()
        await hanging.send_and_wait(kafka_lab.prefix + "tab", key=b"\x00mark:other-1", partition=0)
        await kafka_lab.append([Out(kafka_lab.prefix + "in", b"k0", b"%d" % number) for number in range(10)])
        await outputs(kafka_lab, 10)
    await kafka_lab.append([Out(kafka_lab.prefix + "in", b"k0", b"10")])
    async with Running([stage], kafka_lab.bus) as running:
        await running.until(lambda: "restoring" in str(running.workers[0].status()))
        await asyncio.sleep(0.5)
        await hanging.abort_transaction()
        assert_exactly_once(await outputs(kafka_lab, 11), 11)
    await hanging.stop()


class Seen:
    """A view that remembers values."""

    clock: Literal["marks", "none"] = "none"
    writers: Mapping[str, int] = {}

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.values: list[bytes | None] = []

    def apply(self, records: Sequence[Read]) -> None:
        self.values += [record.value for record in records]


async def test_what_cannot_be_read_behind_an_open_transaction_is_told(kafka_lab: KafkaLab) -> None:
    topic, address = kafka_lab.prefix + "held", kafka_lab.connection.bootstrap_servers
    await kafka_lab.create({topic: 1})
    await kafka_lab.append([Out(topic, b"k", b"committed")])
    left: Any = AIOKafkaProducer(bootstrap_servers=address, transactional_id=kafka_lab.prefix + "left")
    watch = Unreadable(kafka_lab.bus.catalog, patience_s=60)
    parts = [Part(topic, 0)]
    assert await watch.look(parts, now_s=0) == {}
    await left.start()
    try:
        await left.begin_transaction()
        await left.send_and_wait(topic, b"open", partition=0)
        assert await watch.look(parts, now_s=10) == {}
        assert await watch.look(parts, now_s=70) == {}
        told = await watch.look(parts, now_s=71)
        assert "cannot be read beyond offset 1" in told[parts[0]]
        assert "61 s" in told[parts[0]]
        await left.commit_transaction()
        async with asyncio.timeout(READY_S):
            while await watch.look(parts, now_s=200):  # noqa: ASYNC110 Kafka answers before the end stands there
                await asyncio.sleep(0.05)
    finally:
        await left.stop()


async def test_a_view_is_ready_although_a_killed_process_left_a_transaction_in_its_topic(kafka_lab: KafkaLab) -> None:
    """It may be our own predecessor's, which only a stage that waits for the view would end before its time-out."""
    topic, address = kafka_lab.prefix + "seen", kafka_lab.connection.bootstrap_servers
    await kafka_lab.create({topic: 1})
    await kafka_lab.append([Out(topic, b"k", b"committed")])
    left: Any = AIOKafkaProducer(bootstrap_servers=address, transactional_id=kafka_lab.prefix + "left")
    await left.start()
    try:
        await left.begin_transaction()
        await left.send_and_wait(topic, b"open", partition=0)
        views, view = Views(kafka_lab.bus), Seen(topic)
        async with asyncio.timeout(READY_S):
            await views.start(view).ready.wait()
        assert view.values == [b"committed"]
        await left.commit_transaction()
        async with asyncio.timeout(READY_S):
            while view.values != [b"committed", b"open"]:  # noqa: ASYNC110 it tells nobody
                await asyncio.sleep(0.05)
        await views.keep([])
    finally:
        await left.stop()
