"""A process that has imported what the services share, and becomes one of them by fork when it is told to.

`python -m trimtab.cli.cluster.nursery`: an order on each line of stdin, what became of it on stdout; it ends with its
stdin. Seven interpreters that each import the same are what starting a cluster would otherwise wait for. Only what
starts no thread is imported here, because a fork takes along none. Once nothing has been ordered for a while, one child
is made in reserve that has imported the rest as well: what takes the place of a killed service starts the sooner.
"""

import ctypes
import gc
import json
import os
import runpy
import select
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from trimtab.cli.processes import PR_SET_PDEATHSIG, redirect

SHARED = (
    "numpy",
    "sqlglot",
    "fastavro",
    "trimtab.contracts.control",
    "trimtab.contracts.data",
    "trimtab.runtime.host",
    "trimtab.runtime.kafka.edge",
    "trimtab.store.blobs",
    "trimtab.store.signing",
    "tomllib",
    "statistics",
)
RESERVED = ("polars", "trimtab.loops.declaration", "trimtab.loops.vectors", "trimtab.ml.scoring")
"""What most services import beside that; some of it starts threads."""
QUIET_S = 3.0
"""Without an order, before a child is made in reserve: services that are started one after another come first."""
PR_SET_NAME = 15


@dataclass(frozen=True, slots=True)
class Order:
    """Run a module as the main one, with this environment and its output in that file."""

    module: str
    env: dict[str, str]
    log: str


@dataclass(frozen=True, slots=True)
class Reserve:
    """A child that waits for its order at the other end of a pipe."""

    pid: int
    pipe: int

    def take(self, line: bytes) -> bool:
        """Give it an order; False where it has ended."""
        try:
            os.write(self.pipe, line)
        except BrokenPipeError:
            return False
        finally:
            os.close(self.pipe)
        return True


def main() -> None:
    """Serve until stdin ends; in a forked child, run what was ordered."""
    for name in SHARED:
        import_module(name)
    gc.collect()
    gc.freeze()
    line = serve()
    if line:
        order = Order(**json.loads(line))
        become(order)
        gc.disable()  # what is imported stays; the service collects again once it runs
        runpy.run_module(order.module, run_name="__main__", alter_sys=True)


def serve() -> bytes:
    """Fork for each order; returns the order in the child, nothing in the parent at the end."""
    parent = os.getpid()
    woken, waking = _wake_on_children()
    reserve: Reserve | None = None
    say(ready=parent)
    while True:
        readable, _, _ = select.select([sys.stdin.buffer, woken], [], [], None if reserve else QUIET_S)
        if not readable:
            reading, writing = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(writing)
                _leave(parent, woken, waking)
                return _ordered(reading)
            os.close(reading)
            reserve = Reserve(pid, writing)
        if woken in readable:
            os.read(woken, 4096)
            for pid, code in ended():
                say(ended=pid, code=code)
        if sys.stdin.buffer in readable:
            line = sys.stdin.buffer.readline()
            if not line:
                return b""
            taken, reserve = reserve, None
            if taken is not None and taken.take(line):
                pid = taken.pid
            else:
                pid = os.fork()
                if pid == 0:
                    _leave(parent, woken, waking)
                    return line
            os.setpgid(pid, pid)  # before anybody hears of it, so that its whole group can be killed from then on
            say(born=pid)


def _leave(parent: int, woken: int, waking: int) -> None:
    """What a child does first: nothing of its parent's business is its own."""
    _die_with(parent)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.close(woken)
    os.close(waking)


def _ordered(pipe: int) -> bytes:
    """The order that a child in reserve gets; nothing where none came."""
    for name in RESERVED:
        import_module(name)
    gc.collect()
    gc.freeze()
    with os.fdopen(pipe, "rb") as orders:
        return orders.readline()


def say(**facts: int) -> None:
    """Tell the supervisor."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def ended() -> Iterator[tuple[int, int]]:
    """Children that have ended since it was last asked, with their exit codes (negative: the signal's number)."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, os.waitstatus_to_exitcode(status)


def become(order: Order) -> None:
    """An environment, files and a name of its own."""
    Path(order.log).parent.mkdir(parents=True, exist_ok=True)
    redirect(os.open(os.devnull, os.O_RDONLY), os.open(order.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644))
    os.environ.clear()
    os.environ.update(order.env)
    sys.argv = [order.module]
    _libc().prctl(PR_SET_NAME, order.module.encode()[-15:])


def _wake_on_children() -> tuple[int, int]:
    """The two ends of a pipe whose first is readable whenever a child has ended."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return reading, writing


def _die_with(parent: int) -> None:
    _libc().prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def _libc() -> Any:
    return ctypes.CDLL(None)


if __name__ == "__main__":
    main()
