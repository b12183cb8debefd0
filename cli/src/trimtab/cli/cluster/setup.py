"""`trimtab setup`: what a Kafka of one's own needs before the services start."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from trimtab.cli.cluster.address import find
from trimtab.cli.cluster.keys import KeyFiles
from trimtab.cli.settings import ClusterSettings
from trimtab.cli.topics import topic_admin
from trimtab.contracts import topics
from trimtab.runtime.kafka.connection import Connection


def setup(
    keys: Annotated[
        Path | None, typer.Option(help="Also make the signing keys of trainer and registry here, unless they exist.")
    ] = None,
) -> None:
    """Prepare a Kafka of your own: create the topics that all loops share. The same again changes nothing.

    `trimtab up` does this by itself; services that run elsewhere have no right to create topics, so it comes first.
    """
    kafka = find(ClusterSettings()).kafka
    count = asyncio.run(_create(kafka))
    print(f"{count} control topics are at {kafka.bootstrap_servers}")
    if keys is not None:
        KeyFiles(keys).ensure()
        print(f"the signing keys are in {keys}")


async def _create(kafka: Connection) -> int:
    async with topic_admin(kafka) as admin:
        return len(await admin.ensure(topics.control()))
