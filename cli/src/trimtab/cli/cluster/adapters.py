"""Real processes, real HTTP and the real clock behind the supervisor's ports."""

import asyncio
import resource
import subprocess
import time
from pathlib import Path

import httpx

from trimtab.cli.cluster.programs import Program
from trimtab.cli.processes import Identity, identity, kill_group, spawn

OPEN_FILES = 65_536
LOG_BYTES = 16_000_000


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


class HttpProbe:
    """Asks a program's health path; any answer but 200, or none, means not ready."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def __call__(self, program: Program) -> bool:
        if program.url is None:
            return True
        try:
            answer = await self._client.get(program.url + program.health)
        except httpx.HTTPError:
            return False
        return answer.status_code == httpx.codes.OK


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
