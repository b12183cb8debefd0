"""A whole draft, from one sample of finished cases or from a sample of each event."""

from collections.abc import Mapping, Sequence

from trimtab.loops.declaration.quantities import QuantityError, duration_ms
from trimtab.loops.draft import features, guesses, split
from trimtab.loops.draft.guesses import Ask, Choices, Notes, Question
from trimtab.loops.draft.plan import Draft, EventDraft, LabelDraft, Outline, Value, literal
from trimtab.loops.draft.samples import Column, Sample
from trimtab.loops.errors import DraftError
from trimtab.loops.model import Task
from trimtab.loops.names import suggestion

Named = Mapping[str, tuple[EventDraft, Sample]]


def from_one(sample: Sample, name: str, choices: Choices, ask: Ask, notes: Notes) -> Draft:
    """Splits a sample of finished cases into the question and the label that came later."""
    time = guesses.time_column(sample, choices.time, notes)
    sample, key = split.with_key(sample, guesses.key_column(sample, choices.key, time, notes), notes)
    label = guesses.label_column(sample, choices.label, (time, key), ask, notes)
    task = guesses.task_of(sample, label, choices.task, notes)
    known = split.label_time(sample, time, choices, ask, notes)
    asks = split.asking_event(sample, time, label, known, key)
    entities = guesses.entities(sample, [field for field in asks.columns if field not in (time, key)])
    labels = split.label_event(sample, asks, label, known, entities)
    notes.add(f"events: {asks.name} asks, {labels.name} tells", f"`{label}` moved to the event that comes later")
    for field in guesses.tells_label(sample, label, [field for field in asks.columns if field != time]):
        notes.add(f"look at {field}", f"it all but gives `{label}` away: is it really known when asked?")
    drafted = LabelDraft(
        of=labels.name,
        by=(key,),
        within_ms=split.longest_wait_ms(sample, time, known),
        column=sample.columns[label],
        positive=_positive(sample, label, task, notes),
    )
    return _composed(Outline(name, task, (asks, labels), asks, key, drafted, entities), choices, notes)


def from_events(samples: Sequence[Sample], name: str, choices: Choices, ask: Ask, notes: Notes) -> Draft:
    """One file an event; one of them asks, another one tells the label."""
    events = [_event(sample, choices, notes) for sample in samples]
    named = {event.name: (event, sample) for event, sample in zip(events, samples, strict=True)}
    label_of, column = _label_source(named, choices, ask, notes)
    asks = _asking(named, label_of, choices, ask, notes)
    key = choices.key or asks.id
    if key is None or key not in asks.columns:
        raise DraftError(f"no column of {asks.name} names a row", "a column without repeats, see --key")
    labels, sample = named[label_of]
    task: Task = "binary" if column is None else guesses.task_of(sample, column, choices.task, notes)
    label = LabelDraft(
        of=label_of,
        by=(_join(asks, labels, key, notes),),
        within_ms=_within(choices, ask),
        column=None if column is None else sample.columns[column],
        positive=None if column is None else _positive(sample, column, task, notes),
    )
    fields = [field for field in asks.columns if field not in (asks.time, key)]
    entities = guesses.entities(named[asks.name][1], fields)
    return _composed(Outline(name, task, events, asks, key, label, entities), choices, notes)


def _composed(outline: Outline, choices: Choices, notes: Notes) -> Draft:
    asks = outline.asks
    numbered = [field for field in outline.entities if asks.columns[field].kind == "integer"]
    row, categorical = features.row_features(asks, (outline.key, *numbered), choices.zone, notes)
    groups, latest = features.groups(outline), features.latest(outline, notes)
    return Draft(outline, row, categorical, groups, latest, tuple(notes.rows))


def _positive(sample: Sample, label: str, task: Task, notes: Notes) -> Value | None:
    if task != "binary" or sample.columns[label].kind == "boolean":
        return None
    positive = guesses.positive_value(sample, label)
    notes.add(f"true means {label} = {literal(positive)}", "by its name, else the larger or the rarer value")
    return positive


def _event(sample: Sample, choices: Choices, notes: Notes) -> EventDraft:
    given = choices.time if choices.time in sample.columns else None
    time = guesses.time_column(sample, given, notes)
    key = guesses.key_column(sample, None, time, notes)
    name = split.plain(sample.file.stem)
    return EventDraft(name, time, key, sample.rows.sort(time, maintain_order=True), sample.columns)


def _label_source(named: Named, choices: Choices, ask: Ask, notes: Notes) -> tuple[str, str | None]:
    """(event, column) of the label; column None: that the event comes is the label."""
    rarest = min(named, key=lambda name: named[name][0].rows.height)
    question = Question("the label", "an event whose coming is the label, or event.column", "--label", rarest)
    answer = choices.label if choices.label is not None else ask(question)
    event, _, column = answer.partition(".")
    if event not in named:
        raise DraftError(f"the label: there is no event `{event}`", suggestion(event, named))
    if choices.label is None:
        notes.add(f"label: {answer}", "the rarest event" if answer == rarest else "as you said")
    return event, guesses.existing(named[event][1], column, "--label") if column else None


def _asking(named: Named, label_of: str, choices: Choices, ask: Ask, notes: Notes) -> EventDraft:
    free = [name for name in named if name != label_of]
    most = max(free, key=lambda name: named[name][0].rows.height)
    question = Question("the event that asks for a prediction", "one of your files", "--asks", most)
    answer = choices.asks or (most if len(free) == 1 else ask(question))
    if answer not in named:
        raise DraftError(f"there is no event `{answer}`", suggestion(answer, named))
    notes.add(f"{answer} asks for predictions", "the other event" if len(free) == 1 else "most rows, or as you said")
    return named[answer][0]


def _join(asks: EventDraft, labels: EventDraft, key: str, notes: Notes) -> str:
    shared = [name for name in labels.columns if name in asks.columns and not _is_time(asks.columns[name])]
    if not shared:
        right = f"a field of the same name in both; {asks.name} has {', '.join(asks.columns)}"
        raise DraftError(f"{asks.name} and {labels.name} share no field to join by", right)
    by = key if key in shared else max(shared, key=lambda name: asks.columns[name].distinct)
    notes.add(f"label joined by {by}", "a field that both events have")
    return by


def _within(choices: Choices, ask: Ask) -> int:
    question = Question("how long after the question the label may come", "such as 30m or 60d", "--label-delay", None)
    text = choices.label_delay or ask(question)
    try:
        return duration_ms(text)
    except QuantityError as error:
        raise DraftError(f"the label's delay: {error.wrong}", error.right) from error


def _is_time(column: Column) -> bool:
    return column.kind == "time"
