"""Labels: an aggregate over a window ahead of each prediction, as a pure fold over asks, label events and time.

An ask at t is labelled from the events with equal `by` in (t, t + within]. Asks and events may come in any order; an
event that comes again is ignored, one that corrects another (same id) replaces it, and whatever changes the label of an
ask that has already settled makes a revision of its outcome.
"""

import heapq
from bisect import insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from trimtab.loops.aggregates import Plan, compile_plan, distinct_counts
from trimtab.loops.keys import value_text
from trimtab.loops.label_state import Chunk, ChunkKey, Chunks, KeptEvent, MemoryChunks, PendingAsk
from trimtab.loops.model import Label, Task
from trimtab.loops.partials import Floats, Segments

BUCKETS_PER_WINDOW = 32
_VALUE = "label"


@dataclass(frozen=True, slots=True)
class Asks:
    """Predictions that wait for a label, one index a row. `payload`: whatever should come back with the outcome."""

    key: Sequence[str]
    by: Sequence[str]
    at_ms: Sequence[int]
    payload: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class LabelEvents:
    """Label events. `id`: equal for an event and its corrections. `numbers` [n, k] and `texts` (n rows): arguments."""

    by: Sequence[str]
    at_ms: Sequence[int]
    id: Sequence[int]
    numbers: Sequence[Sequence[float]]
    texts: Sequence[Sequence[str | None]] = ()


