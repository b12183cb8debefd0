"""`trimtab up`, `down`, `status` and `logs`."""

import asyncio
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.live import Live

from trimtab.cli.broker import user_jars
from trimtab.cli.brokers import OwnKafkaError, broker_count
from trimtab.cli.cluster.address import find
from trimtab.cli.cluster.log_files import follow, last_lines, log_files
from trimtab.cli.cluster.programs import SERVICES
from trimtab.cli.cluster.state import AlreadyUpError, ClusterState, ProcessState, StateFile, left_behind
from trimtab.cli.errors import ClusterError
from trimtab.cli.jars.lock import load
from trimtab.cli.processes import Detached, detached, end
from trimtab.cli.settings import ClusterSettings
from trimtab.cli.trained import train

if TYPE_CHECKING:
    from trimtab.cli.cluster.status import Status, StatusReader

READY_S = 180.0
DOWN_S = 60.0
CRASHES = 3
"""A service that ended so often before the cluster was ready will not come up by waiting."""


class NotUpError(ClusterError):
    """There is no cluster."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"no cluster is up in {folder}; start one with `trimtab up`")


class StartFailedError(ClusterError):
    """The cluster did not become ready."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the cluster did not become ready: {reason}")


class BadReplicasError(ClusterError):
    """`--replicas` was not SERVICE=N."""

    def __init__(self, text: str) -> None:
        super().__init__(f"--replicas {text}: write SERVICE=N, where SERVICE is one of {', '.join(SERVICES)}")


def up(
    tracing: Annotated[bool, typer.Option("--tracing", help="Also start Zipkin, and send every trace to it.")] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when everything is ready.")] = False,
    replicas: Annotated[
        list[str] | None, typer.Option("--replicas", metavar="SERVICE=N", help="Run a service several times.")
    ] = None,
    brokers: Annotated[
        int | None,
        typer.Option("--brokers", metavar="1|3", help="How many brokers a new folder's Kafka has: 1, if left out."),
    ] = None,
) -> None:
    """Start Kafka and the seven services, and keep them running until Ctrl-C.

    The first start fetches Kafka's jars (44 MB), verifies them and keeps them for good; later starts need no network.
    A service that ends is started again. Kafka's log, the models and all logs are in `.trimtab`; `trimtab down` and a
    crash alike lose nothing. With `--brokers 3` there are three copies of the log, and everything goes on while any one
    of the brokers is away; the number stays with the folder.
    """
    settings = ClusterSettings()
    folder = settings.data_dir.absolute()
    if brokers is not None and settings.kafka.bootstrap_servers:
        raise OwnKafkaError
    brokers = broker_count(folder, brokers)
    console = Console()
    jars = user_jars(settings, console)
    for name in [*([] if settings.kafka.bootstrap_servers else ["kafka"]), *(["zipkin"] if tracing else [])]:
        jars.classpath(load(name))
    if not settings.kafka.bootstrap_servers:
        train(jars, console)
    counts = _replicas(replicas or [])
    if not detach:
        asyncio.run(_foreground(tracing, counts, brokers, settings, console))
    elif StateFile(folder).is_held():
        raise AlreadyUpError(folder)
    elif (supervisor := detached(folder / "logs" / "supervisor.log")) is None:
        console = Console()  # the other one knows another terminal
        asyncio.run(_foreground(tracing, counts, brokers, settings, console))
    else:
        _show_when_ready(StateFile(folder), supervisor, console)


def down() -> None:
    """Stop what `trimtab up` started: services first, then the broker. Everything is kept for the next start."""
    folder = ClusterSettings().data_dir.absolute()
    file = StateFile(folder)
    state = file.read()
    if state is None:
        raise NotUpError(folder)
    if not file.is_held():
        for who in left_behind(state):
            end(who, DOWN_S)
        raise NotUpError(folder)
    with Console().status("stopping services, then Kafka"):
        end(state.supervisor, DOWN_S)
        for who in left_behind(file.read() or state):
            end(who, DOWN_S)
    print("stopped; `trimtab up` goes on where it was")


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print it once, as JSON for scripts.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Print it once and return.")] = False,
) -> None:
    """Show every service: state, lag, events per second, how far it has come in event time; and each loop's champion.

    With TRIMTAB_KAFKA__BOOTSTRAP_SERVERS set and no local cluster: the services that answer at the usual ports of this
    machine, such as those of docker compose. Returns 0 when everything is ready, 3 when something is not, 1 when
    nothing runs (with --once or --json).
    """
    from trimtab.cli.cluster import view
    from trimtab.cli.cluster.status import StatusReader

    settings = ClusterSettings()
    console = Console()
    with StatusReader() as reader:
        now = _seen(settings, reader)
        if now is None:
            raise NotUpError(settings.data_dir.absolute())
        if as_json or once or not console.is_terminal:
            print(view.as_json(now)) if as_json else console.print(view.table(now))
            raise typer.Exit(0 if now.ready else 3)
        _live(settings, reader, console)


