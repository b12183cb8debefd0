"""Avro schemas between versions: a writer publishes its own before its first record, by fingerprint, to `schemas`;
a reader that meets another than its own looks there, and has the record in its own."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from trimtab.contracts import control, envelope, topics
from trimtab.contracts.codec import HEADER_BYTES, MARKER, AvroCodec, Reader, Schema, fingerprint
from trimtab.contracts.errors import BadControlEventError, BadSchemaError, CodecError
from trimtab.runtime.bus import Bus, Part
from trimtab.runtime.control import Refused
from trimtab.runtime.records import Out, Read, Record

_POLL_S = 1.0


def published(schemas: Sequence[Schema], *, by: str, at_ms: int) -> list[Out]:
    """The records that publish some schemas. `by`: the stage that writes them; `at_ms`: the wall clock.

    Publishing again changes nothing: the topic is compacted, and a schema's key is its fingerprint.
    """
    found: list[Out] = []
    for schema in schemas:
        key = fingerprint(schema).hex()
        event = control.PublishedSchema(fingerprint=key, schema_=schema, by=by)
        headers = envelope.headers(key, topics.SCHEMAS, by, at_ms)
        found.append(Out(topics.SCHEMAS, key.encode(), control.encode(event), headers))
    return found


def published_in(records: Sequence[Read]) -> tuple[Mapping[bytes, Schema], list[Refused]]:
    """The schemas that some records publish, by fingerprint, and those records that publish none."""
    found: dict[bytes, Schema] = {}
    refused: list[Refused] = []
    for record in records:
        if record.value is None:
            continue
        try:
            event = control.decode_as(control.PublishedSchema, record.value)
            found[fingerprint(event.schema_)] = event.schema_
        except (BadControlEventError, BadSchemaError) as error:
            refused.append(Refused(topics.SCHEMAS, error.reason))
    return found, refused


class Published:
    """The topic `schemas`, read as far as it goes whenever an unknown fingerprint comes.

    A writer has published its schema before its first record, so that whoever reads the record finds it.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._known: dict[bytes, Schema] = {}
        self._positions: Mapping[Part, int] = {}
        self._looking = asyncio.Lock()

    async def find(self, mark: bytes) -> Schema | None:
        """The schema with that fingerprint; None: nobody has published it."""
        async with self._looking:
            if mark not in self._known:
                await self._read_on()
            return self._known.get(mark)

    async def _read_on(self) -> None:
        found = await self._bus.catalog.describe([topics.SCHEMAS])
        parts = [Part(topic, number) for topic, info in found.items() for number in range(info.partitions)]
        if not parts:
            return
        bounds = await self._bus.catalog.stable(parts)
        reader = await self._bus.reader({part: self._positions.get(part, bounds[part][0]) for part in parts})
        try:
            while any(reader.positions()[part] < bounds[part][1] for part in parts):
                for records in (await reader.poll(_POLL_S)).values():
                    self._known |= published_in(records)[0]
            self._positions = dict(reader.positions())
        finally:
            await reader.close()


def every(_: Schema) -> bool:
    """Every writer's schema is of use."""
    return True


class Resolver:
    """Gives records in the schema that a reader expects, whichever version of it their writers had.

    By Avro's rules (1.12, "Schema Resolution"): a field that is not known is passed over, one that is missing has its
    default. What cannot be resolved stays as it is, and so do records of schemas that are of no `use`: whoever decodes
    them says what is wrong.
    """

    def __init__(self, expected: Schema, published: Published, use: Callable[[Schema], bool] = every) -> None:
        self._codec, self._published, self._use = AvroCodec(expected), published, use
        self._readers: dict[bytes, Reader | None] = {}

    async def resolved(self, records: Sequence[Read]) -> Sequence[Read]:
        """The same records, in their order."""
        head = self._codec.head
        if all(record.value is None or record.value.startswith(head) for record in records):
            return records
        return [await self._resolved(record) for record in records]

    async def _resolved(self, record: Read) -> Read:
        value = record.value
        if value is None or value.startswith(self._codec.head) or not value.startswith(MARKER):
            return record
        reader = await self._reader(value[len(MARKER) : HEADER_BYTES])
        try:
            own = None if reader is None else self._codec.encode(reader.decode(value))
        except CodecError:
            own = None
        if own is None:
            return record
        return Record(record.topic, record.partition, record.offset, record.key, own, record.headers, record.timestamp)

    async def _reader(self, mark: bytes) -> Reader | None:
        """Of a writer's schema; None for one that nobody has published (yet), or that is of no use."""
        if mark not in self._readers:
            schema = await self._published.find(mark)
            if schema is None:
                return None
            wanted = self._use(schema)
            self._readers[mark] = Reader({mark: schema}, expected=self._codec.schema) if wanted else None
        return self._readers[mark]
