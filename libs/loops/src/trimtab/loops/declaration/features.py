"""The `[features]` tables: row expressions, groups, latest values, and the names of a vector's columns."""

import re
from collections.abc import Callable, Mapping, Sequence

import polars as pl

from trimtab.loops import expressions
from trimtab.loops.columns import event_columns
from trimtab.loops.declaration.digests import definition_digest, features_digest
from trimtab.loops.declaration.events import check_field
from trimtab.loops.declaration.positions import Path
from trimtab.loops.declaration.quantities import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    SECOND_MS,
    QuantityError,
    duration_ms,
    window,
)
from trimtab.loops.declaration.reading import Report, Section
from trimtab.loops.errors import ExpressionError
from trimtab.loops.model import Event, Features, Group, Latest, Window

GRAINS_MS = (
    1,
    10,
    100,
    *(n * SECOND_MS for n in (1, 5, 10, 15, 30)),
    *(n * MINUTE_MS for n in (1, 5, 10, 15, 30)),
    HOUR_MS,
)
GRAINS_PER_WINDOW = 720
LATEST_MAX_AGE_MS = 30 * DAY_MS
FEATURE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

Check = Callable[[str, Mapping[str, pl.DataType]], pl.DataType]


def grain_ms(shortest_ms: int, *, at_most: int = HOUR_MS) -> int:
    """The resolution of a group's time: the largest step of the ladder that divides its shortest window 720-fold.

    >>> grain_ms(24 * 3_600_000), grain_ms(3_600_000), grain_ms(100)
    (60000, 5000, 1)
    """
    fitting = [grain for grain in GRAINS_MS if grain * GRAINS_PER_WINDOW <= shortest_ms and grain <= at_most]
    return max(fitting, default=GRAINS_MS[0])


def group_feature(group: str, value: str, window: Window) -> str:
    """The column of a group's value over a window.

    >>> group_feature("card", "sum", Window("7d@7d", 604_800_000, 604_800_000))
    'card_sum_7d_ago_7d'
    """
    return f"{group}_{value}_{window.name.replace('@', '_ago_')}"


def latest_feature(latest: str, field: str) -> str:
    """The column of a latest value."""
    return f"{latest}_{field}"


def check_expression(
    report: Report, path: Path, sql: str, columns: Mapping[str, pl.DataType], check: Check
) -> pl.DataType | None:
    """The type of an expression; None (and a problem with its position) when it is wrong."""
    try:
        return check(sql, columns)
    except ExpressionError as error:
        report.add_expression(path, sql, error)
        return None


def read_features(section: Section, events: Mapping[str, Event], asks: Event | None) -> Features:
    """The features of a loop; the asking event None means that it could not be read."""
    types: dict[str, tuple[Path, pl.DataType | None]] = {}
    row = _row(section.section("row"), asks, types)
    groups = _named(section.section("groups"), lambda one, name: _group(one, name, events, asks, types))
    latest = _named(section.section("latest"), lambda one, name: _latest(one, name, events, asks, types))
    categorical = _categorical(section, types)
    section.close()
    if not types:
        section.report.add(section.path, "no feature is declared", '[features.row] with hour = "hour(at)"')
    names = tuple(types)
    return Features(row, categorical, groups, latest, names, _digest(row, categorical, groups, latest))


def _digest(
    row: Mapping[str, str], categorical: Sequence[str], groups: Sequence[Group], latest: Sequence[Latest]
) -> str:
    parts = [group.digest for group in groups], [one.digest for one in latest]
    return features_digest({"row": list(row.items()), "categorical": list(categorical), "groups": list(parts)})


def _row(section: Section, asks: Event | None, types: dict[str, tuple[Path, pl.DataType | None]]) -> Mapping[str, str]:
    columns = event_columns(asks) if asks else None
    row = {name: section.text(name, "") for name in section.keys()}  # noqa: SIM118 - `keys` makes them known
    for name, sql in row.items():
        path = section.at(name)
        ready = sql and columns is not None
        dtype = check_expression(section.report, path, sql, columns or {}, expressions.check_row) if ready else None
        _add(section.report, types, name, path, dtype)
    return row


def _named(section: Section, read: Callable[[Section, str], Group | Latest | None]) -> tuple:  # type: ignore[type-arg]
    found = (read(section.section(name), name) for name in section.keys())  # noqa: SIM118 - `keys` makes them known
    return tuple(one for one in found if one is not None)


