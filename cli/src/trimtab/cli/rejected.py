"""`trimtab rejected`: what is in a loop's quarantine, and sending it in again."""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trimtab.cli.cluster.address import find
from trimtab.cli.lineage import store_url
from trimtab.cli.log import follower
from trimtab.cli.loops.commands import require_topic
from trimtab.cli.moments import moment
from trimtab.cli.predictions import learn
from trimtab.cli.settings import ClusterSettings
from trimtab.contracts import data, envelope, times, topics
from trimtab.contracts.codec import MARKER, Reader
from trimtab.contracts.errors import CodecError
from trimtab.runtime.kafka.connection import Connection
from trimtab.runtime.kafka.edge import IdempotentProducer
from trimtab.runtime.records import Out
from trimtab.store.blobs import Blobs, BlobStore

AT_ONCE = 1_000
AS_ACCEPTED = ("conflict", "too_old")
"""Rules that judge an event after its contract did: what is in quarantine then is what would stand among the events."""

Names = tuple[str, str | None]
"""An event's name and its id."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which rejected events are meant. None: any."""

    event: str | None
    rule: str | None
    since_ms: int | None

    def covers(self, one: data.Rejected) -> bool:
        """Whether an event is meant."""
        return (
            self.event in (None, one.event)
            and self.rule in (None, one.rule)
            and (self.since_ms is None or one.wall_ms >= self.since_ms)
        )


@dataclass(frozen=True, slots=True)
class Passed:
    """An event that was accepted: when, and the digest of its body."""

    at_ms: int
    digest: str

    def settles(self, one: data.Rejected) -> bool:
        """Whether nothing is left to be done about a rejected event of the same id.

        What its contract refused: once its id was accepted later, it could only be a copy or a conflict. A conflict's
        id was accepted before: there it takes the same body.
        """
        return self.digest == digest(one) if one.rule in AS_ACCEPTED else self.at_ms > one.wall_ms


