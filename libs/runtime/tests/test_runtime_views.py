"""Views: when they are ready."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Literal

from trimtab.runtime.memory import MemoryBus
from trimtab.runtime.records import Out, Read
from trimtab.runtime.views import Views


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
