"""What a sample's columns most likely are. Every guess says why, and an answer of the person's comes first."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from trimtab.loops.draft.samples import Kind, Sample
from trimtab.loops.errors import DraftError
from trimtab.loops.model import Task
from trimtab.loops.names import suggestion

_TIME = re.compile(r"(^|_)(at|time|timestamp|ts|date|datetime|when)$", re.IGNORECASE)
_LABEL = re.compile(
    r"^(label|target|y|outcome|class|result|response)$|^(is|was|has)_|(churn|fraud|default|late|failed|clicked|won)",
    re.IGNORECASE,
)
_ID = re.compile(r"(^|_)(id|uuid|guid|key|no|nr|number)$", re.IGNORECASE)
_POSITIVE = ("true", "yes", "y", "t", "1", "positive", "pos", "fraud", "churned", "late", "failed", "bad", "default")
MOST_CLASSES = 20
MOST_CATEGORIES = 200


@dataclass(frozen=True, slots=True)
class Question:
    """What only the person can say. `default`: what is taken without an answer; None: it cannot be guessed."""

    what: str
    why: str
    option: str
    default: str | None


Ask = Callable[[Question], str]


@dataclass(frozen=True, slots=True)
class Choices:
    """What the person said beforehand; None is guessed or asked for. `zone`: of times without an offset.

    `label` of several samples is "event.column", or an event whose coming is the label.
    """

    name: str | None = None
    time: str | None = None
    label: str | None = None
    label_time: str | None = None
    label_delay: str | None = None
    key: str | None = None
    asks: str | None = None
    task: Task | None = None
    zone: str = "UTC"


def take_defaults(question: Question) -> str:
    """Answers for scripts: the default, or DraftError where there is none."""
    if question.default is None:
        raise DraftError(f"{question.what}: {question.why}", f"say it with {question.option}")
    return question.default


@dataclass(slots=True)
class Notes:
    """What was guessed and why, in the order in which it was decided. Mutable: it lives for one draft."""

    rows: list[tuple[str, str]] = field(default_factory=list)

    def add(self, what: str, why: str) -> None:
        self.rows.append((what, why))


def time_column(sample: Sample, given: str | None, notes: Notes) -> str:
    """The column that says when an event happened."""
    complete = [name for name in sample.named("time") if not sample.columns[name].nulls]
    if given is not None:
        found = existing(sample, given, "--time")
        if found not in complete:
            wrong = f"`{found}` in {sample.file.name} is not a time in every row"
            raise DraftError(wrong, f"one of {', '.join(complete) or '(there is no time column)'}")
        return found
    if not complete:
        raise DraftError(
            f"{sample.file.name} has no column that is a time in every row", "a column of times, see --time"
        )
    best = max(complete, key=lambda name: (_TIME.search(name) is not None, -complete.index(name)))
    notes.add(f"time of {sample.file.stem}: {best}", f"a time in every row{_of_several(complete)}")
    return best


def key_column(sample: Sample, given: str | None, time: str, notes: Notes) -> str | None:
    """The column that names a row; None where none does."""
    if given is not None:
        found = existing(sample, given, "--key")
        if not sample.unique(found):
            raise DraftError(
                f"`{found}` does not name a row: values are missing or repeated", "a column without repeats"
            )
        return found
    unique = [name for name in sample.named("text", "integer") if sample.unique(name) and name != time]
    if not unique:
        return None
    best = max(unique, key=lambda name: (_ID.search(name) is not None, -unique.index(name)))
    notes.add(f"key: {best}", f"every row of {sample.file.name} has a value of its own")
    return best


def label_column(sample: Sample, given: str | None, taken: Iterable[str], ask: Ask, notes: Notes) -> str:
    """The column that becomes known later."""
    if given is not None:
        return existing(sample, given, "--label")
    free = [name for name in sample.columns if name not in set(taken)]
    likely = [name for name in free if _LABEL.search(name)] or [n for n in free if sample.columns[n].kind == "boolean"]
    default = likely[-1] if likely else None
    what = Question("the label", "the column that is only known later and should be predicted", "--label", default)
    found = existing(sample, ask(what), "--label")
    notes.add(f"label: {found}", "as you said" if found != default else "its name or type looks like one")
    return found


def task_of(sample: Sample, label: str, given: Task | None, notes: Notes) -> Task:
    """What kind of prediction a label asks for."""
    column = sample.columns[label]
    if given is not None:
        return given
    if column.distinct < 2:
        raise DraftError(f"`{label}` has {column.distinct} value(s): nothing can be learned", "a label that differs")
    if column.distinct == 2:
        task: Task = "binary"
    elif column.kind in ("text", "boolean") or (column.kind == "integer" and column.distinct <= MOST_CLASSES):
        task = "multiclass"
    else:
        task = "regression"
    notes.add(f"task: {task}", f"`{label}` is {column.kind} with {column.distinct} different values")
    return task


def positive_value(sample: Sample, label: str) -> str | int | float:
    """The value of a two-valued label that stands for true: by its name, else the larger number, else the rarer one."""
    counted = sample.rows[label].drop_nulls().value_counts(sort=True)
    values: list[str | int | float] = counted[label].to_list()
    named = [value for value in values if str(value).lower() in _POSITIVE]
    if len(named) == 1:
        return named[0]
    return values[-1] if isinstance(values[0], str) else max(value for value in values if not isinstance(value, str))


def entities(sample: Sample, fields: Iterable[str], most: int = 3) -> Sequence[str]:
    """Columns whose values come again: things with a history of their own, the most telling first."""
    rows = sample.rows.height
    found = []
    for name in fields:
        column = sample.columns[name]
        keyed: Kind | None = "text" if _ID.search(name) and column.kind == "integer" else column.kind
        if keyed == "text" and 2 <= column.distinct <= rows / 3 and column.nulls < rows / 2:
            found.append(name)
    return sorted(found, key=lambda name: (_ID.search(name) is None, -sample.columns[name].distinct))[:most]


def tells_label(sample: Sample, label: str, fields: Iterable[str]) -> Sequence[str]:
    """Numeric columns that all but give the label away: they may be known only later."""
    codes = sample.rows[label].rank("dense").cast(pl.Float64)
    numeric = [name for name in fields if sample.columns[name].kind in ("integer", "number", "boolean")]
    frame = sample.rows.select(pl.col(name).cast(pl.Float64).rank() for name in numeric).with_columns(
        codes.alias("\x00")
    )
    strength = {name: frame.select(pl.corr(name, "\x00")).item() for name in numeric}
    return [name for name, found in strength.items() if found is not None and abs(found) > 0.9]


def existing(sample: Sample, name: str, option: str) -> str:
    """A column by its name in the file or as a field. Raises DraftError."""
    by_source: Mapping[str, str] = {column.source: column.name for column in sample.columns.values()}
    if name in sample.columns:
        return name
    if name in by_source:
        return by_source[name]
    raise DraftError(f"{option}: {sample.file.name} has no column `{name}`", suggestion(name, sample.columns))


def _of_several(names: Sequence[str]) -> str:
    others = ", ".join(names[1:]) if len(names) > 1 else ""
    return f"; others are times too, --time chooses ({len(names)} in all)" if others else ""
