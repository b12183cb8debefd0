"""The replay's rules: what is sent when, and what it waits for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trimtab.cli.cluster.status import LoopStatus, TaskStatus
from trimtab.cli.replay.bookmark import Bookmark, BookmarkFile, about
from trimtab.cli.replay.pace import Allowance, Snapshot, allowance, covers, is_awake, is_done
from trimtab.cli.replay.services import snapshot_of, wanted_tasks
from trimtab.cli.replay.slices import Span, slices
from trimtab.cli.replay.watch import DECIDERS, NOTHING, Watched, fold, forget, watched_topics
from trimtab.contracts import control, envelope, topics
from trimtab.contracts.control import (
    DeploymentChanged,
    ModelRegistered,
    RetrainCause,
    RetrainRequested,
    TimeAdvanced,
    TrainingFailed,
)
from trimtab.contracts.envelope import Headers
from trimtab.loops.files import Chunk
from trimtab.testing.declarations import offers

ALL = Span(-(2**60), 2**60)
CLICKED = {"of": "click", "by": ["offer_id"], "windows": ["2h"], "values": {"n": "count()"}}
LOOP = offers(features={"groups": {"clicked": CLICKED}})


def chunk(rows: Sequence[tuple[int, str]]) -> Chunk:
    names = ("ask", "answer")
    ordered = sorted(rows, key=lambda row: row[0])
    frames = [pl.DataFrame({"at": [at for at, name in ordered if name == each]}) for each in names]
    kinds = np.array([names.index(name) for _, name in ordered], np.int64)
    return Chunk(names, frames, kinds, np.array([at for at, _ in ordered], np.int64))


def sent(found: Sequence[tuple[int, Mapping[str, pl.DataFrame]]]) -> list[tuple[int, str]]:
    return sorted((at, name) for _, frames in found for name, frame in frames.items() for at in frame["at"])


rows = st.lists(st.tuples(st.integers(0, 500), st.sampled_from(["ask", "answer"])), max_size=60)


@given(st.lists(rows, max_size=4), st.integers(1, 200), st.integers(-1, 400), st.integers(0, 2100))
def test_slices_hold_every_event_of_the_span_once_before_their_mark(
    parts: list[list[tuple[int, str]]], step_ms: int, after_ms: int, until_ms: int
) -> None:
    shifted = [[(at + 501 * number, name) for at, name in part] for number, part in enumerate(parts)]
    found = [(piece.end_ms, piece.frames) for piece in slices(map(chunk, shifted), Span(after_ms, until_ms), step_ms)]
    wanted = sorted((at, name) for part in shifted for at, name in part if after_ms < at <= until_ms)
    assert sent(found) == wanted
    ends = [end for end, _ in found]
    assert ends == sorted(set(ends))
    before = -1
    for end, frames in found:
        assert all(before < at <= end for frame in frames.values() for at in frame["at"])
        before = end
    assert not wanted or ends[-1] == wanted[-1][0]


def test_a_stretch_without_events_still_moves_time_step_by_step() -> None:
    found = list(slices([chunk([(5, "ask")]), chunk([(1000, "ask")])], ALL, 100))
    assert [piece.end_ms for piece in found] == [5, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000]
    assert sum(piece.rows for piece in found) == 2


@dataclass(frozen=True)
class Written:
    topic: str
    value: bytes | None
    offset: int = 0
    partition: int = 3
    key: bytes | None = b"x"
    headers: Headers = ()
    timestamp: int = 0


def written(*events: object) -> list[Written]:
    return [Written(control.TOPIC_OF[type(e)], control.encode(e), n) for n, e in enumerate(events)]  # type: ignore


def requested(request_id: str) -> RetrainRequested:
    cause = RetrainCause(kind="first", drift_id=None, signals=[], note=None, by=None)
    return RetrainRequested(
        loop="x", at_ms=0, request_id=request_id, cause=cause, champion_version=None, loop_version=1
    )


def registered(request_id: str, verdict: str) -> ModelRegistered:
    return ModelRegistered(loop="x", at_ms=0, version=1, request_id=request_id, digest="0" * 64, verdict=verdict)


def deployed(sequence: int, request_id: str | None) -> DeploymentChanged:
    return DeploymentChanged(
        loop="x",
        at_ms=0,
        sequence=sequence,
        effective_at_ms=0,
        champion=None,
        shadows=[],
        cause="first",
        request_id=request_id,
        note=None,
        signature="s",
    )


def failed(request_id: str) -> TrainingFailed:
    return TrainingFailed(loop="x", at_ms=0, request_id=request_id, reason="no_rows", error="e")


@pytest.mark.parametrize(
    ("events", "is_open", "sequence"),
    [
        ([requested("a")], True, 0),
        ([requested("a"), failed("a")], False, 0),
        ([requested("a"), registered("a", "failed")], False, 0),
        ([requested("a"), registered("a", "passed")], True, 0),
        ([requested("a"), registered("a", "first"), deployed(1, "a")], False, 1),
        ([requested("a"), deployed(7, None)], True, 7),
    ],
)
def test_a_retrain_is_open_until_its_verdict_is_deployed(events: list[object], is_open: bool, sequence: int) -> None:
    for order in permutations(written(*events)):
        found = fold(NOTHING, order, "x")
        assert bool(found.open) is is_open, "topics are read in any order"
        assert found.sequence == sequence


def test_other_loops_and_the_end_of_a_loop_open_nothing() -> None:
    other = [replace(record, key=b"y") for record in written(requested("a"))]
    assert not fold(NOTHING, [*other, Written(topics.RETRAIN_REQUESTED, None)], "x").open


def test_what_the_deciders_read_is_watched() -> None:
    assert {topics.DRIFT_DETECTED, topics.TIME_ADVANCED, topics.MODEL_TRAINED} <= set(watched_topics())
    assert topics.RETRAIN_REQUESTED in watched_topics()


READ = {(decider, topics.TIME_ADVANCED, 3): 8 for decider in DECIDERS}
CALM = Snapshot(progress_ms=1_000, read=READ, sequence=2, running=True, idle=True)
SEEN = Watched(frozenset(), frozenset(), 2, {(topics.TIME_ADVANCED, 3): 7})


def test_a_replay_keeps_its_lead_and_never_takes_back_what_it_allowed() -> None:
    first = allowance(Allowance(500, ""), CALM, SEEN, 100)
    assert first.until_ms == 1_100
    assert allowance(first, replace(CALM, progress_ms=10), SEEN, 100).until_ms == 1_100


@pytest.mark.parametrize(
    ("snapshot", "watched", "why"),
    [
        (CALM, replace(SEEN, requested=frozenset({"a"})), "a retrain is open"),
        (replace(CALM, running=False), SEEN, "services are starting"),
        (CALM, replace(SEEN, sequence=3), "the predictor loads a model"),
        (replace(CALM, progress_ms=None), SEEN, "services are behind"),
    ],
)
def test_a_replay_stands_still_while_something_is_due(snapshot: Snapshot, watched: Watched, why: str) -> None:
    assert allowance(Allowance(500, ""), snapshot, watched, 100) == Allowance(500, why)
    assert not is_done(snapshot, watched, 1_000)


def test_a_replay_leads_before_what_has_been_decided() -> None:
    """An event that some decider has not read holds back what is later than it."""
    place = (topics.TIME_ADVANCED, 3)
    watched = replace(SEEN, last={place: 9}, times={place: [(7, 100), (8, 700), (9, 800)]})
    assert allowance(Allowance(500, ""), CALM, watched, 100) == Allowance(799, "decisions are due")
    one_behind = {**READ, (DECIDERS[0], *place): 7}
    assert allowance(Allowance(0, ""), replace(CALM, read=one_behind), watched, 100).until_ms == 199
    assert allowance(Allowance(0, ""), replace(CALM, read=dict.fromkeys(READ, 10)), watched, 100).until_ms == 1_100
    assert not is_done(CALM, watched, 1_000)


def test_what_every_decider_has_read_is_forgotten() -> None:
    place = (topics.TIME_ADVANCED, 3)
    unread = (topics.RETRAIN_DECLINED, 0)
    watched = replace(SEEN, times={place: [(7, 100), (8, 700)], unread: [(1, 5)]})
    assert forget(watched, READ).times == {place: [(8, 700)]}
    assert forget(watched, {**READ, (DECIDERS[0], *place): 7}).times == {place: [(7, 100), (8, 700)]}


def test_the_time_of_an_event_stands_in_its_header_or_in_itself() -> None:
    advanced = TimeAdvanced(loop="x", at_ms=5)
    (plain,) = written(advanced)
    headed = replace(plain, offset=1, headers=envelope.headers("1", "time.advanced", "monitor", 6))
    assert fold(NOTHING, [plain, headed], "x").times == {(topics.TIME_ADVANCED, 3): [(0, 5), (1, 6)]}


def test_what_keeps_no_schema_opens_nothing_and_has_no_time() -> None:
    never = replace(written(TimeAdvanced(loop="x", at_ms=5))[0], headers=((envelope.TIME, b"\xff"),))
    found = fold(NOTHING, [Written(topics.RETRAIN_REQUESTED, b"please"), never], "x")
    assert not found.open
    assert found.times == {(topics.RETRAIN_REQUESTED, 3): [], (topics.TIME_ADVANCED, 3): [(0, 5)]}


def test_a_replay_begins_when_no_stage_counts_an_input_as_idle() -> None:
    assert is_awake(CALM, 1_000)
    assert not is_awake(CALM, 1_001)
    assert not is_awake(replace(CALM, awake=False), 1_000)


def test_a_replay_is_done_when_all_is_worked_off() -> None:
    assert is_done(CALM, SEEN, 1_000)
    assert not is_done(CALM, SEEN, 1_001)
    assert not is_done(replace(CALM, idle=False), SEEN, 1_000)


def test_only_what_a_decider_reads_is_waited_for() -> None:
    assert covers(CALM, replace(SEEN, last={(topics.RETRAIN_DECLINED, 0): 9}))


def tasks(progress_ms: int | None = 5, missing: str = "") -> list[TaskStatus]:
    return [
        TaskStatus(group, partition, "running", None, 0, progress_ms, True, 0.0, 0, {"in": 4})
        for group, partition in sorted(wanted_tasks(LOOP))
        if group != missing
    ]


SERVED = LoopStatus("offers", 1, [], 0, 4, [])


def test_a_snapshot_takes_the_slowest_stage() -> None:
    late = replace(tasks()[0], group="monitor.join.offers", partition=1, progress_ms=2)
    found = [task for task in tasks() if (task.group, task.partition) != ("monitor.join.offers", 1)]
    snapshot = snapshot_of([*found, late], [SERVED, replace(SERVED, sequence=3)], wanted_tasks(LOOP))
    assert (snapshot.progress_ms, snapshot.sequence, snapshot.running) == (2, 3, True)
    assert snapshot.read[("registry.fold", "in", 7)] == 4


def test_a_stage_that_is_missing_or_knows_no_time_makes_progress_unknown() -> None:
    wanted = wanted_tasks(LOOP)
    assert not snapshot_of(tasks(missing="trainer.fit"), [SERVED], wanted).running
    assert not snapshot_of(tasks(), [None], wanted).running
    assert snapshot_of(tasks(progress_ms=None), [SERVED], wanted).progress_ms is None


def test_a_task_that_stands_still_is_told_of_if_it_works_on_the_loop() -> None:
    parked = replace(tasks()[0], state="parked", reason="failed 5 times")
    others = replace(parked, group="monitor.join.another")
    snapshot = snapshot_of([*tasks()[1:], parked, others], [SERVED], wanted_tasks(LOOP))
    assert snapshot.standing == [f"{parked.group}-{parked.partition} parked: failed 5 times"]
    assert not snapshot.running


def test_a_loop_that_looks_nothing_up_does_not_wait_for_the_feature_service() -> None:
    services = {group.split(".")[0] for group, _ in wanted_tasks(offers())}
    assert services == {"ingest", "predictor", "monitor", "retrain-controller", "trainer", "registry"}
    assert "feature" in {group.split(".")[0] for group, _ in wanted_tasks(LOOP)}


def test_a_bookmark_belongs_to_its_files_and_topics(tmp_path: Path) -> None:
    data = tmp_path / "ask.csv"
    data.write_text("1")
    file = BookmarkFile(tmp_path, "x")
    first = about([data], ["topic-1"])
    assert file.read(first) is None
    file.write(Bookmark(first, 7))
    assert file.read(first) == Bookmark(first, 7)
    assert file.read(about([data], ["topic-2"])) is None
    data.write_text("12")
    assert file.read(about([data], ["topic-1"])) is None


def test_time_advanced_is_read_but_opens_nothing() -> None:
    found = fold(NOTHING, written(TimeAdvanced(loop="x", at_ms=5)), "x")
    place = (topics.TIME_ADVANCED, 3)
    assert found == replace(NOTHING, last={place: 0}, times={place: [(0, 5)]})
