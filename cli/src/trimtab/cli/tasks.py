"""`trimtab tasks`: how the tasks of all stages are, and what a person decides of one that cannot go on."""

import asyncio
import getpass
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from trimtab.cli.cluster.address import find
from trimtab.cli.cluster.status import StatusReader, TaskStatus
from trimtab.cli.errors import ClusterError
from trimtab.cli.settings import ClusterSettings
from trimtab.contracts import times, topics
from trimtab.runtime import decisions, position
from trimtab.runtime.bus import Part
from trimtab.runtime.clock import wall_ms
from trimtab.runtime.decisions import Decision, Found
from trimtab.runtime.kafka.bus import KafkaBus
from trimtab.runtime.kafka.connection import Connection
from trimtab.runtime.marks import task_name
from trimtab.runtime.parking import Parked, RecordAt, Skipped
from trimtab.runtime.position import Position
from trimtab.runtime.records import Out

app = typer.Typer(help="How the tasks of all stages are; decide what becomes of one.", no_args_is_help=True)
Task = Annotated[str, typer.Argument(help="STAGE-PARTITION, such as ingest.dedupe.flights-0.")]


class UnknownTaskError(ClusterError):
    """Not the name of a task."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text}: a task is called STAGE-PARTITION, as `trimtab tasks list` shows")


class NotAnInputError(ClusterError):
    """The topic is not among those that the task has read."""

    def __init__(self, task: str, topic: str, known: Sequence[str]) -> None:
        super().__init__(f"{task} does not read {topic}, but {', '.join(sorted(known)) or 'nothing yet'}")


class OffsetOutsideError(ClusterError):
    """There is no such offset."""

    def __init__(self, topic: str, offset: int, first: int, end: int) -> None:
        super().__init__(f"{topic} holds offsets {first} to {end}, not {offset}")


@dataclass(frozen=True, slots=True)
class TaskName:
    """A stage's task by its parts. `loop` None: a stage that serves all loops."""

    service: str
    verb: str
    loop: str | None
    partition: int

    @property
    def group(self) -> str:
        """The consumer group."""
        return topics.group(self.service, self.verb, self.loop)

    @property
    def changelog(self) -> str:
        """Where its position stands."""
        return topics.changelog(self.service, self.verb, self.loop)

    def __str__(self) -> str:
        return task_name(self.group, self.partition)


def parse(text: str) -> TaskName:
    """Raises UnknownTaskError.

    >>> parse("ingest.dedupe.flights-1").changelog
    'flights.ingest-dedupe.changelog'
    """
    match = re.fullmatch(r"([a-z-]+)\.([a-z-]+)(?:\.([a-z][a-z0-9_]*))?-(\d+)", text)
    if match is None or f"{match[1]}.{match[2]}" not in topics.STAGES:
        raise UnknownTaskError(text)
    return TaskName(match[1], match[2], match[3], int(match[4]))


@app.command("list")
def list_tasks() -> None:
    """Show every task: state, how far it has read, how far it has come in event time."""
    with StatusReader() as reader:
        urls = [url for replicas in find(ClusterSettings()).services.values() for url in replicas]
        tasks = [task for url in urls for task in reader.tasks(url)]
    table = Table(box=None, pad_edge=False)
    for column in ("task", "state", "lag", "progress", "positions"):
        table.add_column(column, overflow="fold")
    for task in sorted(tasks, key=lambda one: (one.group, one.partition)):
        table.add_row(*_row(task))
    Console().print(table)


def _row(task: TaskStatus) -> Sequence[str]:
    progress = "" if task.progress_ms is None else times.text(task.progress_ms)[:16].replace("T", " ")
    places = ", ".join(f"{topic} {offset}" for topic, offset in task.positions.items())
    state = task.state + (f": {task.reason}" if task.reason else "")
    return task_name(task.group, task.partition), state, str(task.lag or 0), progress, places


