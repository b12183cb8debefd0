"""How a writer publishes its Avro schemas, before its first record: to the topic `schemas`, by fingerprint."""

from collections.abc import Sequence

from trimtab.contracts import control, envelope, topics
from trimtab.contracts.codec import Schema, fingerprint
from trimtab.runtime.records import Out


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
