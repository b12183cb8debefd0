"""A draft as files: a commented loop.toml and the Avro schemas of its events."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trimtab.loops.declaration.quantities import DAY_MS, SECOND_MS, duration_text
from trimtab.loops.draft.plan import Draft, EventDraft, Outline
from trimtab.loops.draft.samples import Kind
from trimtab.loops.draft.spans import at_most

AVRO: Mapping[Kind, str] = {
    "time": "string",
    "integer": "long",
    "number": "double",
    "boolean": "boolean",
    "text": "string",
}
_ESTIMATORS = {
    "binary": "sklearn.ensemble.HistGradientBoostingClassifier",
    "multiclass": "sklearn.ensemble.HistGradientBoostingClassifier",
    "regression": "sklearn.ensemble.HistGradientBoostingRegressor",
}


def schema(outline: Outline, event: EventDraft) -> dict[str, Any]:
    """The Avro schema of an event: its time, its id and what joins are made by always there, the rest nullable."""
    joined = outline.label.by if event.name in (outline.asks.name, outline.label.of) else ()
    needed = {event.time, event.id, *joined}
    return {
        "type": "record",
        "name": event.name,
        "namespace": outline.name,
        "fields": [_field(event, name, name in needed) for name in event.columns],
    }


def _field(event: EventDraft, name: str, needed: bool) -> dict[str, Any]:
    column = event.columns[name]
    doc = {"doc": "RFC 3339 with its zone"} if column.kind == "time" else {}
    if needed:
        return {"name": name, "type": AVRO[column.kind], **doc}
    return {"name": name, "type": ["null", AVRO[column.kind]], "default": None, **doc}


def loop_toml(draft: Draft) -> str:
    """The declaration with a comment at every guess."""
    parts = [*_events(draft.outline), *_features(draft), *_learning(draft.outline)]
    return "\n".join(parts) + "\n"


def _events(outline: Outline) -> Iterator[str]:
    asks, label = outline.asks, outline.label
    yield f"# Drafted from a sample of {asks.rows.height} `{asks.name}` events. Every line is a guess to check:"
    yield "# `trimtab check` reads it, `trimtab backtest` says what it is worth."
    yield ""
    yield "[loop]"
    yield f'name = "{outline.name}"'
    yield f'task = "{outline.task}"'
    yield ""
    yield "[events]                              # id: drops duplicates. time: RFC 3339 with its zone."
    for event in outline.events:
        by = f", id = {_text(event.id)}" if event.id else ""
        yield f'{event.name} = {{ schema = "{event.name}.avsc"{by}, time = {_text(event.time)} }}'
    yield ""
    yield "[predict]                             # each of these events gets a prediction"
    yield f'on = "{asks.name}"'
    yield f"key = {_text(outline.key)}"
    yield ""
    yield "[label]                               # over the events that come within this time after the question"
    yield f'of = "{label.of}"'
    yield f"by = {_texts(label.by)}"
    yield f'within = "{duration_text(label.within_ms)}"'
    yield f"value = {_text(label.value)}"
    yield f'settle = "{"close" if label.column is None else "first"}"'
    yield ""


def _features(draft: Draft) -> Iterator[str]:
    yield "[features]"
    yield f"categorical = {_texts(draft.categorical)}"
    yield ""
    yield "[features.row]                        # SQL over the fields of the question"
    for name, sql in draft.row.items():
        yield f"{name} = {_text(sql)}"
    yield ""
    for group in draft.groups:
        yield f"[features.groups.{group.name}]"
        yield f'of = "{group.of}"'
        yield f"by = {_texts([group.by])}"
        yield f"windows = {_texts(group.windows)}"
        yield "values = { " + ", ".join(f"{name} = {_text(sql)}" for name, sql in group.values.items()) + " }"
        yield ""
    for latest in draft.latest:
        yield f"[features.latest.{latest.name}]"
        yield f'of = "{latest.of}"'
        yield f"by = {_texts([latest.by])}"
        yield f"values = {_texts(latest.values)}"
        yield f'max_age = "{duration_text(latest.max_age_ms)}"'
        yield ""


def _learning(outline: Outline) -> Iterator[str]:
    rows = max(100, min(20_000, outline.labelled // 10))
    positives = outline.label.positives(outline.labels.rows)
    first = max(10, rows * positives // max(1, outline.labelled) // 2)
    also = f", positives = {first}" if outline.task == "binary" else ""
    span = outline.span_ms
    holdout = at_most(max(span / 12, 4 * SECOND_MS))
    yield "[model]"
    yield f'estimator = "{_ESTIMATORS[outline.task]}"'
    yield "params = { max_iter = 100, early_stopping = false }"
    yield ""
    yield "[train]"
    yield 'window = "all"                        # or the newest part, such as "180d"; the backtest compares'
    yield f"first_after = {{ rows = {rows}{also} }}"
    yield f'fit_time = "{duration_text(at_most(min(DAY_MS, span / 60)))}"    # a replay runs so far ahead'
    yield ""
    yield "[gate]                                # a challenger is compared on the newest labelled rows"
    yield f'holdout = "{duration_text(holdout)}"'
    yield f'block = "{duration_text(at_most(min(DAY_MS, holdout / 4)))}"'
    yield f'watch = "{duration_text(at_most(max(span / 50, SECOND_MS)))}"'
    yield ""
    yield "[drift]"
    yield 'false_alarms = "1 per 60d"            # mean time to the first alarm while nothing changes'
    yield f'season = "{"7d" if span >= 21 * DAY_MS else "1d"}"'
    yield ""
    yield "[retrain]"
    yield 'on = ["loss", "estimate"]'
    yield "grown = 1.5                           # also when there are 1.5 times the champion's labelled rows"
    yield f'cooldown = "{duration_text(at_most(max(span / 50, SECOND_MS)))}"'
    yield 'budget = "24 per 365d"'


def _text(value: str | None) -> str:
    return json.dumps(value, ensure_ascii=False)


def _texts(values: Sequence[str]) -> str:
    return "[" + ", ".join(_text(value) for value in values) + "]"
