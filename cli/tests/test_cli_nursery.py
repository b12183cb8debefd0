"""Services that are forked: each a process of its own, with its own environment, log, exit code and end."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from trimtab.cli.cluster.forked import ForkedChild, Nursery
from trimtab.cli.cluster.programs import ONE_THREAD, Program
from trimtab.cli.processes import is_alive

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere services are started from nothing")
CHILD = """
import os, signal, sys, time
print(__name__, sys.argv, os.environ.get("WORD"), os.getppid(), os.getpgid(0) == os.getpid())
print("failed", file=sys.stderr, flush=True)
if os.environ["WORD"] == "stay":
    time.sleep(60)
sys.exit(3)
"""


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    (tmp_path / "nursed.py").write_text(CHILD)
    made = Nursery(tmp_path / "nursery.log", {**os.environ, **ONE_THREAD, "PYTHONPATH": str(tmp_path)})
    made.start()
    yield made
    made.close()


def program(tmp_path: Path, word: str) -> Program:
    argv = (sys.executable, "-m", "nursed")
    return Program("nursed", argv, tmp_path / "logs" / f"{word}.log", env={"WORD": word}, module="nursed")


def soon(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_a_forked_service_is_a_process_of_its_own(nursery: Nursery, tmp_path: Path) -> None:
    child = nursery.launch(program(tmp_path, "go"))
    soon(lambda: child.ended() is not None)
    assert child.ended() == 3
    failed, told = sorted((tmp_path / "logs" / "go.log").read_text().splitlines(), reverse=True)
    assert failed == "failed"
    assert told == f"__main__ ['{tmp_path / 'nursed.py'}'] go {told.split()[-2]} True"


def test_it_ends_when_it_is_told_to(nursery: Nursery, tmp_path: Path) -> None:
    one, other = nursery.launch(program(tmp_path, "stay")), nursery.launch(program(tmp_path, "stay"))
    assert one.who.pid != other.who.pid
    assert one.ended() is None
    one.terminate()
    soon(lambda: one.ended() == -signal.SIGTERM)
    assert other.ended() is None
    other.kill()
    soon(lambda: other.ended() == -signal.SIGKILL)
    one.terminate()


def test_what_all_services_share_starts_no_thread(nursery: Nursery, tmp_path: Path) -> None:
    """A fork takes along no thread, and what one of them held would stay locked."""
    child = nursery.launch(program(tmp_path, "stay"))
    assert psutil.Process(psutil.Process(child.who.pid).ppid()).num_threads() == 1
    child.kill()
    soon(lambda: child.ended() is not None)


def test_a_killed_nursery_takes_its_children_along_and_another_one_takes_over(nursery: Nursery, tmp_path: Path) -> None:
    child = nursery.launch(program(tmp_path, "stay"))
    assert isinstance(child, ForkedChild)
    os.kill(psutil.Process(child.who.pid).ppid(), signal.SIGKILL)
    soon(lambda: not is_alive(child.who))
    soon(lambda: child.ended() == -signal.SIGTERM)
    again = nursery.launch(program(tmp_path, "go"))
    soon(lambda: again.ended() == 3)


def test_the_next_service_is_what_waits_in_reserve_with_all_imported(nursery: Nursery, tmp_path: Path) -> None:
    first = nursery.launch(program(tmp_path, "stay"))
    made = nursery_of(tmp_path / "nursery.log")
    waiting = reserve(made, first.who.pid)
    child = nursery.launch(program(tmp_path, "go"))
    assert child.who.pid == waiting.pid
    soon(lambda: child.ended() == 3)
    assert "go" in (tmp_path / "logs" / "go.log").read_text()


def test_a_reserve_that_was_killed_is_not_missed(nursery: Nursery, tmp_path: Path) -> None:
    first = nursery.launch(program(tmp_path, "stay"))
    waiting = reserve(nursery_of(tmp_path / "nursery.log"), first.who.pid)
    waiting.kill()
    soon(lambda: waiting.pid not in psutil.pids())
    child = nursery.launch(program(tmp_path, "go"))
    soon(lambda: child.ended() == 3)


def nursery_of(log: Path) -> psutil.Process:
    """The one whose errors go there."""
    [found] = [one for one in psutil.Process().children() if str(log) in (file.path for file in one.open_files())]
    return found


def reserve(nursery: psutil.Process, first: int) -> psutil.Process:
    """What it has made without an order, beside a first child that runs."""
    soon(lambda: len(nursery.children()) == 2)
    return next(one for one in nursery.children() if one.pid != first)
