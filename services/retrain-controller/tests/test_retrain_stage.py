"""The stage around the decisions: records in, records and table entries out."""

from collections.abc import Sequence

from trimtab.contracts import control, envelope, topics
from trimtab.contracts.control import DriftDetected, DriftSignal, RetrainRequested, TimeAdvanced
from trimtab.retrain_controller.stages import LOOPS, decide_stage
from trimtab.runtime.control import LoopEvent, written
from trimtab.runtime.records import Out, Record
from trimtab.testing import record, run_step, tables_of
from trimtab.testing.declarations import declared, offers
from trimtab.testing.models import measured

STAGE = decide_stage()
TRACE = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
DAY_MS = 86_400_000


def read(*events: LoopEvent, trace: str | None = TRACE) -> dict[str, Sequence[Record]]:
    """A batch, topics in no particular order."""
    found: dict[str, list[Record]] = {}
    for event in reversed(events):
        out = written(event, id="test", source="test", trace=trace)
        found.setdefault(out.topic, []).insert(0, record(out.topic, out.value, key=out.key, headers=out.headers))
    return dict(found)


def drift(day: int, version: int = 1) -> DriftDetected:
    signal = DriftSignal(name="loss", kind="loss", weight=1, evidence=9, drifted=True)
    return DriftDetected(
        loop="offers", at_ms=day * DAY_MS, drift_id=f"d{day}", model_version=version, since_ms=0, evidence=9,
        threshold=8, look_ms=1, looks=1, signals=[signal],
    )  # fmt: skip


def summary(outs: Sequence[Out]) -> list[tuple[str, str]]:
    return [(out.topic, (envelope.require(out.headers, envelope.ID)).decode()) for out in outs]


def test_a_request_is_keyed_dated_and_carries_its_cause_on() -> None:
    result = run_step(STAGE, read(declared(offers()), measured(10 * DAY_MS)))
    (out,) = result.out
    event = control.decode(out.topic, out.value or b"")
    assert isinstance(event, RetrainRequested)
    assert (out.topic, out.key) == (topics.RETRAIN_REQUESTED, b"offers")
    assert envelope.event_time_ms(out.headers) == event.at_ms == 10 * DAY_MS
    assert envelope.get(out.headers, envelope.TRACEPARENT) == TRACE.encode()
    assert envelope.get(out.headers, envelope.ID) == event.request_id.encode()


def test_a_cause_that_was_held_back_keeps_its_trace() -> None:
    tables = tables_of(STAGE)
    run_step(STAGE, read(declared(offers()), measured(10 * DAY_MS), drift(11)), tables)
    state = tables[LOOPS.name].get("offers")
    assert state is not None
    assert [cause.trace for cause in state.waiting] == [TRACE]


def test_a_cause_without_a_trace_begins_one() -> None:
    result = run_step(STAGE, read(declared(offers()), measured(10 * DAY_MS), trace=None))
    trace = envelope.require(result.out[0].headers, envelope.TRACEPARENT).decode()
    assert trace.endswith("-01")
    again = run_step(STAGE, read(declared(offers()), measured(10 * DAY_MS), trace=None))
    assert again.out == result.out


def test_within_a_batch_event_time_decides_not_the_order_of_topics() -> None:
    tables = tables_of(STAGE)
    late = TimeAdvanced(loop="offers", at_ms=30 * DAY_MS)
    result = run_step(STAGE, read(late, drift(11), measured(10 * DAY_MS), declared(offers())), tables)
    assert [topic for topic, _ in summary(result.out)] == [topics.RETRAIN_REQUESTED, topics.RETRAIN_DECLINED]
    assert result.measures[0].attributes == {"loop": "offers", "kind": "first"}
    assert result.measures[1].attributes == {"loop": "offers", "reason": "open"}


def test_the_same_batch_twice_writes_once() -> None:
    tables = tables_of(STAGE)
    batch = read(declared(offers()), measured(10 * DAY_MS), drift(11))
    assert len(run_step(STAGE, batch, tables).out) == 2
    assert run_step(STAGE, batch, tables).out == []


def test_what_keeps_no_schema_is_counted_and_passed_over() -> None:
    good = read(declared(offers()), measured(10 * DAY_MS))
    bad = [record(topics.DRIFT_DETECTED, b'{"loop": 3}'), record(topics.DRIFT_DETECTED, b"\xff")]
    result = run_step(STAGE, {**good, topics.DRIFT_DETECTED: bad})
    assert len(result.out) == 1
    refused = [measure for measure in result.measures if measure.attributes.get("topic") == topics.DRIFT_DETECTED]
    assert len(refused) == 2


def test_a_declaration_that_cannot_be_read_stops_no_other_loop() -> None:
    broken = declared(offers()).model_copy(update={"loop": "broken", "declaration": {}})
    result = run_step(STAGE, read(broken, declared(offers()), measured(10 * DAY_MS)))
    assert [topic for topic, _ in summary(result.out)] == [topics.RETRAIN_REQUESTED]
    assert result.measures[0].attributes["topic"] == topics.LOOP_DECLARED


def test_a_loop_that_ends_is_forgotten() -> None:
    tables = tables_of(STAGE)
    run_step(STAGE, read(declared(offers())), tables)
    assert "offers" in tables[LOOPS.name]
    run_step(STAGE, {topics.LOOP_DECLARED: [record(topics.LOOP_DECLARED, None, key=b"offers")]}, tables)
    assert "offers" not in tables[LOOPS.name]


def test_loops_do_not_touch_each_other() -> None:
    other = offers(loop={"name": "other"})
    result = run_step(STAGE, read(declared(offers()), declared(other), measured(10 * DAY_MS, loop="other")))
    assert [out.key for out in result.out] == [b"other"]


def test_declared_topics_are_those_of_the_contract() -> None:
    readers = {t.topic for t in topics.TEMPLATES.values() if "retrain-controller.decide" in t.readers}
    writers = {t.topic for t in topics.TEMPLATES.values() if "retrain-controller.decide" in t.writers}
    assert {one.topic for one in STAGE.inputs} == readers
    assert {one.topic for one in STAGE.outputs} == writers
