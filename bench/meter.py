"""What processes spend, and figures of many values."""

import statistics
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import psutil

EVERY_S = 0.5
MB = 1 << 20


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds since a process began, and its resident memory now; its children's are in both."""

    cpu_s: float
    rss_mb: float


NOTHING = Usage(0.0, 0.0)


def usage(root: psutil.Process) -> Usage:
    """Of a process and its children, those that have ended too; nothing of what is no more."""
    try:
        spent = root.cpu_times()
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return NOTHING
    cpu_s, rss_mb = spent.children_user + spent.children_system, 0.0
    for process in family:
        try:
            with process.oneshot():
                own = process.cpu_times()
                cpu_s += own.user + own.system
                rss_mb += process.memory_info().rss / MB
        except psutil.NoSuchProcess:
            continue
    return Usage(cpu_s, rss_mb)


class Meter:
    """Watches processes by name while it is open: CPU seconds of each, and the most memory each and all have held."""

    def __init__(self, processes: Mapping[str, psutil.Process]) -> None:
        self._processes = dict(processes)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peaks_mb = dict.fromkeys(self._processes, 0.0)
        self.peak_mb = 0.0
        self._first = self._read()

    def __enter__(self) -> Self:
        self._first = self._read()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def cpu_s(self) -> dict[str, float]:
        """What each has spent since the meter was opened."""
        now = self._read()
        return {name: now[name].cpu_s - self._first[name].cpu_s for name in self._processes}

    def _read(self) -> dict[str, Usage]:
        return {name: usage(process) for name, process in self._processes.items()}

    def _watch(self) -> None:
        while not self._stop.wait(EVERY_S):
            now = self._read()
            self.peak_mb = max(self.peak_mb, sum(one.rss_mb for one in now.values()))
            for name, one in now.items():
                self.peaks_mb[name] = max(self.peaks_mb[name], one.rss_mb)


def per_event_us(cpu_s: Mapping[str, float], events: int) -> dict[str, float]:
    """CPU seconds as microseconds an event, the most expensive first."""
    found = {name: round(1e6 * spent_s / max(events, 1), 1) for name, spent_s in cpu_s.items()}
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50 and p99."""
    cut = statistics.quantiles(values, n=100)
    return {"p50": round(cut[49], 1), "p99": round(cut[98], 1)}


def median_rate(counted: Sequence[tuple[float, int]], window_s: float = 1.0) -> float:
    """The median, over windows of at least so many seconds, of a count's growth a second.

    `counted`: (seconds, count) in order. Shorter than three windows: the growth over all of it.

    >>> median_rate([(0.0, 0), (1.0, 100), (2.0, 200), (3.0, 250)])
    100.0
    """
    rates, (from_s, before) = [], counted[0]
    for at_s, count in counted[1:]:
        if at_s - from_s >= window_s:
            rates.append((count - before) / (at_s - from_s))
            from_s, before = at_s, count
    if len(rates) >= 3:
        return statistics.median(rates)
    (first_s, first), (last_s, last) = counted[0], counted[-1]
    return (last - first) / max(last_s - first_s, 1e-9)
