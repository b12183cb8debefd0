"""`trimtab tasks`: how the tasks of all stages are, and moving one that stands still at a position it cannot read."""

import asyncio
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
from trimtab.cli.log import Read, follower
from trimtab.cli.settings import ClusterSettings
from trimtab.contracts import times, topics
from trimtab.runtime import position
from trimtab.runtime.bus import Part
from trimtab.runtime.errors import FencedError
from trimtab.runtime.kafka.bus import KafkaBus
from trimtab.runtime.kafka.connection import Connection
from trimtab.runtime.marks import task_name
from trimtab.runtime.position import Position
from trimtab.runtime.records import Out

ATTEMPTS = 5

app = typer.Typer(help="How the tasks of all stages are; move one that stands still.", no_args_is_help=True)


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


class TaskBusyError(ClusterError):
    """The task's owner took its place back each time."""

    def __init__(self, task: str) -> None:
        super().__init__(f"{task} is being started over and over; stop its service (`trimtab down`) and try again")


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
    task: Annotated[str, typer.Argument(help="STAGE-PARTITION, such as ingest.dedupe.flights-0.")],
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
    """Write the task's position anew under its transactional id, which fences whoever runs it; returns (before, after).

    The owner opens the task again and finds the new position. Raises NotAnInputError, OffsetOutsideError,
    TaskBusyError.
    """
    part = Part(topic, name.partition)
    async with KafkaBus(connection) as bus, follower(connection, [name.changelog]) as changelog:
        found = await bus.catalog.describe([topic])
        before = _newest(Position({}, {}, {}), await changelog.catch_up(), name.partition)
        if topic not in found or (before.offsets and topic not in before.offsets):
            raise NotAnInputError(str(name), topic, list(before.offsets))
        first, end = (await bus.catalog.bounds([part]))[part]
        if not first <= offset <= end:
            raise OffsetOutsideError(topic, offset, first, end)
        transactions = bus.transactions(str(name), name.group)
        try:
            for _ in range(ATTEMPTS):
                await transactions.open()
                before = _newest(before, await changelog.catch_up(), name.partition)
                after = msgspec.structs.replace(
                    before,
                    offsets={**before.offsets, topic: offset},
                    topic_ids={**before.topic_ids, topic: found[topic].id},
                )
                record = Out(name.changelog, position.KEY, position.encode(after))
                try:
                    await transactions.commit({Part(name.changelog, name.partition): [record]}, {})
                except FencedError:
                    continue
                return before, after
        finally:
            await transactions.close()
    raise TaskBusyError(str(name))


def _newest(before: Position, records: Sequence[Read], partition: int) -> Position:
    for record in records:
        if record.partition == partition and record.key == position.KEY and record.value is not None:
            before = position.decode(record.value)
    return before