def rejected(
    loop: Annotated[str, typer.Argument(help="The loop's name.")],
    event: Annotated[str | None, typer.Option("--event", "-e", help="Of this event alone.")] = None,
    rule: Annotated[str | None, typer.Option("--rule", "-r", help="By this rule alone: schema, quality, …")] = None,
    since: Annotated[
        int | None, typer.Option(parser=moment, metavar="TIME", help="Rejected since then: a date, or RFC 3339.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="Show so many of the newest.")] = 20,
    everything: Annotated[
        bool, typer.Option("--all", help="Every rejection: also of what was rejected again, or accepted, since.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="All of them, one JSON object on each line.")] = False,
    redrive: Annotated[bool, typer.Option("--redrive", help="Send them in again, as they came.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Without asking.")] = False,
) -> None:
    """Show a loop's quarantine, or send events in again once their cause is mended.

    A body that was rejected several times is shown and sent once. What has been accepted since is not shown and not
    sent: its id stands among the loop's events (an event without an id of its own cannot be told, and stays).
    An event that was sent in again and accepted stays accepted: a second time it is a copy, and is dropped.
    """
    settings = ClusterSettings()
    connection = find(settings).kafka
    whole, reader = asyncio.run(read(connection, loop))
    once = newest(whole)
    left = whole if everything else unsettled(once, asyncio.run(accepted(connection, loop, once)))
    found = list(filter(Choice(event, rule, since).covers, left))
    if as_json:
        for one in found:
            print(json.dumps(plain(one, reader), ensure_ascii=False))
    else:
        show(found, limit, Console(), reader)
        if others := len(whole) - len(left):
            typer.echo(
                f"{others:,} more rejections are settled: of what was rejected again, or accepted, since (--all)"
            )
    if redrive and found and (yes or typer.confirm(f"Send {len(found)} events in again?", err=as_json)):
        asyncio.run(send_again(connection, again(loop, found, BlobStore(store_url(settings)))))
        typer.echo(f"sent {len(found)} events to {loop}'s sources", err=as_json)


async def read(connection: Connection, loop: str) -> tuple[list[data.Rejected], Reader]:
    """The quarantine, as it was filled, and a reader of Avro. Raises NoLoopError."""
    own = data.codec(data.Rejected)
    reader = Reader({own.fingerprint: own.schema})
    await require_topic(connection, topics.rejected, loop)
    async with follower(connection, [topics.rejected(loop)]) as log:
        records = await log.catch_up()
    async with follower(connection, [topics.SCHEMAS]) as log:
        learn(reader, await log.catch_up())
    decoded = [data.known(data.Rejected, reader.decode(record.value)) for record in records if record.value]
    return sorted(decoded, key=lambda one: one.wall_ms), reader


def newest(found: Iterable[data.Rejected]) -> list[data.Rejected]:
    """Of equal bodies of one event the one that was rejected last; `found` and what is returned by time."""
    last = {(one.event, digest(one)): one for one in found}
    return sorted(last.values(), key=lambda one: one.wall_ms)


def digest(one: data.Rejected) -> str:
    """What a rejected event says, as the store names it too."""
    return one.blob or sha256(one.original or b"").hexdigest()


def unsettled(found: Sequence[data.Rejected], passed: Mapping[Names, Sequence[Passed]]) -> list[data.Rejected]:
    """Those that have not been accepted since."""
    return [one for one in found if not any(each.settles(one) for each in passed.get((one.event, one.id), ()))]


async def accepted(
    connection: Connection, loop: str, found: Sequence[data.Rejected]
) -> Mapping[Names, Sequence[Passed]]:
    """What was accepted under the ids of rejected events since the first of them was rejected."""
    wanted = {(one.event, one.id) for one in found if one.id is not None}
    passed = defaultdict[Names, list[Passed]](list)
    for event in sorted({event for event, _ in wanted}):
        async with follower(connection, [topics.events(loop, event)]) as log:
            await log.skip_to(min(one.wall_ms for one in found if one.event == event))
            async for records in log.batches():
                for record in records:
                    name = event, (envelope.get(record.headers, envelope.ID) or b"").decode()
                    if record.value is not None and name in wanted:
                        passed[name].append(Passed(record.timestamp, sha256(record.value).hexdigest()))
    return passed


def again(loop: str, found: Sequence[data.Rejected], blobs: Blobs) -> list[Out]:
    """The records that send events in again: the original bytes, to where they came from first."""
    return [
        Out(
            topics.source(loop, one.event),
            None if one.id is None else one.id.encode(),
            one.original if one.original is not None else blobs.get(one.blob or ""),
        )
        for one in found
    ]


async def send_again(connection: Connection, outs: Sequence[Out]) -> None:
    """Write records, some at once."""
    async with IdempotentProducer(connection) as producer:
        for start in range(0, len(outs), AT_ONCE):
            await producer.send(outs[start : start + AT_ONCE])


def show(found: Sequence[data.Rejected], limit: int, console: Console, reader: Reader) -> None:
    """How many of what, and the newest of them."""
    if not found:
        console.print("nothing is in quarantine")
        return
    sums = Table("event", "rule", "events", box=None)
    for (event, rule), count in Counter((one.event, one.rule) for one in found).most_common():
        sums.add_row(event, rule, f"{count:,}")
    console.print(sums)
    newest = found[len(found) - limit :] if limit < len(found) else found
    for one in newest:
        came = f"{one.source_topic} {one.source_partition}@{one.source_offset}"
        told = f"{times.text(one.wall_ms)} {one.event} {one.id or ''}".rstrip()
        console.print(f"\n[bold]{escape(told)}[/bold]  [dim]{escape(came)}[/dim]")
        console.print(f"  [red]{one.rule}[/red] {escape(one.reason)}", soft_wrap=True)
        console.print(f"  [dim]{escape(original(one, reader))}[/dim]", soft_wrap=True)


def original(one: data.Rejected, reader: Reader) -> str:
    """An event as it came, as far as it can be shown."""
    if one.original is None:
        return f"blob {one.blob}"
    if one.original[:2] == MARKER:
        text = _decoded(one.original, reader) or f"Avro, {len(one.original)} bytes"
    else:
        text = one.original.decode("utf-8", "backslashreplace")
    return text if len(text) <= 300 else f"{text[:300]}…"


def plain(one: data.Rejected, reader: Reader) -> dict[str, Any]:
    """An event in quarantine for scripts: times as RFC 3339, the original as text where it is text."""
    found: dict[str, Any] = msgspec.to_builtins(one, builtin_types=(bytes,))
    wall_ms, event_time_ms, raw = found.pop("wall_ms"), found.pop("event_time_ms"), found.pop("original")
    found["at_wall"] = times.text(wall_ms)
    found["event_time"] = None if event_time_ms is None else times.text(event_time_ms)
    try:
        found["original"] = None if raw is None else raw.decode()
    except UnicodeDecodeError:
        found["original_hex"], found["decoded"] = raw.hex(), _decoded(raw, reader)
    return found


def _decoded(raw: bytes, reader: Reader) -> str | None:
    """Avro as JSON; None where its schema is not known or it does not keep it."""
    try:
        return json.dumps(reader.decode(raw), ensure_ascii=False, default=repr)
    except CodecError:
        return None