NO_ASKS = Asks((), (), (), ())
NO_EVENTS = LabelEvents((), (), (), ())


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What settled, one index a row. `label`: 0 or 1, or the value; NaN where there is none. `label_class`: multiclass.

    A row with neither has no label (the aggregate over its window is NULL). `revision` 0 is the first outcome; `before`
    is the label that a later one replaces (None: there was none).
    """

    key: list[str] = field(default_factory=list)
    at_ms: list[int] = field(default_factory=list)
    settled_at_ms: list[int] = field(default_factory=list)
    label: list[float] = field(default_factory=list)
    label_class: list[str | None] = field(default_factory=list)
    revision: list[int] = field(default_factory=list)
    payload: list[bytes] = field(default_factory=list)
    before: list[float | str | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.key)


@dataclass(slots=True)
class Counts:
    """What a fold met. `late`: events older than anything that is kept; `repeated`: asks or events that came again."""

    late: int = 0
    repeated: int = 0
    corrected: int = 0
    revised: int = 0
    without_label: int = 0


@dataclass(frozen=True, slots=True)
class Folded:
    """The result of one fold."""

    outcomes: Outcomes
    counts: Counts


class LabelWindow:
    """A label's aggregate, compiled: what it takes of an event, and its value over any set of events."""

    def __init__(self, label: Label, columns: Mapping[str, pl.DataType], task: Task) -> None:
        self.within_ms = label.within_ms
        self.settle = label.settle
        self.multiclass = task == "multiclass"
        self.plan: Plan = compile_plan({_VALUE: label.value}, columns)
        self.texts = [at for at, argument in enumerate(self.plan.arguments) if argument.kind == "text"]
        self.numbers = [at for at, argument in enumerate(self.plan.arguments) if argument.kind != "text"]

    def arguments(self, frame: pl.DataFrame) -> tuple[Floats, list[list[str | None]]]:
        """`numbers` [n, k] and `texts` (n rows) of LabelEvents for the events in a frame."""
        found = self.plan.evaluate(frame)
        numbers = [found[at].to_numpy() for at in self.numbers]
        texts = zip(*(found[at].to_list() for at in self.texts), strict=True) if self.texts else [()] * len(frame)
        return np.column_stack(numbers) if numbers else np.empty((len(frame), 0)), [list(row) for row in texts]

    def values(self, windows: Sequence[Sequence[KeptEvent]]) -> list[float | str | None]:
        """The label over each set of events; None is NULL. Classes are texts."""
        ids = np.repeat(np.arange(len(windows)), [len(events) for events in windows])
        events = [event for window in windows for event in window]
        arguments, texts = self._columns(events)
        at_ms = np.array([event.at_ms for event in events], dtype=np.float64)
        merged = self.plan.merge(self.plan.lift(at_ms, arguments), Segments(ids, len(windows)))
        sizes = [distinct_counts(ids, arguments[position], len(windows)) for position in self.plan.sets]
        found = self.plan.finish(merged, sizes, texts)[_VALUE].tolist()
        values = [None if value is None or value != value else value for value in found]
        return [None if value is None else value_text(value) for value in values] if self.multiclass else values

    def _columns(self, events: Sequence[KeptEvent]) -> tuple[list[Floats], list[str]]:
        columns: list[Floats] = [np.empty(0)] * len(self.plan.arguments)
        for number, position in enumerate(self.numbers):
            columns[position] = np.array([event.numbers[number] for event in events], dtype=np.float64)
        codes: dict[str, int] = {}
        for number, position in enumerate(self.texts):
            column = [event.texts[number] for event in events]
            coded = [np.nan if text is None else codes.setdefault(text, len(codes)) for text in column]
            columns[position] = np.array(coded, dtype=np.float64)
        return columns, list(codes)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An ask whose label may have changed, and when that became known."""

    by: str
    ask: PendingAsk
    known_ms: int


@dataclass(slots=True)
class _Run:
    """One fold under way. Mutable."""

    outcomes: Outcomes = field(default_factory=Outcomes)
    counts: Counts = field(default_factory=Counts)
    changed: dict[ChunkKey, None] = field(default_factory=dict)


def bucket_ms(within_ms: int, buckets: int = BUCKETS_PER_WINDOW) -> int:
    """The stretch of event time that a chunk covers."""
    return max(1, within_ms // buckets)


class LabelJoin:
    """The fold. Its state is in `chunks`; what it holds besides is an index, built anew from them.

    `keep_ms`: how long after its window an ask and its events are kept, so that late events and corrections make
    revisions. `buckets`: into how many chunks a window's stretch of time is cut: one where few asks share a `by`, so
    that an ask and its events stand together. Mutable, one task's or one backtest's; over the same chunks another (with
    buckets of the same length) goes on exactly where it stopped.
    """

    def __init__(
        self,
        window: LabelWindow,
        *,
        keep_ms: int,
        chunks: Chunks | None = None,
        buckets: int = BUCKETS_PER_WINDOW,
    ) -> None:
        self.window = window
        self._keep_ms = keep_ms
        self._bucket_ms = bucket_ms(window.within_ms, buckets)
        self._chunks: Chunks = chunks if chunks is not None else MemoryChunks()
        self._buckets: dict[str, list[int]] = {}
        self._closing: list[tuple[int, str, str]] = []
        self._expiring: list[tuple[int, str]] = []
        for key, chunk in self._chunks.items():
            self._index(key)
            for ask in chunk.asks.values():
                if ask.revision < 0:
                    heapq.heappush(self._closing, (ask.at_ms, key[0], ask.key))

    @property
    def bucket_ms(self) -> int:
        """The stretch of event time that each of its chunks covers."""
        return self._bucket_ms

    @property
    def waiting(self) -> int:
        """How many windows are open."""
        return len(self._closing)

    def fold(self, asks: Asks, events: LabelEvents, close_ms: int) -> Folded:
        """Take in asks and events, then close the windows that ended before `close_ms` and forget what is too old.

        `close_ms` is the watermark, or less while a silent source keeps windows open. A window is decided once: by the
        first event that gives it a value where the label settles so, else when it closes.
        """
        run = _Run()
        self._judge(self._take_asks(asks, run), run)
        for turn in _turns(events.by):
            self._judge(self._take_events(events, turn, close_ms, run), run)
        self._judge(self._ended(close_ms), run, closed=True)
        for key in run.changed:
            self._chunks.put(key, self._chunk(key))
        self._expire(close_ms)
        return Folded(run.outcomes, run.counts)

    def _take_asks(self, asks: Asks, run: _Run) -> list[_Candidate]:
        candidates = []
        for key, by, at_ms, payload in zip(asks.key, asks.by, asks.at_ms, asks.payload, strict=True):
            place = (by, at_ms // self._bucket_ms)
            chunk = self._chunk(place)
            if key in chunk.asks:
                run.counts.repeated += 1
                continue
            ask = chunk.asks[key] = PendingAsk(key, at_ms, payload)
            run.changed[place] = None
            heapq.heappush(self._closing, (at_ms, by, key))
            if self.window.settle == "first":
                newest_ms = max((event.at_ms for event in self._window(by, ask)), default=None)
                if newest_ms is not None:
                    candidates.append(_Candidate(by, ask, newest_ms))
        return candidates

    def _take_events(self, events: LabelEvents, turn: Iterable[int], close_ms: int, run: _Run) -> list[_Candidate]:
        """Keeps events, at most one a `by`; gives the asks whose label may change with them."""
        candidates: list[_Candidate] = []
        for row in turn:
            by, at_ms = events.by[row], events.at_ms[row]
            if self._forgotten(at_ms // self._bucket_ms, close_ms):
                run.counts.late += 1
                continue
            texts = list(events.texts[row]) if events.texts else []
            event = KeptEvent(events.id[row], at_ms, [float(number) for number in events.numbers[row]], texts)
            moved_ms = self._keep(by, event, run)
            if moved_ms is not None:
                candidates += self._touched(by, {at_ms, moved_ms}, at_ms)
        return candidates

    def _keep(self, by: str, event: KeptEvent, run: _Run) -> int | None:
        """Keeps an event. Gives the time at which it stood until now (its own, if it is new), None for a copy."""
        place = (by, event.at_ms // self._bucket_ms)
        old_at_ms = event.at_ms
        for bucket in self._buckets.get(by, ()):
            found = self._chunks.get((by, bucket))
            old = found.events.get(event.id) if found is not None else None
            if found is None or old is None:
                continue
            if _same(old, event):
                run.counts.repeated += 1
                return None
            run.counts.corrected += 1
            old_at_ms = old.at_ms
            if (by, bucket) != place:
                del found.events[event.id]
                run.changed[(by, bucket)] = None
            break
        self._chunk(place).events[event.id] = event
        run.changed[place] = None
        return old_at_ms

    def _touched(self, by: str, times_ms: set[int], known_ms: int) -> list[_Candidate]:
        """Asks with one of the times in their window whose outcome an event decides or revises."""
        early, within_ms = self.window.settle == "first", self.window.within_ms
        chunks = self._between(by, min(times_ms) - within_ms, max(times_ms))
        return [
            _Candidate(by, ask, max(known_ms, ask.settled_ms))
            for chunk in chunks
            for ask in chunk.asks.values()
            if (early or ask.revision >= 0) and any(ask.at_ms < at <= ask.at_ms + within_ms for at in times_ms)
        ]

    def _ended(self, close_ms: int) -> list[_Candidate]:
        """The undecided asks whose window ended before `close_ms`."""
        candidates = []
        within_ms = self.window.within_ms
        while self._closing and self._closing[0][0] + within_ms < close_ms:
            at_ms, by, key = heapq.heappop(self._closing)
            ask = self._chunk((by, at_ms // self._bucket_ms)).asks[key]
            if ask.revision < 0:
                candidates.append(_Candidate(by, ask, at_ms + within_ms))
        return candidates

    def _judge(self, candidates: Sequence[_Candidate], run: _Run, *, closed: bool = False) -> None:
        """Settles or revises asks. Without `closed`, one whose label is NULL stays undecided."""
        if not candidates:
            return
        labels = self.window.values([self._window(one.by, one.ask) for one in candidates])
        for one, label in zip(candidates, labels, strict=True):
            ask = one.ask
            if ask.revision < 0 and (closed or label is not None):
                run.counts.without_label += label is None
            elif ask.revision >= 0 and label != ask.label:
                run.counts.revised += 1
            else:
                continue
            before = ask.label
            ask.revision, ask.label, ask.settled_ms = ask.revision + 1, label, one.known_ms
            run.changed[(one.by, ask.at_ms // self._bucket_ms)] = None
            _add(run.outcomes, ask, before)

    def _window(self, by: str, ask: PendingAsk) -> list[KeptEvent]:
        """The events in an ask's window, bucket by bucket as they came."""
        start, end = ask.at_ms, ask.at_ms + self.window.within_ms
        chunks = self._between(by, start, end)
        return [event for chunk in chunks for event in chunk.events.values() if start < event.at_ms <= end]

    def _between(self, by: str, from_ms: int, to_ms: int) -> list[Chunk]:
        """The chunks of a `by` that may hold what happened between two times, in the order of time."""
        lowest, highest = from_ms // self._bucket_ms, to_ms // self._bucket_ms
        get = self._chunks.get
        found = [get((by, bucket)) for bucket in self._buckets[by] if lowest <= bucket <= highest]
        return [chunk for chunk in found if chunk is not None]

    def _chunk(self, key: ChunkKey) -> Chunk:
        """The chunk at its place, made when there is none."""
        chunk = self._chunks.get(key)
        if chunk is None:
            chunk = Chunk()
            self._chunks.put(key, chunk)
            self._index(key)
        return chunk

    def _index(self, key: ChunkKey) -> None:
        insort(self._buckets.setdefault(key[0], []), key[1])
        heapq.heappush(self._expiring, (key[1], key[0]))

    def _forgotten(self, bucket: int, close_ms: int) -> bool:
        return (bucket + 1) * self._bucket_ms + self.window.within_ms + self._keep_ms < close_ms

    def _expire(self, close_ms: int) -> None:
        """Every ask in a forgotten chunk has settled, and no ask that is kept has it in its window."""
        while self._expiring and self._forgotten(self._expiring[0][0], close_ms):
            bucket, by = heapq.heappop(self._expiring)
            self._chunks.remove((by, bucket))
            self._buckets[by].remove(bucket)
            if not self._buckets[by]:
                del self._buckets[by]


