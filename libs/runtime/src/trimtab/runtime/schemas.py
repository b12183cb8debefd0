"""How a writer publishes its Avro schemas, before its first record: to the topic `schemas`, by fingerprint."""

from collections.abc import Mapping, Sequence

from trimtab.contracts import control, envelope, topics
from trimtab.contracts.codec import Schema, fingerprint
from trimtab.contracts.errors import BadControlEventError, BadSchemaError
from trimtab.runtime.control import Refused
from trimtab.runtime.records import Out, Read


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
