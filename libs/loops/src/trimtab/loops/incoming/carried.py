"""Which texts of an event go on beside its body: as keys and headers, in tiles, in predictions, in labels."""

from collections.abc import Iterable

import polars as pl

from trimtab.loops.aggregates import Plan, compile_plan
from trimtab.loops.columns import event_columns
from trimtab.loops.expressions import compile_row
from trimtab.loops.groups import tile_groups
from trimtab.loops.model import Event, Loop


def carried_texts(loop: Loop, event: Event) -> frozenset[str]:
    """The fields whose texts are carried on. One that is only counted, compared or measured is not."""
    names = {event.id, event.subject}
    groups = [group for group in tile_groups(loop) if group.of == event.name]
    for group in groups:
        names |= {*group.by, *_taken(group.plan)}
    if event.name == loop.label.of:
        names |= {*loop.label.by, *_taken(compile_plan({"label": loop.label.value}, event_columns(event)))}
    if event.name == loop.predict.on:
        names |= {loop.predict.key, *loop.label.by, *_categories(loop)}
    return frozenset(name for name in names if name is not None)


def _taken(plan: Plan) -> Iterable[str]:
    return (name for argument in plan.arguments if argument.kind == "text" for name in argument.row.columns)


def _categories(loop: Loop) -> Iterable[str]:
    columns = event_columns(loop.asks)
    rows = [compile_row(sql, columns) for sql in loop.features.row.values()]
    return (name for row in rows if row.dtype == pl.String for name in row.columns)
