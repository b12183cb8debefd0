"""Spans on OpenTelemetry: one for each sampled record that a stage takes in or gives out."""

from collections.abc import Mapping, Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags

from trimtab.contracts import envelope
from trimtab.runtime.records import Out, Read
from trimtab.runtime.tracing import Traced

_SAMPLED = b"-01"
_LENGTH = 55


def sampled(headers: Sequence[tuple[str, bytes]]) -> bytes | None:
    """The `traceparent` of a record if it is sampled. Our own records carry it last, so that looking costs nothing."""
    if not headers:
        return None
    name, value = headers[-1]
    return value if name == envelope.TRACEPARENT and len(value) == _LENGTH and value.endswith(_SAMPLED) else None


def _parent(traceparent: bytes) -> Context | None:
    try:
        _, trace_id, span_id, _ = traceparent.decode("ascii").split("-")
        context = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(1))
    except (ValueError, UnicodeDecodeError):
        return None
    return trace.set_span_in_context(NonRecordingSpan(context)) if context.is_valid else None


def _traceparent(span: trace.Span) -> bytes:
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-01".encode()


class _BatchSpans:
    def __init__(self, tracer: trace.Tracer, name: str) -> None:
        self._tracer, self._name = tracer, name
        self._spans: dict[bytes, trace.Span | None] = {}

    def start(self, traceparent: bytes, attributes: Mapping[str, str | int], kind: SpanKind) -> None:
        if traceparent not in self._spans:
            parent = _parent(traceparent)
            self._spans[traceparent] = (
                None
                if parent is None
                else self._tracer.start_span(self._name, context=parent, kind=kind, attributes=attributes)
            )

    def rewrite(self, outs: Sequence[Out]) -> Sequence[Out]:
        return [self._rewritten(out, traceparent) if (traceparent := sampled(out.headers)) else out for out in outs]

    def end(self) -> None:
        for span in self._spans.values():
            if span is not None:
                span.end()

    def _rewritten(self, out: Out, traceparent: bytes) -> Out:
        self.start(traceparent, {"messaging.system": "kafka"}, SpanKind.PRODUCER)
        span = self._spans[traceparent]
        if span is None:
            return out
        headers = (*out.headers[:-1], (envelope.TRACEPARENT, _traceparent(span)))
        return Out(out.topic, out.key, out.value, headers, out.partition)


class SpanTracing:
    """A stage's span is the child of what came in; what goes out with the same `traceparent` names the span instead.

    What goes out with one that did not come in with this batch (the step kept it, the work took a while) gets a span
    as well.
    """

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    def begin(self, name: str, records: Mapping[str, Sequence[Read]]) -> Traced:
        """Spans for the sampled records of a batch."""
        spans = _BatchSpans(self._tracer, name)
        for topic, read in records.items():
            for record in read:
                if (traceparent := sampled(record.headers)) is not None:
                    attributes: dict[str, str | int] = {
                        "messaging.system": "kafka",
                        "messaging.destination.name": topic,
                        "messaging.destination.partition.id": str(record.partition),
                        "messaging.kafka.offset": record.offset,
                    }
                    spans.start(traceparent, attributes, SpanKind.CONSUMER)
        return spans


class SpanExport:
    """Where the spans of a process go."""

    def __init__(self, service: str, replica: int, processors: Sequence[SpanProcessor]) -> None:
        resource = Resource.create({"service.name": f"trimtab-{service}", "service.instance.id": str(replica)})
        self._provider = TracerProvider(resource=resource)
        for processor in processors:
            self._provider.add_span_processor(processor)

    def tracing(self) -> SpanTracing:
        """For stages."""
        return SpanTracing(self._provider.get_tracer("trimtab"))

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def exporters(otlp: str | None, zipkin: str | None) -> list[SpanExporter]:
    """Exporters for the given addresses. Imported here: they pull in `requests`, which most processes never need."""
    found: list[SpanExporter] = []
    if otlp is not None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        found.append(OTLPSpanExporter(endpoint=otlp))
    if zipkin is not None:
        from opentelemetry.exporter.zipkin.json import ZipkinExporter

        found.append(ZipkinExporter(endpoint=zipkin))
    return found


def export(service: str, replica: int, otlp: str | None, zipkin: str | None) -> SpanExport | None:
    """The export that settings ask for; None: none, and then no spans are made."""
    found = exporters(otlp, zipkin)
    return SpanExport(service, replica, [BatchSpanProcessor(one) for one in found]) if found else None
