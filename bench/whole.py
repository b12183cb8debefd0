"""The whole loop under load: how fast, what each process spends on an event, and which stage is the slowest."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import psutil
from local import Running
from meter import Meter, per_event_us
from numpy.typing import NDArray
from play import Told, play
from trimtab.cli.cluster.status import StatusReader, TaskStatus
from trimtab.cli.replay.slices import Span
from trimtab.loops.files import Recorded
from trimtab.loops.model import Loop

LOOK_S = 0.5
QUARTERS = 4


@dataclass(frozen=True, slots=True)
class Loaded:
    """`per_s`: events, over the whole time, until nothing follows any more. `quarters_per_s`: until all stages had
    passed each quarter of them. CPU in µs an event: of each process, of what sends (`bench`), of all. `cores`: how many
    they kept busy; `others`: what else ran on the machine. `ceiling_per_s`: events that all cores could carry at this
    cost. `slowest`: how often each stage was the one that all waited for.
    """

    events: int
    per_s: float
    quarters_per_s: Sequence[float]
    cpu_us: Mapping[str, float]
    total_us: float
    cores: float
    others: float
    ceiling_per_s: float
    slowest: Mapping[str, float]
    peaks_mb: Mapping[str, float]
    peak_mb: float


@dataclass(frozen=True, slots=True)
class Look:
    """The event time that every stage had passed, and the stage that was last."""

    at_s: float
    progress_ms: int
    last: str


class Watch:
    """Looks at all stages of a loop twice a second while it is open."""

    def __init__(self, running: Running, loop: str) -> None:
        self._urls = [url for urls in running.addresses.services.values() for url in urls]
        self._loop = loop
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.looks: list[Look] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        with StatusReader() as reader:
            while not self._stop.wait(LOOK_S):
                tasks = [task for url in self._urls for task in reader.tasks(url)]
                look = _look([task for task in tasks if task.group.endswith(f".{self._loop}")])
                self.looks += [look] if look is not None else []


def _look(tasks: Sequence[TaskStatus]) -> Look | None:
    timed = [(task.progress_ms, task.group) for task in tasks if task.progress_ms is not None]
    if len(timed) < len(tasks) or not timed:
        return None
    progress_ms, group = min(timed)
    return Look(time.monotonic(), progress_ms, group.rpartition(".")[0])


def event_times(recorded: Recorded, span: Span) -> NDArray[np.int64]:
    """The event times in a span, ascending."""
    times = np.concatenate([chunk.time_ms for chunk in recorded.chunks()])
    return times[(times > span.after_ms) & (times <= span.until_ms)]


def loaded(running: Running, loop: Loop, recorded: Recorded, span: Span, told: Told) -> Loaded:
    """Send a span as fast as it goes, and wait until everything that follows from it is done."""
    times = event_times(recorded, span)
    processes = running.processes() | {"bench": psutil.Process()}
    busy_s, began_s = _busy_s(), time.monotonic()
    with Meter(processes) as meter, Watch(running, loop.name) as watch:
        worked = asyncio.run(play(running.addresses, loop, recorded, span, told, None))
        cpu_s = meter.cpu_s()
    spent_s = time.monotonic() - began_s
    own_s = sum(cpu_s.values())
    cpu_us = per_event_us(cpu_s, worked.events)
    counted = [(look.at_s, int(np.searchsorted(times, look.progress_ms, "right"))) for look in watch.looks]
    counted = [one for one in counted if one[1]] or [(0.0, 0), (1.0, 0)]
    under_way = [look.last for look, (_, count) in zip(watch.looks, counted, strict=False) if count < len(times)]
    total_us = sum(cpu_us.values())
    return Loaded(
        events=worked.events,
        per_s=round(worked.per_s),
        quarters_per_s=[round(rate) for rate in _quarters(counted, len(times))],
        cpu_us=cpu_us,
        total_us=round(total_us, 1),
        cores=round(own_s / spent_s, 2),
        others=round(max(0.0, _busy_s() - busy_s - own_s) / spent_s, 2),
        ceiling_per_s=round((psutil.cpu_count() or 1) * 1e6 / total_us),
        slowest=_shares(under_way),
        peaks_mb={name: round(mb) for name, mb in meter.peaks_mb.items()},
        peak_mb=round(meter.peak_mb),
    )


def _quarters(counted: Sequence[tuple[float, int]], total: int) -> list[float]:
    """The rate within each quarter of the events."""
    rates = []
    for quarter in range(QUARTERS):
        low, high = total * quarter // QUARTERS, total * (quarter + 1) // QUARTERS
        inside = [(at_s, count) for at_s, count in counted if low <= count <= high]
        if len(inside) > 1 and inside[-1][0] > inside[0][0]:
            rates.append((inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0]))
    return rates


def _shares(names: Sequence[str]) -> dict[str, float]:
    counts = Counter(names)
    return {name: round(count / len(names), 2) for name, count in counts.most_common()}


def _busy_s() -> float:
    """CPU seconds that the machine has spent on anything."""
    times: Any = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def until_settled(running: Running, loop: Loop, recorded: Recorded, at_ms: int, told: Told) -> None:
    """Wait until nothing from before that time is under way: an empty stretch is sent, and worked off."""
    asyncio.run(play(running.addresses, loop, recorded, Span(at_ms, at_ms), told, None))
