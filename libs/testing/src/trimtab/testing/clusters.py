"""A local cluster as a person runs it: the command, on a folder of its own."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil


class Cluster:
    """The command, on a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._env = ["env", "-u", "TRIMTAB_KAFKA__BOOTSTRAP_SERVERS", f"TRIMTAB_DATA_DIR={folder}"]

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """One command, ended."""
        argv = [*self._env, sys.executable, "-m", "trimtab.cli", *arguments]
        return subprocess.run(  # noqa: S603  # our own words
            argv, capture_output=True, text=True, check=False, timeout=240
        )

    def ok(self, *arguments: str) -> str:
        """What a command prints that has to succeed."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
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
                if process.environ().get("TRIMTAB_DATA_DIR") == str(self.folder):
                    found.append(process)
            except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        return found
