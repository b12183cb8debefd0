"""While Kafka is away answers go on, from a disk that outlives the process, and each reaches Kafka once it is back."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiokafka.errors import MessageSizeTooLargeError
from trimtab.predictor.adapters import answers
from trimtab.predictor.adapters.answers import Answers, Spools
from trimtab.predictor.adapters.spool import Spool, framed
from trimtab.predictor.errors import NotLoggedError, SpoolDamagedError, SpoolHeldError
from trimtab.runtime.edge import Placed
from trimtab.runtime.errors import EdgeBusyError, EdgeSilentError, EdgeUnreachableError
from trimtab.runtime.records import Out

SAID = [Out("offers.answered", b"o%d" % n, b"said %d" % n, (("ce_id", b"o%d" % n),)) for n in range(40)]
FRAME = len(framed(SAID[:1]))
WRITER = """
import sys
from pathlib import Path
from trimtab.predictor.adapters.spool import Spool, framed
from trimtab.runtime.records import Out
spool = Spool(Path(sys.argv[1]))
for number in range(1_000_000):
    spool.append(framed([Out("t", b"%d" % number, bytes(5_000))]))
    print(number, flush=True)
"""


@dataclass
class Kafka:
    """An edge whose log can be away. `silent`: it takes records, but its acknowledgements get lost."""

    outs: list[Out] = field(default_factory=list)
    failure: Exception | None = None
    silent: bool = False
    refuses: bytes = b"nothing"

    async def send(self, outs: Sequence[Out]) -> Sequence[Placed]:
        if self.failure is not None:
            raise self.failure
        if any(out.key == self.refuses for out in outs):
            raise MessageSizeTooLargeError
        self.outs += outs
        if self.silent:
            await asyncio.sleep(60)
        return []


@pytest.fixture
def kafka() -> Kafka:
    return Kafka()


def whole(path: Path) -> tuple[list[Out], int]:
    """What a new process finds in a file, and how much of it is cut off."""
    spool = Spool(path)
    try:
        return spool.read(0, 1_000)[0], spool.cut
    finally:
        spool.close()


def spools(folder: Path, kafka: Kafka, most_bytes: int = 1_000_000) -> Spools:
    return Spools(folder, kafka, most_bytes)


async def drained(made: Spools, of: Answers) -> None:
    draining = asyncio.create_task(made.drain())
    async with asyncio.timeout(10):
        while of.waiting_bytes:  # noqa: ASYNC110 the file is emptied by another thread
            await asyncio.sleep(0.01)
    draining.cancel()
    await asyncio.gather(draining, return_exceptions=True)


def test_a_file_cut_off_anywhere_keeps_every_record_that_was_whole(tmp_path: Path) -> None:
    data = framed(SAID[:3])
    ends = [len(framed(SAID[:count])) for count in range(4)]
    for length in range(len(data) + 1):
        path = tmp_path / str(length)
        path.write_bytes(data[:length])
        kept = max(count for count, end in enumerate(ends) if end <= length)
        assert whole(path) == (SAID[:kept], length - ends[kept])
        spool = Spool(path)
        spool.append(framed(SAID[5:6]))
        spool.close()
        assert whole(path) == ([*SAID[:kept], SAID[5]], 0)


def test_what_does_not_verify_is_never_sent(tmp_path: Path) -> None:
    data = bytearray(framed(SAID[:3]))
    data[FRAME + FRAME // 2] ^= 1
    (tmp_path / "damaged").write_bytes(data)
    assert whole(tmp_path / "damaged") == (SAID[:1], len(data) - FRAME)


def test_a_process_killed_while_it_writes_leaves_all_that_it_has_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if line == "50\n":
                os.kill(writer.pid, signal.SIGKILL)
                break
        acknowledged = [51 + n for n, _ in enumerate(writer.stdout)]
    found, _ = whole(path)
    assert [out.key for out in found] == [b"%d" % n for n in range(len(found))]
    assert len(found) >= (acknowledged[-1] if acknowledged else 50) + 1


async def test_while_kafka_is_there_nothing_waits(tmp_path: Path, kafka: Kafka) -> None:
    async with spools(tmp_path, kafka) as made:
        await made.open("offers", "1").write(SAID[:2])
        assert made.open("offers", "1").waiting_bytes == 0
    assert kafka.outs == SAID[:2]


@pytest.mark.parametrize(
    "failure", [EdgeUnreachableError("NodeNotReadyError"), EdgeSilentError(10.0), EdgeBusyError(20_000)]
)
async def test_while_kafka_is_away_answers_wait_in_order_also_over_a_restart(
    tmp_path: Path, kafka: Kafka, failure: Exception
) -> None:
    kafka.failure = failure
    async with spools(tmp_path, kafka) as made:
        for out in SAID[:20]:
            await made.open("offers", "1").write([out])
        (told,) = made.measures()
        assert told.value == 20 * FRAME + 10 * 3  # the keys of two digits, three times each
    kafka.failure = None
    async with spools(tmp_path, kafka) as made:
        of = made.open("offers", "1")
        await of.write(SAID[20:30])
        assert not kafka.outs
        await drained(made, of)
        await of.write(SAID[30:])
    assert kafka.outs == SAID


async def test_kafka_that_does_not_acknowledge_keeps_nobody_waiting(
    tmp_path: Path, kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "AWAY_S", 0.05)
    kafka.silent = True
    async with spools(tmp_path, kafka) as made, asyncio.timeout(5):
        of = made.open("offers", "1")
        await of.write(SAID[:1])
        kafka.silent = False
        await drained(made, of)
    assert kafka.outs == [SAID[0], SAID[0]]  # a copy, which the stage that reads them drops


@pytest.mark.parametrize("most_bytes", [0, 5 * FRAME])
async def test_what_has_no_room_is_refused(tmp_path: Path, kafka: Kafka, most_bytes: int) -> None:
    kafka.failure = EdgeUnreachableError("NodeNotReadyError")
    async with spools(tmp_path, kafka, most_bytes) as made:
        of = made.open("offers", "1")
        for out in SAID[: most_bytes // FRAME]:
            await of.write([out])
        with pytest.raises(NotLoggedError, match=r"TRIMTAB_SPOOL__MAX_MB|no broker takes"):
            await of.write(SAID[9:10])
        assert of.waiting_bytes == most_bytes


async def test_those_who_come_at_once_share_the_room(tmp_path: Path, kafka: Kafka) -> None:
    kafka.failure = EdgeUnreachableError("NodeNotReadyError")
    async with spools(tmp_path, kafka, 5 * FRAME) as made:
        of = made.open("offers", "1")
        came = await asyncio.gather(*(of.write([out]) for out in SAID[:10]), return_exceptions=True)
    assert sum(isinstance(one, NotLoggedError) for one in came) == 5
    found, _ = whole(tmp_path / "offers.1")
    assert found == [out for out, one in zip(SAID, came, strict=False) if one is None]


async def test_a_disk_that_forgets_ends_the_process(tmp_path: Path, kafka: Kafka) -> None:
    kafka.failure = EdgeUnreachableError("NodeNotReadyError")
    async with spools(tmp_path, kafka) as made:
        of = made.open("offers", "1")
        await of.write(SAID[:3])
        kafka.failure = None
        (tmp_path / "offers.1").write_bytes(bytes(of.waiting_bytes))
        with pytest.raises(SpoolDamagedError, match="does not verify from byte 0"):
            await made.drain()


async def test_what_kafka_will_never_take_does_not_wait(tmp_path: Path, kafka: Kafka) -> None:
    kafka.refuses = b"o1"
    async with spools(tmp_path, kafka) as made:
        with pytest.raises(NotLoggedError):
            await made.open("offers", "1").write(SAID[1:2])
        assert made.open("offers", "1").waiting_bytes == 0


async def test_of_a_loop_that_was_deleted_nothing_comes_into_its_successor(tmp_path: Path, kafka: Kafka) -> None:
    kafka.failure = EdgeUnreachableError("NodeNotReadyError")
    async with spools(tmp_path, kafka) as made:
        await made.open("offers", "1").write(SAID[:2])
        await made.open("others", "1").write(SAID[:1])
        await made.open("shops", "1").write(SAID[:1])
        made.end("shops")
    async with spools(tmp_path, kafka) as made:
        assert made.open("offers", "2").waiting_bytes == 0
        assert made.open("shops", "1").waiting_bytes == 0
        assert made.open("others", "1").waiting_bytes == FRAME


async def test_two_processes_never_keep_answers_in_one_folder(tmp_path: Path, kafka: Kafka) -> None:
    async with spools(tmp_path, kafka):
        with pytest.raises(SpoolHeldError, match="TRIMTAB_REPLICA"):
            await spools(tmp_path, kafka).__aenter__()
    async with spools(tmp_path, kafka):
        pass
