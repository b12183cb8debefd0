"""Events as they were decoded (field → physical value) → the typed columns that expressions see."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import polars as pl

from trimtab.contracts import times
from trimtab.loops.columns import TIME, event_columns
from trimtab.loops.model import Event

Row = Mapping[str, Any]
Convert = Callable[[list[Any]], pl.Series]


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
        if not self._columns:
            return pl.DataFrame({"": pl.Series("", [None] * len(rows), dtype=pl.Null)})
        return pl.DataFrame([convert([row.get(name) for row in rows]) for name, convert in self._columns.items()])


def _converter(name: str, avro_type: Any, dtype: pl.DataType) -> Convert:
    if dtype == TIME:
        scale = _time_scale(avro_type)
        return lambda values: pl.Series(name, [scale(value) for value in values], dtype=pl.Int64).cast(TIME)
    if dtype == pl.Date:
        return lambda values: pl.Series(name, values, dtype=pl.Int32).cast(pl.Date)
    if dtype == pl.Float64:
        return lambda values: pl.Series(name, values, dtype=pl.Float64, strict=False).fill_nan(None)
    return lambda values: pl.Series(name, values, dtype=dtype)


def _time_scale(avro_type: Any) -> Callable[[Any], int | None]:
    """A physical time → ms since the epoch."""
    one = next(member for member in avro_type if member != "null") if isinstance(avro_type, list) else avro_type
    if isinstance(one, Mapping) and one.get("logicalType") == "timestamp-micros":
        return lambda value: None if value is None else int(value) // 1000
    if isinstance(one, Mapping) and one.get("logicalType") == "timestamp-millis":
        return lambda value: value
    return lambda value: None if value is None else times.parse(value)