def _group(
    section: Section,
    name: str,
    events: Mapping[str, Event],
    asks: Event | None,
    types: dict[str, tuple[Path, pl.DataType | None]],
) -> Group | None:
    of, by = _source(section, events, asks)
    windows = _windows(section)
    values = {value: sql for value, sql in section.table("values").items() if _is_text(section, value, sql)}
    if not values:
        section.report.add(section.path, "`values` is missing", 'values = { n = "count()" }')
    section.close()
    columns = event_columns(of) if of else None
    for value, sql in values.items():
        path = (*section.path, "values", value)
        ok = check_expression(section.report, path, sql, columns, expressions.check_aggregate) if columns else None
        for one in windows:
            _add(section.report, types, group_feature(name, value, one), path, ok)
    if of is None or not windows or not by:
        return None
    grain = grain_ms(min(one.width_ms for one in windows))
    digest = definition_digest(
        {
            "group": name,
            "of": of.name,
            "by": list(by),
            "windows": [[one.width_ms, one.ago_ms] for one in windows],
            "values": values,
            "grain_ms": grain,
        }
    )
    return Group(name, digest, of.name, by, windows, values, grain)


def _latest(
    section: Section,
    name: str,
    events: Mapping[str, Event],
    asks: Event | None,
    types: dict[str, tuple[Path, pl.DataType | None]],
) -> Latest | None:
    of, by = _source(section, events, asks)
    values = section.texts("values")
    max_age = section.positive("max_age", duration_ms, LATEST_MAX_AGE_MS)
    if not values:
        section.report.add(section.path, "`values` is missing", 'values = ["price"]')
    section.close()
    columns = event_columns(of) if of else {}
    for number, field in enumerate(values):
        path = (*section.path, "values", number)
        if of is None or check_field(section.report, path, of, field):
            _add(section.report, types, latest_feature(name, field), path, columns.get(field))
    if of is None or not by:
        return None
    grain = grain_ms(max_age, at_most=MINUTE_MS)
    digest = definition_digest(
        {
            "latest": name,
            "of": of.name,
            "by": list(by),
            "values": list(values),
            "max_age_ms": max_age,
            "grain_ms": grain,
        }
    )
    return Latest(name, digest, of.name, by, tuple(values), max_age, grain)


def _source(section: Section, events: Mapping[str, Event], asks: Event | None) -> tuple[Event | None, Sequence[str]]:
    """The event a group is of and the fields it is by; both sides must have them."""
    of = section.required("of", f'"{next(iter(events), "click")}"')
    by = section.texts("by")
    if not by:
        section.report.add(section.path, "`by` is missing", 'by = ["field"], fields that both events have')
    event = events.get(of)
    if of and event is None:
        section.report.unknown_event(section.at("of"), of, events)
    for field in by:
        if event is not None and check_field(section.report, section.at("by"), event, field) and asks is not None:
            check_field(section.report, section.at("by"), asks, field)
    return event, tuple(by)


def _windows(section: Section) -> tuple[Window, ...]:
    texts = section.texts("windows")
    if not texts:
        section.report.add(section.path, "`windows` is missing", 'windows = ["24h", "7d", "7d@7d"]')
    found: list[Window] = []
    for number, text in enumerate(texts):
        try:
            found.append(window(text))
        except QuantityError as error:
            section.report.add((*section.at("windows"), number), error.wrong, error.right)
    return tuple(found)


def _is_text(section: Section, key: str, value: object) -> bool:
    if isinstance(value, str):
        return True
    section.report.add((*section.at("values"), key), f"must be an expression in quotes, not {value!r}", '"count()"')
    return False


def _add(
    report: Report,
    types: dict[str, tuple[Path, pl.DataType | None]],
    name: str,
    path: Path,
    dtype: pl.DataType | None,
) -> None:
    if not FEATURE.fullmatch(name):
        report.add(path, f"`{name}` is no name of a feature", "letters, digits and _, not beginning with a digit")
    if name in types:
        other = ".".join(str(part) for part in types[name][0])
        report.add(path, f"two features are called `{name}` (the other: {other})", "give one another name")
    types.setdefault(name, (path, dtype))


def _categorical(section: Section, types: Mapping[str, tuple[Path, pl.DataType | None]]) -> Sequence[str]:
    categorical = section.texts("categorical")
    for number, name in enumerate(categorical):
        if name not in types:
            section.report.unknown((*section.at("categorical"), number), name, list(types), "feature")
    for name, (path, dtype) in types.items():
        if dtype is not None:
            _check_type(section.report, name, path, dtype, name in categorical)
    return categorical


def _check_type(report: Report, name: str, path: Path, dtype: pl.DataType, is_category: bool) -> None:
    if is_category:
        if not (dtype == pl.String or dtype == pl.Boolean or dtype.is_integer()):
            report.add(path, f"`{name}` is categorical but its type is {dtype}", "a text, a whole number or a boolean")
    elif dtype == pl.String:
        report.add(path, f"`{name}` is a text", f'categorical = [..., "{name}"], or an expression that gives a number')
    elif not (dtype.is_numeric() or dtype == pl.Boolean):
        report.add(path, f"`{name}` is not a number but {dtype}", "a number, for example hour(at) of a time")
