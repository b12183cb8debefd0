"""The process that fits: warm, killed with its order, and what is said when it dies."""

import asyncio
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from trimtab.trainer.adapters.child import ahead, answer, next_line
from trimtab.trainer.adapters.fitting import Fitting
from trimtab.trainer.adapters.orders import Order
from trimtab.trainer.errors import ChildEndedError

ORDER = Order(declared={}, request_id="r1", cause_kind="first", at_ms=0, champion=None, first=None)
STUCK = """
import sys, time
sys.stdin.readline()
print("ready", flush=True)
for line in sys.stdin:
    time.sleep(60)
"""


@pytest.fixture
def stuck(tmp_path: Path) -> Fitting:
    """A fitting process that takes an order and never answers."""
    (tmp_path / "stuck_child.py").write_text(STUCK)
    return Fitting({}, {"PYTHONPATH": str(tmp_path)}, child="stuck_child")


def pid_of(fitting: Fitting) -> int:
    process = fitting._process
    assert process is not None
    return process.pid


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_killed_process_is_told_and_the_next_order_starts_another(stuck: Fitting) -> None:
    await stuck.warm()
    first = pid_of(stuck)
    fit = asyncio.create_task(stuck.fit(ORDER))
    await asyncio.sleep(0.2)
    os.kill(first, signal.SIGKILL)
    with pytest.raises(ChildEndedError, match="status -9"):
        await fit
    await stuck.warm()
    assert pid_of(stuck) != first
    await stuck.close()


@pytest.fixture
def nowhere() -> dict[str, Any]:
    """A place whose Kafka is away."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return {"kafka": {"bootstrap_servers": f"127.0.0.1:{taken.getsockname()[1]}"}, "folder": "/nowhere"}


async def test_nothing_is_read_ahead_while_kafka_is_away(nowhere: dict[str, Any]) -> None:
    with capture_logs() as said:
        await ahead({"rides": {}}, nowhere)
    assert "KafkaConnectionError" in said[-1]["reason"]


async def test_an_order_waits_while_kafka_is_away(nowhere: dict[str, Any]) -> None:
    waiting = asyncio.create_task(answer(ORDER, nowhere))
    done, _ = await asyncio.wait([waiting], timeout=2.5)
    assert not done
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_between_orders_there_is_time_for_something_that_gives_way_to_the_next() -> None:
    begun, given_up = asyncio.Semaphore(0), []

    async def idle() -> None:
        begun.release()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            given_up.append("idle")
            raise

    ours, theirs = os.pipe()
    with os.fdopen(ours, "rb") as lines, os.fdopen(theirs, "wb", buffering=0) as orders:
        coming = asyncio.create_task(next_line(lines, idle, every_s=0.01))
        await begun.acquire()
        orders.write(b"an order\n")
        assert await coming == b"an order\n"
    assert given_up == ["idle"]


async def test_whatever_fails_between_orders_is_told_and_takes_no_order_with_it() -> None:
    tried = asyncio.Event()

    async def idle() -> None:
        await ahead({"rides": {}}, {"kafka": None})
        tried.set()

    ours, theirs = os.pipe()
    with capture_logs() as said, os.fdopen(ours, "rb") as lines, os.fdopen(theirs, "wb", buffering=0) as orders:
        coming = asyncio.create_task(next_line(lines, idle, every_s=0.01))
        await tried.wait()
        orders.write(b"an order\n")
        assert await coming == b"an order\n"
    assert said[0]["reason"].startswith("TypeError")


async def test_a_cancelled_order_kills_its_process(stuck: Fitting) -> None:
    await stuck.warm()
    pid = pid_of(stuck)
    fit = asyncio.create_task(stuck.fit(ORDER))
    await asyncio.sleep(0.2)
    fit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fit
    assert not alive(pid)


async def test_closing_ends_the_process(stuck: Fitting) -> None:
    await stuck.warm()
    pid = pid_of(stuck)
    await stuck.close()
    assert not alive(pid)
