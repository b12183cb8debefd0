"""Child processes that end with their parent, and processes that an earlier run left behind."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Identity:
    """A process that cannot be mistaken for a later one with the same number. `created`: s since the epoch."""

    pid: int
    created: float


def identity(pid: int) -> Identity | None:
    """Who has this number now; None when nobody has."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else Identity(pid, process.create_time())
    except psutil.NoSuchProcess:
        return None


def is_alive(who: Identity) -> bool:
    """Whether that very process still runs."""
    now = identity(who.pid)
    return now is not None and abs(now.created - who.created) < 1.0


def spawn(argv: Sequence[str], *, env: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
    """Start a child in a session of its own (Ctrl-C reaches the parent alone), with its output appended to `log`.

    On Linux the kernel sends it SIGTERM when the thread that called this ends, even by SIGKILL; elsewhere the next
    start finds it by its identity.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            argv,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_dying_with_parent(),
        )


def spawn_piped(argv: Sequence[str], *, env: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
    """As `spawn`, but with pipes to its stdin and from its stdout; only what it says on stderr goes to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as errors:
        return subprocess.Popen(
            argv,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            preexec_fn=_dying_with_parent(),
        )


@dataclass(frozen=True, slots=True)
class Detached:
    """A copy of this process that goes on by itself, seen from the original."""

    pid: int
    log: Path

    def ended(self) -> int | None:
        """Its exit code, None while it runs."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None


def detached(log: Path) -> Detached | None:
    """Go on twice: here, and (None) in a copy with a session of its own and its output appended to `log`.

    A copy has imported already what it would take seconds to import again. There must be no threads yet.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Detached(pid, log)
    os.setsid()
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # whatever the caller holds (locks, pipes) is not for us to hold
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    redirect(os.open(os.devnull, os.O_RDONLY), output)
    return None


def redirect(source: int, output: int) -> None:
    """Read standard input from there; write standard output and errors there."""
    for mine, standard in ((source, 0), (output, 1), (output, 2)):
        os.dup2(mine, standard)
    os.close(source)
    os.close(output)


def _dying_with_parent() -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def prepare() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # the parent died before the line above
            os._exit(1)

    return prepare


def end(who: Identity, patience_s: float) -> None:
    """SIGTERM, and SIGKILL to its whole group when it has not ended after `patience_s`. Returns when it is gone."""
    if not is_alive(who):
        return
    process = psutil.Process(who.pid)
    with contextlib.suppress(psutil.NoSuchProcess):
        process.terminate()
        try:
            process.wait(patience_s)
        except psutil.TimeoutExpired:
            kill_group(who.pid)
            process.wait(10)


def kill_group(pid: int) -> None:
    """SIGKILL for a process started by `spawn` and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def free_port(preferred: int | None = None) -> int:
    """`preferred` while nobody listens there, else any free TCP port of the loopback interface."""
    [port] = free_ports([preferred])
    return port


def free_ports(preferred: Sequence[int | None], but: Sequence[int] = ()) -> list[int]:
    """The same for several: no two are the same, and none is one of `but`."""
    with contextlib.ExitStack() as held:
        for port in but:
            _hold(held, port)
        return [_hold(held, port) or _hold(held, 0) for port in preferred]


def _hold(held: contextlib.ExitStack, port: int | None) -> int:
    """Listen there for as long as the others are looked for; 0: somebody else does, or no port was named."""
    if port is None:
        return 0
    with contextlib.suppress(OSError):
        server = held.enter_context(socket.create_server(("127.0.0.1", port)))
        found: int = server.getsockname()[1]
        return found
    return 0
