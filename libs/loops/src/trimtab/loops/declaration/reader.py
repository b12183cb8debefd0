"""A whole declaration from its data; `[loop]`, `[quality]`, `[predict]` and `[label]` are read here."""

import re
from collections.abc import Mapping
from typing import Any, Literal, cast

import polars as pl

from trimtab.loops import expressions
from trimtab.loops.columns import event_columns
from trimtab.loops.declaration.digests import declaration_digest
from trimtab.loops.declaration.events import check_field, check_never_null, read_events, with_dedupe
from trimtab.loops.declaration.features import check_expression, read_features
from trimtab.loops.declaration.policies import not_json, read_drift, read_gate, read_model, read_retrain, read_train
from trimtab.loops.declaration.quantities import DAY_MS, MINUTE_MS, duration_ms, increase, share
from trimtab.loops.declaration.reading import Report, Section
from trimtab.loops.declaration.schemas import FindSchema
from trimtab.loops.model import Event, Label, Loop, Predict, Quality, Task

TASKS: tuple[Task, ...] = ("binary", "multiclass", "regression")
TABLES = ("loop", "events", "quality", "predict", "label", "features", "model", "train", "gate", "drift", "retrain")
LATER: Mapping[str, tuple[str, ...]] = {
    "": ("notify", "data"),
    "predict": ("every", "for_each", "active_within", "explore"),
    "label": ("censor",),
    "model": ("search", "report", "flag"),
    "train": ("keep",),
    "gate": ("limits", "slices", "approve"),
}
"""Keys of the format that this version refuses by name."""

PARTITIONS = 2
MOST_PARTITIONS = 64
WITHIN_MS = 7 * DAY_MS
HOLDS: Mapping[str, float] = {"rejected": 0.02, "missing": 0.05}
SHARES = ("rejected", "unseen_category", "out_of_range")
"""Shares of rows; `missing` is an increase over the reference instead."""

_LOOP_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")


def read_loop(data: Mapping[str, Any], find: FindSchema, report: Report) -> Loop:
    """The loop that a declaration's data describes. It has no meaning when the report holds problems afterwards."""
    top = Section(report, (), data, LATER[""])
    tables = {name: top.section(name, LATER.get(name, ())) for name in TABLES}
    top.close()
    not_json(data, (), lambda path, wrong: report.add(path, wrong, "a text, a number, true or false"))
    loop = tables["loop"]
    task = _task(loop)
    events = read_events(tables["events"], find)
    predict = _predict(tables["predict"], events)
    asks = events.get(predict.on)
    label = _label(tables["label"], task, events, asks)
    features = read_features(tables["features"], events, asks)
    events = with_dedupe(events, label, features)
    train = read_train(tables["train"], task)
    found = Loop(
        name=_name(loop),
        version=0,
        task=task,
        lateness_ms=loop.parsed("lateness", duration_ms, 0),
        max_ahead_ms=loop.parsed("max_ahead", duration_ms, 5 * MINUTE_MS),
        max_gap_ms=loop.positive("max_gap", duration_ms, 30 * DAY_MS),
        catch_up_ms=loop.positive("catch_up", duration_ms, DAY_MS),
        clock=cast(Literal["event", "wall"], loop.choice("clock", ("event", "wall"), "event")),
        events=events,
        quality=_quality(tables["quality"], events),
        predict=predict,
        label=label,
        features=features,
        model=read_model(tables["model"], task),
        train=train,
        gate=read_gate(tables["gate"]),
        drift=read_drift(tables["drift"]),
        retrain=read_retrain(tables["retrain"]),
        partitions=_partitions(loop),
        declaration=data,
        digest="" if report.problems else _digest(data, events),
    )
    loop.close()
    return found


def _digest(data: Mapping[str, Any], events: Mapping[str, Event]) -> str:
    return declaration_digest(data, {name: event.schema for name, event in events.items()})


def _name(section: Section) -> str:
    name = section.required("name", '"flights"')
    if name and not _LOOP_NAME.fullmatch(name):
        section.wrong(
            "name", f"`{name}` cannot begin the names of topics", "small letters, digits, _ and -: card_fraud"
        )
    return name


