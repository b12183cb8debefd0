"""The cluster's state for people (a table) and for scripts (JSON)."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from trimtab.cli.cluster.state import ClusterState, ProcessState
from trimtab.cli.cluster.status import LoopStatus, ServiceStatus, Status, StatusReader
from trimtab.contracts import times
from trimtab.runtime.marks import task_name

COLOURS = {"ready": "green", "starting": "yellow", "not ready": "yellow", "waiting": "red", "stopped": "dim"}
REFRESH_S = 1.0


def table(status: Status) -> RenderableType:
    """Services, loops and addresses."""
    parts: list[RenderableType] = [_services(status.services)]
    parts += [line for one in status.services for line in _reasons(one)]
    if status.loops:
        parts += [_loops(status.loops), *_failed(status.loops)]
    addresses = f"Kafka {status.kafka}"
    if status.zipkin:
        addresses += f" · traces {status.zipkin}/zipkin/"
    return Group(*parts, Text(addresses, style="dim"))


def as_json(status: Status) -> str:
    """The same for scripts: `ready`, `kafka`, `services` and `loops`."""
    services = [
        {
            "service": one.process.name,
            "replica": one.process.replica,
            "state": one.process.phase,
            "url": one.process.url,
            "pid": one.process.who.pid if one.process.who else None,
            "reasons": list(one.reasons),
            "restarts": one.process.restarts,
            "lag": one.lag,
            "events_per_second": None if one.rate is None else round(one.rate, 1),
            "progress": None if one.progress_ms is None else times.text(one.progress_ms),
            "tasks": [asdict(task) for task in one.tasks],
        }
        for one in status.services
    ]
    head = {"ready": status.ready, "kafka": status.kafka, "embedded": status.embedded}
    loops = [_loop(loop) for loop in status.loops]
    return json.dumps({**head, "zipkin": status.zipkin, "services": services, "loops": loops}, indent=2)


def _loop(loop: LoopStatus) -> dict[str, object]:
    return {
        "loop": loop.name,
        "champion": loop.champion,
        "shadows": list(loop.shadows),
        "since": None if loop.since_ms is None else times.text(loop.since_ms),
        "sequence": loop.sequence,
        "refused": list(loop.refused),
        "training_failed": loop.training_failed,
    }


class Screen:
    """What `trimtab up` shows: a live table on a terminal, a line at each change elsewhere. Use it in a `with`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._reader = StatusReader()
        self._state: ClusterState | None = None
        self._told: dict[str, str] = {}

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
        self._reader.__exit__(kind, error, trace)

    def changed(self, state: ClusterState) -> None:
        """Take the newest state."""
        self._state = state
        if self._live is None:
            for process in state.processes:
                self._tell(process)

    async def refresh(self) -> None:
        """Draw the table again and again; until cancelled."""
        while self._live is not None:
            if self._state is not None:
                status = await asyncio.to_thread(self._reader.read, self._state)
                self._live.update(table(status), refresh=True)
            await asyncio.sleep(REFRESH_S)

    def _tell(self, process: ProcessState) -> None:
        line = f"{process.name}-{process.replica} {process.phase}"
        line += f" at {process.url}" if process.phase == "ready" and process.url else ""
        line += f", ended with code {process.exit_code}" if process.phase == "waiting" else ""
        if self._told.get(process.name + str(process.replica)) != line:
            self._told[process.name + str(process.replica)] = line
            self._console.print(line, highlight=False)


def _services(services: Sequence[ServiceStatus]) -> Table:
    grid = Table(box=None, pad_edge=False)
    for name in ("service", "state"):
        grid.add_column(name, no_wrap=True)
    for name in ("port", "lag", "events/s", "progress", "restarts"):
        grid.add_column(name, justify="right", no_wrap=True)
    for one in services:
        process = one.process
        name = process.name if process.replica == 0 else f"{process.name} ({process.replica})"
        state = Text(process.phase, style=COLOURS[process.phase])
        grid.add_row(name, state, (process.url or "").rpartition(":")[2], *_figures(one), str(process.restarts))
    return grid


def _reasons(one: ServiceStatus) -> list[Text]:
    """Every task that stands still, and some of the rest."""
    standing = tuple(f"{task_name(task.group, task.partition)} {task.state}" for task in one.tasks if task.stands)
    red = [Text(f"{one.process.name}: {told}", style="red") for told in one.reasons if told.startswith(standing)]
    rest = [told for told in one.reasons if not told.startswith(standing)]
    return [*red, *(Text(f"{one.process.name}: {told}", style="yellow") for told in rest[:3])]


def _figures(one: ServiceStatus) -> tuple[str, str, str]:
    lag = "" if one.lag is None else f"{one.lag:,}"
    rate = "" if one.rate is None else f"{one.rate:,.0f}"
    return lag, rate, _minute(one.progress_ms)


def _loops(loops: Sequence[LoopStatus]) -> Table:
    grid = Table(box=None, pad_edge=False)
    for name in ("loop", "champion", "since", "shadows"):
        grid.add_column(name, no_wrap=True)
    for loop in loops:
        champion = "none yet" if loop.champion is None else f"model {loop.champion}"
        shadows = ", ".join(f"model {version}" for version in loop.shadows)
        grid.add_row(loop.name, champion, _minute(loop.since_ms), shadows)
        for refused in loop.refused:
            grid.add_row("", Text(f"refused {refused}", style="red"))
    return grid


def _failed(loops: Sequence[LoopStatus]) -> list[Text]:
    return [
        Text(f"{loop.name}: the last training failed: {loop.training_failed}", style="yellow")
        for loop in loops
        if loop.training_failed is not None
    ]


def _minute(ms: int | None) -> str:
    return "" if ms is None else times.text(ms)[:16].replace("T", " ")
