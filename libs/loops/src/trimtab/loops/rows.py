"""Events as they were decoded (field → physical value) → the typed columns that expressions see."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trimtab.contracts import times
from trimtab.contracts.codec import AvroCodec
from trimtab.contracts.columnar import NO_LONG, ColumnReader
from trimtab.contracts.errors import BadSchemaError
from trimtab.loops.columns import TIME, event_columns
from trimtab.loops.model import Event

Row = Mapping[str, Any]
Convert = Callable[[list[Any]], pl.Series]

_MANY = 64
"""From so many messages on, decoding field by field is quicker than message by message."""


class EventRows:
    """Makes a frame of some columns of an event from its rows; a field that a row lacks is NULL.

    Values are physical, as `trimtab.contracts.codec` decodes them: a timestamp is a number in its schema's unit, a time
    that the schema calls a string is RFC 3339. NaN is NULL.
    """

    def __init__(self, event: Event, names: Collection[str]) -> None:
        columns = event_columns(event)
        types = {field["name"]: field["type"] for field in event.schema["fields"]}
        self._columns = {name: _converter(name, types[name], columns[name]) for name in columns if name in names}

    def frame(self, rows: Sequence[Row]) -> pl.DataFrame:
        """One row an event, in their order."""
        return self.of_columns({name: [row.get(name) for row in rows] for name in self._columns}, len(rows))

    def of_columns(self, values: Mapping[str, list[Any]], rows: int) -> pl.DataFrame:
        """The same from values field by field."""
        if not self._columns:
            return pl.DataFrame({"": pl.Series("", [None] * rows, dtype=pl.Null)})
        return pl.DataFrame([convert(values[name]) for name, convert in self._columns.items()])


@dataclass(frozen=True, slots=True)
class ReadEvents:
    """Events of one kind. `values`: the wanted fields, physical, None where null. `frame`: their typed columns."""

    values: Mapping[str, list[Any]]
    frame: pl.DataFrame


class EventReader:
    """Decodes some fields of an event's Avro records."""

    def __init__(self, event: Event, names: Collection[str]) -> None:
        self._names = tuple(dict.fromkeys(names))
        self._rows = EventRows(event, self._names)
        self._codec = AvroCodec(event.schema)
        self._columns = _column_reader(event, self._names)

    def read(self, messages: Sequence[bytes]) -> ReadEvents:
        """The events, in their order. Raises a CodecError."""
        values = self._by_columns(messages) if len(messages) >= _MANY else None
        if values is None:
            rows = [self._codec.decode(message) for message in messages]
            values = {name: [row.get(name) for row in rows] for name in self._names}
        return ReadEvents(values, self._rows.of_columns(values, len(messages)))

    def _by_columns(self, messages: Sequence[bytes]) -> dict[str, list[Any]] | None:
        if self._columns is None:
            return None
        return {name: _plain(column) for name, column in self._columns.read(messages).items()}


def _column_reader(event: Event, names: Collection[str]) -> ColumnReader | None:
    """None for a schema that cannot be read in columns."""
    try:
        return ColumnReader(event.schema, names)
    except BadSchemaError:
        return None


def _plain(column: NDArray[Any]) -> list[Any]:
    """A column as physical values, None where null."""
    values: list[Any] = column.tolist()
    if column.dtype == np.int64 and (column == NO_LONG).any():
        return [None if value == NO_LONG else value for value in values]
    if column.dtype == np.float64 and np.isnan(column).any():
        return [None if value != value else value for value in values]
    return values


def _converter(name: str, avro_type: Any, dtype: pl.DataType) -> Convert:
    if dtype == TIME:
        scale = _time_scale(avro_type)
        return lambda values: pl.Series(name, [scale(value) for value in values], dtype=pl.Int64).cast(TIME)
    if dtype == pl.Date:
        return lambda values: pl.Series(name, values, dtype=pl.Int32).cast(pl.Date)
    if dtype == pl.Float64:
        return lambda values: pl.Series(name, np.array(values, dtype=np.float64), nan_to_null=True)
    return lambda values: pl.Series(name, values, dtype=dtype)


def _time_scale(avro_type: Any) -> Callable[[Any], int | None]:
    """A physical time → ms since the epoch."""
    one = next(member for member in avro_type if member != "null") if isinstance(avro_type, list) else avro_type
    if isinstance(one, Mapping) and one.get("logicalType") == "timestamp-micros":
        return lambda value: None if value is None else int(value) // 1000
    if isinstance(one, Mapping) and one.get("logicalType") == "timestamp-millis":
        return lambda value: value
    return lambda value: None if value is None else times.parse(value)
