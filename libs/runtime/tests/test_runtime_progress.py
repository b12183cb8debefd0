"""Progress marks: minimum over writers and inputs, idle ones left out, users' clocks, replays that rule."""

import pytest
from aiokafka.partitioner import murmur2 as reference
from hypothesis import given
from hypothesis import strategies as st
from trimtab.runtime import marks
from trimtab.runtime.marks import Mark
from trimtab.runtime.partitioner import murmur2, partition_of
from trimtab.runtime.progress import (
    IDLE_AFTER_MS,
    RULED_IDLE_AFTER_MS,
    WALL_STEP_MS,
    Progress,
    ReportedClock,
    WriterClock,
    writer_clock,
)
from trimtab.runtime.records import Record
from trimtab.runtime.stage import UNKNOWN_MS


def two_writers() -> WriterClock:
    return writer_clock({"ingest.dedupe.l": 2})


def test_progress_is_unknown_until_every_writer_has_spoken() -> None:
    clock = two_writers()
    clock.mark(Mark("ingest.dedupe.l-0", 10))
    assert clock.now() == (UNKNOWN_MS, False)
    clock.mark(Mark("ingest.dedupe.l-1", 7))
    assert clock.now() == (7, False)


def test_an_idle_writer_is_left_out_and_comes_back_with_its_next_mark() -> None:
    clock = two_writers()
    for mark in (Mark("ingest.dedupe.l-0", 10), Mark("ingest.dedupe.l-1", 7), Mark("ingest.dedupe.l-1", None)):
        clock.mark(mark)
    assert clock.now() == (10, False)
    clock.mark(Mark("ingest.dedupe.l-1", 8))
    assert clock.now() == (8, False)


def test_when_all_writers_are_idle_the_newest_time_counts_whoever_was_first() -> None:
    for first, second in ((0, 1), (1, 0)):
        clock = two_writers()
        clock.mark(Mark("ingest.dedupe.l-0", 10))
        clock.mark(Mark("ingest.dedupe.l-1", 7))
        clock.mark(Mark(f"ingest.dedupe.l-{first}", None))
        clock.mark(Mark(f"ingest.dedupe.l-{second}", None))
        assert clock.now() == (10, True)


def test_marks_of_strangers_and_older_marks_change_nothing() -> None:
    clock = writer_clock({"a.b": 1})
    for mark in (Mark("a.b-0", 10), Mark("x.y-0", 1), Mark("a.b-0", 4)):
        clock.mark(mark)
    assert clock.now() == (10, False)


def test_progress_over_inputs_never_goes_back() -> None:
    left, right = writer_clock({"a": 1}), ReportedClock()
    progress = Progress({"left": left, "right": right})
    left.mark(Mark("a-0", 100))
    right.report(90)
    assert progress.now() == (90, False)
    right.silent(now_ms=0)
    assert progress.now() == (100, False)
    right.report(95)
    assert progress.now() == (100, False)
    left.mark(Mark("a-0", None))
    assert progress.now() == (100, False)
    right.silent(now_ms=0)
    assert progress.now() == (100, True)


def test_a_reader_without_clocked_inputs_is_idle() -> None:
    assert Progress({}).now() == (UNKNOWN_MS, True)


def test_a_replay_rules_its_topic_until_it_says_idle() -> None:
    clock = ReportedClock()
    clock.report(500)
    clock.mark(Mark("replay", 100))
    clock.report(900)
    assert clock.now() == (500, False)
    assert clock.idle_after_ms == RULED_IDLE_AFTER_MS
    clock.mark(Mark("replay", 600))
    assert clock.now() == (600, False)
    clock.mark(Mark("replay", None))
    assert clock.now() == (600, True)
    assert clock.idle_after_ms is None
    clock.report(700)
    assert clock.now() == (700, False)
    assert clock.idle_after_ms == IDLE_AFTER_MS


def test_a_replay_that_died_is_idle_after_its_minute_of_silence() -> None:
    clock = ReportedClock()
    clock.mark(Mark("replay", 100))
    clock.silent(now_ms=0)
    assert clock.now() == (100, True)
    clock.mark(Mark("replay", 200))
    assert clock.now() == (200, False)


def test_a_clock_that_goes_by_the_wall_moves_on_each_minute_of_silence() -> None:
    clock = ReportedClock(wall_reach_ms=10_000_000)
    clock.silent(now_ms=9_000_000)
    assert clock.now() == (UNKNOWN_MS, True)
    clock.report(8_999_000)
    assert clock.idle_after_ms == IDLE_AFTER_MS
    clock.silent(now_ms=9_000_000)
    assert clock.now() == (9_000_000, True)
    assert clock.idle_after_ms == IDLE_AFTER_MS + WALL_STEP_MS
    clock.silent(now_ms=9_000_000 + WALL_STEP_MS)
    assert clock.now() == (9_060_000, True)
    assert clock.idle_after_ms == IDLE_AFTER_MS + 2 * WALL_STEP_MS
    clock.report(9_059_000)
    assert clock.now() == (9_060_000, False)
    assert clock.idle_after_ms == IDLE_AFTER_MS
    clock.silent(now_ms=9_000_000)
    assert clock.now() == (9_060_000, True)


def test_the_wall_moves_neither_a_replay_nor_a_history() -> None:
    clock = ReportedClock(wall_reach_ms=1_000)
    clock.mark(Mark("replay", 100))
    assert clock.idle_after_ms == RULED_IDLE_AFTER_MS
    clock.silent(now_ms=1_101)
    assert clock.now() == (100, True)
    clock.silent(now_ms=1_100)
    assert clock.now() == (1_100, True)


said = st.lists(st.tuples(st.sampled_from(["a-0", "a-1", "b-0"]), st.none() | st.integers(0, 1000)), max_size=30)


@given(said, said)
def test_a_restored_progress_continues_as_if_nothing_had_happened(before: list, after: list) -> None:  # type: ignore[type-arg]
    def fresh() -> Progress:
        return Progress({"t": writer_clock({"a": 2}), "u": writer_clock({"b": 1}), "v": ReportedClock()})

    def tell(progress: Progress, events: list[tuple[str, int | None]]) -> None:
        for task, ms in events:
            for name in ("t", "u"):
                clock = progress.clock(name)
                assert clock is not None
                clock.mark(Mark(task, ms))
            progress.now()

    one, other = fresh(), fresh()
    tell(one, before)
    other.restore(one.state())
    assert other.now() == one.now()
    tell(one, after)
    tell(other, after)
    assert other.now() == one.now()


@pytest.mark.parametrize("ms", [None, 0, -5, 1_356_998_400_000])
def test_a_mark_survives_its_record(ms: int | None) -> None:
    mark = Mark("feature.route.flights-1", ms)
    record = Record("t", 0, 3, marks.key_of(mark.task), None, marks.headers_of(mark))
    assert marks.is_mark(record)
    assert marks.read(record) == mark


def test_a_tombstone_is_no_mark_and_nonsense_is_skipped() -> None:
    assert not marks.is_mark(Record("t", 0, 0, b"user-1", None))
    assert not marks.is_mark(Record("t", 0, 0, marks.key_of("x"), b"value"))
    assert marks.read(Record("t", 0, 0, marks.key_of("x"), None, (("tt_mark", b"soon"), ("tt_task", b"x")))) is None


@given(st.binary(max_size=70))
def test_keys_go_where_kafkas_own_clients_put_them(key: bytes) -> None:
    assert murmur2(key) == reference(key)
    assert 0 <= partition_of(key, 7) < 7
