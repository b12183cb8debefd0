"""Conformed rows as the bytes that go into Kafka."""

import polars as pl

from trimtab.contracts.codec import AvroCodec
from trimtab.loops.conform import stored
from trimtab.loops.incoming.encoding import Encoder
from trimtab.loops.incoming.fields import fields_of
from trimtab.loops.model import Event


class BodyEncoder:
    """Single-object Avro of one event's conformed rows: by columns where that is as strict as Avro's writer."""

    def __init__(self, event: Event) -> None:
        self._event = event
        self._fields = fields_of(event.schema)
        self._codec, self._encoder = AvroCodec(event.schema), Encoder(event.schema, self._fields)

    def encode(self, rows: pl.DataFrame) -> list[bytes]:
        """One body a row. Raises UnencodableError."""
        values = stored(self._event, rows)
        if not self._is_plain(values):
            return [self._codec.encode(row) for row in values.to_dicts()]
        return self._encoder.encode([values[field.name].to_list() for field in self._fields])

    def _is_plain(self, values: pl.DataFrame) -> bool:
        """Whether every field is there, of a kind that has an encoding by columns, and null only where it may be."""
        return (
            self._encoder.flat
            and all(field.name in values.columns for field in self._fields)
            and all(field.nullable or not values[field.name].null_count() for field in self._fields)
        )
