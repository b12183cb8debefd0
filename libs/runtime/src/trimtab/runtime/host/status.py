"""How a service's process is: readiness, and the state of every stage and task as JSON."""

from collections.abc import Sequence
from typing import Any

from trimtab.contracts import telemetry
from trimtab.runtime.host.loops import Loops
from trimtab.runtime.host.service import Service
from trimtab.runtime.stage import Measure
from trimtab.runtime.task import STANDING, TaskStatus
from trimtab.runtime.views import ViewReader, Views
from trimtab.runtime.worker import StageStatus

_SMOOTHING = 0.3


class Rates:
    """Records per second of each task, smoothed over some seconds. `tick` once a second."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, int], int] = {}
        self._rates: dict[tuple[str, int], float] = {}

    def tick(self, stages: Sequence[StageStatus], elapsed_s: float) -> None:
        """Take in what was counted since the last tick."""
        now = {(stage.group, task.partition): task.taken for stage in stages for task in stage.tasks}
        for task, taken in now.items():
            rate = max(0, taken - self._last.get(task, taken)) / elapsed_s
            self._rates[task] = self._rates.get(task, rate) * (1 - _SMOOTHING) + rate * _SMOOTHING
        self._last = now

    def of(self, group: str, partition: int) -> float:
        """Records per second."""
        return round(self._rates.get((group, partition), 0.0), 1)


class Status:
    """Answers for /ready and /status."""

    def __init__(self, service: Service, loops: Loops, views: Views) -> None:
        self._service, self._loops, self._views = service, loops, views
        self.rates = Rates()
        self.stopping = False

    def stages(self) -> list[tuple[str | None, StageStatus]]:
        """Every stage with its loop."""
        return [(loop, worker.status()) for loop, worker in self._loops.workers()]

    def unready(self) -> list[str]:
        """Why the service is not ready; empty when it is. A loop that a person has to mend holds up no other one."""
        reasons = ["stopping"] if self.stopping else []
        reasons += [f"view of {one.view.topic} is being read" for one in self._views.all() if not one.ready.is_set()]
        reasons += [
            f"projection {one.name} is being read" for one in self._service.projections if not one.ready.is_set()
        ]
        reasons += [
            f"loop {name} version {state.version} is starting"
            for name, state in self._loops.states.items()
            if state.state == "starting"
        ]
        for _, stage in self.stages():
            reasons += [f"{stage.group} is joining its group"] if stage.state == "joining" else []
            reasons += [_said(stage.group, task) for task in stage.tasks if task.state not in ("running", *STANDING)]
        return [*reasons, *self._service.ready()]

    def refusals(self) -> list[str]:
        """Loops and tasks that stand still until a person has mended them, and partitions that nobody can read."""
        loops = [
            f"loop {name} version {state.version} refused: {state.reason}"
            for name, state in self._loops.states.items()
            if state.state == "refused"
        ]
        stages = [stage for _, stage in self.stages()]
        unreadable = [told for stage in stages for told in stage.unreadable]
        tasks = [(stage.group, task) for stage in stages for task in stage.tasks]
        standing = [_said(group, task) for group, task in tasks if task.state in STANDING]
        return [*loops, *standing, *dict.fromkeys(unreadable)]

    def measures(self) -> list[Measure]:
        """The gauges of all stages, and those of the service."""
        found = [*self._service.measures()]
        for _, stage in self.stages():
            found.append(Measure(telemetry.RUNTIME_TASKS, len(stage.tasks), {"stage": stage.group}))
            parked = sum(task.state == "parked" for task in stage.tasks)
            found.append(Measure(telemetry.RUNTIME_PARKED, parked, {"stage": stage.group}))
            found.append(Measure(telemetry.RUNTIME_UNREADABLE, len(stage.unreadable), {"stage": stage.group}))
            for task in stage.tasks:
                where = {"stage": stage.group, "partition": str(task.partition)}
                found.append(Measure(telemetry.RUNTIME_LAG, task.lag, where))
                found.append(Measure(telemetry.RUNTIME_TABLE_ENTRIES, sum(task.entries.values()), where))
                if task.progress_ms is not None:
                    found.append(Measure(telemetry.RUNTIME_PROGRESS, task.progress_ms / 1000, where))
        return found

    def document(self) -> dict[str, Any]:
        """Everything, for `trimtab status`."""
        unready = self.unready()
        return {
            "service": self._service.name,
            "ready": not unready,
            "reasons": [*self.refusals(), *unready],
            "loops": {
                name: {"version": state.version, "state": state.state, "reason": state.reason}
                for name, state in self._loops.states.items()
            },
            "stages": [
                {
                    "group": stage.group,
                    "loop": loop,
                    "state": stage.state,
                    "events_per_s": round(sum(self.rates.of(stage.group, task.partition) for task in stage.tasks), 1),
                    "lag": sum(task.lag for task in stage.tasks),
                    "tasks": [self._task(stage.group, task) for task in stage.tasks],
                }
                for loop, stage in self.stages()
            ],
            "views": [_view(one) for one in self._views.all()],
            "projections": [
                {"name": one.name, "ready": one.ready.is_set(), "lag": one.status().lag}
                for one in self._service.projections
            ],
        }

    def _task(self, group: str, task: TaskStatus) -> dict[str, Any]:
        return {
            "partition": task.partition,
            "state": task.state,
            "reason": task.reason,
            "positions": dict(task.positions),
            "lag": task.lag,
            "progress_ms": task.progress_ms,
            "idle": task.idle,
            "events_per_s": self.rates.of(group, task.partition),
            "records": task.taken,
            "transactions": task.transactions,
            "restarts": task.restarts,
            "tries": task.tries,
            "entries": dict(task.entries),
        }


def _view(reader: ViewReader) -> dict[str, Any]:
    progress = reader.progress.now() if reader.progress is not None else None
    return {
        "topic": reader.view.topic,
        "ready": reader.ready.is_set(),
        "records": reader.records,
        "refused": reader.refused,
        "refusal": reader.refusal,
        "progress_ms": None if progress is None else progress[0],
        "idle": None if progress is None else progress[1],
    }


def _said(group: str, task: TaskStatus) -> str:
    return f"{group}-{task.partition} {task.state}" + (f": {task.reason}" if task.reason else "")
