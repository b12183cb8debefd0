"""Features of a draft: the asking event's own fields, and the recent past of the things it names."""

from collections.abc import Iterable, Sequence

from trimtab.loops.declaration.quantities import DAY_MS, HOUR_MS, duration_text
from trimtab.loops.draft.guesses import MOST_CATEGORIES, Notes
from trimtab.loops.draft.plan import EventDraft, GroupDraft, LatestDraft, Outline, quoted
from trimtab.loops.draft.spans import at_least, at_most

_UTC = "UTC"


def row_features(
    asks: EventDraft, left_out: Iterable[str], zone: str, notes: Notes
) -> tuple[dict[str, str], list[str]]:
    """(feature → expression, categorical): every field that is a number or one of few texts, and the time of day."""
    row: dict[str, str] = {}
    categorical: list[str] = []
    skipped = {asks.time, *left_out}
    for name, column in asks.columns.items():
        few = column.distinct <= min(MOST_CATEGORIES, max(2, asks.rows.height // 10))
        if name in skipped or column.kind == "time":
            continue
        if column.kind == "text" and not few:
            notes.add(f"no feature of {name}", f"{column.distinct} different texts are too many categories")
            continue
        row[name] = quoted(column)
        categorical += [name] if column.kind == "text" else []
    for part, expression in _clock(asks, zone).items():
        row[part if part not in asks.columns else f"{asks.time}_{part}"] = expression
    return row, categorical


def _clock(asks: EventDraft, zone: str) -> dict[str, str]:
    """The time of day and of week, as far as the sample shows more than one."""
    time, at = asks.rows[asks.time], quoted(asks.columns[asks.time])
    where = "" if zone == _UTC else f", '{zone}'"
    parts = {"hour": time.dt.hour(), "weekday": time.dt.weekday()}
    return {name: f"{name}({at}{where})" for name, values in parts.items() if values.n_unique() > 1}


def groups(outline: Outline) -> list[GroupDraft]:
    """How often each thing came lately, and how its labels were."""
    windows, label = _windows(outline.span_ms), outline.label
    found = []
    for entity in outline.entities:
        if label.average is not None and entity in outline.labels.columns:
            values = {"n": "count()", "mean": label.average}
            found.append(GroupDraft(f"{label.of}_by_{entity}", label.of, entity, windows, values))
        else:
            name = outline.asks.name
            found.append(GroupDraft(f"{name}_by_{entity}", name, entity, windows, {"n": "count()"}))
    return found


def latest(outline: Outline, notes: Notes) -> list[LatestDraft]:
    """The newest numbers of every other event that shares a field with the asking one."""
    found = []
    for event in outline.others:
        shared = [name for name in event.columns if name in outline.asks.columns and name not in (event.time, event.id)]
        free = {name: column for name, column in event.columns.items() if name not in (*shared, event.time, event.id)}
        numbers = [name for name, column in free.items() if column.kind in ("integer", "number", "boolean")]
        if not shared or not numbers:
            notes.add(f"no feature of {event.name}", f"it shares no field with {outline.asks.name}, or has no numbers")
            continue
        found.append(LatestDraft(event.name, event.name, shared[0], numbers, _longest_gap_ms(event)))
    return found


def _longest_gap_ms(event: EventDraft) -> int:
    gaps = event.rows[event.time].dt.epoch("ms").diff().drop_nulls()
    return at_least(max([DAY_MS, *(2 * int(gap) for gap in gaps.sort()[-1:])]))


def _windows(span_ms: int) -> Sequence[str]:
    short, long = at_most(max(span_ms / 60, HOUR_MS / 6)), at_most(max(span_ms / 8, HOUR_MS))
    return tuple(dict.fromkeys([duration_text(short), duration_text(long)]))
