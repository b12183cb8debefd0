"""`trimtab apply`, `loops` and `delete`."""

import asyncio
import getpass
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from trimtab.cli.check import checked
from trimtab.cli.cluster.address import Addresses, find
from trimtab.cli.cluster.status import StatusReader
from trimtab.cli.errors import ClusterError
from trimtab.cli.loops.apply import Applied, Outcome, write
from trimtab.cli.loops.apply import apply as declare_loop
from trimtab.cli.loops.declared import NEVER, History, read_declared
from trimtab.cli.settings import ClusterSettings
from trimtab.cli.topics import topic_admin
from trimtab.contracts import times, topics
from trimtab.runtime.kafka.connection import Connection

LEAVE_S = 30.0


class NoLoopError(ClusterError):
    """No loop of that name is declared."""

    def __init__(self, name: str, known: list[str]) -> None:
        there = f"there are {', '.join(known)}" if known else "none is; declare one with `trimtab apply FOLDER`"
        super().__init__(f"no loop {name} is declared: {there}")


async def require_topic(connection: Connection, topic_of: Callable[[str], str], loop: str) -> None:
    """Raises NoLoopError, with the loops that there are, where a loop has no such topic."""
    async with topic_admin(connection) as admin:
        there = {topic.name for topic in await admin.show()}
    if topic_of(loop) not in there:
        ending = topic_of("")
        raise NoLoopError(loop, sorted(one.removesuffix(ending) for one in there if one.endswith(ending)))


def apply(
    folder: Annotated[Path, typer.Argument(help="The folder that holds loop.toml and the Avro schemas beside it.")],
) -> None:
    """Declare a loop: create its topics, then tell the services, which start to work on it at once.

    A changed declaration becomes a new version that services follow without a restart; the same one again changes
    nothing. `trimtab plan` says beforehand what would change.
    """
    loop = checked(folder)
    kafka = find(ClusterSettings()).kafka
    done = asyncio.run(declare_loop(kafka, loop, int(time.time() * 1000), getpass.getuser()))
    print(_told(done))
    if done.outcome is not Outcome.UNCHANGED:
        sources = ", ".join(topics.source(loop.name, event) for event in loop.events)
        print(f"produce its events to {sources} at {kafka.bootstrap_servers}")
        print(f"see its predictions by `trimtab predictions {loop.name}`, or read {topics.predictions(loop.name)}")


def loops(as_json: Annotated[bool, typer.Option("--json", help="As JSON for scripts.")] = False) -> None:
    """List the declared loops, their version and what serves them."""
    addresses = find(ClusterSettings())
    found = {name: each for name, each in asyncio.run(read_declared(addresses.kafka)).items() if each.current}
    champions = _champions(addresses, list(found))
    if as_json:
        print(json.dumps([_entry(name, each, champions) for name, each in sorted(found.items())], indent=2))
        return
    if not found:
        print("no loop is declared; `trimtab apply FOLDER` declares one")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("loop", "version", "asks", "events", "partitions", "champion", "applied", "by"):
        table.add_column(column)
    for name, each in sorted(found.items()):
        table.add_row(*(_cell(value) for value in _entry(name, each, champions).values()))
    Console().print(table)


def delete(
    loop: Annotated[str, typer.Argument(help="The loop's name.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    keep_topics: Annotated[
        bool, typer.Option("--keep-topics", help="End the loop, keep all that was written.")
    ] = False,
) -> None:
    """End a loop and delete its topics, with every event and prediction in them. Control events and models stay."""
    addresses = find(ClusterSettings())
    histories = asyncio.run(read_declared(addresses.kafka))
    history = histories.get(loop, NEVER)
    if not history.versions:
        raise NoLoopError(loop, sorted(name for name, each in histories.items() if each.current))
    if not keep_topics and not yes:
        typer.confirm(f"delete the loop {loop} and all its events, predictions and outcomes for good?", abort=True)
    asyncio.run(_end(addresses, loop, history, keep_topics))
    print(f"{loop} has ended" + ("; its topics are kept" if keep_topics else " and its topics are deleted"))


async def _end(addresses: Addresses, loop: str, history: History, keep_topics: bool) -> None:
    if history.current is not None:
        await write(addresses.kafka, loop, None)
    if keep_topics:
        return
    await asyncio.to_thread(_until_left, addresses, loop)
    async with topic_admin(addresses.kafka) as admin:
        there = [topic.name for topic in await admin.show() if topic.name.startswith(f"{loop}.")]
        await admin.delete(sorted(set(there) & {topic.name for each in history.versions for topic in each.topics}))


def _until_left(addresses: Addresses, loop: str) -> None:
    """Wait until no service works on the loop any more, so that none meets a missing topic; at most LEAVE_S."""
    deadline = time.monotonic() + LEAVE_S
    with StatusReader() as reader:
        while time.monotonic() < deadline:
            groups = {task.group for urls in addresses.services.values() for url in urls for task in reader.tasks(url)}
            if not any(group.endswith(f".{loop}") for group in groups):
                return
            time.sleep(0.2)


def _champions(addresses: Addresses, loops: Sequence[str]) -> dict[str, int | None]:
    with StatusReader() as reader:
        asked = {name: reader.loop(url, name) for name in loops for url in addresses.services["predictor"][:1]}
    return {name: loop.champion for name, loop in asked.items() if loop is not None}


def _told(done: Applied) -> str:
    name, version = done.declared.loop, done.declared.version
    if done.outcome is Outcome.UNCHANGED:
        return f"{name} is declared exactly so already (version {version}); nothing changed"
    return f"{name} is declared, version {version}" + (" (a change)" if done.outcome is Outcome.CHANGED else "")


def _cell(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    return "none yet" if value is None else str(value)


def _entry(name: str, history: History, champions: dict[str, int | None]) -> dict[str, object]:
    event = history.versions[-1]
    data = event.declaration
    return {
        "loop": name,
        "version": event.version,
        "asks": data["predict"]["on"],
        "events": sorted(data["events"]),
        "partitions": event.partitions,
        "champion": champions.get(name),
        "applied": times.text(event.at_ms)[:16].replace("T", " "),
        "by": event.by,
    }
