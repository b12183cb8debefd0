"""The most memory that the demo's processes took together."""

import threading
from typing import Self

import psutil

from trimtab.cli.cluster.state import StateFile
from trimtab.cli.settings import ClusterSettings

EVERY_S = 2.0
MB = 1 << 20


class PeakMemory:
    """Looks every two seconds at the resident memory of this process, the cluster's and all their children."""

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        state = StateFile(ClusterSettings().data_dir.absolute()).read()
        roots = [psutil.Process()] + ([psutil.Process(state.supervisor.pid)] if state else [])
        while not self._stop.wait(EVERY_S):
            self.peak_mb = max(self.peak_mb, sum(map(resident_mb, roots)))


def resident_mb(root: psutil.Process) -> float:
    """Resident memory of a process and its children; what ends meanwhile counts nothing."""
    total = 0
    try:
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    for process in family:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / MB
