"""An event's part of a declaration, compiled for use on many events."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import polars as pl

from trimtab.contracts.codec import Reader, fingerprint
from trimtab.contracts.columnar import ColumnReader, as_objects
from trimtab.contracts.errors import BadSchemaError
from trimtab.loops.columns import event_columns
from trimtab.loops.expressions import RowExpression, compile_row
from trimtab.loops.incoming.carried import carried_texts
from trimtab.loops.incoming.encoding import Encoder
from trimtab.loops.incoming.fields import Field, fields_of
from trimtab.loops.incoming.ports import ResolveSchema
from trimtab.loops.model import Event, Loop

Row = tuple[Any, ...]
"""One event: its fields' values in the schema's order."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A quality rule: the predicate and the indexes and types of the columns that it reads."""

    predicate: RowExpression
    columns: Mapping[str, tuple[int, pl.DataType]]


@dataclass(frozen=True, slots=True)
class Contract:
    """What one kind of event has to be. `time`, `id`, `key`: indexes of fields; None where there is no such field.

    `naming`: the fields that name the event or its prediction, and may not be empty. `carried`: the text fields that go
    on beside the body, as keys or categories, and have to be short. `decoder` reads a JSON object straight into a
    struct with one attribute a field; `reader` reads Avro, and `columns` many events of Avro's at once, where they are
    written by this very schema and it is one that has columns.
    """

    loop: str
    event: str
    fields: tuple[Field, ...]
    decoder: msgspec.json.Decoder[msgspec.Struct]
    reader: Reader
    columns: ColumnReader | None
    encoder: Encoder
    time: int
    id: int | None
    key: int | None
    naming: tuple[int, ...]
    carried: tuple[int, ...]
    rule: Rule | None
    max_ahead_ms: int
    max_gap_ms: int
    dedupe_ms: int
    revisions: bool

    def index(self, name: str) -> int:
        """Where a field stands."""
        return next(index for index, field in enumerate(self.fields) if field.name == name)


def compile_contract(loop: Loop, event: Event, resolve: ResolveSchema) -> Contract:
    """The contract of one of a loop's events. The declaration has been checked: its names exist, its rules compile."""
    fields = fields_of(event.schema)
    at = {field.name: index for index, field in enumerate(fields)}
    asks = event.name == loop.predict.on
    routing = loop.predict.key if asks else event.subject
    carried = carried_texts(loop, event)
    return Contract(
        loop=loop.name,
        event=event.name,
        fields=fields,
        decoder=msgspec.json.Decoder(_struct(fields)),
        reader=Reader({fingerprint(event.schema): event.schema}, expected=event.schema, resolve=resolve),
        columns=_columns(event.schema, fields),
        encoder=Encoder(event.schema, fields),
        time=at[event.time],
        id=None if event.id is None else at[event.id],
        key=None if routing is None else at[routing],
        naming=tuple({at[name] for name in (event.id, loop.predict.key if asks else None) if name is not None}),
        carried=tuple(at[field.name] for field in fields if field.kind == "string" and field.name in carried),
        rule=_rule(loop.quality.rules.get(event.name), event, at),
        max_ahead_ms=loop.max_ahead_ms,
        max_gap_ms=loop.max_gap_ms,
        dedupe_ms=event.dedupe_ms,
        revisions=event.revisions,
    )


def _columns(schema: Mapping[str, Any], fields: tuple[Field, ...]) -> ColumnReader | None:
    if any(field.kind == "nested" for field in fields):
        return None
    try:
        return ColumnReader(schema, spread=as_objects)
    except BadSchemaError:
        return None


def _struct(fields: tuple[Field, ...]) -> type[msgspec.Struct]:
    """A struct whose attributes f0, f1, … are the fields, so that any Avro name will do."""
    made = [
        (f"f{index}", field.json_type, field.default) if field.optional else (f"f{index}", field.json_type)
        for index, field in enumerate(fields)
    ]
    names = {f"f{index}": field.name for index, field in enumerate(fields)}
    return msgspec.defstruct("Row", made, rename=names, forbid_unknown_fields=True, kw_only=True, gc=False)


def _rule(sql: str | None, event: Event, at: Mapping[str, int]) -> Rule | None:
    if sql is None:
        return None
    types = event_columns(event)
    predicate = compile_row(sql, types)
    return Rule(predicate, {name: (at[name], types[name]) for name in predicate.columns})