def _turns(by: Sequence[str]) -> list[list[int]]:
    """Rows in turns: their order within a `by`, so that each event is judged before the next one comes."""
    turns: list[list[int]] = []
    seen: dict[str, int] = {}
    for row, name in enumerate(by):
        turn = seen.get(name, 0)
        seen[name] = turn + 1
        if turn == len(turns):
            turns.append([])
        turns[turn].append(row)
    return turns


def _same(one: KeptEvent, other: KeptEvent) -> bool:
    """Whether two events say the same, NaN being equal to NaN."""
    equal = (one.at_ms, one.texts) == (other.at_ms, other.texts) and len(one.numbers) == len(other.numbers)
    pairs = zip(one.numbers, other.numbers, strict=False)
    return equal and all(a == b or (a != a and b != b) for a, b in pairs)


def _add(outcomes: Outcomes, ask: PendingAsk, before: float | str | None) -> None:
    label = ask.label
    outcomes.key.append(ask.key)
    outcomes.at_ms.append(ask.at_ms)
    outcomes.settled_at_ms.append(ask.settled_ms)
    outcomes.label.append(float("nan") if label is None or isinstance(label, str) else float(label))
    outcomes.label_class.append(label if isinstance(label, str) else None)
    outcomes.revision.append(ask.revision)
    outcomes.payload.append(ask.payload)
    outcomes.before.append(before)
