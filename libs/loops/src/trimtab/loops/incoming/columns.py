"""Columns of values: instants as ticks, event times as ms, frames for rules."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import polars as pl

from trimtab.contracts import times
from trimtab.contracts.errors import BadTimeError
from trimtab.loops.columns import TIME
from trimtab.loops.incoming.contract import Contract, Row, Rule
from trimtab.loops.incoming.fields import ZONED, Field
from trimtab.loops.incoming.verdicts import Refusal

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MANY_TIMES = 64
"""So many are written sooner at once."""
_EPOCH_DAY = date(1970, 1, 1).toordinal()


def physical(fields: Sequence[Field], rows: Sequence[Row]) -> list[Sequence[Any]]:
    """The columns of some rows as Avro keeps them: instants in ticks since the epoch, dates in days."""
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True)) if rows else [() for _ in fields]
    for index, field in enumerate(fields):
        if field.ticks is not None:
            columns[index] = [_tick(value, 1000 // field.ticks) for value in columns[index]]
        if field.days:
            columns[index] = [
                value.toordinal() - _EPOCH_DAY if isinstance(value, date) else value for value in columns[index]
            ]
    return columns


def _tick(value: Any, microseconds: int) -> Any:
    """A datetime as a number of ticks of so many µs; what is a number already stays."""
    return (value - _EPOCH) // _MICROSECOND // microseconds if isinstance(value, datetime) else value


def event_times(contract: Contract, column: Sequence[Any]) -> tuple[list[int], dict[int, Refusal]]:
    """Event time in ms of each value of the time's column; those that have none, by position (their ms is 0)."""
    field = contract.fields[contract.time]
    refused: dict[int, Refusal] = {}
    if field.ticks is None:
        times_ms = _texts_ms(field, column, refused)
    else:
        times_ms = list(column) if field.ticks == 1 else [value // field.ticks for value in column]
    if times_ms and not (min(times_ms) >= times.EARLIEST_MS and max(times_ms) <= times.LATEST_MS):
        refused |= {
            at: _outside(field, ms) for at, ms in enumerate(times_ms) if not times.EARLIEST_MS <= ms <= times.LATEST_MS
        }
    return [0 if at in refused else ms for at, ms in enumerate(times_ms)] if refused else times_ms, refused


def _texts_ms(field: Field, column: Sequence[Any], refused: dict[int, Refusal]) -> list[int]:
    try:
        moments: list[datetime] = msgspec.convert(column, list[ZONED])
        return [_tick(moment, 1000) for moment in moments]
    except msgspec.ValidationError:
        return [_text_ms(field, position, value, refused) for position, value in enumerate(column)]


def _text_ms(field: Field, position: int, value: str, refused: dict[int, Refusal]) -> int:
    try:
        return times.parse(value)
    except BadTimeError as error:
        refused[position] = Refusal("time", f"{field.name}: {error}")
        return 0


def _outside(field: Field, ms: int) -> Refusal:
    return Refusal(
        "time", f"{field.name}: expected a time between the years 1000 and 8999, got {ms} ms since the epoch"
    )


def failing(rule: Rule, contract: Contract, columns: Sequence[Sequence[Any]], times_ms: Sequence[int]) -> list[int]:
    """Indexes of the rows for which a rule is not true; null is not true."""
    series = [
        _series(name, contract, index, columns[index], times_ms, dtype) for name, (index, dtype) in rule.columns.items()
    ]
    frame = pl.DataFrame(series) if series else pl.DataFrame({"": [None] * len(times_ms)})
    holds = rule.predicate(frame).fill_null(False)
    return [] if holds.all() else (~holds).arg_true().to_list()


def _series(
    name: str, contract: Contract, index: int, values: Sequence[Any], times_ms: Sequence[int], dtype: pl.DataType
) -> pl.Series:
    if dtype != TIME:
        return pl.Series(name, values, dtype=dtype)
    if index == contract.time:
        return pl.Series(name, times_ms, dtype=pl.Int64).cast(pl.Datetime("ms")).dt.replace_time_zone("UTC")
    ticks = contract.fields[index].ticks or 1
    ms = [None if value is None else value // ticks for value in values]
    return pl.Series(name, ms, dtype=pl.Int64).cast(pl.Datetime("ms")).dt.replace_time_zone("UTC")


def stamps(times_ms: Sequence[int]) -> list[bytes]:
    """RFC 3339 with milliseconds, of many times at once.

    >>> stamps([1_356_998_400_007])
    [b'2013-01-01T00:00:00.007Z']
    """
    if len(times_ms) < _MANY_TIMES:
        return [times.text(ms).encode() for ms in times_ms]
    moments = pl.Series(times_ms, dtype=pl.Int64).cast(pl.Datetime("ms"))
    return moments.dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").cast(pl.Binary).to_list()
