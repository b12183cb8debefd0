"""A few thousand records, right and wrong, in a real broker's topics, and real services behind: no partition stands."""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import MessageSizeTooLargeError
from hypothesis import strategies as st
from trimtab.contracts import control, data, times, topics
from trimtab.contracts.control import CommandSettled, RegistryCommand, RetrainAsked, RetrainDeclined
from trimtab.ingest import wiring as ingest
from trimtab.ingest.settings import Settings as IngestSettings
from trimtab.loops import declaration
from trimtab.loops.declaration.digests import declaration_digest
from trimtab.loops.model import Loop
from trimtab.registry import wiring as registry
from trimtab.registry.settings import Settings as RegistrySettings
from trimtab.retrain_controller import wiring as retrain_controller
from trimtab.runtime.clock import wall_ms
from trimtab.runtime.control import LoopEvent, written
from trimtab.runtime.host import Service
from trimtab.runtime.kafka.edge import IdempotentProducer
from trimtab.runtime.partitioner import partition_of
from trimtab.runtime.records import Out
from trimtab.store.blobs import BlobStore
from trimtab.store.signing import make_key_pair
from trimtab.testing import KafkaLab
from trimtab.testing.declarations import declared
from trimtab.testing.hosted import Hosted

from tests.fuzz.entry import Check, Counted, Entry, fuzz
from tests.fuzz.shop import EVENTS, LOOP, ORDER
from tests.fuzz.sources import Sent, sent
from tests.fuzz.values import dumped
from tests.fuzz.written import Hand, hands

T = TypeVar("T")
Place = tuple[str, int, int]
"""(topic, partition, offset)"""
pytestmark = pytest.mark.kafka
GOOD, WRONG, HANDS, TIMES, SEED = 2_000, 400, 150, 4, 3
BROKER_TAKES = 1_048_000
"""Bytes of a value with which a record is just under a broker's default limit."""
BY_HAND = (topics.REGISTRY_COMMANDS, topics.RETRAIN_ASKED, topics.MODEL_TRAINED, topics.DRIFT_DETECTED)


def drawn(inputs: st.SearchStrategy[T], count: int) -> list[T]:
    """So many inputs, the same ones each time."""
    found: list[T] = []

    @contextmanager
    def collecting() -> Iterator[Check]:
        def check(batch: Sequence[T]) -> Counted:
            found.extend(batch)
            return Counted(len(batch), 0)

        yield check

    fuzz(Entry("collected", inputs, 30, collecting), count, SEED)
    return found[:count]


def named(name: str) -> Loop:
    """The shop under a name of this test's own."""
    body, schemas = declaration.declared(LOOP)
    renamed = {**body, "loop": {**body["loop"], "name": name}}
    digest = declaration_digest(renamed, schemas)
    return declaration.from_declared(renamed, schemas, version=1, partitions=2, digest=digest)


class House:
    """Ingest, registry and retrain-controller at work for the loop, with their tasks and views on the broker."""

    def __init__(self, lab: KafkaLab, loop: Loop, folder: Path) -> None:
        self.lab, self.loop, self.blobs = lab, loop, BlobStore((folder / "blobs").as_uri())
        self._folder, self._stack = folder, AsyncExitStack()

    async def __aenter__(self) -> "House":
        await self._create()
        edge = await self._stack.enter_async_context(IdempotentProducer(self.lab.connection))
        await self.tell(declared(self.loop))
        self.hosted = [await self._stack.enter_async_context(Hosted(one, self.lab.bus)) for one in self._services(edge)]
        await self.until(lambda: all(one.runs(self.loop.name) and not one.status.unready() for one in self.hosted))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds():  # noqa: ASYNC110 conditions are over many services' states
                await asyncio.sleep(0.05)

    async def tell(self, *events: LoopEvent) -> None:
        """Write control events as services do."""
        await self.lab.append(
            [
                msgspec.structs.replace(out, partition=partition_of(out.key or b"", topics.CONTROL_PARTITIONS))
                for out in (written(event, id="fuzz", source="fuzz", trace=None) for event in events)
            ]
        )

    def refusals(self) -> list[str]:
        """Tasks that stand still, and services that are not ready."""
        return [why for one in self.hosted for why in (*one.status.refusals(), *one.status.unready())]

    def caught_up(self) -> bool:
        stages = [stage for one in self.hosted for loop, stage in one.status.stages() if loop in (None, self.loop.name)]
        tasks = [task for stage in stages for task in stage.tasks]
        return all(task.state == "running" and task.lag == 0 for task in tasks)

    async def _create(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.lab.connection.bootstrap_servers)
        await admin.start()
        try:
            there = set(await admin.list_topics())
            specs = [*topics.of_loop(self.loop.name, list(self.loop.events), 2), *topics.control()]
            new = [s for s in specs if s.name not in there]
            await admin.create_topics([NewTopic(s.name, s.partitions, 1, topic_configs=dict(s.config)) for s in new])
        finally:
            await admin.close()

    def _services(self, edge: IdempotentProducer) -> Sequence[Service]:
        (_, trainers), (private, _) = (make_key_pair(self._folder / "keys", name) for name in ("trainer", "registry"))
        told = {
            "store": {"url": self.blobs.url},
            "signing": {"private_key_file": private, "public_key_file": trainers},
            "registry": {"database_url": f"sqlite:///{self._folder}/registry.db"},
        }
        return [
            ingest.wired(IngestSettings.model_validate({"store": told["store"]}), edge),
            registry.wired(RegistrySettings.model_validate(told), edge),
            retrain_controller.wired(edge),
        ]


