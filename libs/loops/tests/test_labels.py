"""Label windows against a plain recomputation: early, late, repeated, corrected and missing labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from trimtab.loops.label_state import MemoryChunks, decode, decode_key, encode, encode_key
from trimtab.loops.labels import NO_ASKS, NO_EVENTS, Asks, Folded, LabelEvents, LabelJoin, LabelWindow, Outcomes
from trimtab.loops.model import Label, Task

HOUR = 3_600_000
COLUMNS: Mapping[str, pl.DataType] = {"delay": pl.Float64(), "kind": pl.String(), "n": pl.Int64()}


def window(value: str, settle: Literal["close", "first"] = "close", task: Task = "binary") -> LabelWindow:
    return LabelWindow(Label("arrival", ["flight"], HOUR, value, settle, HOUR), COLUMNS, task)


def asks(*rows: tuple[str, str, int]) -> Asks:
    return Asks([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows], [r[0].encode() for r in rows])


def arrivals(*rows: tuple[str, int, int, float]) -> LabelEvents:
    """(by, time, id, delay)"""
    return LabelEvents([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows], [[r[3]] for r in rows])


def rows(outcomes: Outcomes) -> list[tuple[str, float, int]]:
    plain = zip(outcomes.key, outcomes.label, outcomes.revision, strict=True)
    return [(key, -1.0 if label != label else label, revision) for key, label, revision in plain]


def test_an_empty_window_gives_what_sql_gives() -> None:
    negative = LabelJoin(window("count() > 0"), keep_ms=0).fold(asks(("p", "a", 0)), NO_EVENTS, HOUR + 1)
    assert rows(negative.outcomes) == [("p", 0.0, 0)]
    assert negative.outcomes.settled_at_ms == [HOUR]
    unknown = LabelJoin(window("last(delay) > 15"), keep_ms=0).fold(asks(("p", "a", 0)), NO_EVENTS, HOUR + 1)
    assert rows(unknown.outcomes) == [("p", -1.0, 0)]
    assert unknown.counts.without_label == 1


def test_the_window_is_open_at_its_start_and_closed_at_its_end() -> None:
    for at_ms, expected in [(0, 0.0), (1, 1.0), (HOUR, 1.0), (HOUR + 1, 0.0)]:
        join = LabelJoin(window("count() > 0"), keep_ms=0)
        folded = join.fold(asks(("p", "a", 0)), arrivals(("a", at_ms, 1, 0)), HOUR + 1)
        assert rows(folded.outcomes) == [("p", expected, 0)]


def test_a_window_does_not_close_before_its_time() -> None:
    join = LabelJoin(window("count() > 0"), keep_ms=0)
    assert rows(join.fold(asks(("p", "a", 0)), NO_EVENTS, HOUR).outcomes) == []
    assert join.waiting == 1
    assert rows(join.fold(NO_ASKS, NO_EVENTS, HOUR + 1).outcomes) == [("p", 0.0, 0)]
    assert join.waiting == 0


def test_the_first_event_decides_where_the_label_settles_so() -> None:
    join = LabelJoin(window("last(delay) > 15", "first"), keep_ms=0)
    folded = join.fold(asks(("p", "a", 0), ("q", "b", 0)), arrivals(("a", 5, 1, 20.0)), 6)
    assert rows(folded.outcomes) == [("p", 1.0, 0)]
    assert folded.outcomes.settled_at_ms == [5]
    assert folded.outcomes.payload == [b"p"]
    assert rows(join.fold(NO_ASKS, NO_EVENTS, HOUR + 1).outcomes) == [("q", -1.0, 0)]


def test_a_label_may_come_before_its_ask() -> None:
    join = LabelJoin(window("last(delay) > 15", "first"), keep_ms=0)
    assert rows(join.fold(NO_ASKS, arrivals(("a", 5, 1, 20.0)), 0).outcomes) == []
    assert rows(join.fold(asks(("p", "a", 0)), NO_EVENTS, 5).outcomes) == [("p", 1.0, 0)]


def test_a_later_event_makes_a_revision_only_if_it_changes_the_label() -> None:
    join = LabelJoin(window("last(delay) > 15", "first"), keep_ms=0)
    first = join.fold(asks(("p", "a", 0)), arrivals(("a", 5, 1, 20.0), ("a", 6, 2, 30.0), ("a", 7, 3, 3.0)), 8)
    assert rows(first.outcomes) == [("p", 1.0, 0), ("p", 0.0, 1)]
    assert first.outcomes.settled_at_ms == [5, 7]
    assert first.counts.revised == 1


def test_a_correction_replaces_what_it_corrects() -> None:
    join = LabelJoin(window("sum(delay)", task="regression"), keep_ms=HOUR)
    join.fold(asks(("p", "a", 0)), arrivals(("a", 5, 1, 20.0), ("a", 6, 2, 1.0)), HOUR + 1)
    corrected = join.fold(NO_ASKS, arrivals(("a", 5, 1, 2.0)), HOUR + 2)
    assert rows(corrected.outcomes) == [("p", 3.0, 1)]
    assert corrected.counts.corrected == 1
    moved = join.fold(NO_ASKS, arrivals(("a", HOUR + 9, 2, 1.0)), HOUR + 10)
    assert rows(moved.outcomes) == [("p", 2.0, 2)]


def test_what_comes_again_changes_nothing() -> None:
    join = LabelJoin(window("count()", "first", "regression"), keep_ms=HOUR)
    join.fold(asks(("p", "a", 0)), arrivals(("a", 5, 1, float("nan"))), 6)
    again = join.fold(asks(("p", "a", 0)), arrivals(("a", 5, 1, float("nan"))), 6)
    assert rows(again.outcomes) == []
    assert again.counts.repeated == 2


def test_a_late_event_revises_while_its_ask_is_kept_and_is_counted_after() -> None:
    join = LabelJoin(window("count() > 0"), keep_ms=HOUR)
    assert rows(join.fold(asks(("p", "a", 0)), NO_EVENTS, HOUR + 1).outcomes) == [("p", 0.0, 0)]
    assert rows(join.fold(NO_ASKS, arrivals(("a", 9, 1, 0.0)), HOUR + 2).outcomes) == [("p", 1.0, 1)]
    late = join.fold(NO_ASKS, arrivals(("a", 9, 2, 0.0)), 4 * HOUR)
    assert rows(late.outcomes) == []
    assert late.counts.late == 1


def test_what_nobody_can_ask_for_any_more_is_forgotten() -> None:
    chunks = MemoryChunks()
    join = LabelJoin(window("count() > 0"), keep_ms=HOUR, chunks=chunks)
    join.fold(asks(("p", "a", 0), ("q", "b", HOUR)), arrivals(("a", 9, 1, 0.0), ("c", 9, 1, 0.0)), 0)
    join.fold(NO_ASKS, NO_EVENTS, 2 * HOUR + 2)
    assert {key[0] for key, _ in chunks.items()} == {"a", "b", "c"}
    join.fold(NO_ASKS, NO_EVENTS, 3 * HOUR)
    assert {key[0] for key, _ in chunks.items()} == {"b"}


def test_classes_are_texts() -> None:
    join = LabelJoin(window("last(kind)", "first", "multiclass"), keep_ms=0)
    events = LabelEvents(["a", "b"], [5, 5], [1, 2], [[], []], [["late"], [None]])
    folded = join.fold(asks(("p", "a", 0), ("q", "b", 0)), events, HOUR + 1)
    assert folded.outcomes.label_class == ["late", None]
    numbered = LabelWindow(Label("arrival", ["flight"], HOUR, "max(n)", "close", HOUR), COLUMNS, "multiclass")
    again = LabelJoin(numbered, keep_ms=0).fold(asks(("p", "a", 0)), arrivals(("a", 5, 1, 3.0)), HOUR + 1)
    assert again.outcomes.label_class == ["3"]


def test_arguments_come_from_a_frame() -> None:
    both = window("count(DISTINCT kind) + max(n * 2)", task="regression")
    frame = pl.DataFrame({"delay": [1.0, None], "kind": ["x", None], "n": [4, None]}, schema=dict(COLUMNS))
    numbers, texts = both.arguments(frame)
    assert numbers.shape == (2, 2)
    assert texts == [[], []]
    events = LabelEvents(["a", "a"], [1, 2], [1, 2], numbers.tolist(), texts)
    folded = LabelJoin(both, keep_ms=0).fold(asks(("p", "a", 0)), events, HOUR + 1)
    assert rows(folded.outcomes) == [("p", 9.0, 0)]


def test_a_chunk_survives_its_bytes_and_an_ask_takes_few_of_them() -> None:
    chunks = MemoryChunks()
    join = LabelJoin(window("sum(delay)", task="regression"), keep_ms=0, chunks=chunks)
    many = asks(*((f"ask-{number:06}", "a", 1_700_000_000_000 + number) for number in range(100)))
    join.fold(many, arrivals(("a", 1_700_000_000_500, 7, float("nan"))), 0)
    ((key, chunk),) = chunks.items()
    assert decode_key(encode_key(key)) == key
    data = encode(chunk)
    assert encode(decode(data)) == data
    assert len(data) / 100 < 64


@dataclass(frozen=True)
class _Story:
    """What happened, in order of arrival: (kind, by, time)."""

    happened: Sequence[tuple[str, str, int]]

    def fold(self, join: LabelJoin, cuts: Sequence[int]) -> list[Folded]:
        ends = [*sorted({cut for cut in cuts if cut < len(self.happened)}), len(self.happened)]
        folds, start = [], 0
        for end in ends:
            folds.append(self._part(join, start, end))
            start = end
        folds.append(join.fold(NO_ASKS, NO_EVENTS, 10**9))
        return folds

    def _part(self, join: LabelJoin, start: int, end: int) -> Folded:
        part = list(enumerate(self.happened))[start:end]
        wanted = [(f"p{at}", by, time) for at, (kind, by, time) in part if kind == "ask"]
        events = [(by, time, at, float(at)) for at, (kind, by, time) in part if kind == "event"]
        close_ms = min((time for _, _, time in self.happened[end:]), default=10**9)
        return join.fold(asks(*wanted), arrivals(*events), close_ms)


stories = st.lists(
    st.tuples(st.sampled_from(["ask", "event"]), st.sampled_from(["a", "b"]), st.integers(0, 5 * HOUR)), max_size=30
).map(_Story)


@given(stories, st.lists(st.integers(1, 30), max_size=5), st.sampled_from(["count()", "sum(delay)", "first(delay)"]))
@settings(max_examples=150)
def test_the_label_is_the_aggregate_over_the_window(story: _Story, cuts: list[int], value: str) -> None:
    folds = story.fold(LabelJoin(window(value, task="regression"), keep_ms=10**9), cuts)
    newest = {key: label for fold in folds for key, label, _ in rows(fold.outcomes)}
    assert newest == {key: _plain(story, at, value) for at, key in _asked(story)}


@given(stories, st.lists(st.integers(1, 30), max_size=5), st.sampled_from(["close", "first"]))
@settings(max_examples=150)
def test_outcomes_do_not_depend_on_where_the_stream_is_cut(
    story: _Story, cuts: list[int], settle: Literal["close", "first"]
) -> None:
    in_order = _Story(sorted(story.happened, key=lambda one: one[2]))

    def outcomes(cuts: Sequence[int]) -> list[tuple[str, float, int]]:
        folds = in_order.fold(LabelJoin(window("sum(delay)", settle, "regression"), keep_ms=10**9), cuts)
        return sorted(row for fold in folds for row in rows(fold.outcomes))

    assert outcomes(cuts) == outcomes(range(len(story.happened)))


@given(stories, st.integers(1, 29))
@settings(max_examples=100)
def test_another_join_over_the_same_chunks_goes_on_and_a_repeated_batch_changes_nothing(
    story: _Story, cut: int
) -> None:
    undisturbed = [rows(fold.outcomes) for fold in story.fold(LabelJoin(window("count()", "first"), keep_ms=0), [cut])]
    if cut >= len(story.happened):
        return
    chunks = MemoryChunks()
    first = _Story(story.happened)._part(LabelJoin(window("count()", "first"), keep_ms=0, chunks=chunks), 0, cut)
    restored = MemoryChunks()
    for key, chunk in chunks.items():
        restored.put(decode_key(encode_key(key)), decode(encode(chunk)))
    for _ in range(2):
        again = _copy(restored)
        join = LabelJoin(window("count()", "first"), keep_ms=0, chunks=again)
        rest = [story._part(join, cut, len(story.happened)), join.fold(NO_ASKS, NO_EVENTS, 10**9)]
        assert [rows(first.outcomes), *(rows(fold.outcomes) for fold in rest)] == undisturbed


def _copy(chunks: MemoryChunks) -> MemoryChunks:
    copied = MemoryChunks()
    for key, chunk in chunks.items():
        copied.put(key, decode(encode(chunk)))
    return copied


def _asked(story: _Story) -> list[tuple[int, str]]:
    return [(at, f"p{at}") for at, (kind, _, _) in enumerate(story.happened) if kind == "ask"]


def _plain(story: _Story, ask: int, value: str) -> float:
    _, by, start = story.happened[ask]
    inside = [
        (time, at)
        for at, (kind, other, time) in enumerate(story.happened)
        if kind == "event" and other == by and start < time <= start + HOUR
    ]
    if value == "count()":
        return float(len(inside))
    if not inside:
        return -1.0
    return float(sum(at for _, at in inside)) if value == "sum(delay)" else float(min(inside)[1])
