"""The stages as the runtime runs them: what is written where, that a batch may come twice, the way through both."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from trimtab.contracts import control, data, envelope, telemetry, times, topics
from trimtab.contracts.codec import AvroCodec, fingerprint
from trimtab.ingest.core.records import LARGEST_ORIGINAL
from trimtab.ingest.stages import Edges, accept_stage, contracts_of, dedupe_stage, stages
from trimtab.loops.incoming.ports import no_registry
from trimtab.loops.model import Loop
from trimtab.runtime.records import Headers, Out, Record
from trimtab.runtime.stage import Result, Stage
from trimtab.store.blobs import MemoryBlobs
from trimtab.testing import as_read, run_stages, run_step, tables_of
from trimtab.testing import data as data_of

NOW_MS = times.parse("2024-06-01T00:00:00Z")
AT_MS = times.parse("2024-05-31T12:00:00Z")
DAY_MS = 86_400_000
ORDERS = topics.source("shop", "order")
REFUNDS = topics.source("shop", "refund")


@pytest.fixture
def blobs() -> MemoryBlobs:
    return MemoryBlobs()


@pytest.fixture
def edges(blobs: MemoryBlobs) -> Edges:
    return Edges(blobs.put, trace_share=0.0)


@pytest.fixture
def accepting(shop: Loop, edges: Edges) -> Stage:
    return accept_stage(shop, contracts_of(shop, no_registry), edges)


@pytest.fixture
def deduping(shop: Loop, edges: Edges) -> Stage:
    return dedupe_stage(shop, edges)


def sent(topic: str, *events: Any, headers: Headers = (), offset: int = 0) -> dict[str, list[Record]]:
    values = [event if isinstance(event, bytes) else json.dumps(event).encode() for event in events]
    return {topic: [Record(topic, 1, offset + n, None, value, headers, NOW_MS) for n, value in enumerate(values)]}


def quarantined(outs: Sequence[Out]) -> list[data.Rejected]:
    return [data.decode(data.Rejected, out.value or b"") for out in outs if out.topic == topics.rejected("shop")]


def accepted(stage: Stage, *events: Any, topic: str = ORDERS) -> list[Record]:
    """What dedupe reads of some events."""
    result = run_step(stage, sent(topic, *events), now_ms=NOW_MS)
    return as_read(result.out, topic=topics.accepted("shop", topic.rpartition(".")[2]))


def dedupe(stage: Stage, records: list[Record], tables: Any = None, progress_ms: int = AT_MS) -> Result:
    return run_step(stage, {records[0].topic: records}, tables, progress_ms=progress_ms, now_ms=NOW_MS)


# accept


def test_an_accepted_event_carries_what_the_next_need(accepting: Stage, good: dict[str, Any]) -> None:
    result = run_step(accepting, sent(ORDERS, good), now_ms=NOW_MS)
    out = result.out[0]
    assert (out.topic, out.key) == (topics.accepted("shop", "order"), b"o1")
    assert dict(out.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"o1",
        "ce_type": b"order",
        "ce_source": b"ingest.accept.shop",
        "ce_time": b"2024-05-31T12:00:00.000Z",
        "tt_key": b"o1",
        "tt_digest": out.headers[6][1],
    }
    assert result.clocks == {ORDERS: AT_MS}


def test_a_rejected_event_is_kept_whole(accepting: Stage, good: dict[str, Any]) -> None:
    wrong = {**good, "amount": -1.0}
    result = run_step(accepting, sent(ORDERS, wrong, offset=41), now_ms=NOW_MS)
    assert result.clocks == {}
    assert quarantined(result.out) == [
        data.Rejected(
            event="order",
            rule="quality",
            reason="expected amount > 0 AND amount < 1e6, got amount = -1.0",
            id="o1",
            source_topic=ORDERS,
            source_partition=1,
            source_offset=41,
            original=json.dumps(wrong).encode(),
            blob=None,
            wall_ms=NOW_MS,
            event_time_ms=AT_MS,
        )
    ]
    assert result.out[0].key == b"o1"
    assert envelope.event_time_ms(result.out[0].headers) == AT_MS


def test_what_cannot_be_read_is_kept_under_its_place(accepting: Stage) -> None:
    out = run_step(accepting, sent(ORDERS, b"?", offset=41), now_ms=NOW_MS).out[0]
    assert out.key == f"{ORDERS}-1-41".encode()
    assert envelope.event_time_ms(out.headers) == NOW_MS


def test_an_event_ahead_of_time_carries_the_time_that_counts(accepting: Stage, good: dict[str, Any]) -> None:
    ahead = {**good, "ordered_at": NOW_MS + DAY_MS}
    outs = run_step(accepting, sent(ORDERS, good, ahead), now_ms=NOW_MS).out
    assert [one.rule for one in quarantined(outs)] == ["time_ahead"]
    assert envelope.event_time_ms(outs[1].headers) == AT_MS


def test_a_large_original_becomes_a_blob(accepting: Stage, blobs: MemoryBlobs, good: dict[str, Any]) -> None:
    large = {**good, "note": "x" * LARGEST_ORIGINAL}
    found = quarantined(run_step(accepting, sent(ORDERS, large), now_ms=NOW_MS).out)[0]
    assert found.original is None
    assert found.blob
    assert blobs.get(found.blob) == json.dumps(large).encode()


def test_a_batch_may_come_twice_to_accept(accepting: Stage, good: dict[str, Any]) -> None:
    batch = sent(ORDERS, good, {**good, "amount": "x"}, {**good, "ordered_at": NOW_MS + DAY_MS})
    batch |= sent(REFUNDS, {"refund_id": 1, "order_id": "o1", "booked_at": "2024-05-31T12:00:00Z"})
    first = run_step(accepting, batch, now_ms=NOW_MS)
    again = run_step(accepting, batch, now_ms=NOW_MS)
    assert (first.out, first.clocks) == (again.out, again.clocks)
    assert len(first.out) == 4


def test_the_clock_of_a_source_survives_a_restart(accepting: Stage, good: dict[str, Any]) -> None:
    tables = tables_of(accepting)
    run_step(accepting, sent(ORDERS, {**good, "ordered_at": AT_MS - 40 * DAY_MS}), tables, now_ms=NOW_MS)
    result = run_step(accepting, sent(ORDERS, good, offset=1), tables, now_ms=NOW_MS)
    assert [one.rule for one in quarantined(result.out)] == ["time_ahead"]


def test_time_goes_on_without_events_where_the_loop_says_so(shop: Loop, edges: Edges) -> None:
    by_the_wall = accept_stage(replace(shop, clock="wall"), contracts_of(shop, no_registry), edges)
    by_events = accept_stage(shop, contracts_of(shop, no_registry), edges)
    assert {one.wall_reach_ms for one in by_the_wall.inputs} == {shop.max_gap_ms}
    assert {one.wall_reach_ms for one in by_events.inputs} == {None}


def test_verdicts_are_counted(accepting: Stage, good: dict[str, Any]) -> None:
    result = run_step(accepting, sent(ORDERS, good, {**good, "amount": "x"}), now_ms=NOW_MS)
    counted = {(measure.metric.name, measure.attributes.get("rule")): measure.value for measure in result.measures}
    assert counted == {
        (telemetry.INGEST_EVENTS.name, None): 2,
        (telemetry.INGEST_ACCEPTED.name, None): 1,
        (telemetry.INGEST_REJECTED.name, "schema"): 1,
    }


TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_trace_goes_on(accepting: Stage, good: dict[str, Any]) -> None:
    batch = sent(ORDERS, good, headers=((envelope.TRACEPARENT, TRACE),))
    assert envelope.get(run_step(accepting, batch, now_ms=NOW_MS).out[0].headers, envelope.TRACEPARENT) == TRACE


def test_a_trace_that_is_none_goes_nowhere(accepting: Stage, good: dict[str, Any]) -> None:
    for junk in (b"\xff" * 55, b"x" * 900_000, TRACE.upper()):
        batch = sent(ORDERS, good, {**good, "amount": -1.0}, headers=((envelope.TRACEPARENT, junk),))
        outs = run_step(accepting, batch, now_ms=NOW_MS).out
        assert [envelope.get(out.headers, envelope.TRACEPARENT) for out in outs] == [None, None]


def test_a_share_of_events_starts_a_trace(shop: Loop, blobs: MemoryBlobs, good: dict[str, Any]) -> None:
    stage = accept_stage(shop, contracts_of(shop, no_registry), Edges(blobs.put, trace_share=0.25))
    events = [{**good, "order_id": f"o{n}"} for n in range(400)]
    outs = run_step(stage, sent(ORDERS, *events), now_ms=NOW_MS).out
    traced = [out for out in outs if envelope.get(out.headers, envelope.TRACEPARENT)]
    assert 60 < len(traced) < 140
    assert [out.key for out in traced] == [
        out.key
        for out in run_step(stage, sent(ORDERS, *events), now_ms=NOW_MS).out
        if envelope.get(out.headers, envelope.TRACEPARENT)
    ]


def test_a_published_schema_is_read(shop: Loop, edges: Edges, good: dict[str, Any]) -> None:
    stage = accept_stage(shop, contracts_of(shop, no_registry), edges)
    schema = {**shop.events["order"].schema, "fields": shop.events["order"].schema["fields"][:-1]}
    rest = {"points": None, "gift": False, "paid_at": None, "due": None}
    event = AvroCodec(schema).encode({**good, **rest, "ordered_at": AT_MS})
    assert quarantined(run_step(stage, sent(ORDERS, event), now_ms=NOW_MS).out)[0].rule == "schema_id"
    published = control.PublishedSchema(fingerprint=fingerprint(schema).hex(), schema_=schema, by="a shop")
    view = stage.views[0]
    view.apply([Record(view.topic, 0, 0, b"junk", b"{}"), Record(view.topic, 0, 1, b"gone", None)])
    view.apply([Record(view.topic, 0, 2, b"k", control.encode(published))])
    assert quarantined(run_step(stage, sent(ORDERS, event), now_ms=NOW_MS).out) == []


# dedupe


def test_an_event_goes_out_under_its_routing_key(accepting: Stage, deduping: Stage) -> None:
    event = {"refund_id": 1, "order_id": "o1", "booked_at": "2024-05-31T12:00:00Z"}
    records = accepted(accepting, event, topic=REFUNDS)
    out = dedupe(deduping, records).out[0]
    assert (records[0].key, out.key) == (b"1", b"o1")
    assert out.topic == topics.events("shop", "refund")
    assert (out.value, out.headers) == (records[0].value, records[0].headers)


def test_copies_do_not_go_out(accepting: Stage, deduping: Stage, good: dict[str, Any]) -> None:
    records = accepted(accepting, good, good, {**good, "order_id": "o2"}, good)
    result = dedupe(deduping, records)
    assert [out.key for out in result.out] == [b"o1", b"o2"]
    assert [(m.metric.name, m.value) for m in result.measures] == [(telemetry.INGEST_DUPLICATES.name, 2)]


def test_a_conflict_goes_to_quarantine(accepting: Stage, deduping: Stage, good: dict[str, Any]) -> None:
    records = accepted(accepting, good, {**good, "amount": 21.0})
    result = dedupe(deduping, records)
    assert len(result.out) == 2
    found = quarantined(result.out)[0]
    assert (found.rule, found.id, found.source_topic) == ("conflict", "o1", topics.accepted("shop", "order"))
    assert found.original == records[1].value


def test_a_correction_goes_out_where_it_is_declared(accepting: Stage, deduping: Stage) -> None:
    event = {"refund_id": 1, "order_id": "o1", "booked_at": "2024-05-31T12:00:00Z"}
    result = dedupe(deduping, accepted(accepting, event, {**event, "why": "broken"}, topic=REFUNDS))
    assert len(result.out) == 2
    assert quarantined(result.out) == []


def test_what_is_too_old_to_tell_goes_to_quarantine(accepting: Stage, deduping: Stage, good: dict[str, Any]) -> None:
    tables = tables_of(deduping)
    dedupe(deduping, accepted(accepting, good), tables)
    old = accepted(accepting, {**good, "order_id": "o0", "ordered_at": AT_MS - 8 * DAY_MS})
    late = accepted(accepting, {**good, "order_id": "o9", "ordered_at": AT_MS - 6 * DAY_MS})
    assert [one.rule for one in quarantined(dedupe(deduping, old, tables).out)] == ["too_old"]
    assert quarantined(dedupe(deduping, late, tables).out) == []


def test_a_source_that_is_read_later_goes_by_its_own_time(
    accepting: Stage, deduping: Stage, good: dict[str, Any]
) -> None:
    """All orders of a year first, then all refunds: none is too old."""
    tables = tables_of(deduping)
    dedupe(deduping, accepted(accepting, good), tables)
    refunds = [
        {"refund_id": n, "order_id": "o1", "booked_at": times.text(AT_MS - (300 - n) * DAY_MS)}
        for n in range(0, 300, 20)
    ]
    result = dedupe(deduping, accepted(accepting, *refunds, topic=REFUNDS), tables)
    assert len(result.out) == len(refunds)
    assert quarantined(result.out) == []


def test_a_batch_may_come_twice_to_dedupe(accepting: Stage, deduping: Stage, good: dict[str, Any]) -> None:
    """After a crash: nothing of the first time was committed, so tables are as before it."""
    records = accepted(accepting, good, good, {**good, "amount": 3.0}, {**good, "order_id": "o2"})
    before = accepted(accepting, {**good, "order_id": "o2"})

    def run() -> Result:
        tables = tables_of(deduping)
        dedupe(deduping, before, tables)
        return dedupe(deduping, records, tables)

    first, again = run(), run()
    assert first.out == again.out
    assert len(first.out) == 2


def test_a_batch_that_was_committed_and_comes_again_writes_nothing_new(
    accepting: Stage, deduping: Stage, good: dict[str, Any]
) -> None:
    tables, records = tables_of(deduping), accepted(accepting, good, {**good, "order_id": "o2"})
    assert len(dedupe(deduping, records, tables).out) == 2
    assert dedupe(deduping, records, tables).out == []


def test_a_record_without_our_headers_stops_the_task(deduping: Stage) -> None:
    topic = topics.accepted("shop", "order")
    with pytest.raises(envelope.MissingHeaderError, match="ce_time"):
        dedupe(deduping, [Record(topic, 0, 0, b"k", b"v")])


# both


async def test_the_way_through_both_stages(shop: Loop, edges: Edges, good: dict[str, Any]) -> None:
    orders = [{**good, "order_id": f"o{n % 30}"} for n in range(90)]
    wrong = [{**good, "order_id": f"w{n}", "amount": None} for n in range(5)]
    sources = [Out(ORDERS, None, json.dumps(order).encode(), (), n % 2) for n, order in enumerate([*orders, *wrong])]
    bus = await run_stages(stages(shop, contracts_of(shop, no_registry), edges), sources, now_ms=lambda: NOW_MS)
    written = data_of(bus, topics.events("shop", "order"))
    assert sorted(record.key or b"" for record in written) == sorted(f"o{n}".encode() for n in range(30))
    rejected = [data.decode(data.Rejected, one.value or b"") for one in data_of(bus, topics.rejected("shop"))]
    assert {one.rule for one in rejected} == {"schema"}
    assert len(rejected) == 5


def test_the_wiring_is_what_the_catalogue_says(shop: Loop, edges: Edges) -> None:
    for stage in stages(shop, contracts_of(shop, no_registry), edges):
        name = stage.group.removesuffix(".shop")
        for template in topics.TEMPLATES.values():
            made = (
                {template.topic.format(loop="shop", event=event) for event in shop.events}
                if template.per
                in (
                    "loop",
                    "event",
                )
                else {template.topic}
            )
            reads = {source.topic for source in stage.inputs} | {view.topic for view in stage.views}
            if template.per in ("loop", "event"):
                assert (name in template.readers) == bool(made & reads)
                assert (name in template.writers) == bool(made & {output.topic for output in stage.outputs})
