"""Schemas that the loop's events were written with, when the folder's own are not enough."""

from collections.abc import Mapping
from typing import Any

from trimtab.contracts import control, topics
from trimtab.contracts.control import PublishedSchema
from trimtab.contracts.errors import BadControlEventError
from trimtab.runtime.bus import Part
from trimtab.runtime.kafka import KafkaBus
from trimtab.runtime.kafka.connection import Connection

POLL_S = 1.0


async def published(connection: Connection, instance: str) -> list[Mapping[str, Any]]:
    """All schemas that writers have published so far. What keeps no schema (written by hand) is passed over."""
    found: list[Mapping[str, Any]] = []
    async with KafkaBus(connection, instance=instance) as bus:
        described = await bus.catalog.describe([topics.SCHEMAS])
        count = described[topics.SCHEMAS].partitions if described else 0
        bounds = await bus.catalog.bounds([Part(topics.SCHEMAS, number) for number in range(count)])
        reader = await bus.reader({part: begin for part, (begin, _) in bounds.items()})
        try:
            while any(reader.positions()[part] < end for part, (_, end) in bounds.items()):
                for records in (await reader.poll(POLL_S)).values():
                    found += [schema for record in records if (schema := _schema(record.value)) is not None]
        finally:
            await reader.close()
    return found


def _schema(value: bytes | None) -> Mapping[str, Any] | None:
    try:
        return None if value is None else control.decode_as(PublishedSchema, value).schema_
    except BadControlEventError:
        return None
