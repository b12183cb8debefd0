"""What a fetch brought, unpacked by us and by aiokafka."""

import asyncio
import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from trimtab.runtime.kafka.fetched import Pace, SlimRecords
from trimtab.testing.simulation import Dice, SeededLoop

ABORT, COMMIT = 0, 1
ATTRIBUTES_AT, CONTROL = 21, 0x20
BEGIN_AT = 0


def batch(
    begin: int, producer: int, entries: Sequence[tuple[int, bytes, bytes | None]], *, control: bool = False
) -> bytes:
    """A transactional batch at its place in the log; `entries`: how far behind its begin each stands, key, value."""
    builder = DefaultRecordBatchBuilder(2, 0, 1, -1, -1, 0, 1_000_000)
    for behind, key, value in entries:
        builder.append(behind, 1_000 + behind, key=key, value=value, headers=[("a", b"1")] if value else [])
    builder.set_producer_state(producer, 0, 0)
    made = bytearray(builder.build())
    made[BEGIN_AT : BEGIN_AT + 8] = struct.pack(">q", begin)
    made[ATTRIBUTES_AT + 1] |= CONTROL if control else 0
    return bytes(made)


def marker(begin: int, producer: int, kind: int) -> bytes:
    """The end of a transaction."""
    return batch(begin, producer, [(0, struct.pack(">hh", 0, kind), b"\x00" * 6)], control=True)


LOG = b"".join(
    [
        batch(10, 1, [(0, b"a", b"1"), (1, b"b", None), (2, b"c", b"")]),
        batch(13, 2, [(0, b"a", b"aborted")]),
        marker(14, 1, COMMIT),
        batch(15, 2, [(0, b"b", b"aborted too")]),
        marker(16, 2, ABORT),
        batch(17, 2, [(1, b"d", b"with holes"), (4, b"e", b"5")]),
        marker(22, 2, COMMIT),
    ]
)
ABORTED = [(2, 13)]


def fetched(offset: int, isolation: int) -> PartitionRecords:
    """A fetch of all of it from an offset on."""
    return PartitionRecords(
        TopicPartition("t", 3), MemoryRecords(LOG), list(ABORTED), offset, None, None, False, isolation
    )


@pytest.mark.parametrize("isolation", [READ_COMMITTED, READ_UNCOMMITTED])
@pytest.mark.parametrize("offset", range(10, 23))
def test_records_and_positions_are_those_of_aiokafka(offset: int, isolation: int) -> None:
    theirs, ours = fetched(offset, isolation), SlimRecords(fetched(offset, isolation))
    for expected in theirs:
        one: Any = next(ours)
        assert [getattr(one, name) for name in one.__struct_fields__] == [
            getattr(expected, name) for name in one.__struct_fields__
        ]
        assert ours.next_fetch_offset == theirs.next_fetch_offset
    assert not list(ours)
    assert ours.next_fetch_offset == theirs.next_fetch_offset == 23


def test_what_was_aborted_is_left_out() -> None:
    assert [record.value for record in SlimRecords(fetched(10, READ_COMMITTED))] == [
        b"1",
        None,
        b"",
        b"with holes",
        b"5",
    ]


class Fetching:
    """As much of aiokafka's consumer as is paced."""

    def __init__(self) -> None:
        self._fetcher = self
        self.asked_s: list[float] = []

    async def _proc_fetch_request(self, assignment: object, node: int, request: object) -> bool:
        self.asked_s.append(asyncio.get_running_loop().time())
        return True


def test_fetches_rest_after_each_answer_and_a_late_one_does_not() -> None:
    fetching, pace = Fetching(), Pace()

    async def fetch() -> None:
        pace.keep(fetching)
        for rest_s, pause_s in ((0.2, 0.0), (0.2, 0.0), (0.2, 0.3), (0.2, 0.1), (0.0, 0.0)):
            pace.rest_s = rest_s
            await asyncio.sleep(pause_s)
            assert await fetching._proc_fetch_request(None, 0, None)

    loop = SeededLoop(Dice(0))
    loop.run_until_complete(fetch())
    loop.end()
    gaps = [later - earlier for earlier, later in pairwise(fetching.asked_s)]
    assert gaps == pytest.approx([0.2, 0.3, 0.2, 0.0], abs=0.01)


async def test_a_fetch_that_rests_when_its_consumer_is_closed_ends_without_a_word() -> None:
    """Whoever closes a consumer cancels its fetches and awaits each: what one lets through ends the closing too."""
    fetching, pace = Fetching(), Pace()
    pace.keep(fetching)
    assert await fetching._proc_fetch_request(None, 0, None)
    pace.rest_s = 60.0
    resting = asyncio.create_task(fetching._proc_fetch_request(None, 0, None))
    await asyncio.sleep(0)
    resting.cancel()
    assert not await resting
