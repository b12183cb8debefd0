"""`trimtab dataset`."""

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from trimtab.cli.cluster.address import find
from trimtab.cli.lineage import read_lineage, store_url
from trimtab.cli.loops.commands import NoLoopError
from trimtab.cli.loops.declared import NEVER, read_declared
from trimtab.cli.moments import moment
from trimtab.cli.settings import ClusterSettings
from trimtab.loops import declaration
from trimtab.loops.model import Loop
from trimtab.runtime.kafka.bus import KafkaBus
from trimtab.runtime.kafka.connection import Connection
from trimtab.store.blobs import BlobStore
from trimtab.trainer.adapters.columns import table
from trimtab.trainer.adapters.work import gather, newest_ms


def dataset(
    loop: Annotated[str, typer.Argument(help="The loop's name.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file [default: LOOP.parquet].")] = None,
    at: Annotated[
        int | None,
        typer.Option("--at", parser=moment, metavar="TIME", help="As of this event time [default: the newest]."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="The rows of this model: LOOP/VERSION or a digest.")
    ] = None,
) -> None:
    """Write the rows that a model of the loop would be trained on now, or was trained on, as Parquet.

    One row a matured prediction: key, at_ms, the features as they were when it was made, and the newest label.
    """
    settings = ClusterSettings()
    kafka = find(settings).kafka
    file = out or Path(f"{loop}.parquet")
    if model is not None:
        found = read_lineage(kafka).model(model)
        file.write_bytes(BlobStore(store_url(settings)).get(found.dataset.blob))
        rows = found.dataset.rows
    else:
        frame = asyncio.run(_gathered(kafka, _loop(kafka, loop), at))
        frame.write_parquet(file)
        rows = len(frame)
    print(f"{rows} rows in {file}")


def _loop(kafka: Connection, name: str) -> Loop:
    """The loop as it is declared now. Raises NoLoopError."""
    histories = asyncio.run(read_declared(kafka))
    current = histories.get(name, NEVER).current
    if current is None:
        raise NoLoopError(name, sorted(other for other, each in histories.items() if each.current))
    return declaration.of(current)


async def _gathered(kafka: Connection, loop: Loop, at_ms: int | None) -> pl.DataFrame:
    async with KafkaBus(kafka) as bus:
        with tempfile.TemporaryDirectory() as folder:
            moment = at_ms if at_ms is not None else await newest_ms(bus, Path(folder), loop)
            return table((await gather(bus, Path(folder), loop, moment)).rows)