async def produce(house: House, records: Sequence[Sent | Hand]) -> list[Place | None]:
    """Send as a plain client does that knows no limit of its own; where each stands, None for what was refused."""
    address, name = house.lab.connection.bootstrap_servers, house.loop.name
    async with AIOKafkaProducer(bootstrap_servers=address, max_request_size=64_000_000, linger_ms=5) as producer:
        futures = [
            await producer.send(
                topics.source(name, one.event) if isinstance(one, Sent) else one.topic,
                one.value,
                key=b"" if one.key is None and one.value is None else one.key,  # no client sends neither
                headers=list(one.headers),
            )
            for one in records
        ]
        placed = await asyncio.gather(*futures, return_exceptions=True)
    assert {type(one) for one in placed if isinstance(one, BaseException)} <= {MessageSizeTooLargeError}
    return [None if isinstance(one, BaseException) else (one.topic, one.partition, one.offset) for one in placed]


def order(id_: str, **others: object) -> Sent:
    at = times.text(wall_ms() - 3_600_000)
    return Sent("order", None, dumped({**ORDER, "order_id": id_, "ordered_at": at, **others}), (), id_)


def large(id_: str, size: int) -> Sent:
    """An order whose record's value has so many bytes."""
    room = size - len(order(id_, photo="").value or b"")
    return order(id_, photo="A" * (room // 4 * 4))


def by_hand(one: Hand, loop: str) -> Hand:
    """The same about this test's loop: other tests share the control topics."""
    name = loop.encode()
    value = None if one.value is None else one.value.replace(b'"offers"', b'"' + name + b'"')
    return one._replace(key=name if one.key == b"offers" else one.key, value=value)


async def originals(house: House) -> dict[Place | None, bytes]:
    """What accept put into quarantine: where it stood, and its bytes."""
    found = [
        data.decode(data.Rejected, one.value or b"") for one in await house.lab.read(topics.rejected(house.loop.name))
    ]
    sources = {topics.source(house.loop.name, event) for event in EVENTS}
    return {
        (one.source_topic, one.source_partition, one.source_offset): house.blobs.get(one.blob)
        if one.blob is not None
        else one.original or b""
        for one in found
        if one.source_topic in sources and one.reason
    }


async def events(house: House, topic: str) -> list[control.Event]:
    """What can be read of a control topic, of the test's loop."""
    key = house.loop.name.encode()
    return [control.decode(topic, one.value or b"") for one in await house.lab.read(topic) if one.key == key]


@pytest.mark.timeout(120)
async def test_good_ones_get_through_and_no_partition_stands(kafka: str, tmp_path: Path) -> None:
    loop = named(f"fuzz{os.getpid()}")
    wrong = [one for one in drawn(sent(), WRONG) if one.id is None] * TIMES
    hand_written = [by_hand(one, loop.name) for one in drawn(hands(BY_HAND), HANDS)] * TIMES
    good = [order(f"good{n}") for n in range(GOOD)]
    async with KafkaLab(kafka) as lab, House(lab, loop, tmp_path) as house:
        largest, too_large, refused = (large(f"large{n}", n) for n in (999_990, BROKER_TAKES, BROKER_TAKES + 2_000))
        mixed = [one for pair in zip_longest(good, wrong) for one in pair if one is not None]
        records = [order("first"), *mixed[:100], largest, too_large, refused, *mixed[100:]]
        places = await produce(house, records)
        assert [one for one, place in zip(records, places, strict=True) if place is None] == [refused]
        await produce(house, hand_written)
        await house.until(house.caught_up)
        wish = RetrainAsked(loop=loop.name, at_ms=wall_ms(), ask_id="good", by="ada", note=None)
        command = RegistryCommand(loop=loop.name, at_ms=wall_ms(), command_id="good", kind="rollback", by="ada")
        await house.tell(wish, command)
        await house.until(house.caught_up)

        assert house.refusals() == []
        passed = Counter((one.key or b"").decode() for one in await lab.read(topics.events(loop.name, "order")))
        assert [one.id for one in (*good, largest) if passed[str(one.id)] != 1] == []
        quarantined = await originals(house)
        accepted = [len(await lab.read(topics.accepted(loop.name, event))) for event in EVENTS]
        assert sum(accepted) + len(quarantined) == len(records) - 1
        sources = dict(zip(places, records, strict=True))
        assert [place for place, value in quarantined.items() if value != (sources[place].value or b"")] == []
        declined = [one for one in await events(house, topics.RETRAIN_DECLINED) if isinstance(one, RetrainDeclined)]
        assert "good" in {one.cause.ask_id for one in declined}
        settled = [one for one in await events(house, topics.COMMAND_SETTLED) if isinstance(one, CommandSettled)]
        assert "good" in {one.command_id for one in settled}
        await lab.append([Out(topics.LOOP_DECLARED, loop.name.encode(), None, (), partition_of(loop.name.encode(), 8))])
