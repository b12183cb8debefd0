"""The supervisor's side of the nursery: services that are forked instead of started from nothing."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from trimtab.cli.cluster.adapters import LocalChild, launch
from trimtab.cli.cluster.programs import Program
from trimtab.cli.errors import ClusterError
from trimtab.cli.processes import Identity, identity, is_alive, kill_group, spawn_piped

FORKS = sys.platform == "linux"
"""Elsewhere a process that has loaded so much may not be forked; services are started from nothing."""


class NurseryEndedError(ClusterError):
    """The nursery ended before it could be used."""

    def __init__(self, log: Path) -> None:
        super().__init__(f"the process that services are forked from has ended; see {log}")


class Talk:
    """The conversation with one nursery. `codes`: exit codes of its children, as far as it has told."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        if process.stdin is None or process.stdout is None:
            raise AssertionError("a nursery is started with pipes")
        self.codes: dict[int, int] = {}
        self._process, self._orders, self._words = process, process.stdin, process.stdout
        self._rest = b""

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def order(self, order: Mapping[str, object]) -> int | None:
        """Have it fork, and give the child's number; None when it has ended."""
        try:
            self._orders.write(json.dumps(order).encode() + b"\n")
            self._orders.flush()
        except BrokenPipeError:
            return None
        return self.until("born")

    def until(self, word: str) -> int | None:
        """What it says under that word, waiting for it; None when it ends before."""
        while True:
            *lines, self._rest = self._rest.split(b"\n")
            found = [told[word] for line in lines if word in (told := self._noted(line))]
            if found:
                return found[0]
            data = os.read(self._words.fileno(), 65_536)
            if not data:
                return None
            self._rest += data

    def listen(self) -> None:
        """Take in what it has said, without waiting."""
        while not self._words.closed and select.select([self._words], [], [], 0)[0]:
            data = os.read(self._words.fileno(), 65_536)
            if not data:
                return
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._noted(line)

    def close(self) -> None:
        """End it. What it has forked and still runs ends with it."""
        with contextlib.suppress(BrokenPipeError):
            self._orders.close()
        self._process.wait()
        self._words.close()

    def _noted(self, line: bytes) -> dict[str, int]:
        told: dict[str, int] = json.loads(line)
        if "ended" in told:
            self.codes[told["ended"]] = told["code"]
        if "born" in told:
            self.codes.pop(told["born"], None)
        return told


class ForkedChild:
    """A service that a nursery has forked. When that is killed, the kernel ends its children."""

    def __init__(self, talk: Talk, pid: int) -> None:
        self._talk = talk
        self.who = identity(pid) or Identity(pid, 0.0)

    def ended(self) -> int | None:
        """Its exit code, None while it runs."""
        self._talk.listen()
        code = self._talk.codes.get(self.who.pid)
        return -signal.SIGTERM if code is None and self._talk.is_over and not is_alive(self.who) else code

    def terminate(self) -> None:
        """SIGTERM to the process alone: it ends its own children."""
        if self.ended() is None and is_alive(self.who):
            os.kill(self.who.pid, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to its whole group."""
        kill_group(self.who.pid)


class Nursery:
    """Starts programs, those with a `module` by fork. Mutable: it owns a process, and starts another when that ends.

    `start` begins the imports, `wait` returns when they are done: what else comes up meanwhile costs no time.
    """

    def __init__(self, log: Path, env: Mapping[str, str]) -> None:
        self._log, self._env = log, env
        self._talk: Talk | None = None
        self._able = False

    def start(self) -> None:
        """Begin."""
        if FORKS:
            self.close()
            argv = [sys.executable, "-m", "trimtab.cli.cluster.nursery"]
            self._talk, self._able = Talk(spawn_piped(argv, env=self._env, log=self._log)), False

    def wait(self) -> None:
        """Block until it can fork. Raises NurseryEndedError."""
        if self._talk is not None and not self._able:
            if self._talk.until("ready") is None:
                raise NurseryEndedError(self._log)
            self._able = True

    def launch(self, program: Program) -> LocalChild | ForkedChild:
        """Start a program; its output is appended to its log. Raises NurseryEndedError."""
        if program.module is None or not FORKS:
            return launch(program)
        child = self._forked(program) or self._forked(program)  # once more: it may have ended since the last time
        if child is None:
            raise NurseryEndedError(self._log)
        return child

    def _forked(self, program: Program) -> ForkedChild | None:
        if self._talk is None or self._talk.is_over:
            self.start()
        self.wait()
        if self._talk is None:
            return None
        pid = self._talk.order({"module": program.module, "env": dict(program.env), "log": str(program.log)})
        return None if pid is None else ForkedChild(self._talk, pid)

    def close(self) -> None:
        """End it. What it has forked and still runs ends with it."""
        if self._talk is not None:
            self._talk.close()
            self._talk = None
