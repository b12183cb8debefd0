"""A local cluster as a person runs it: the command, on a folder of its own."""

import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import httpx
import psutil

FOLDER, KAFKA = "TRIMTAB_DATA_DIR", "TRIMTAB_KAFKA__BOOTSTRAP_SERVERS"


class CommandFailedError(Exception):
    """A `trimtab` command that had to succeed did not."""

    def __init__(self, command: tuple[str, ...], said: str) -> None:
        super().__init__(f"`trimtab {' '.join(command)}` failed: {said.strip()}")


class Cluster:
    """The command, on a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *arguments: str, bootstrap: str | None = None) -> "subprocess.CompletedProcess[str]":
        """One command, ended; nobody answers its questions. `bootstrap`: a Kafka that runs; None: the folder's own."""
        return subprocess.run(  # noqa: S603  # our own words
            self._words(arguments, bootstrap),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    def begin(self, *arguments: str, shown: IO[str]) -> "subprocess.Popen[str]":
        """One command that goes on, in a process group of its own, as a shell would start it."""
        return subprocess.Popen(  # noqa: S603  # our own words
            self._words(arguments, None), stdout=shown, stderr=shown, text=True, start_new_session=True
        )

    def _words(self, arguments: tuple[str, ...], bootstrap: str | None) -> list[str]:
        kafka = ["-u", KAFKA] if bootstrap is None else [f"{KAFKA}={bootstrap}"]
        return ["env", *kafka, f"{FOLDER}={self.folder}", sys.executable, "-m", "trimtab.cli", *arguments]

    def ok(self, *arguments: str, bootstrap: str | None = None) -> str:
        """What a command prints that has to succeed. Raises CommandFailedError."""
        done = self.run(*arguments, bootstrap=bootstrap)
        if done.returncode:
            raise CommandFailedError(arguments, done.stdout + done.stderr)
        return done.stdout

    def status(self) -> Mapping[str, Any]:
        """What `trimtab status --json` says."""
        done = self.run("status", "--json")
        assert done.returncode in (0, 3), done.stderr
        found: Mapping[str, Any] = json.loads(done.stdout)
        return found

    def service(self, name: str) -> Mapping[str, Any]:
        """One of its services."""
        return next(one for one in self.status()["services"] if one["service"] == name)

    def processes(self) -> list[psutil.Process]:
        """Everything that runs on this folder, the supervisor included."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get(FOLDER) == str(self.folder)
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        return found

    def kill(self) -> None:
        """Kill everything that runs on this folder, hard; some of it goes with what is killed before."""
        running = self.processes()
        for process in running:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(running, timeout=10)


def answers_ready(url: str) -> bool:
    """Whether a service says of itself that it is ready."""
    return _is_ok(f"{url}/ready")


def answers(url: str) -> bool:
    """Whether a service answers at all: it may work on a backlog for long before it is ready."""
    return _is_ok(f"{url}/health")


def _is_ok(url: str) -> bool:
    try:
        return httpx.get(url, timeout=1.0, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
