"""Spans on OpenTelemetry: of the sampled records that a stage takes in, of what they lead to there."""

from collections.abc import Mapping, Sequence
from importlib import metadata

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags

from trimtab.contracts import control, envelope
from trimtab.runtime.facts import facts
from trimtab.runtime.records import Out, Read
from trimtab.runtime.stage import Milestone
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
    """The spans of one batch. `_tails`: by traceparent, the context of the newest span that follows from it."""

    def __init__(self, tracer: trace.Tracer, stage: str) -> None:
        self._tracer = tracer
        self._stage, self._name, self._loop = stage, *_named(stage)
        self._tails: dict[bytes, Context | None] = {}
        self._open: list[tuple[trace.Span, int | None]] = []

    def read(self, record: Read, traceparent: bytes) -> None:
        if traceparent in self._tails:
            return
        attributes = {
            **self._message(record.topic, record.key),
            "messaging.destination.partition.id": str(record.partition),
            "messaging.kafka.offset": record.offset,
            "messaging.consumer.group.name": self._stage,
        }
        self._follow(traceparent, self._start(traceparent, self._name, SpanKind.CONSUMER, attributes))

    def rewrite(self, outs: Sequence[Out], milestones: Sequence[Milestone]) -> Sequence[Out]:
        for milestone in milestones:
            if milestone.trace.encode().endswith(_SAMPLED):
                self._pass(milestone)
        return [self._rewritten(out, traceparent) if (traceparent := sampled(out.headers)) else out for out in outs]

    def end(self) -> None:
        for span, ended_ns in self._open:
            span.end(ended_ns)

    def _pass(self, milestone: Milestone) -> None:
        traceparent, (began_ns, ended_ns) = milestone.trace.encode(), milestone.times_ns or (None, None)
        attributes = {**self._of_loop(None), **milestone.attributes}
        span = self._start(traceparent, milestone.name, SpanKind.INTERNAL, attributes, (began_ns, ended_ns))
        self._follow(traceparent, span)

    def _rewritten(self, out: Out, traceparent: bytes) -> Out:
        span = self._told(out, traceparent) if out.topic in control.BY_TOPIC else self._passed_on(out, traceparent)
        if span is None:
            return out
        headers = (*out.headers[:-1], (envelope.TRACEPARENT, _traceparent(span)))
        return Out(out.topic, out.key, out.value, headers, out.partition)

    def _told(self, out: Out, traceparent: bytes) -> trace.Span | None:
        """A control event has a span of its own, by which a person finds it."""
        found = facts(out.value or b"{}")
        attributes = {**self._message(out.topic, out.key), **found}
        span = self._start(traceparent, out.topic, SpanKind.PRODUCER, attributes)
        if span is not None and (error := found.get("trimtab.error")) is not None:
            span.set_status(trace.StatusCode.ERROR, str(error))
        return span

    def _passed_on(self, out: Out, traceparent: bytes) -> trace.Span | None:
        if traceparent not in self._tails:
            attributes = self._message(out.topic, out.key)
            self._follow(traceparent, self._start(traceparent, self._name, SpanKind.PRODUCER, attributes))
        tail = self._tails[traceparent]
        return None if tail is None else trace.get_current_span(tail)

    def _start(
        self,
        traceparent: bytes,
        name: str,
        kind: SpanKind,
        attributes: Mapping[str, str | int | float],
        times_ns: tuple[int | None, int | None] = (None, None),
    ) -> trace.Span | None:
        """A span that follows from the newest of the trace; None where the traceparent is none."""
        parent = self._tails[traceparent] if traceparent in self._tails else _parent(traceparent)
        if parent is None:
            return None
        began_ns, ended_ns = times_ns
        span = self._tracer.start_span(name, context=parent, kind=kind, attributes=attributes, start_time=began_ns)
        self._open.append((span, ended_ns))
        return span

    def _follow(self, traceparent: bytes, span: trace.Span | None) -> None:
        self._tails[traceparent] = None if span is None else trace.set_span_in_context(span)

    def _message(self, topic: str, key: bytes | None) -> dict[str, str | int | float]:
        text = None if key is None else key.decode("utf-8", "replace")
        return {
            "messaging.system": "kafka",
            "messaging.destination.name": topic,
            **({} if text is None else {"messaging.kafka.message.key": text}),
            **self._of_loop(text if topic in control.BY_TOPIC else None),
        }

    def _of_loop(self, key: str | None) -> dict[str, str]:
        """Of which loop this is: the stage's own, else the one that a control event is keyed by."""
        loop = self._loop or key
        return {"trimtab.loop": loop} if loop else {}


def _named(stage: str) -> tuple[str, str]:
    """`<service>.<verb>` and the loop ("": it serves all) of a stage's group.

    >>> _named("monitor.detect.flights"), _named("trainer.fit")
    (('monitor.detect', 'flights'), ('trainer.fit', ''))
    """
    service_and_verb, loop = stage.split(".")[:2], stage.split(".")[2:]
    return ".".join(service_and_verb), ".".join(loop)


class SpanTracing:
    """A stage's span follows from what came in; what goes out with the same `traceparent` names the span instead.

    What goes out with one that did not come in with this batch (the step kept it, the work took a while) follows from
    what that one names. Every control event that goes out has a span of its own, named as its topic.
    """

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    def begin(self, name: str, records: Mapping[str, Sequence[Read]]) -> Traced:
        """Spans for the sampled records of a batch."""
        spans = _BatchSpans(self._tracer, name)
        for read in records.values():
            for record in read:
                if (traceparent := sampled(record.headers)) is not None:
                    spans.read(record, traceparent)
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
        return SpanTracing(self._provider.get_tracer("trimtab", metadata.version("trimtab-runtime")))

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
