"""Events per second through one service that has the machine to itself and the broker: a backlog is worked off."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from local import Broker
from meter import Meter, median_rate, per_event_us
from play import Told
from trimtab.cli.cluster.status import StatusReader, TaskStatus

LOOK_S = 0.1
STALLED_S = 120.0
CALM_S = 1.0
"""A service has nothing to do when it was so for this long: between two of its stages there is a moment of that."""


class StalledError(Exception):
    """A service takes nothing any more, but is not done either."""

    def __init__(self, tasks: Sequence[TaskStatus]) -> None:
        left = ", ".join(f"{task.group}-{task.partition} {task.lag}" for task in tasks if task.lag or not task.idle)
        super().__init__(f"nothing was taken for {STALLED_S:.0f} s; what is left: {left or 'no task runs'}")


@dataclass(frozen=True, slots=True)
class Throughput:
    """`per_s`: events, the median of windows of a second. CPU in µs an event, of the service and of the broker.

    `start_s`: from the start of the process until it answered. `peak_mb`: of the service.
    """

    events: int
    per_s: float
    seconds: float
    service_us: float
    broker_us: float
    start_s: float
    peak_mb: float


@dataclass(frozen=True, slots=True)
class Seen:
    """How many records the tasks of a loop had been given at a moment."""

    at_s: float
    records: int


def alone(broker: Broker, name: str, loop: str, events: int, told: Told) -> Throughput:
    """Let a service work off what waits for it; `events`: of users, behind that."""
    with broker.service(name) as service, StatusReader() as reader:
        processes = {name: service.process, "kafka": broker.process}
        with Meter(processes) as meter:
            seen = _worked_off(lambda: _tasks(reader, service.url, loop), told)
            cpu_us = per_event_us(meter.cpu_s(), events)
        final = seen[-1].records
        counted = [(one.at_s, one.records * events // max(final, 1)) for one in seen]
        return Throughput(
            events=events,
            per_s=round(median_rate(counted)),
            seconds=round(seen[-1].at_s - seen[0].at_s, 1),
            service_us=cpu_us[name],
            broker_us=cpu_us["kafka"],
            start_s=round(service.start_s, 1),
            peak_mb=round(meter.peaks_mb[name]),
        )


def _worked_off(tasks: Callable[[], Sequence[TaskStatus]], told: Told) -> list[Seen]:
    """What was seen from the moment before the first record until the last; returns when nothing waits any more.

    Raises StalledError.
    """
    seen: list[Seen] = []
    while True:
        now = tasks()
        records = sum(task.records for task in now)
        told(f"{records:,} records")
        if len(seen) > 1 and seen[-1].records == 0:
            seen.pop()
        if not seen or records != seen[-1].records:
            seen.append(Seen(time.monotonic(), records))
        is_calm = time.monotonic() > seen[-1].at_s + CALM_S
        if len(seen) > 1 and is_calm and all(task.idle and not task.lag for task in now):
            return seen
        if time.monotonic() > seen[-1].at_s + STALLED_S:
            raise StalledError(now)
        time.sleep(LOOK_S)


def _tasks(reader: StatusReader, url: str, loop: str) -> list[TaskStatus]:
    return [task for task in reader.tasks(url) if task.group.endswith(f".{loop}")]
