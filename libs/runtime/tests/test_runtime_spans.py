"""Spans: which records get one, what follows from what, and that they arrive where settings send them."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from trimtab.contracts import envelope, topics
from trimtab.contracts.control import ModelRegistered, TimeAdvanced, TrainingFailed
from trimtab.runtime.control import written
from trimtab.runtime.records import Out, Record
from trimtab.runtime.spans import SpanExport, export, sampled
from trimtab.runtime.stage import Milestone

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
KEPT = TRACE.replace("b7ad", "c7ad")


def read(offset: int, trace: str | None = TRACE) -> Record:
    return Record("t", 0, offset, b"k", b"v", envelope.headers("1", "e", "test", 0, trace))


def out(trace: str | None = TRACE) -> Out:
    return Out("out", b"k", b"v", envelope.headers("1", "e", "test", 0, trace))


def of_span(span: ReadableSpan) -> str:
    """The traceparent that names a span."""
    assert span.context is not None
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-01"


def parent_of(span: ReadableSpan) -> str:
    assert span.parent is not None
    return f"00-{span.parent.trace_id:032x}-{span.parent.span_id:016x}-01"


def trace_of(written: Out) -> str:
    return envelope.require(written.headers, envelope.TRACEPARENT).decode()


class Seen:
    """One batch, and the spans that came of it, by name."""

    def __init__(self, stage: str, records: Sequence[Record], outs: Sequence[Out], *milestones: Milestone) -> None:
        exporter = InMemorySpanExporter()
        exported = SpanExport("ingest", 0, [SimpleSpanProcessor(exporter)])
        traced = exported.tracing().begin(stage, {"t": records})
        self.outs = traced.rewrite(outs, milestones)
        assert not exporter.get_finished_spans(), "nothing is told before the batch has been committed"
        traced.end()
        self.all = exporter.get_finished_spans()
        self.named = {span.name: span for span in self.all}
        exported.close()


def test_only_a_sampled_traceparent_counts() -> None:
    assert sampled(read(0).headers) == TRACE.encode()
    assert sampled(read(0, TRACE[:-1] + "0").headers) is None
    assert sampled(read(0, None).headers) is None
    assert sampled(()) is None


def test_records_that_are_not_sampled_make_no_spans() -> None:
    unsampled = TRACE[:-1] + "0"
    seen = Seen("a.b", [read(0, None), read(1, unsampled)], [out(None), out(unsampled)], Milestone(unsampled, "fit"))
    assert not seen.all
    assert list(seen.outs) == [out(None), out(unsampled)]


def test_a_stages_span_hangs_on_what_came_in_and_carries_what_goes_out() -> None:
    seen = Seen("ingest.accept.flights", [read(0, None), read(1), read(2)], [out(None), out(TRACE), out(KEPT)])
    by_parent = {parent_of(span): span for span in seen.all}
    assert by_parent.keys() == {TRACE, KEPT}
    assert {span.name for span in seen.all} == {"ingest.accept"}
    span = by_parent[TRACE]
    assert span.resource.attributes["service.name"] == "trimtab-ingest"
    assert span.attributes is not None
    assert (span.attributes["trimtab.loop"], span.attributes["messaging.kafka.offset"]) == ("flights", 1)
    assert seen.outs[0] == out(None)
    assert [trace_of(one) for one in seen.outs[1:]] == [of_span(by_parent[TRACE]), of_span(by_parent[KEPT])]
    assert seen.outs[1].headers[:-1] == out().headers[:-1]


def test_a_control_event_has_a_span_of_its_own_with_what_it_says() -> None:
    registered = ModelRegistered(loop="flights", at_ms=0, version=3, request_id="r1", digest="a" * 64, verdict="passed")
    failed = TrainingFailed(loop="flights", at_ms=0, request_id="r1", reason="store", error="no room")
    said = [written(event, id="x", source="test", trace=TRACE) for event in (registered, failed)]
    seen = Seen("registry.fold", [read(0)], said)
    for event, name in zip(seen.outs, (topics.MODEL_REGISTERED, topics.TRAINING_FAILED), strict=True):
        assert trace_of(event) == of_span(seen.named[name])
        assert parent_of(seen.named[name]) == of_span(seen.named["registry.fold"])
    attributes = seen.named[topics.MODEL_REGISTERED].attributes
    assert attributes is not None
    expected = {"loop": "flights", "version": 3, "request_id": "r1", "verdict": "passed"}
    assert {name: attributes[f"trimtab.{name}"] for name in expected} == expected
    assert seen.named[topics.MODEL_REGISTERED].status.is_ok
    assert seen.named[topics.TRAINING_FAILED].status.description == "no room"


def test_milestones_follow_from_each_other_and_what_goes_out_from_the_last() -> None:
    fit, gate = Milestone(KEPT, "fit", {"rows": 7}, (10, 30)), Milestone(KEPT, "gate", {}, (30, 35))
    seen = Seen("trainer.fit", [], [out(KEPT)], fit, gate)
    assert parent_of(seen.named["fit"]) == KEPT
    assert parent_of(seen.named["gate"]) == of_span(seen.named["fit"])
    assert trace_of(seen.outs[0]) == of_span(seen.named["gate"])
    assert (seen.named["fit"].start_time, seen.named["fit"].end_time) == (10, 30)
    assert seen.named["fit"].attributes == {"rows": 7}


def test_the_clocks_tick_begins_no_trace() -> None:
    assert sampled(written(TimeAdvanced(loop="flights", at_ms=0), id="x", source="test", trace=None).headers) is None


class Collector:
    """What was posted, by path."""

    def __init__(self) -> None:
        self.url = ""
        self.posted: dict[str, bytes] = {}


@contextmanager
def collector() -> Iterator[Collector]:
    """A server that takes whatever it is sent."""
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.posted[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(202 if "zipkin" in self.path or "api" in self.path else 200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield found
        server.shutdown()
        thread.join()


def test_without_an_address_there_is_no_export() -> None:
    assert export("monitor", 0, None, None) is None


@pytest.mark.parametrize("kind", ["otlp", "zipkin"])
def test_spans_arrive_where_settings_send_them(kind: str) -> None:
    path = {"otlp": "/v1/traces", "zipkin": "/api/v2/spans"}[kind]
    with collector() as there:
        address = {"otlp": None, "zipkin": None, kind: there.url + path}
        exported = export("monitor", 1, **address)
        assert exported is not None
        exported.tracing().begin("monitor.detect.flights", {"t": [read(0)]}).end()
        exported.close()
    assert there.posted.keys() == {path}
    service, name = {"otlp": in_otlp, "zipkin": in_zipkin}[kind](there.posted[path])
    assert (service, name) == ("trimtab-monitor", "monitor.detect")


def in_otlp(body: bytes) -> tuple[str, str]:
    [resource] = ExportTraceServiceRequest.FromString(body).resource_spans
    named = {one.key: one.value.string_value for one in resource.resource.attributes}
    return named["service.name"], resource.scope_spans[0].spans[0].name


def in_zipkin(body: bytes) -> tuple[str, str]:
    [span] = json.loads(body)
    return span["localEndpoint"]["serviceName"], span["name"]
