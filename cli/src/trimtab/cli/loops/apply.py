"""Declare a loop on a cluster: its topics first, then `loop.declared`."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from aiokafka import AIOKafkaProducer

from trimtab.cli.errors import ClusterError
from trimtab.cli.loops.declared import NEVER, History, read_declared
from trimtab.cli.topics import Topic, topic_admin
from trimtab.contracts import control, envelope, topics
from trimtab.contracts.control import DeclaredTopic, LoopDeclared
from trimtab.loops import declaration
from trimtab.loops.changes import Change, refused
from trimtab.loops.model import Loop
from trimtab.runtime.kafka.connection import Connection

SOURCE = "cli.apply"


class TopicsChangedError(ClusterError):
    """Topics of a declared loop are not the ones it was declared with."""

    def __init__(self, loop: str, changed: Sequence[str]) -> None:
        super().__init__(
            f"the loop {loop} was declared with other topics than stand there now ({', '.join(changed)}: deleted and "
            f"made again). Its stages refuse such topics; end it with `trimtab delete {loop}`, then apply it again"
        )


class ChangeRefusedError(ClusterError):
    """A changed declaration that the running loop cannot follow."""

    def __init__(self, loop: str, changes: Sequence[Change]) -> None:
        told = "; ".join(f"{change.what} ({change.meaning})" for change in changes)
        super().__init__(f"{loop} cannot be changed so: {told}")


class Outcome(Enum):
    """What an apply did."""

    NEW = "new"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Applied:
    """A loop as it is declared now."""

    outcome: Outcome
    declared: LoopDeclared


def declare(loop: Loop, history: History, found: Sequence[Topic], at_ms: int, by: str) -> LoopDeclared | None:
    """The event that declares this loop on these topics; None when it is declared exactly so already.

    Raises TopicsChangedError when a topic of the running loop was deleted and made again, ChangeRefusedError where
    services could not follow.
    """
    known = {topic.name: topic.id for topic in history.current.topics} if history.current else {}
    changed = [topic.name for topic in found if known.get(topic.name, topic.id) != topic.id]
    if changed:
        raise TopicsChangedError(loop.name, changed)
    if history.current is not None and history.current.digest == loop.digest:
        return None
    running = None if history.current is None else declaration.of(history.current)
    if running is not None and (broken := refused(running, loop)):
        raise ChangeRefusedError(loop.name, broken)
    data, schemas = declaration.declared(loop)
    return LoopDeclared(
        loop=loop.name,
        at_ms=at_ms,
        version=history.next_version,
        digest=loop.digest,
        declaration=data,
        schemas=schemas,
        partitions=loop.partitions,
        topics=[DeclaredTopic(name=topic.name, id=topic.id, partitions=topic.partitions) for topic in found],
        by=by,
    )


async def apply(connection: Connection, loop: Loop, at_ms: int, by: str) -> Applied:
    """Create the loop's topics, wait until every broker shows them, declare the loop. The same again changes nothing.

    Raises OtherPartitionsError, TopicsChangedError, ChangeRefusedError, UnreachableError.
    """
    history = (await read_declared(connection)).get(loop.name, NEVER)
    async with topic_admin(connection) as admin:
        await admin.ensure(topics.control())
        found = await admin.ensure(topics.of_loop(loop.name, list(loop.events), loop.partitions))
    event = declare(loop, history, found, at_ms, by)
    if event is None and history.current is not None:
        return Applied(Outcome.UNCHANGED, history.current)
    if event is None:
        raise AssertionError("a loop that is not declared gives an event")
    await write(connection, loop.name, event)
    return Applied(Outcome.CHANGED if history.current else Outcome.NEW, event)


async def write(connection: Connection, loop: str, event: LoopDeclared | None) -> None:
    """Write `loop.declared`; None: the end of the loop. Returns when all replicas have it."""
    headers = None
    value = None
    if event is not None:
        ce_id = f"{loop}-{event.version}"
        headers = list(envelope.headers(ce_id, topics.LOOP_DECLARED, SOURCE, event.at_ms))
        value = control.encode(event)
    producer = AIOKafkaProducer(enable_idempotence=True, **connection.arguments("trimtab-cli"))
    await producer.start()
    try:
        await producer.send_and_wait(topics.LOOP_DECLARED, value, key=loop.encode(), headers=headers)
    finally:
        await producer.stop()
