"""`trimtab predictions`: what a loop has said, for people and for scripts."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trimtab.cli.cluster.address import find
from trimtab.cli.log import follower
from trimtab.cli.loops.commands import require_topic
from trimtab.cli.settings import ClusterSettings
from trimtab.contracts import control, times, topics
from trimtab.contracts.codec import Reader, fingerprint
from trimtab.contracts.errors import ContractError
from trimtab.runtime.kafka.connection import Connection
from trimtab.runtime.records import Read

Prediction = Mapping[str, Any]
EVERY_S = 0.5
RECORDS_EACH = 50
"""Records looked through for each prediction that is shown: others are marks, and stand between them."""


def predictions(
    loop: Annotated[str, typer.Argument(help="The loop's name.")],
    keys: Annotated[list[str] | None, typer.Option("--key", "-k", help="Of these keys alone, however old.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Show so many of the newest.")] = 20,
    as_json: Annotated[
        bool, typer.Option("--json", help="With all that went into each, one JSON object on each line.")
    ] = False,
    follow_on: Annotated[bool, typer.Option("--follow", "-f", help="Go on showing those that come.")] = False,
) -> None:
    """Show a loop's newest predictions: what was said of which key, by which version of the model.

    A prediction without a score was made before the first model: its features are what that will be trained on.
    """
    connection = find(ClusterSettings()).kafka
    wanted = None if keys is None else frozenset(keys)
    try:
        asyncio.run(_show(connection, loop, wanted, limit, as_json=as_json, follow_on=follow_on))
    except KeyboardInterrupt:
        return


async def _show(
    connection: Connection, loop: str, keys: frozenset[str] | None, limit: int, *, as_json: bool, follow_on: bool
) -> None:
    console = Console()
    async for found in batches(connection, loop, keys, limit):
        newest = sorted(found, key=lambda one: int(one["at_ms"]))[-limit:]
        if as_json:
            for one in newest:
                print(json.dumps(plain(one), ensure_ascii=False), flush=True)
        else:
            console.print(table(newest) if newest else Text(f"{loop} has predicted nothing yet", style="dim"))
        if not follow_on:
            return


async def batches(
    connection: Connection, loop: str, keys: frozenset[str] | None, limit: int
) -> AsyncIterator[Sequence[Prediction]]:
    """First what stands there, then whatever has come since. Raises NoLoopError, UnreachableError."""
    topic = topics.predictions(loop)
    await require_topic(connection, topics.predictions, loop)
    async with follower(connection, [topics.SCHEMAS]) as written, follower(connection, [topic]) as log:
        if keys is None:
            await log.skip_to_last(limit * RECORDS_EACH)
        reader = Reader({})
        first = True
        while True:
            learn(reader, await written.catch_up())
            found = [one for one in read(reader, await log.catch_up()) if keys is None or one["key"] in keys]
            if found or first:
                yield found
            first = False
            await asyncio.sleep(EVERY_S)


def learn(reader: Reader, records: Iterable[Read]) -> None:
    """Know the schemas that were published; what is none is passed over."""
    for record in records:
        try:
            published = control.decode_as(control.PublishedSchema, record.value or b"")
            if not reader.knows(fingerprint(published.schema_)):
                reader.add(published.schema_)
        except ContractError:
            continue


def read(reader: Reader, records: Iterable[Read]) -> list[Prediction]:
    """The predictions among some records; marks have no value."""
    return [reader.decode(record.value) for record in records if record.value is not None]


def plain(one: Prediction) -> dict[str, Any]:
    """A prediction for scripts: times as RFC 3339."""
    found = dict(one)
    at_ms, as_of_ms = found.pop("at_ms"), found.pop("features_as_of_ms")
    return {"key": found.pop("key"), "at": times.text(at_ms), **found, "features_as_of": times.text(as_of_ms)}


def table(found: Sequence[Prediction]) -> Table:
    """Predictions for people, the newest last."""
    shown = Table(box=None, pad_edge=False)
    for column in ("key", "at", "said", "model", "by"):
        shown.add_column(column, no_wrap=column in ("key", "at"))
    for one in found:
        shown.add_row(one["key"], times.text(one["at_ms"]), said(one), model(one), one["origin"])
    return shown


def said(one: Prediction) -> str:
    """What the champion said.

    >>> said({"score": 0.25, "class": None}), said({"score": 0.5, "class": "late"}), said({"score": None})
    ('0.25', 'late (0.5)', 'nothing yet')
    """
    if one["score"] is None:
        return "nothing yet"
    return f"{one['score']:.4g}" if one["class"] is None else f"{one['class']} ({one['score']:.3g})"


def model(one: Prediction) -> str:
    """Which version said it."""
    return "none" if one["version"] is None else f"version {one['version']}"
