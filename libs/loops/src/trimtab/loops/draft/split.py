"""One sample of finished cases as two kinds of events: the question, and the label that came later."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from trimtab.loops.declaration.quantities import SECOND_MS, QuantityError, duration_ms, duration_text
from trimtab.loops.draft.guesses import Ask, Choices, Notes, Question, existing
from trimtab.loops.draft.plan import EventDraft
from trimtab.loops.draft.samples import Column, Sample
from trimtab.loops.draft.spans import at_least
from trimtab.loops.errors import DraftError

LABELLED = "labelled"
_SUFFIX = re.compile(r"_?(at|time|timestamp|ts|date|datetime|utc|when|on)$", re.IGNORECASE)
_NO_NAME = {"", "created", "event", "start", "end", "pickup", "dropoff"}


@dataclass(frozen=True, slots=True)
class LabelTime:
    """When a label is known: a column's time, or so long after the question."""

    column: str | None
    delay_ms: int

    @property
    def text(self) -> str:
        return f"at {self.column}" if self.column else f"{duration_text(self.delay_ms)} after the question"


def label_time(sample: Sample, time: str, choices: Choices, ask: Ask, notes: Notes) -> LabelTime:
    """When the label becomes known: as given, else asked for, with a second time column as the likely answer."""
    if choices.label_time is not None:
        return _by_column(sample, time, existing(sample, choices.label_time, "--label-time"))
    if choices.label_delay is not None:
        return _by_delay(choices.label_delay)
    later = [name for name in sample.named("time") if name != time and _is_later(sample, time, name)]
    question = Question(
        "when the label becomes known",
        "a column with that time, or how long after the question, such as 2h or 30d",
        "--label-time or --label-delay",
        later[-1] if later else None,
    )
    answer = ask(question)
    known = answer in {name for column in sample.columns.values() for name in (column.name, column.source)}
    found = _by_column(sample, time, existing(sample, answer, "--label-time")) if known else _by_delay(answer)
    notes.add(f"label known {found.text}", "never earlier than the question" if answer in later else "as you said")
    return found


def _by_delay(text: str) -> LabelTime:
    try:
        return LabelTime(None, max(duration_ms(text), SECOND_MS))
    except QuantityError as error:
        raise DraftError(f"the label's delay: {error.wrong}", f"{error.right}, or the name of a column") from error


def _by_column(sample: Sample, time: str, column: str) -> LabelTime:
    if sample.columns[column].kind != "time":
        raise DraftError(
            f"`{column}` is {sample.columns[column].kind}, not a time", "a column of times, or --label-delay"
        )
    if not _is_later(sample, time, column):
        raise DraftError(f"`{column}` is before `{time}` in some rows", "a time that is never before the question")
    return LabelTime(column, 0)


def _is_later(sample: Sample, time: str, column: str) -> bool:
    return bool((sample.rows[column] >= sample.rows[time]).fill_null(True).all())


def longest_wait_ms(sample: Sample, time: str, known: LabelTime) -> int:
    """How long a loop has to wait for labels: a round time above the longest wait in the sample."""
    if known.column is None:
        return at_least(known.delay_ms * 2)
    waits = (sample.rows[known.column] - sample.rows[time]).dt.total_milliseconds()
    return at_least(max(float(waits.max() or 0) * 1.2, SECOND_MS))  # type: ignore[arg-type]


def asking_event(sample: Sample, time: str, label: str, known: LabelTime, key: str) -> EventDraft:
    """The question: everything but the label and its time."""
    kept = {name: column for name, column in sample.columns.items() if name not in (label, known.column)}
    rows = sample.rows.select(list(kept)).sort(time, maintain_order=True)
    return EventDraft(_event_name(time, sample.file.stem), time, key, rows, kept)


def label_event(sample: Sample, asks: EventDraft, label: str, known: LabelTime, entities: Sequence[str]) -> EventDraft:
    """The label, with the key of its question and the fields by which its past is looked up."""
    asked = pl.col(asks.time)
    at = known.column or f"{label}_known_at"
    moment = pl.col(known.column) if known.column else asked + pl.duration(milliseconds=known.delay_ms)
    later = pl.max_horizontal(moment, asked + pl.duration(milliseconds=1))
    fields = list(dict.fromkeys([str(asks.id), *entities]))
    told = sample.rows.filter(pl.col(label).is_not_null() & moment.is_not_null())
    rows = told.select(*fields, pl.col(label), later.alias(at)).sort(at, maintain_order=True)
    columns = {name: sample.columns[name] for name in [*fields, label]}
    columns[at] = Column(at, known.column or at, "time", 0, rows[at].n_unique(), "")
    name = _event_name(at, LABELLED) if known.column else LABELLED
    return EventDraft(name if name != asks.name else LABELLED, at, asks.id, rows, columns)


def with_key(sample: Sample, key: str | None, notes: Notes) -> tuple[Sample, str]:
    """A sample whose rows have a key: numbered where no column names them."""
    if key is not None:
        return sample, key
    name = f"{plain(sample.file.stem) or 'row'}_id"
    name = name if name not in sample.columns else f"{name}_"
    numbers = pl.select(pl.format(f"{plain(sample.file.stem)}-{{}}", pl.int_range(sample.rows.height))).to_series()
    notes.add(
        f"key: {name}, numbered", "no column names a row; send one with your events, it joins labels to questions"
    )
    columns = {name: Column(name, name, "text", 0, sample.rows.height, numbers[0]), **sample.columns}
    rows = sample.rows.with_columns(numbers.alias(name)).select(list(columns))
    return Sample(sample.file, rows, columns, sample.notes), name


def _event_name(time: str, otherwise: str) -> str:
    """What happened at a time: asked_at → asked."""
    stem = plain(_SUFFIX.sub("", time))
    return stem if stem not in _NO_NAME and len(stem) > 2 else (plain(otherwise) or "event")


def plain(text: str) -> str:
    """Small letters, digits and _: a name for a loop or an event.

    >>> plain("Trips 2024-05")
    'trips_2024_05'
    """
    plain = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return f"e_{plain}" if plain[:1].isdigit() else plain[:40]
