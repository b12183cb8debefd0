"""Schemas that others published: how an event written by an older or a wider schema is read."""

from collections.abc import Mapping, Sequence
from typing import Literal

from trimtab.contracts import topics
from trimtab.contracts.codec import Reader
from trimtab.runtime.control import Refused
from trimtab.runtime.records import Read
from trimtab.runtime.schemas import published_in


class KnownSchemas:
    """A view of the topic `schemas`: every schema published there is known to the readers.

    Anyone may publish there, so a record that is no schema is passed over and told; the events that need it are in
    quarantine, under `schema_id`.
    """

    topic = topics.SCHEMAS
    clock: Literal["marks", "none"] = "none"
    writers: Mapping[str, int] = {}

    def __init__(self, readers: Sequence[Reader]) -> None:
        self._readers = readers

    def apply(self, records: Sequence[Read]) -> Sequence[Refused]:
        """Make the schemas in some records known."""
        schemas, refused = published_in(records)
        for schema in schemas.values():
            for reader in self._readers:
                reader.add(schema)
        return refused
