"""A file's columns as an event's schema has them, and rows as the bodies that go into Kafka."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from trimtab.loops.columns import TIME, event_columns, nullable
from trimtab.loops.errors import EventFileError
from trimtab.loops.model import Event
from trimtab.loops.names import suggestion
from trimtab.loops.timetext import rfc3339, to_utc

TIME_MS = "__time_ms"
"""The column that conformed rows carry beside the event's fields: event time in ms."""

_TRUE, _FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")


@dataclass(frozen=True, slots=True)
class Conformed:
    """Lazy rows with the event's fields in the schema's order and `TIME_MS`. Sorted by time when `is_sorted`."""

    rows: pl.LazyFrame
    is_sorted: bool
    count: int


def conform(event: Event, rows: pl.LazyFrame, file: str) -> Conformed:
    """The rows of a file as the event's schema has them.

    Reads the file once to check it. Raises EventFileError: a field that is missing, a value that does not fit.
    """
    given = rows.collect_schema()
    fields = {field["name"]: _reader(event, field, given, file) for field in event.schema["fields"]}
    typed = {name: expr for name, expr in fields.items() if expr is not None}
    facts = rows.select(**_facts(event, typed, given)).collect().row(0, named=True)
    for name, expr in typed.items():
        if facts[f"lost_{name}"]:
            raise _unfit(event, file, name, rows.filter(_lost(name, expr)), facts[f"lost_{name}"])
    if facts["untimed"]:
        raise EventFileError(file, f"`{event.time}` is empty in {facts['untimed']} rows", "a time in every row")
    kept = rows.select(**typed).with_columns(pl.col(event.time).dt.epoch("ms").alias(TIME_MS))
    return Conformed(kept, not facts["unsorted"], facts["count"])


def stored(event: Event, rows: pl.DataFrame) -> pl.DataFrame:
    """Conformed rows as the values that Avro stores: a timestamp is its integer, a time in a string field RFC 3339."""
    types = {field["name"]: field["type"] for field in event.schema["fields"]}
    columns = [(name, dtype) for name, dtype in rows.schema.items() if name in types]
    return rows.select(_stored(name, types[name], dtype) for name, dtype in columns)


def bodies(event: Event, rows: pl.DataFrame) -> list[dict[str, Any]]:
    """The same as a mapping a row."""
    return stored(event, rows).to_dicts()


def _facts(event: Event, typed: Mapping[str, pl.Expr], given: pl.Schema) -> dict[str, pl.Expr]:
    time = typed[event.time]
    return {
        **{f"lost_{name}": _lost(name, expr).sum() if name in given else pl.lit(0) for name, expr in typed.items()},
        "untimed": time.is_null().sum(),
        "unsorted": (time.dt.epoch("ms").diff() < 0).any(),
        "count": pl.len(),
    }


def _lost(name: str, expr: pl.Expr) -> pl.Expr:
    """Where a value is there but does not fit its type."""
    given = pl.col(name)
    return given.is_not_null() & expr.is_null()


def _unfit(event: Event, file: str, name: str, rows: pl.LazyFrame, count: int) -> EventFileError:
    value = rows.select(name).head(1).collect().item()
    wrong = f"`{name}`: {value!r} in {count} rows does not fit the schema of `{event.name}`"
    if name == event.time:
        return EventFileError(file, wrong, "a time with its zone, such as 2024-05-31T12:00:00Z or +02:00")
    return EventFileError(file, wrong, f"a value of type {event_columns(event)[name]}")


def _reader(event: Event, field: Mapping[str, Any], given: pl.Schema, file: str) -> pl.Expr | None:
    name, avro = field["name"], field["type"]
    wanted = event_columns(event).get(name)
    if name not in given:
        if not nullable(avro) and "default" not in field:
            right = suggestion(name, given.names())
            raise EventFileError(file, f"there is no column `{name}`", f"{right}, named as in {event.name}'s schema")
        return None if wanted is None else pl.lit(field.get("default")).cast(wanted)
    return pl.col(name) if wanted is None else _converted(pl.col(name), given[name], wanted, avro)


def _converted(column: pl.Expr, given: pl.DataType, wanted: pl.DataType, avro: Any) -> pl.Expr:
    if wanted == TIME:
        return _as_time(column, given, avro)
    if given == pl.String and wanted != pl.String:
        return _from_text(column.str.strip_chars(), wanted)
    return column.cast(wanted, strict=False)


def _from_text(text: pl.Expr, wanted: pl.DataType) -> pl.Expr:
    if wanted == pl.Boolean:
        word = text.str.to_lowercase()
        return pl.when(word.is_in(_TRUE)).then(True).when(word.is_in(_FALSE)).then(False)
    if wanted == pl.Date:
        return text.str.to_date("%Y-%m-%d", strict=False)
    if wanted.is_integer():
        number = text.cast(pl.Float64, strict=False)
        whole = pl.when(number % 1 == 0).then(number).cast(wanted, strict=False)
        return pl.coalesce(text.cast(wanted, strict=False), whole)
    return text.cast(wanted, strict=False)


def _as_time(column: pl.Expr, given: pl.DataType, avro: Any) -> pl.Expr:
    if given == pl.String:
        count = _since_epoch(column.cast(pl.Int64, strict=False), avro)
        return pl.coalesce(to_utc(column), count) if _logical(avro) else to_utc(column)
    if isinstance(given, pl.Datetime):
        in_utc = column.dt.convert_time_zone("UTC") if given.time_zone else pl.lit(None)
        return in_utc.cast(TIME)
    return _since_epoch(column, avro) if given.is_integer() else pl.lit(None, dtype=TIME)


def _since_epoch(count: pl.Expr, avro: Any) -> pl.Expr:
    ms = count // 1000 if _logical(avro) == "timestamp-micros" else count
    return ms.cast(pl.Int64).cast(pl.Datetime("ms")).dt.replace_time_zone("UTC")


def _stored(name: str, avro: Any, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if dtype == TIME:
        unit = {"timestamp-millis": "ms", "timestamp-micros": "us"}.get(str(_logical(avro)))
        return column.dt.epoch("us" if unit == "us" else "ms") if unit else rfc3339(column)
    return column.cast(pl.Int32) if dtype == pl.Date else column


def _logical(avro: Any) -> object:
    if isinstance(avro, list):
        return next((_logical(member) for member in avro if member != "null"), None)
    return avro.get("logicalType") if isinstance(avro, dict) else None
