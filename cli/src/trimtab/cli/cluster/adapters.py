"""Real processes, real HTTP and the real clock behind the supervisor's ports."""

import asyncio
import resource
import subprocess
import time
from pathlib import Path

from trimtab.cli.cluster.programs import Program
from trimtab.cli.processes import Identity, identity, kill_group, spawn

OPEN_FILES = 65_536
LOG_BYTES = 16_000_000
PROBE_S = 2.0


class LocalChild:
    """A process of this machine."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self.who = identity(process.pid) or Identity(process.pid, 0.0)

    def ended(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.poll()

    def terminate(self) -> None:
        """SIGTERM to the process alone: it ends its own children."""
        if self._process.poll() is None:
            self._process.terminate()

    def kill(self) -> None:
        """SIGKILL to its whole group."""
        kill_group(self._process.pid)


def launch(program: Program) -> LocalChild:
    """Start a program; its output is appended to its log."""
    return LocalChild(spawn(program.argv, env=program.env, log=program.log))


async def is_healthy(program: Program) -> bool:
    """Ask a program's health path; any answer but 200, or none, means not ready. With HTTP/1.0 the answer ends it."""
    if program.port is None:
        return True
    try:
        async with asyncio.timeout(PROBE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", program.port)
            try:
                writer.write(f"GET {program.health} HTTP/1.0\r\n\r\n".encode())
                status = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return status.split()[1:2] == [b"200"]


class SystemClock:
    """The wall clock."""

    def now_s(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Let others run."""
        await asyncio.sleep(seconds)


def raise_open_files() -> None:
    """Allow as many open files as the system lets us: Kafka keeps several for each partition."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def rotate(folder: Path) -> None:
    """Put logs that have grown large aside, one generation of each."""
    for log in folder.glob("*.log"):
        if log.stat().st_size > LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