@app.command()
def seek(
    task: Task,
    topic: Annotated[str, typer.Argument(help="The input topic.")],
    offset: Annotated[int, typer.Argument(help="The next offset to read.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Move a task to another offset of one of its inputs, while it runs or stands still.

    Back: records are worked off once more, and what came of them is written again. Forward: records are passed over
    for good. So this is for a task that stands still because its position is gone from the log, and for nothing else.
    """
    name = parse(task)
    if not yes:
        typer.confirm(f"move {name} to offset {offset} of {topic}? Records may be repeated or passed over.", abort=True)
    kafka = find(ClusterSettings()).kafka
    before, after = asyncio.run(move(kafka, name, topic, offset))
    print(f"{name}: {topic} {before.offsets.get(topic, 'from its start')} → {after.offsets[topic]}")


async def move(connection: Connection, name: TaskName, topic: str, offset: int) -> tuple[Position, Position]:
    """Write the task's position anew; returns (before, after). Raises NotAnInputError, OffsetOutsideError,
    TaskBusyError.
    """
    part, made = Part(topic, name.partition), [Position({}, {}, {})]
    async with KafkaBus(connection) as bus:

        async def change(found: Found) -> Sequence[Out]:
            before, known = found.position, await bus.catalog.describe([topic])
            if topic not in known or (before.offsets and topic not in before.offsets):
                raise NotAnInputError(str(name), topic, list(before.offsets))
            first, end = (await bus.catalog.bounds([part]))[part]
            if not first <= offset <= end:
                raise OffsetOutsideError(topic, offset, first, end)
            offsets, ids = {**before.offsets, topic: offset}, {**before.topic_ids, topic: known[topic].id}
            made[:] = [msgspec.structs.replace(before, offsets=offsets, topic_ids=ids)]
            return [Out(name.changelog, position.KEY, position.encode(made[0]))]

        return (await decisions.write(bus, name, change)).position, made[0]


@app.command()
def park(
    task: Task,
    why: Annotated[str, typer.Option("--why", help="For those who find it so.")] = "no reason given",
) -> None:
    """Let a task stand still from now on, until `retry`. The others go on; what it has not committed is void.

    A task that has nothing to do shows it with its next record.
    """
    name = parse(task)

    async def run() -> None:
        async with KafkaBus(find(ClusterSettings()).kafka) as bus:
            await decisions.park(bus, name, _decision(why))

    asyncio.run(run())
    print(f"{name}: parked; `trimtab tasks retry {name}` lets it go on")


@app.command()
def retry(task: Task) -> None:
    """Let a parked task try again where it stands, such as after a fix: nothing is lost, nothing comes twice."""
    name = parse(task)

    async def run() -> Parked:
        async with KafkaBus(find(ClusterSettings()).kafka) as bus:
            return await decisions.retry(bus, name)

    asyncio.run(run())
    print(f"{name}: tries again; `trimtab tasks list` shows how it fares")


@app.command()
def skip(
    task: Task,
    topic: Annotated[str, typer.Argument(help="The input topic that `trimtab tasks list` names.")],
    offset: Annotated[int, typer.Argument(help="The record's offset there.")],
    why: Annotated[str, typer.Option("--why", help="For the audit: kept with the record.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Have a parked task pass over the one record at which it gave up.

    The record is kept as it came in the task's changelog, with who had it skipped, when and why: `trimtab tasks
    skipped` shows it. Only the record that the task names can be skipped.
    """
    name = parse(task)
    if not yes:
        typer.confirm(f"pass over {topic} {offset} in {name}? Nothing will ever come of this record.", abort=True)

    async def run() -> None:
        async with KafkaBus(find(ClusterSettings()).kafka) as bus:
            await decisions.skip(bus, name, RecordAt(topic, offset), _decision(why))

    asyncio.run(run())
    print(f"{name}: goes on behind {topic} {offset}; `trimtab tasks skipped {name}` shows what was passed over")


@app.command()
def skipped(task: Task) -> None:
    """Show the records that people had a task pass over, one JSON object on each line."""
    name = parse(task)

    async def run() -> Sequence[Skipped]:
        async with KafkaBus(find(ClusterSettings()).kafka) as bus, decisions.reading(bus, name) as changelog:
            return (await changelog.found()).skipped

    for one in asyncio.run(run()):
        print(json.dumps(plain(one), ensure_ascii=False))


def plain(one: Skipped) -> dict[str, object]:
    """A skipped record for people and scripts: time as RFC 3339, bytes as text where they are text, else in hex.

    >>> plain(Skipped("kim", 0, "a bug", "in", 4, b"k", b"\\xff", ()))["value_hex"]
    'ff'
    """
    head = {"at": times.text(one.at_ms), "by": one.by, "why": one.why, "topic": one.topic, "offset": one.offset}
    headers = {name: value.decode("utf-8", "backslashreplace") for name, value in one.headers}
    return {**head, **_text("key", one.key), **_text("value", one.value), "headers": headers}


def _text(name: str, value: bytes | None) -> dict[str, str | None]:
    try:
        return {name: None if value is None else value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_hex": (value or b"").hex()}


def _decision(why: str) -> Decision:
    return Decision(getpass.getuser(), wall_ms(), why)
