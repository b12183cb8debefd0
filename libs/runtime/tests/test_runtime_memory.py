"""The bus in memory where it is like Kafka's log: transactions that stay open, offsets with holes."""

import pytest
from trimtab.runtime.bus import Part
from trimtab.runtime.errors import FencedError
from trimtab.runtime.memory import MemoryBus
from trimtab.runtime.records import Out

PART = Part("t", 0)


def out(value: bytes) -> Out:
    return Out("t", b"k", value)


def values(bus: MemoryBus) -> list[bytes | None]:
    return [record.value for record in bus.records("t")]


async def test_nobody_reads_past_an_open_transaction() -> None:
    bus = MemoryBus({"t": 1})
    owner = bus.transactions("id", "g")
    await owner.open()
    bus.append([out(b"before")])
    bus.hold(owner, {PART: [out(b"held")]})
    bus.append([out(b"after")])
    assert (values(bus), bus.after(PART, 0, 10)[1], bus.end(PART)) == ([b"before"], 1, 3)
    bus.commit(owner, {})
    assert values(bus) == [b"before", b"held", b"after"]
    assert bus.after(PART, 3, 10) == ([], 4), "its end takes an offset, which readers pass over"


async def test_what_an_owner_left_open_is_void_once_another_has_opened() -> None:
    bus = MemoryBus({"t": 1})
    older, newer = bus.transactions("id", "g"), bus.transactions("id", "g")
    await older.open()
    bus.hold(older, {PART: [out(b"void")]})
    await newer.open()
    with pytest.raises(FencedError):
        bus.commit(older, {})
    bus.append([out(b"next")])
    assert [(record.offset, record.value) for record in bus.records("t")] == [(2, b"next")]


async def test_an_abandoned_transaction_is_aborted_and_its_owner_fenced() -> None:
    bus = MemoryBus({"t": 1})
    owner = bus.transactions("id", "g")
    await owner.open()
    bus.hold(owner, {PART: [out(b"void")]})
    bus.abandon(owner)
    assert (values(bus), list(bus.open)) == ([], [])
    with pytest.raises(FencedError):
        await owner.commit({PART: [out(b"later")]}, {})