def logs(
    service: Annotated[str | None, typer.Argument(help="A service, kafka, zipkin; left out: all.")] = None,
    follow_on: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing what is added.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines of each.")] = 40,
) -> None:
    """Show the last lines that services and broker have written. The files are in `.trimtab/logs`."""
    folder = ClusterSettings().data_dir.absolute() / "logs"
    files = log_files(folder, service)
    for name, line in last_lines(files, lines):
        print(_labelled(name, line, len(files)))
    if follow_on:
        try:
            for name, line in follow(files, time.sleep):
                print(_labelled(name, line, len(files)), flush=True)
        except KeyboardInterrupt:
            return


def _labelled(name: str, line: str, files: int) -> str:
    return f"{name:22} {line}" if files > 1 else line


def _replicas(texts: Sequence[str]) -> dict[str, int]:
    counts = {}
    for text in texts:
        name, _, count = text.partition("=")
        if name not in SERVICES or not count.isdecimal() or int(count) < 1:
            raise BadReplicasError(text)
        counts[name] = int(count)
    return counts


def _seen(settings: ClusterSettings, reader: "StatusReader") -> "Status | None":
    """The local cluster; else the services beside the Kafka that is set; None where there is neither."""
    file = StateFile(settings.data_dir.absolute())
    state = file.read()
    if state is not None and file.is_held():
        return reader.read(state)
    return reader.elsewhere(find(settings)) if settings.kafka.bootstrap_servers is not None else None


def _live(settings: ClusterSettings, reader: "StatusReader", console: Console) -> None:
    from trimtab.cli.cluster import view

    try:
        with Live(console=console, auto_refresh=False) as live:
            while (now := _seen(settings, reader)) is not None:
                live.update(view.table(now), refresh=True)
                time.sleep(1.0)
    except KeyboardInterrupt:
        return


async def _foreground(
    tracing: bool, replicas: Mapping[str, int], brokers: int, settings: ClusterSettings, console: Console
) -> None:
    """Keep the cluster in this process and show it; end on SIGINT and SIGTERM."""
    from trimtab.cli.cluster import view
    from trimtab.cli.cluster.up import LocalCluster, Plan

    plan = Plan(settings.data_dir.absolute(), settings.kafka.connection(), tracing, replicas, brokers)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    screen = view.Screen(console)
    cluster = LocalCluster(plan, user_jars(settings, console), screen.changed)
    with screen:
        showing = asyncio.create_task(screen.refresh())
        try:
            await cluster.run(stop)
        finally:
            showing.cancel()
    console.print("stopped; `trimtab up` goes on where it was")


def _show_when_ready(file: StateFile, supervisor: Detached, console: Console) -> None:
    with console.status("starting Kafka and the services"):
        from trimtab.cli.cluster import view  # while the other process starts what this one only shows
        from trimtab.cli.cluster.status import StatusReader

        state = _until_ready(file, supervisor)
    with StatusReader() as reader:
        console.print(view.table(reader.read(state)))


def _until_ready(file: StateFile, supervisor: Detached) -> ClusterState:
    deadline = time.monotonic() + READY_S
    while True:
        if (code := supervisor.ended()) is not None:
            said = [line for _, line in last_lines({"": supervisor.log}, 1)]
            raise StartFailedError("\n".join([f"it ended with code {code}; see {supervisor.log}", *said]))
        state = file.read()
        current = state if state is not None and state.supervisor.pid == supervisor.pid else None
        if current is not None and current.is_ready:
            return current
        late = time.monotonic() > deadline
        hopeless = (
            [p for p in current.processes if (late and p.phase != "ready") or p.restarts >= CRASHES] if current else []
        )
        if hopeless or late:
            raise StartFailedError(_blame(hopeless))
        time.sleep(0.1)


def _blame(processes: Sequence[ProcessState]) -> str:
    if not processes:
        return "Kafka did not answer; see `trimtab logs kafka`"
    named = ", ".join(f"{p.name} ({p.phase}, ended {p.restarts} times)" for p in processes)
    return f"{named}. The rest goes on running; see `trimtab logs {processes[0].name}`, end it with `trimtab down`"