def _task(section: Section) -> Task:
    if section.text("task", "") == "quantiles":
        section.wrong("task", "this task is part of the format but not yet supported", ", ".join(TASKS))
        return "regression"
    return cast(Task, section.choice("task", TASKS, "binary"))


def _partitions(section: Section) -> int:
    found = section.value("partitions", int, PARTITIONS)
    if not 1 <= found <= MOST_PARTITIONS:
        section.wrong("partitions", f"{found} is out of range", f"1 to {MOST_PARTITIONS}")
    return found


def _quality(section: Section, events: Mapping[str, Event]) -> Quality:
    declared = section.section("rules")
    rules = {name: declared.text(name, "") for name in declared.keys()}  # noqa: SIM118 - `keys` makes them known
    for name, sql in rules.items():
        path = declared.at(name)
        if name not in events:
            section.report.unknown_event(path, name, events)
            continue
        dtype = check_expression(section.report, path, sql, event_columns(events[name]), expressions.check_row)
        if dtype is not None and dtype != pl.Boolean:
            section.report.add(path, f"a rule must be true or false, not {dtype}", "a comparison, such as amount > 0")
    limits = section.section("hold_when")
    hold_when = {name: limits.parsed(name, share, 0.0) for name in SHARES if name in limits}
    if "missing" in limits:
        hold_when["missing"] = limits.parsed("missing", increase, 0.0)
    limits.close()
    found = Quality(rules, hold_when if "hold_when" in section else HOLDS)
    section.close()
    return found


def _predict(section: Section, events: Mapping[str, Event]) -> Predict:
    predict = Predict(section.required("on", '"click", the event that asks'), section.required("key", '"click_id"'))
    section.close()
    if predict.on and predict.on not in events:
        section.report.unknown_event(section.at("on"), predict.on, events)
    elif predict.on and predict.key:
        check_never_null(section.report, section.at("key"), events[predict.on], predict.key)
    return predict


def _label(section: Section, task: Task, events: Mapping[str, Event], asks: Event | None) -> Label:
    of = section.required("of", '"purchase", the event that carries the label')
    by = section.texts("by")
    section.required("within", '"7d", how long after the prediction the label may come')
    within = section.positive("within", duration_ms, WITHIN_MS)
    value = section.required("value", '"count() > 0" or "last(delay) > 15"')
    label = Label(
        of=of,
        by=by,
        within_ms=within,
        value=value,
        settle=cast(Literal["close", "first"], section.choice("settle", ("close", "first"), "close")),
        mature_ms=section.positive("mature", duration_ms, within),
    )
    section.close()
    event = events.get(of)
    if of and event is None:
        section.report.unknown_event(section.at("of"), of, events)
    if not by:
        section.report.add(section.path, "`by` is missing", 'by = ["field"], fields that the label and the ask share')
    if event is not None:
        _check_label(section, label, task, event, asks)
    return label


def _check_label(section: Section, label: Label, task: Task, event: Event, asks: Event | None) -> None:
    types = event_columns(event)
    others = event_columns(asks) if asks else {}
    for field in label.by:
        here = check_field(section.report, section.at("by"), event, field)
        there = asks is None or check_field(section.report, section.at("by"), asks, field)
        if here and there and asks is not None and types[field] != others[field]:
            wrong = f"`{field}` is {types[field]} in `{event.name}` and {others[field]} in `{asks.name}`"
            section.report.add(section.at("by"), wrong, "the same type on both sides")
    if label.value:
        path = section.at("value")
        dtype = check_expression(section.report, path, label.value, types, expressions.check_aggregate)
        wanted = {
            "binary": "true or false",
            "regression": "a number",
            "multiclass": "a text, a whole number, a boolean",
        }
        if dtype is not None and not _fits(task, dtype):
            section.wrong("value", f"is {dtype}, but the task is {task}", f"an aggregate that gives {wanted[task]}")


def _fits(task: Task, dtype: pl.DataType) -> bool:
    if task == "binary":
        return dtype == pl.Boolean
    if task == "regression":
        return dtype.is_numeric()
    return dtype == pl.String or dtype == pl.Boolean or dtype.is_integer()
