"""The small pieces: inbox, gate, assignment, position, outgoing, metrics, settings."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from trimtab.contracts import envelope, telemetry
from trimtab.runtime.assignment import assign
from trimtab.runtime.bus import Declared, TopicInfo
from trimtab.runtime.errors import (
    OutputRefusedError,
    PartitionsChangedError,
    PositionLostError,
    PositionOutOfRangeError,
    StageInvalidError,
    TopicMissingError,
    TopicReplacedError,
    UndeclaredAttributeError,
)
from trimtab.runtime.gate import LIVE_MS, Opening, passable
from trimtab.runtime.inbox import MAX_BYTES, Inbox
from trimtab.runtime.metrics import Metrics, prometheus_name
from trimtab.runtime.outgoing import Draft
from trimtab.runtime.partitioner import partition_of
from trimtab.runtime.position import Held, Position, check_topics, decode, encode, starts
from trimtab.runtime.records import Out, Record
from trimtab.runtime.settings import RuntimeSettings
from trimtab.runtime.stage import Input, Measure, Output, Result, Stage
from trimtab.runtime.table import TableSpec
from trimtab.runtime.worker import check

NOW_MS = 1_800_000_000_000


def at(offset: int, at_ms: int | None = None, value: bytes | None = b"v") -> Record:
    headers = () if at_ms is None else envelope.headers("1", "e", "test", at_ms)
    return Record("t", 0, offset, b"k", value, headers)


def stage(**changes: object) -> Stage:
    plain: dict[str, object] = {
        "group": "g",
        "changelog": "log",
        "partitions": 2,
        "inputs": [Input("t", "none")],
        "step": lambda *_: Result(),
        "outputs": [Output("out", 3)],
    }
    return Stage(**(plain | changes))  # type: ignore[arg-type]  # changes are checked by the tests that make them


@given(st.integers(1, 12), st.dictionaries(st.sampled_from("abcde"), st.frozensets(st.integers(0, 12)), min_size=1))
def test_units_are_shared_evenly_and_stay_where_they_can(partitions: int, owned: dict[str, frozenset[int]]) -> None:
    shares = assign(partitions, owned)
    assert sorted(unit for units in shares.values() for unit in units) == list(range(partitions))
    sizes = [len(units) for units in shares.values()]
    assert max(sizes) - min(sizes) <= 1
    assert assign(partitions, shares) == shares


def test_an_inbox_counts_what_was_taken_and_takes_back() -> None:
    box = Inbox(limit=4)
    box.start(10, 0.0)
    box.put([at(10), at(11), at(13)], 1.0)
    chunk = box.take(2, 2.0)
    assert ([record.offset for record in chunk.records], box.position, box.waiting) == ([10, 11], 12, 1)
    box.give_back(chunk, 1)
    assert (box.position, box.waiting, box.next_offset) == (11, 2, 14)
    assert [record.offset for record in box.take(9, 2.0).records] == [11]
    assert [record.offset for record in box.take(9, 2.0).records] == [13]


def test_an_inbox_is_full_by_count_and_by_bytes() -> None:
    by_count, by_bytes = Inbox(limit=2), Inbox(limit=100)
    for box in (by_count, by_bytes):
        box.start(0, 0.0)
    by_count.put([at(0), at(1)], 0.0)
    by_bytes.put([at(0, value=b"x" * MAX_BYTES)], 0.0)
    assert by_count.full
    assert by_bytes.full
    by_count.take(1, 0.0)
    assert by_count.thirsty
    assert not by_bytes.thirsty


def test_lag_is_what_lies_before_the_end_holes_included() -> None:
    box = Inbox(limit=10)
    box.start(5, 0.0)
    box.end = 9
    assert box.lag == 4
    box.ended = True
    assert box.lag == 0


def test_a_gate_passes_a_prefix() -> None:
    records = [at(0, 5), at(1), at(2, 20), at(3, 6)]
    assert passable(records, Opening(10, NOW_MS, late=False)) == 2
    assert passable(records, Opening(20, NOW_MS, late=False)) == 4
    assert passable(records, Opening(None, NOW_MS, late=False)) == 4


def test_a_gate_asks_for_what_was_before_a_record_s_grain_of_time_alone() -> None:
    records = [at(0, 14), at(1, 19), at(2, 20)]
    assert passable(records, Opening(10, NOW_MS, late=False, grain_ms=10)) == 2
    assert passable(records, Opening(9, NOW_MS, late=False, grain_ms=10)) == 0
    assert passable(records, Opening(20, NOW_MS, late=False, grain_ms=10)) == 3
    assert passable([*records, at(3, 23)], Opening(10, NOW_MS, late=False, grain_ms=10, settling_ms=3)) == 3


def test_a_late_gate_lets_live_records_alone_pass() -> None:
    live, old, ahead = at(0, NOW_MS - LIVE_MS), at(1, NOW_MS - LIVE_MS - 1), at(2, NOW_MS + LIVE_MS)
    assert passable([live, ahead, old], Opening(0, NOW_MS, late=True)) == 2
    assert passable([live], Opening(0, NOW_MS, late=False)) == 0


def test_a_position_survives_its_record() -> None:
    there = Position({"t": 5}, {"t": "id"}, {"passed_ms": 3, "clocks": {}})
    assert decode(encode(there)) == there


def held(position: Position | None, *, entries: int = 0, committed: dict[str, int] | None = None) -> Held:
    return Held("g-0", "log", position, entries, committed or {})


def test_a_task_starts_at_the_beginning_only_if_it_never_ran() -> None:
    assert starts(held(None), {"t": "id"}, {"t": (3, 9)}) == {"t": 3}
    with pytest.raises(PositionLostError, match="2 table entries"):
        starts(held(None, entries=2), {"t": "id"}, {"t": (3, 9)})
    with pytest.raises(PositionLostError, match="committed offsets"):
        starts(held(None, committed={"t": 4}), {"t": "id"}, {"t": (3, 9)})


@pytest.mark.parametrize("offset", [2, 10])
def test_a_position_outside_of_the_topic_is_refused(offset: int) -> None:
    with pytest.raises(PositionOutOfRangeError, match=str(offset)):
        starts(held(Position({"t": offset}, {"t": "id"}, {})), {"t": "id"}, {"t": (3, 9)})


def test_a_position_in_another_topic_of_the_same_name_is_refused() -> None:
    with pytest.raises(TopicReplacedError, match="has id new, expected old"):
        starts(held(Position({"t": 5}, {"t": "old"}, {})), {"t": "new"}, {"t": (0, 9)})


def test_topics_are_checked_against_what_was_declared() -> None:
    found = {"t": TopicInfo("id", 2)}
    check_topics(found, {"t": 2}, Declared({"t": TopicInfo("id", 2)}))
    for needed, declared, error in (
        ({"u": 2}, {}, TopicMissingError),
        ({"t": 2}, {"t": TopicInfo("other", 2)}, TopicReplacedError),
        ({"t": None}, {"t": TopicInfo("id", 3)}, PartitionsChangedError),
        ({"t": 4}, {}, PartitionsChangedError),
    ):
        with pytest.raises(error):
            check_topics(found, needed, Declared(declared))


def test_records_go_to_their_keys_partition_or_the_named_one() -> None:
    draft = Draft(stage(), 1)
    keyed = partition_of(b"21", 3)
    draft.add([Out("out", b"21", b"a"), Out("out", None, b"b"), Out("out", b"21", b"c", partition=(keyed + 1) % 3)])
    written = {part.partition: [out.value for out in outs] for part, outs in draft.writes([]).items()}
    assert (keyed, written) == (0, {0: [b"a"], 1: [b"b", b"c"]})
    with pytest.raises(OutputRefusedError, match="no partition 3"):
        draft.add([Out("out", b"k", b"v", partition=3)])
    with pytest.raises(OutputRefusedError, match="not among"):
        draft.add([Out("elsewhere", b"k", b"v")])


def table(name: str, topic: str | None = None) -> TableSpec[bytes, bytes]:
    return TableSpec(name, bytes, bytes, bytes, bytes, topic)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": []}, "no inputs"),
        ({"inputs": [Input("t", "marks")]}, "name its writers"),
        ({"tables": [table("a"), table("a")]}, "one name"),
        ({"tables": [table("")]}, "without"),
        ({"tables": [table("a", "t")]}, "must not be an input"),
        ({"tables": [table("a", "out")]}, "another number of partitions"),
    ],
)
def test_a_stage_that_contradicts_itself_is_refused(changes: dict[str, object], message: str) -> None:
    check(stage())
    with pytest.raises(StageInvalidError, match=message):
        check(stage(**changes))


def test_metrics_are_those_that_are_declared() -> None:
    metrics = Metrics()
    metrics.record(
        [
            Measure(telemetry.RUNTIME_RECORDS_READ, 3, {"stage": "a.b", "topic": "t"}),
            Measure(telemetry.RUNTIME_RECORDS_READ, 4, {"stage": "a.b", "topic": "t"}),
            Measure(telemetry.RUNTIME_STEP_DURATION, 0.2, {"stage": "a.b"}),
            Measure(telemetry.RUNTIME_TASKS, 2, {"stage": "a.b"}),
        ]
    )
    text = metrics.text().decode()
    assert 'trimtab_runtime_records_read_total{stage="a.b",topic="t"} 7.0' in text
    assert 'trimtab_runtime_step_duration_seconds_bucket{le="0.25",stage="a.b"} 1.0' in text
    assert 'trimtab_runtime_tasks{stage="a.b"} 2.0' in text
    with pytest.raises(UndeclaredAttributeError, match="colour"):
        metrics.record([Measure(telemetry.RUNTIME_TASKS, 2, {"colour": "red"})])


def test_every_declared_metric_has_a_name_of_its_own_in_prometheus() -> None:
    declared = [metric for metric in vars(telemetry).values() if isinstance(metric, telemetry.Metric)]
    names = [prometheus_name(metric) for metric in declared]
    assert len(set(names)) == len(names) > 20
    metrics = Metrics()
    metrics.record([Measure(metric, 1.0) for metric in declared])


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMTAB_KAFKA__BOOTSTRAP_SERVERS", "kafka:9092")
    monkeypatch.setenv("TRIMTAB_HTTP__PORT", "8401")
    monkeypatch.setenv("TRIMTAB_DATA_DIR", "/data")
    monkeypatch.setenv("TRIMTAB_REGISTRY__DATABASE_URL", "sqlite://")
    settings = RuntimeSettings()
    assert settings.kafka.connection().bootstrap_servers == "kafka:9092"
    assert (settings.http.port, settings.data_dir, settings.otlp.endpoint) == (8401, Path("/data"), None)
    monkeypatch.setenv("TRIMTAB_KAFKA__BOOTSTRAP", "typo:9092")
    with pytest.raises(ValidationError, match="bootstrap"):
        RuntimeSettings()
