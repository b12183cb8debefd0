"""Dedupe: copies, corrections, conflicts, and what is too old to tell."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trimtab.ingest.core.dedupe import Horizon, Memo, Promise, dedupe
from trimtab.ingest.core.memory import SEEN, Memory
from trimtab.loops.incoming.verdicts import Refusal
from trimtab.runtime.stage import UNKNOWN_MS
from trimtab.runtime.table import Table

DAY_MS = 86_400_000
OPEN = Horizon(UNKNOWN_MS, UNKNOWN_MS)
PLAIN = Promise("order", 7 * DAY_MS, revisions=False)
CORRECTED = Promise("order", 7 * DAY_MS, revisions=True)


def memo(id_: str, at_ms: int = 0, body: bytes = b"b") -> Memo:
    return Memo(id_.encode(), at_ms, body.ljust(16, b"."), b"key")


def fates(
    promise: Promise, memos: Sequence[Memo], memory: Memory, horizon: Horizon = OPEN, offset: int = 0
) -> list[str]:
    found = dedupe(promise, memos, horizon, memory, offset)
    return [fate.rule if isinstance(fate, Refusal) else fate for fate in found]


@pytest.fixture
def memory() -> Memory:
    return Memory(Table(SEEN))


def reopened(memory: Memory) -> Memory:
    """As a task finds it after a restart: from the changelog."""
    table = Table(SEEN)
    for key, value in memory.table.flush():
        table.load(key, value)
    return Memory(table)


def test_a_copy_in_the_same_batch_is_dropped(memory: Memory) -> None:
    assert fates(PLAIN, [memo("a"), memo("b"), memo("a")], memory) == ["new", "new", "copy"]


def test_a_copy_in_a_later_batch_is_dropped(memory: Memory) -> None:
    fates(PLAIN, [memo("a")], memory)
    assert fates(PLAIN, [memo("a"), memo("b")], memory, offset=1) == ["copy", "new"]


def test_a_copy_is_dropped_after_a_restart(memory: Memory) -> None:
    fates(PLAIN, [memo("a"), memo("b", 3 * DAY_MS)], memory)
    assert fates(PLAIN, [memo("a"), memo("b", 3 * DAY_MS)], reopened(memory), offset=2) == ["copy", "copy"]


def test_another_event_may_have_the_same_id(memory: Memory) -> None:
    fates(PLAIN, [memo("a")], memory)
    assert fates(Promise("refund", DAY_MS, revisions=False), [memo("a")], memory) == ["new"]


def test_another_body_is_a_conflict(memory: Memory) -> None:
    fates(PLAIN, [memo("a")], memory)
    found = dedupe(PLAIN, [memo("a", body=b"c")], OPEN, memory, 1)
    assert isinstance(found[0], Refusal)
    assert found[0].rule == "conflict"
    assert "expected the same body as before under the id 'a', got another" in found[0].reason
    assert "events.order.revisions = true" in found[0].reason


def test_a_conflict_leaves_the_first_body_known(memory: Memory) -> None:
    fates(PLAIN, [memo("a"), memo("a", body=b"c")], memory)
    assert fates(PLAIN, [memo("a"), memo("a", body=b"c")], memory, offset=2) == ["copy", "conflict"]


def test_with_revisions_another_body_is_a_correction(memory: Memory) -> None:
    assert fates(CORRECTED, [memo("a"), memo("a", body=b"c"), memo("a", body=b"c")], memory) == [
        "new",
        "revision",
        "copy",
    ]
    assert fates(CORRECTED, [memo("a", body=b"c"), memo("a", body=b"d")], memory, offset=3) == ["copy", "revision"]


def test_a_correction_is_known_after_a_restart(memory: Memory) -> None:
    fates(CORRECTED, [memo("a", 6 * DAY_MS)], memory)
    fates(CORRECTED, [memo("a", 1 * DAY_MS, b"c")], memory, offset=1)
    assert fates(CORRECTED, [memo("a", 1 * DAY_MS, b"c")], reopened(memory), offset=2) == ["copy"]


@pytest.mark.parametrize("batches", [1, 2, 4])
def test_what_was_sent_again_with_its_corrections_is_copies(memory: Memory, batches: int) -> None:
    """As a producer does whose broker did not answer: neither does the older body count again, nor the newer."""
    sent = [memo("a", 6 * DAY_MS), memo("a", 1 * DAY_MS, b"c"), memo("a", 6 * DAY_MS), memo("a", 1 * DAY_MS, b"c")]
    found: list[str] = []
    for first in range(0, 4, 4 // batches):
        found += fates(CORRECTED, sent[first : first + 4 // batches], memory, offset=first)
    assert found == ["new", "revision", "copy", "copy"]
    assert fates(CORRECTED, sent, reopened(memory), offset=4) == ["copy"] * 4


def test_of_a_corrected_id_that_is_forgotten_which_is_past(memory: Memory) -> None:
    fates(CORRECTED, [memo("a", 1 * DAY_MS), memo("a", 9 * DAY_MS, b"c")], memory)
    later = Horizon(9 * DAY_MS, 2 * DAY_MS)
    assert fates(CORRECTED, [memo("b", 9 * DAY_MS)], memory, later, offset=2) == ["new"]
    for known in (reopened(memory), memory):
        again = [memo("a", 9 * DAY_MS, b"c"), memo("a", 9 * DAY_MS, b"d")]
        assert fates(CORRECTED, again, known, later, offset=3) == ["copy", "revision"]


def test_what_is_older_than_what_is_remembered_is_refused(memory: Memory) -> None:
    found = dedupe(PLAIN, [memo("a", 1), memo("b", DAY_MS)], Horizon(8 * DAY_MS, DAY_MS), memory, 0)
    assert isinstance(found[0], Refusal)
    assert found[0].rule == "too_old"
    assert "expected an event time of 1970-01-02T00:00:00.000Z or later" in found[0].reason
    assert "remembered for 7 d (dedupe)" in found[0].reason
    assert found[1] == "new"


def test_the_horizon_moves_when_both_clocks_have(memory: Memory) -> None:
    newest = Horizon(20 * DAY_MS, UNKNOWN_MS)
    assert newest.moved(10 * DAY_MS, 7 * DAY_MS).oldest_ms == 3 * DAY_MS
    assert newest.moved(30 * DAY_MS, 7 * DAY_MS).oldest_ms == 13 * DAY_MS
    assert newest.moved(30 * DAY_MS, 7 * DAY_MS).moved(25 * DAY_MS, 7 * DAY_MS).oldest_ms == 13 * DAY_MS


def test_what_is_past_is_forgotten(memory: Memory) -> None:
    for day in range(60):
        horizon = Horizon(day * DAY_MS, (day - 7) * DAY_MS)
        fates(PLAIN, [memo(f"a{day}", day * DAY_MS)], memory, horizon, offset=day)
    assert len(memory.table) <= 9
    assert len(memory.bodies("order")) == len(memory.table)
    assert len(reopened(memory).table) == len(memory.table)


def test_one_batch_is_one_entry_of_the_changelog(memory: Memory) -> None:
    fates(PLAIN, [memo(f"a{n}", 5) for n in range(500)], memory)
    assert len(memory.table) == 1


EVENTS = st.tuples(st.sampled_from("abcdef"), st.integers(0, 40), st.sampled_from([b"x", b"y"]))


@given(st.lists(EVENTS, max_size=40), st.lists(st.integers(1, 7), min_size=1, max_size=10), st.booleans())
def test_batches_and_restarts_change_no_fate(
    events: list[tuple[str, int, bytes]], sizes: list[int], revisions: bool
) -> None:
    """However the log is cut into batches, and wherever the task restarts: as long as nothing is forgotten."""
    promise = Promise("order", 100 * DAY_MS, revisions)
    memos = [memo(id_, day * DAY_MS, body) for id_, day, body in events]
    whole = fates(promise, memos, Memory(Table(SEEN)))
    cut: list[str] = []
    memory = Memory(Table(SEEN))
    while len(cut) < len(memos):
        size = sizes[len(cut) % len(sizes)]
        cut += fates(promise, memos[len(cut) : len(cut) + size], memory, offset=len(cut))
        copied = Table(SEEN)
        for key, value in memory.table.items():
            copied.load(SEEN.encode_key(key), SEEN.encode(value))
        memory = Memory(copied)
    assert cut == whole


@given(st.lists(EVENTS, max_size=60))
def test_an_id_passes_once(events: list[tuple[str, int, bytes]]) -> None:
    memory, passed = Memory(Table(SEEN)), []
    for offset, (id_, day, body) in enumerate(events):
        if fates(PLAIN, [memo(id_, day, body)], memory, offset=offset) == ["new"]:
            passed.append(id_)
    assert len(passed) == len(set(passed)) == len({id_ for id_, _, _ in events})
