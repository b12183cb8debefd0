"""`trimtab reproduce`."""

import asyncio
from typing import Annotated

import typer

from trimtab.cli.cluster.address import find
from trimtab.cli.lineage import Lineage, read_lineage, store_url
from trimtab.cli.settings import ClusterSettings
from trimtab.contracts.control import ModelTrained
from trimtab.loops import declaration
from trimtab.runtime.kafka.bus import KafkaBus
from trimtab.runtime.kafka.connection import Connection
from trimtab.store.blobs import BlobStore
from trimtab.trainer.adapters.again import Again, again


def reproduce(
    model: Annotated[str, typer.Argument(help="LOOP/VERSION, or at least six digits of the model's digest.")],
) -> None:
    """Fit a model again from its rows, recipe and seed, and compare the digests. Exit code 1: they differ."""
    settings = ClusterSettings()
    kafka = find(settings).kafka
    known = read_lineage(kafka)
    trained = known.model(model)
    found = asyncio.run(_again(kafka, store_url(settings), known, trained))
    for line in told(known.name(trained), trained, found):
        print(line)
    if found.digest != trained.model.digest:
        raise typer.Exit(1)


async def _again(kafka: Connection, url: str, known: Lineage, trained: ModelTrained) -> Again:
    declared = known.declaration(trained)
    loop = declaration.of(declared)
    async with KafkaBus(kafka) as bus:
        return await again(bus, BlobStore(url), loop, trained)


def told(name: str, trained: ModelTrained, found: Again) -> list[str]:
    """What came of it, in words."""
    rows = "the same rows" if found.rows_digest == trained.dataset.digest else "OTHER ROWS"
    source = "the log" if found.source == "log" else "the kept dataset (the log does not hold them any more)"
    lines = [f"{name}: {found.rows} rows from {source}: {rows}"]
    if found.digest == trained.model.digest:
        return [*lines, f"the same model, byte by byte: {found.digest}"]
    lines.append(f"ANOTHER MODEL: {found.digest} instead of {trained.model.digest}")
    return lines + [f"  {package}: {then} then, {now} now" for package, (then, now) in found.changed.items()]
