"""Schemas that others published: how an event written by an older or a wider schema is read."""

from collections.abc import Mapping, Sequence
from typing import Literal

from trimtab.contracts import control, topics
from trimtab.contracts.codec import Reader
from trimtab.contracts.errors import BadControlEventError, BadSchemaError
from trimtab.runtime.records import Read


class KnownSchemas:
    """A view of the topic `schemas`: every schema published there is known to the readers.

    Anyone may publish there, so a record that is no schema is passed over: whoever wrote it finds the events that
    need it in quarantine, under `schema_id`.
    """

    topic = topics.SCHEMAS
    clock: Literal["marks", "none"] = "none"
    writers: Mapping[str, int] = {}

    def __init__(self, readers: Sequence[Reader]) -> None:
        self._readers = readers

    def apply(self, records: Sequence[Read]) -> None:
        """Make the schemas in some records known."""
        for record in records:
            if record.value is None:
                continue
            try:
                published = control.decode_as(control.PublishedSchema, record.value)
                for reader in self._readers:
                    reader.add(published.schema_)
            except (BadControlEventError, BadSchemaError):
                continue
