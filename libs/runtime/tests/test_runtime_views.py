"""Views: when they are ready, and when the log does not answer."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import aiokafka.errors as kafka_errors
import pytest
from aiokafka import AIOKafkaConsumer
from trimtab.runtime.bus import Part
from trimtab.runtime.errors import BusSilentError
from trimtab.runtime.memory import MemoryBus
from trimtab.runtime.records import Out, Read
from trimtab.runtime.views import Views
from trimtab.testing import KafkaLab


class Preparing:
    """A view whose preparation takes as long as it is told."""

    topic = "seen"
    clock: Literal["marks", "none"] = "none"
    writers: Mapping[str, int] = {}

    def __init__(self) -> None:
        self.applied = list[bytes | None]()
        self.before = list[Sequence[bytes | None]]()
        self.asked, self.may, self.moved = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def apply(self, records: Sequence[Read]) -> None:
        self.applied += [record.value for record in records]
        self.moved.set()

    async def prepare(self) -> None:
        self.before.append(list(self.applied))
        self.asked.set()
        await self.may.wait()


async def test_a_view_prepares_itself_once_after_all_that_was_there_and_is_ready_then() -> None:
    bus, view = MemoryBus({"seen": 1}), Preparing()
    bus.append([Out("seen", b"k", b"1"), Out("seen", b"k", b"2")])
    views = Views(bus)
    reader = views.start(view)
    await view.asked.wait()
    assert not reader.ready.is_set()
    view.may.set()
    await reader.ready.wait()
    view.moved.clear()
    bus.append([Out("seen", b"k", b"3")])
    await view.moved.wait()
    assert (view.applied, view.before) == ([b"1", b"2", b"3"], [[b"1", b"2"]])
    await views.keep(())


@pytest.mark.parametrize("request_", ["describe", "stable", "reader"])
async def test_a_view_waits_for_a_log_that_does_not_answer(request_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bus, view = MemoryBus({"seen": 1}), Preparing()
    bus.append([Out("seen", b"k", b"1")])
    view.may.set()
    where = bus if request_ == "reader" else bus.catalog
    answer, silences = getattr(where, request_), [BusSilentError(request_, 10.0)] * 2

    async def ask(*given: Any) -> Any:
        if silences:
            raise silences.pop()
        return await answer(*given)

    monkeypatch.setattr(where, request_, ask)
    views = Views(bus)
    async with asyncio.timeout(10):
        await views.start(view).ready.wait()
    assert (view.applied, silences, views.failed.done()) == ([b"1"], [], False)
    await views.keep(())


@pytest.mark.kafka
async def test_a_reader_that_reaches_no_broker_tries_again(
    kafka_lab: KafkaLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, start = kafka_lab.prefix + "seen", AIOKafkaConsumer.start
    failures = [kafka_errors.KafkaConnectionError("refused")] * 2

    async def started(consumer: AIOKafkaConsumer) -> None:
        if failures:
            raise failures.pop()
        await start(consumer)

    await kafka_lab.create({topic: 1})
    monkeypatch.setattr(AIOKafkaConsumer, "start", started)
    reader = await kafka_lab.bus.reader({Part(topic, 0): 0})
    assert (failures, reader.positions()) == ([], {Part(topic, 0): 0})
    await reader.close()
